// SPDX-License-Identifier: Apache-2.0
// offload-all: every activation goes to host memory after its last forward use and comes back for
// backward, as save_on_cpu does.
#include "policy/planners/presets.hpp"

namespace spillway {

Choices offload_every_gap(const GapTable& gaps) {
  Choices choices(gaps.gaps.size());
  for (Decision& decision : choices) decision.action = Action::kOffload;
  return choices;
}

PlanOutcome plan_offload_all(const Profile& profile,
                             const ProfileSummary& /*summary*/,
                             const DeviceModel& device,
                             const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    const bool leaves_forward = profile.ops[gap.after_op].tag.phase == Phase::kForward &&
                                gap.returns &&
                                profile.ops[gap.before_op].tag.phase != Phase::kForward;
    if (leaves_forward) choices[g].action = Action::kOffload;
  }
  return outcome_of(profile, device, request, gaps, choices, "offload-all");
}

}  // namespace spillway
