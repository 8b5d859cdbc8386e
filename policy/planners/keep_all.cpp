// SPDX-License-Identifier: Apache-2.0
// keep-all: nothing moves. The reference for every saving and every overhead.
#include "policy/planners/presets.hpp"

namespace spillway {

PlanOutcome plan_keep_all(const Profile& profile,
                          const ProfileSummary& /*summary*/,
                          const DeviceModel& device,
                          const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  return outcome_of(profile, device, request, gaps, Choices(gaps.gaps.size()), "keep-all");
}

}  // namespace spillway
