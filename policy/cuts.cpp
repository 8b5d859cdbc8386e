// SPDX-License-Identifier: Apache-2.0
// Crossing bytes by a sweep over forward lifetimes (creation to last forward read).
#include "policy/cuts.hpp"

#include <algorithm>

namespace spillway {
namespace {

struct ForwardLife {
  std::uint32_t storage;
  std::uint32_t begin;
  std::uint32_t last_read;
};

bool made_in_step(const Storage& storage) {
  return storage.created_by.valid() && storage.tag.kind != BufferKind::kParameter &&
         storage.tag.kind != BufferKind::kConstant && storage.tag.kind != BufferKind::kOptimizer &&
         storage.tag.kind != BufferKind::kGradient;
}

std::vector<ForwardLife> forward_lives(const Profile& profile) {
  std::vector<ForwardLife> lives;
  for (std::uint32_t i = 0; i < profile.storages.size(); ++i) {
    const Storage& storage = profile.storages[i];
    if (!made_in_step(storage) ||
        profile.ops[storage.created_by.index()].tag.phase != Phase::kForward)
      continue;
    ForwardLife life{i, storage.created_by.value, storage.created_by.value};
    for (const std::uint32_t op : profile.uses_of(storage)) {
      if (profile.ops[op].tag.phase != Phase::kForward)
        break;  // a later micro-batch's forward does not read it
      life.last_read = op;
    }
    lives.push_back(life);
  }
  return lives;
}

}  // namespace

std::vector<Cut> layer_cuts(const Profile& profile) {
  const std::size_t op_count = profile.ops.size();
  std::vector<std::uint64_t> crossing(op_count + 1, 0);
  std::vector<std::uint64_t> starts(op_count + 1, 0);
  std::vector<std::uint64_t> ends(op_count + 1, 0);
  for (const ForwardLife& life : forward_lives(profile)) {
    if (life.last_read == life.begin) continue;
    starts[life.begin] += profile.storages[life.storage].bytes;
    ends[life.last_read] += profile.storages[life.storage].bytes;
  }
  std::uint64_t live = 0;
  for (std::size_t op = 0; op < op_count; ++op) {
    live += starts[op];
    live -= ends[op];
    crossing[op] = live;  // behind op
  }
  std::vector<Cut> cuts;
  bool has_layers = false;
  std::uint32_t previous = StorageId::kNoneValue;
  for (std::uint32_t op = 0; op < op_count; ++op) {
    if (profile.ops[op].tag.phase != Phase::kForward) continue;
    if (previous != StorageId::kNoneValue &&
        profile.ops[previous].tag.layer != profile.ops[op].tag.layer) {
      cuts.push_back({previous, crossing[previous]});
      has_layers = true;
    }
    previous = op;
  }
  if (has_layers) return cuts;

  cuts.clear();
  // No layers: local minima of what crosses. A minimum counts when less crosses than just before or
  // just behind it.
  std::vector<std::uint32_t> forward_ops;
  for (std::uint32_t op = 0; op < op_count; ++op)
    if (profile.ops[op].tag.phase == Phase::kForward && crossing[op] > 0) forward_ops.push_back(op);
  for (std::size_t i = 0; i < forward_ops.size(); ++i) {
    const std::uint64_t here = crossing[forward_ops[i]];
    const std::uint64_t before = i > 0 ? crossing[forward_ops[i - 1]] : here;
    const std::uint64_t behind = i + 1 < forward_ops.size() ? crossing[forward_ops[i + 1]] : here;
    if (here <= before && here <= behind && (here < before || here < behind))
      cuts.push_back({forward_ops[i], here});
  }
  return cuts;
}

Choices checkpoint_at(const Profile& profile, const GapTable& gaps, const std::vector<Cut>& cuts) {
  std::vector<char> kept(profile.storages.size(), 0);
  for (const ForwardLife& life : forward_lives(profile)) {
    // The first cut at or behind its creation: does it still lie before the last read?
    const auto cut =
        std::lower_bound(cuts.begin(), cuts.end(), life.begin, [](const Cut& c, std::uint32_t op) {
          return c.after_op < op;
        });
    kept[life.storage] = cut != cuts.end() && cut->after_op < life.last_read ? 1 : 0;
  }
  return keep_only(profile, gaps, kept);
}

Choices keep_only(const Profile& profile, const GapTable& gaps, const std::vector<char>& kept) {
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    if (kept[gap.storage] != 0 || !gap.rebuildable || !gap.returns) continue;
    // Only gaps that reach out of forward: inside it, checkpointing keeps what the segment still
    // reads.
    const bool crosses = profile.ops[gap.after_op].tag.phase == Phase::kForward &&
                         profile.ops[gap.before_op].tag.phase != Phase::kForward;
    if (crosses) choices[g].action = Action::kRecompute;
  }
  return choices;
}

}  // namespace spillway
