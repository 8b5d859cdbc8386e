// SPDX-License-Identifier: Apache-2.0
// selective: recompute what is large and cheap - the outputs of attention's inner ops, norms,
// softmax, dropout and elementwise ops - and keep the outputs of matmuls and convolutions
// (Korthikanti et al. 2022, arXiv 2205.05198; there attention alone). Only what follows from kept
// storages by such ops: a residual stream would otherwise pull in every matmul before it.
#include "policy/planners/presets.hpp"

#include <vector>

namespace spillway {

namespace {

bool is_cheap(OpKind kind) {
  switch (kind) {
    case OpKind::kAttention:
    case OpKind::kNorm:
    case OpKind::kSoftmax:
    case OpKind::kDropout:
    case OpKind::kElementwise:
      return true;
    default:
      return false;
  }
}

}  // namespace

Choices selective_choices(const Profile& profile, const GapTable& gaps) {
  std::vector<bool> saved(profile.storages.size(), false);  // waits for backward
  for (const Gap& gap : gaps.gaps) {
    if (gap.returns && profile.ops[gap.before_op].tag.phase != Phase::kForward)
      saved[gap.storage] = true;
  }
  // Ops come in order, so what an op reads is settled before the op.
  std::vector<bool> at_hand(profile.storages.size(), false);  // kept, or cheap from what is kept
  std::vector<bool> cheap(profile.storages.size(), false);
  for (std::size_t s = 0; s < profile.storages.size(); ++s)
    at_hand[s] = !profile.storages[s].created_by.valid();
  for (const Op& op : profile.ops) {
    bool follows = is_cheap(op.tag.kind);
    for (const Use use : profile.uses_of(op)) {
      if (!use.creates()) follows = follows && at_hand[profile.storage_of(use).index()];
    }
    for (const Use use : profile.uses_of(op)) {
      if (!use.creates()) continue;
      const std::size_t storage = profile.storage_of(use).index();
      cheap[storage] = follows;
      at_hand[storage] = follows || saved[storage];
    }
  }
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    if (!gap.rebuildable || !gap.returns || !cheap[gap.storage]) continue;
    if (profile.ops[gap.before_op].tag.phase == Phase::kForward) continue;
    choices[g].action = Action::kRecompute;
  }
  return choices;
}

PlanOutcome plan_selective(const Profile& profile,
                           const ProfileSummary& /*summary*/,
                           const DeviceModel& device,
                           const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  return outcome_of(profile, device, request, gaps, selective_choices(profile, gaps), "selective");
}

}  // namespace spillway
