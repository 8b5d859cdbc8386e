// SPDX-License-Identifier: Apache-2.0
// bptt: backpropagation through time in a fixed memory (Gruslys et al. 2016, arXiv 1606.03401).
// Time steps are the stages of the chain, all taken as equal: a hidden state is the mean input, an
// internal state the mean of what a stage saves. The number of slots is swept, the simulator says
// what fits.
#include "policy/chain/bptt.hpp"

#include "policy/chain/profile_chain.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <numeric>

namespace spillway {
namespace {

/// Internal state in hidden states, rounded to the nearest, 1..16.
std::uint32_t alpha_of(const ProfileChain& chain) {
  std::uint64_t hidden = 0;
  std::uint64_t internal = 0;
  for (const ChainRound& round : chain.rounds) {
    const Chain& c = round.chain;
    hidden = std::accumulate(c.input_bytes.begin(), c.input_bytes.end(), hidden);
    internal = std::accumulate(c.saved_bytes.begin(), c.saved_bytes.end(), internal);
  }
  if (hidden == 0) return 1;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((internal + hidden / 2) / hidden, 1, 16));
}

/// Schedules of one kind of states for every number of slots.
void add_schedules(const Profile& profile,
                   const ProfileChain& chain,
                   BpttStates states,
                   const PlanRequest& request,
                   Candidates& candidates) {
  const std::uint32_t alpha = states == BpttStates::kMixed ? alpha_of(chain) : 1;
  std::size_t longest = 1;
  for (const ChainRound& round : chain.rounds) longest = std::max(longest, round.stages.size());
  const std::uint32_t most = static_cast<std::uint32_t>(longest) * alpha + 1;
  std::vector<BpttTable> tables;
  std::vector<std::size_t> table_of_round;
  std::vector<std::size_t> lengths;
  for (const ChainRound& round : chain.rounds) {
    const auto known = std::find(lengths.begin(), lengths.end(), round.stages.size());
    table_of_round.push_back(static_cast<std::size_t>(known - lengths.begin()));
    if (known != lengths.end()) continue;
    lengths.push_back(round.stages.size());
    tables.emplace_back(states, static_cast<std::uint32_t>(round.stages.size()), most, alpha);
  }
  std::vector<std::uint32_t> slot_counts = {most};
  if (request.budget_bytes != 0) slot_counts = thinned(most, candidate_limit(profile));
  for (const std::uint32_t slots : slot_counts) {
    std::vector<ChainSchedule> schedules;
    schedules.reserve(table_of_round.size());
    for (const std::size_t t : table_of_round) schedules.push_back(tables[t].schedule(slots));
    candidates.add_order(order_of(profile, chain, schedules));
  }
}

}  // namespace

PlanOutcome plan_bptt(const Profile& profile,
                      const ProfileSummary& /*summary*/,
                      const DeviceModel& device,
                      const PlanRequest& request) {
  if (!profile.can_recompute)
    return keep_all_as(profile, device, request, policy_text("bptt", request));
  constexpr std::uint32_t kMaxStages = 128;
  const ProfileChain chain = chain_of(profile, kMaxStages);
  Candidates candidates(profile, device, request, policy_text("bptt", request));
  // Sizes of real stages are not equal, so mixed, of which hidden alone is a case, may need more.
  const bool hidden = request.variant != "internal";
  if (hidden) add_schedules(profile, chain, BpttStates::kHidden, request, candidates);
  if (request.variant == "internal")
    add_schedules(profile, chain, BpttStates::kInternal, request, candidates);
  if (request.variant.empty() || request.variant == "mixed")
    add_schedules(profile, chain, BpttStates::kMixed, request, candidates);
  return candidates.finish();
}

}  // namespace spillway
