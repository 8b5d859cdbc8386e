// SPDX-License-Identifier: Apache-2.0
// segments: what torch.utils.checkpoint.checkpoint_sequential does with K segments (default: the
// square root of the number of layers). Segments have floor(L / K) layers and keep their input
// alone; the last one, which takes what is left over, is not checkpointed.
#include "policy/chain/profile_chain.hpp"
#include "policy/cuts.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spillway {

PlanOutcome plan_segments(const Profile& profile,
                          const ProfileSummary& /*summary*/,
                          const DeviceModel& device,
                          const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const ProfileChain chain = chain_of(profile, std::numeric_limits<std::uint32_t>::max());
  std::vector<Cut> cuts;
  std::vector<char> in_last(profile.ops.size(), 0);
  for (const ChainRound& round : chain.rounds) {
    const std::size_t layers = round.stages.size();
    const auto root = static_cast<std::size_t>(std::lround(std::sqrt(layers)));
    const std::size_t segments =
        std::clamp<std::size_t>(request.k == 0 ? root : request.k, 1, layers);
    const std::size_t size = layers / segments;
    for (std::size_t s = 1; s < segments; ++s)
      cuts.push_back({round.stages[s * size].begin_op - 1, 0});
    const std::uint32_t last_begin = round.stages[(segments - 1) * size].begin_op;
    std::fill(in_last.begin() + last_begin, in_last.begin() + round.backward_begin, char{1});
  }
  Choices choices = checkpoint_at(profile, gaps, cuts);
  for (std::size_t g = 0; g < choices.size(); ++g)
    if (in_last[profile.storages[gaps.gaps[g].storage].created_by.index()] != 0)
      choices[g] = Decision();
  return outcome_of(profile, device, request, gaps, choices, policy_text("segments", request));
}

}  // namespace spillway
