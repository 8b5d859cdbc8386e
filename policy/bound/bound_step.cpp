// SPDX-License-Identifier: Apache-2.0
// Flattening a profile by the validator's rules.
#include "policy/bound/bound_step.hpp"

#include "policy/codec_choice.hpp"

#include <algorithm>

namespace spillway {
namespace {

bool may_run_again(const Op& op) {
  const bool random = op.tag.has(kOpRng) && !op.tag.has(kOpRngRestorable);
  return !random && !op.tag.has(kOpCollective) && !op.tag.has(kOpInPlace) &&
         !op.tag.has(kOpNeverRecompute) && !op.tag.has(kOpInferred);
}

/// The best of all allowed codecs in each figure by itself.
void price_codecs(const Storage& storage,
                  CodecSet allowed,
                  const DeviceModel& device,
                  BoundStep::Item* item) {
  for (int c = 1; c < kCodecCount; ++c) {
    const auto codec = static_cast<Codec>(c);
    if ((allowed >> c & 1) == 0) continue;
    const std::uint64_t payload = payload_bytes(codec, storage.tag.dtype, storage.bytes);
    // A payload no smaller than its source is worth no more than the source.
    if (payload >= storage.bytes) continue;
    const std::int64_t once_ns = device.codec_ns(codec, storage.tag.dtype, storage.bytes);
    item->payload_bytes = item->coded ? std::min(item->payload_bytes, payload) : payload;
    item->once_ns = item->coded ? std::min(item->once_ns, once_ns) : once_ns;
    item->coded = true;
  }
  if (!item->coded) return;
  item->coded_out_ns = device.offload_ns(item->payload_bytes);
  item->coded_in_ns = device.prefetch_ns(item->payload_bytes);
}

}  // namespace

BoundStep::BoundStep(const Profile& profile, const DeviceModel& device, const PlanRequest& request)
    : offload(allows(request.actions, Action::kOffload)), pinned_bytes(request.pinned_bytes) {
  const std::size_t op_count = profile.ops.size();
  const std::size_t item_count = profile.storages.size();
  items.resize(item_count);
  ops.resize(op_count);
  std::vector<std::vector<std::uint32_t>> in(op_count), out(op_count), read_by(item_count);
  const bool recompute = allows(request.actions, Action::kRecompute);
  for (std::uint32_t o = 0; o < op_count; ++o) {
    const Op& op = profile.ops[o];
    ops[o].duration_ns = static_cast<std::int64_t>(op.duration_ns);
    ops[o].workspace_bytes = op.workspace_bytes;
    ops[o].may_rerun = recompute && may_run_again(op);
    for (const Use use : profile.uses_of(op)) {
      const std::uint32_t s = profile.storage_of(use).value;
      if (use.writes()) ops[o].may_rerun = false;
      if (use.creates() && use.tensor().value == s) continue;
      const OpId maker = profile.storages[s].created_by;
      if (maker.valid() && maker.value == o) continue;  // a view of its own output
      if (std::find(in[o].begin(), in[o].end(), s) == in[o].end()) in[o].push_back(s);
    }
    for (const std::uint32_t s : in[o]) read_by[s].push_back(o);
  }
  for (std::uint32_t w = 0; w < op_count; ++w) {
    for (const Use use : profile.uses_of(profile.ops[w])) {
      if (!use.writes()) continue;
      for (const std::uint32_t reader : read_by[profile.storage_of(use).value])
        if (reader < w) ops[reader].rerun_until = std::min(ops[reader].rerun_until, w);
    }
  }
  begin_ns.assign(op_count + 1, 0);
  for (std::size_t o = 0; o < op_count; ++o) begin_ns[o + 1] = begin_ns[o] + ops[o].duration_ns;

  for (std::uint32_t s = 0; s < item_count; ++s) {
    const Storage& storage = profile.storages[s];
    Item& item = items[s];
    item.bytes = storage.bytes;
    if (storage.created_by.valid()) {
      item.created_by = storage.created_by.value;
      out[item.created_by].push_back(s);
    }
    if (storage.freed_after.valid()) item.freed_after = storage.freed_after.value;
    item.movable = is_movable(storage);
    item.guarded = storage.tag.has(kNeverRecompute) || storage.tag.has(kContainsCollective);
    item.out_ns = device.offload_ns(item.bytes);
    item.in_ns = device.prefetch_ns(item.bytes);
    if (item.movable && allows(request.actions, Action::kCompress))
      price_codecs(storage, allowed_codecs(profile, s, request), device, &item);
  }
  inputs = NumberLists(in);
  outputs = NumberLists(out);
  readers = NumberLists(read_by);

  // Live bytes by differences: unmovable ones for their whole life, movable ones where an op
  // touches them, and (wanted) up to their last use.
  std::vector<std::int64_t> fixed(op_count + 1, 0), wanted(op_count + 1, 0);
  const auto add = [op_count](std::vector<std::int64_t>* to,
                              std::uint32_t first,
                              std::uint32_t last,
                              std::uint64_t bytes) {
    if (first >= op_count || last < first) return;
    (*to)[first] += static_cast<std::int64_t>(bytes);
    const std::size_t end = std::min<std::size_t>(op_count, std::size_t{last} + 1);
    (*to)[end] -= static_cast<std::int64_t>(bytes);
  };
  for (std::uint32_t s = 0; s < item_count; ++s) {
    const Item& item = items[s];
    const std::uint32_t first = item.created_by == kNone ? 0 : item.created_by;
    if (!item.movable) {
      add(&fixed, first, item.freed_after, item.bytes);
      add(&wanted, first, item.freed_after, item.bytes);
      continue;
    }
    add(&fixed, first, first, item.bytes);
    std::uint32_t last = first;
    for (const std::uint32_t o : readers.of(s)) {
      if (o != last) add(&fixed, o, o, item.bytes);
      last = o;
    }
    add(&wanted, first, item.freed_after == kNone ? kNone : last, item.bytes);
  }
  fixed_bytes.resize(op_count);
  wanted_bytes.resize(op_count);
  std::int64_t fixed_now = 0, wanted_now = 0;
  for (std::size_t o = 0; o < op_count; ++o) {
    fixed_now += fixed[o];
    wanted_now += wanted[o];
    fixed_bytes[o] = static_cast<std::uint64_t>(fixed_now) + ops[o].workspace_bytes;
    wanted_bytes[o] = static_cast<std::uint64_t>(wanted_now) + ops[o].workspace_bytes;
  }
}

}  // namespace spillway
