// SPDX-License-Identifier: Apache-2.0
// full: checkpoint at every layer; everything inside a layer is recomputed (Korthikanti et al. 2022
// call it full recomputation).
#include "policy/cuts.hpp"
#include "policy/planners/presets.hpp"

namespace spillway {

PlanOutcome plan_full(const Profile& profile,
                      const ProfileSummary& /*summary*/,
                      const DeviceModel& device,
                      const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  return outcome_of(
      profile, device, request, gaps, checkpoint_at(profile, gaps, layer_cuts(profile)), "full");
}

}  // namespace spillway
