// SPDX-License-Identifier: Apache-2.0
// Facts derived from a Profile: what may move, what a budget's percentages refer to, and the
// invariants.
#include "policy/profile.hpp"

#include <algorithm>

namespace spillway {
namespace {

/// Calls visit(op, bytes alive during it) with the live bytes of the storages that `counts`
/// accepts.
template <typename Counts, typename Visit>
void sweep_live_bytes(const Profile& profile, const Counts& counts, const Visit& visit) {
  std::vector<std::uint64_t> added(profile.ops.size() + 1, 0);
  std::vector<std::uint64_t> removed(profile.ops.size() + 1, 0);
  for (const Storage& storage : profile.storages) {
    if (!counts(storage)) continue;
    added[storage.created_by.valid() ? storage.created_by.index() : 0] += storage.bytes;
    if (storage.freed_after.valid()) removed[storage.freed_after.index() + 1] += storage.bytes;
  }
  std::uint64_t live_bytes = 0;
  for (std::size_t op = 0; op < profile.ops.size(); ++op) {
    live_bytes += added[op];
    live_bytes -= removed[op];
    visit(op, live_bytes);
  }
}

bool is_persistent(const Storage& storage) {
  switch (storage.tag.kind) {
    case BufferKind::kParameter:
    case BufferKind::kGradient:
    case BufferKind::kOptimizer:
    case BufferKind::kConstant:
      return true;
    default:
      return false;
  }
}

bool is_live_after(const Storage& storage, std::size_t op) {
  const bool born = !storage.created_by.valid() || storage.created_by.index() <= op;
  return born && (!storage.freed_after.valid() || storage.freed_after.index() > op);
}

}  // namespace

bool is_movable(const Storage& storage) {
  return storage.tag.kind == BufferKind::kActivation && storage.created_by.valid() &&
         storage.bytes > 0;
}

bool is_recomputable(const Profile& profile, const Op& op) {
  if (!profile.can_recompute || op.tag.has(kOpInferred)) return false;
  if (op.tag.has(kOpNeverRecompute) || op.tag.has(kOpCollective) || op.tag.has(kOpInPlace))
    return false;
  if (op.tag.has(kOpRng) && !op.tag.has(kOpRngRestorable)) return false;
  bool reads = false;
  for (const Use use : profile.uses_of(op)) {
    const Storage& storage = profile.storages[profile.storage_of(use).index()];
    if (use.writes()) return false;
    if (use.creates() && (storage.tag.has(kNeverRecompute) ||
                          storage.tag.has(kContainsCollective) || storage.tag.has(kRewritten)))
      return false;
    reads = reads || use.reads();
  }
  return reads;
}

UseSpan uses_in(const Profile& profile, const Storage& storage, Phase phase) {
  UseSpan span;
  for (const std::uint32_t op : profile.uses_of(storage)) {
    if (profile.ops[op].tag.phase != phase) continue;
    if (!span.first.valid()) span.first = OpId(op);
    span.last = OpId(op);
  }
  return span;
}

ProfileSummary summarize(const Profile& profile) {
  ProfileSummary summary;
  const std::size_t op_count = profile.ops.size();
  summary.last_forward_op = static_cast<std::uint32_t>(op_count);
  for (const Op& op : profile.ops) {
    summary.compute_ns += static_cast<std::int64_t>(op.duration_ns);
    if (op.tag.phase == Phase::kForward)
      summary.forward_ns += static_cast<std::int64_t>(op.duration_ns);
  }
  for (const Storage& storage : profile.storages)
    summary.movable_count += is_movable(storage) ? 1u : 0u;

  sweep_live_bytes(
      profile,
      [](const Storage&) { return true; },
      [&](std::size_t op, std::uint64_t live_bytes) {
        const std::uint64_t bytes = live_bytes + profile.ops[op].workspace_bytes;
        if (bytes <= summary.keep_all_peak_bytes) return;
        summary.keep_all_peak_bytes = bytes;
        summary.keep_all_peak_op = static_cast<std::uint32_t>(op);
      });

  // The end of forward: of all forward ops followed by a backward one, that with the most
  // activation bytes alive after it.
  std::size_t last_forward = op_count;
  std::vector<char> ends_forward(op_count, 0);
  for (std::size_t op = 0; op < op_count; ++op) {
    if (profile.ops[op].tag.phase == Phase::kForward) last_forward = op;
    if (profile.ops[op].tag.phase != Phase::kBackward || last_forward == op_count) continue;
    ends_forward[last_forward] = 1;
    last_forward = op_count;
  }
  std::vector<std::uint64_t> freed_bytes(op_count, 0);
  for (const Storage& storage : profile.storages)
    if (is_movable(storage) && storage.freed_after.valid())
      freed_bytes[storage.freed_after.index()] += storage.bytes;
  bool found = false;
  sweep_live_bytes(profile, is_movable, [&](std::size_t op, std::uint64_t live_bytes) {
    const std::uint64_t bytes = live_bytes - freed_bytes[op];
    if (ends_forward[op] == 0 || (found && bytes <= summary.activation_bytes)) return;
    found = true;
    summary.activation_bytes = bytes;
    summary.last_forward_op = static_cast<std::uint32_t>(op);
  });

  std::vector<std::uint64_t> touched_bytes(op_count, 0);
  for (const Storage& storage : profile.storages)
    if (is_movable(storage))
      for (const std::uint32_t op : profile.uses_of(storage)) touched_bytes[op] += storage.bytes;
  sweep_live_bytes(
      profile,
      [](const Storage& storage) { return !is_movable(storage); },
      [&](std::size_t op, std::uint64_t live_bytes) {
        const std::uint64_t bytes =
            live_bytes + touched_bytes[op] + profile.ops[op].workspace_bytes;
        if (bytes <= summary.unmovable_bytes) return;
        summary.unmovable_bytes = bytes;
        summary.unmovable_op = static_cast<std::uint32_t>(op);
      });
  sweep_live_bytes(profile, is_persistent, [&](std::size_t op, std::uint64_t live_bytes) {
    if (op == summary.unmovable_op) summary.persistent_bytes = live_bytes;
  });
  return summary;
}

std::vector<StorageId> activations(const Profile& profile, const ProfileSummary& summary) {
  std::vector<StorageId> result;
  if (summary.last_forward_op >= profile.ops.size()) return result;
  for (std::size_t i = 0; i < profile.storages.size(); ++i)
    if (is_movable(profile.storages[i]) &&
        is_live_after(profile.storages[i], summary.last_forward_op))
      result.emplace_back(i);
  return result;
}

Status check_invariants(const Profile& profile) {
  const auto broken = [](const std::string& text) {
    return Status(Code::kInternal, "profile: " + text);
  };
  if (profile.tensors.size() < profile.storages.size())
    return broken("a storage has no root tensor");
  for (std::size_t i = 0; i < profile.tensors.size(); ++i) {
    const TensorInfo& tensor = profile.tensors[i];
    if (tensor.storage.index() >= profile.storages.size())
      return broken("tensor " + std::to_string(i) + " has no storage");
    if (i < profile.storages.size() && tensor.storage.index() != i)
      return broken("tensor " + std::to_string(i) + " is not the root of its storage");
  }
  for (std::size_t i = 0; i < profile.ops.size(); ++i) {
    const Op& op = profile.ops[i];
    if (op.uses_begin > op.uses_end || op.uses_end > profile.uses.size())
      return broken("uses of op " + std::to_string(i) + " are out of range");
    for (const Use use : profile.uses_of(op)) {
      if (use.tensor().index() >= profile.tensors.size())
        return broken("op " + std::to_string(i) + " uses a tensor that does not exist");
      const Storage& storage = profile.storages[profile.storage_of(use).index()];
      if (storage.created_by.valid() && storage.created_by.index() > i)
        return broken("op " + std::to_string(i) + " uses a storage before it is created");
      if (storage.freed_after.valid() && storage.freed_after.index() < i)
        return broken("op " + std::to_string(i) + " uses a storage after it is freed");
    }
  }
  for (std::size_t i = 0; i < profile.storages.size(); ++i) {
    const Storage& storage = profile.storages[i];
    if (storage.uses_begin > storage.uses_end || storage.uses_end > profile.storage_uses.size())
      return broken("uses of storage " + std::to_string(i) + " are out of range");
    if (storage.created_by.valid() && storage.created_by.index() >= profile.ops.size())
      return broken("storage " + std::to_string(i) + " is created by no op");
    if (storage.freed_after.valid() && storage.freed_after.index() >= profile.ops.size())
      return broken("storage " + std::to_string(i) + " is freed after no op");
    if (storage.created_by.valid() && storage.freed_after.valid() &&
        storage.freed_after < storage.created_by)
      return broken("storage " + std::to_string(i) + " is freed before it is created");
    const auto uses = profile.uses_of(storage);
    if (std::adjacent_find(uses.begin(), uses.end(), [](std::uint32_t a, std::uint32_t b) {
          return a >= b;
        }) != uses.end())
      return broken("uses of storage " + std::to_string(i) + " are not ascending");
  }
  return {};
}

}  // namespace spillway
