// SPDX-License-Identifier: Apache-2.0
// selective: recompute what is large and cheap - the outputs of attention's inner ops, norms,
// softmax, dropout and elementwise ops - and keep the outputs of matmuls and convolutions
// (Korthikanti et al. 2022, arXiv 2205.05198; there attention alone).
#include "policy/planners/presets.hpp"

namespace spillway {

Choices selective_choices(const Profile& profile, const GapTable& gaps) {
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    if (!gap.rebuildable || !gap.returns) continue;
    if (profile.ops[gap.before_op].tag.phase == Phase::kForward) continue;
    switch (profile.ops[profile.storages[gap.storage].created_by.index()].tag.kind) {
      case OpKind::kAttention:
      case OpKind::kNorm:
      case OpKind::kSoftmax:
      case OpKind::kDropout:
      case OpKind::kElementwise:
        choices[g].action = Action::kRecompute;
        break;
      default:
        break;
    }
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
