// SPDX-License-Identifier: Apache-2.0
// every-k: checkpoint at every k-th layer boundary (default 2); the k layers between are recomputed
// as one segment.
#include "policy/cuts.hpp"
#include "policy/planners/presets.hpp"

namespace spillway {

PlanOutcome plan_every_k(const Profile& profile,
                         const ProfileSummary& /*summary*/,
                         const DeviceModel& device,
                         const PlanRequest& request) {
  const std::uint32_t k = request.k == 0 ? 2 : request.k;
  const GapTable gaps = find_gaps(profile);
  const std::vector<Cut> all = layer_cuts(profile);
  std::vector<Cut> cuts;
  for (std::size_t i = 0; i < all.size(); i += k) cuts.push_back(all[i]);
  return outcome_of(profile,
                    device,
                    request,
                    gaps,
                    checkpoint_at(profile, gaps, cuts),
                    request.k == 0 ? "every-k" : "every-k:" + std::to_string(request.k));
}

}  // namespace spillway
