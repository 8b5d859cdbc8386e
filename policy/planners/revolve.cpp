// SPDX-License-Identifier: Apache-2.0
// revolve: binomial checkpointing (Griewank & Walther 2000, TOMS 799). All stages count as equal;
// the number of checkpoints is the largest that the budget holds, or as given: revolve:C. As in the
// paper, each stage runs once more right before its backward, however much memory there is.
#include "policy/chain/revolve.hpp"

#include "policy/chain/profile_chain.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>

namespace spillway {
namespace {

/// Op runs that schedules with that many checkpoints add, about.
std::uint64_t repeated_ops(const ProfileChain& chain, std::uint32_t checkpoints) {
  std::uint64_t runs = 0;
  for (const ChainRound& round : chain.rounds) {
    const std::uint64_t stages = round.stages.size();
    const std::uint64_t ops = round.backward_begin - round.begin_op;
    runs +=
        revolve_forward_steps(static_cast<std::uint32_t>(stages), checkpoints) * (ops / stages + 1);
  }
  return runs;
}

}  // namespace

PlanOutcome plan_revolve(const Profile& profile,
                         const ProfileSummary& /*summary*/,
                         const DeviceModel& device,
                         const PlanRequest& request) {
  if (!profile.can_recompute)
    return keep_all_as(profile, device, request, policy_text("revolve", request));
  constexpr std::uint32_t kMaxStages = 1024;
  const ProfileChain chain = chain_of(profile, kMaxStages);
  std::uint32_t longest = 1;
  for (const ChainRound& round : chain.rounds)
    longest = std::max(longest, static_cast<std::uint32_t>(round.stages.size()));
  std::vector<std::uint32_t> counts = {request.k};
  if (request.k == 0)
    counts = request.budget_bytes == 0 ? std::vector<std::uint32_t>{longest}
                                       : thinned(longest, candidate_limit(profile));
  Candidates candidates(profile, device, request, policy_text("revolve", request));
  // Few checkpoints in a long chain repeat quadratically often: hours of compute, and of planning.
  constexpr std::uint64_t kMostRepeats = 1'000'000;
  for (const std::uint32_t checkpoints : counts) {
    if (request.k == 0 && checkpoints != counts.back() &&
        repeated_ops(chain, checkpoints) > kMostRepeats)
      continue;
    std::vector<ChainSchedule> schedules;
    for (const ChainRound& round : chain.rounds)
      schedules.push_back(
          revolve_schedule(static_cast<std::uint32_t>(round.stages.size()), checkpoints));
    candidates.add_order(order_of(profile, chain, schedules));
  }
  return candidates.finish();
}

}  // namespace spillway
