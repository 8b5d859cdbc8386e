// SPDX-License-Identifier: Apache-2.0
// Finds gaps, and whether recompute could close them: a bounded walk over the producers that would
// have to run again.
#include "policy/gaps.hpp"

#include <algorithm>

namespace spillway {
namespace {

// A chain that needs more ops than this is not worth considering.
constexpr std::size_t kMaxChainOps = 512;

bool is_written_between(const Profile& profile,
                        std::uint32_t storage,
                        std::uint32_t after_op,
                        std::uint32_t until_op) {
  const Storage& info = profile.storages[storage];
  if (!info.tag.has(kRewritten)) return false;
  for (const std::uint32_t op : profile.uses_of(info)) {
    if (op <= after_op || op > until_op) continue;
    for (const Use use : profile.uses_of(profile.ops[op]))
      if (use.writes() && profile.storage_of(use).value == storage) return true;
  }
  return false;
}

class RebuildCheck {
 public:
  explicit RebuildCheck(const Profile& profile)
      : profile_(profile), stamps_(profile.storages.size(), 0) {}

  /// Could `storage` be made again at any op up to `horizon`?
  bool can_rebuild(std::uint32_t storage, std::uint32_t horizon) {
    ++stamp_;
    stack_.assign(1, storage);
    std::size_t visited = 0;
    while (!stack_.empty()) {
      const std::uint32_t current = stack_.back();
      stack_.pop_back();
      if (stamps_[current] == stamp_) continue;
      stamps_[current] = stamp_;
      if (++visited > kMaxChainOps) return false;
      const Storage& info = profile_.storages[current];
      if (!info.created_by.valid()) return false;
      const Op& producer = profile_.ops[info.created_by.index()];
      if (!is_recomputable(profile_, producer) || !makes(producer, current)) return false;
      for (const Use use : profile_.uses_of(producer)) {
        if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
        const std::uint32_t input = profile_.storage_of(use).value;
        if (input == current) continue;  // a view of its own output
        if (is_written_between(profile_, input, info.created_by.value, horizon)) return false;
        const Storage& input_info = profile_.storages[input];
        const bool alive =
            !input_info.freed_after.valid() || input_info.freed_after.value >= horizon;
        if (!alive) stack_.push_back(input);
      }
    }
    return true;
  }

 private:
  bool makes(const Op& op, std::uint32_t storage) const {
    for (const Use use : profile_.uses_of(op))
      if (use.creates() && use.tensor().value == storage) return true;
    return false;
  }

  const Profile& profile_;
  std::vector<std::uint32_t> stamps_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t> stack_;
};

}  // namespace

GapTable find_gaps(const Profile& profile) {
  GapTable table;
  table.of_storage.assign(profile.storages.size() + 1, 0);
  RebuildCheck check(profile);
  for (std::uint32_t i = 0; i < profile.storages.size(); ++i) {
    table.of_storage[i] = static_cast<std::uint32_t>(table.gaps.size());
    const Storage& storage = profile.storages[i];
    if (!is_movable(storage)) continue;
    std::uint32_t last = storage.created_by.value;
    const auto uses = profile.uses_of(storage);
    // Another chain may need it as an input at any time of its life.
    const std::uint32_t horizon = storage.freed_after.valid()
                                      ? storage.freed_after.value
                                      : static_cast<std::uint32_t>(profile.ops.size());
    const bool rebuildable = profile.can_recompute && check.can_rebuild(i, horizon);
    for (const std::uint32_t use : uses) {
      if (use > last + 1) table.gaps.push_back({i, last, use, true, rebuildable});
      last = std::max(last, use);
    }
    if (storage.freed_after.valid() && storage.freed_after.value > last)
      table.gaps.push_back({i, last, storage.freed_after.value + 1, false, rebuildable});
  }
  table.of_storage.back() = static_cast<std::uint32_t>(table.gaps.size());
  return table;
}

std::int64_t rebuild_ns(const Profile& profile, const Gap& gap) {
  std::int64_t ns = 0;
  std::vector<std::uint32_t> ops;
  std::vector<std::uint32_t> worklist = {gap.storage};
  while (!worklist.empty()) {
    const std::uint32_t producer = profile.storages[worklist.back()].created_by.value;
    worklist.pop_back();
    if (std::find(ops.begin(), ops.end(), producer) != ops.end()) continue;
    ops.push_back(producer);
    ns += static_cast<std::int64_t>(profile.ops[producer].duration_ns);
    for (const Use use : profile.uses_of(profile.ops[producer])) {
      if (use.creates() && use.tensor().index() < profile.storages.size()) continue;
      const std::uint32_t input = profile.storage_of(use).value;
      const Storage& info = profile.storages[input];
      if (info.created_by.valid() && info.freed_after.valid() &&
          info.freed_after.value < gap.before_op)
        worklist.push_back(input);
    }
  }
  return ns;
}

std::uint64_t held_bytes(const Storage& storage, const Decision& decision) {
  switch (decision.action) {
    case Action::kKeep:
      return storage.bytes;
    case Action::kCompress:
      return payload_bytes(decision.codec, storage.tag.dtype, storage.bytes);
    case Action::kOffload:
    case Action::kRecompute:
      return 0;
  }
  return storage.bytes;
}

}  // namespace spillway
