// SPDX-License-Identifier: Apache-2.0
// pofo: recompute and offload of a chain together (Beaumont, Eyraud-Dubois, Shilova 2021). The
// search runs for memories of many sizes; stage inputs and saved stages that it offloads become
// copies in the program of its schedule, and the simulator says what fits and how long it takes.
#include "policy/chain/pofo.hpp"

#include "policy/chain/offload_pass.hpp"
#include "policy/chain/profile_chain.hpp"
#include "policy/op_order.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <limits>

namespace spillway {
namespace {

constexpr std::uint32_t kMaxStages = 50;
constexpr std::uint32_t kSlots = 400;
constexpr std::uint32_t kMemories = 16;
constexpr int kRefinements = 6;
constexpr std::uint32_t kBeam = 48;

/// What a round holds in the model when nothing moves.
std::uint64_t all_bytes(const Chain& chain) {
  std::uint64_t bytes = 0;
  std::uint64_t extra = 0;
  for (std::size_t s = 0; s < chain.length(); ++s) {
    bytes += chain.saved_bytes[s];
    extra =
        std::max({extra,
                  chain.forward_extra_bytes[s] + chain.input_bytes[s + 1],
                  chain.backward_extra_bytes[s] + chain.input_bytes[s] + chain.input_bytes[s + 1]});
  }
  return bytes + extra;
}

/// The search counts the gradients of a stage's input and output by their sizes; what the step
/// holds for backward has them already.
Chain without_gradients(Chain chain) {
  for (std::size_t s = 0; s < chain.length(); ++s) {
    const std::uint64_t gradients = chain.input_bytes[s] + chain.input_bytes[s + 1];
    std::uint64_t& extra = chain.backward_extra_bytes[s];
    extra -= std::min(extra, gradients);
  }
  return chain;
}

/// Marks what the plan sends to the host: the input of a stage, or what a stage saved.
void mark_offloads(const ChainRound& round, const PofoPlan& plan, std::vector<char>& marks) {
  for (std::size_t g = 1; g < plan.groups.size(); ++g) {
    if (!plan.groups[g].offload_input) continue;
    const PofoGroup& before = plan.groups[g - 1];
    for (const std::uint32_t s : round.stages[plan.groups[g].first].input) marks[s] = 1;
    if (!before.save_all) continue;
    for (const std::uint32_t s : round.stages[before.first].saved) marks[s] = 1;
  }
}

}  // namespace

PlanOutcome plan_pofo(const Profile& profile,
                      const ProfileSummary& /*summary*/,
                      const DeviceModel& device,
                      const PlanRequest& request) {
  if (!profile.can_recompute) return keep_all_as(profile, device, request, "pofo");
  const ProfileChain chain = chain_of(profile, kMaxStages);
  Candidates candidates(profile, device, request, "pofo");
  std::vector<ChainSchedule> keep;
  std::vector<RotorTable> tables;
  std::vector<Chain> chains;
  std::vector<std::uint64_t> full_bytes;
  for (const ChainRound& round : chain.rounds) {
    keep.push_back(save_all_schedule(round.stages.size()));
    chains.push_back(without_gradients(round.chain));
    full_bytes.push_back(all_bytes(chains.back()));
    const auto share =
        static_cast<std::uint32_t>(std::max<std::size_t>(kSlots / chain.rounds.size(), 20));
    tables.emplace_back(
        chains.back(), std::max<std::uint64_t>(full_bytes.back() / share, 1), share);
  }
  candidates.add_order(order_of(profile, chain, keep));
  if (request.budget_bytes == 0) return candidates.finish();
  // Tries the memory `share` of what keeping everything takes; the least bytes that a program of it
  // needs, more than anything where the search finds no plan.
  constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  const auto try_share = [&](double share) {
    std::vector<ChainSchedule> schedules;
    std::vector<char> marks(profile.storages.size(), 0);
    for (std::size_t r = 0; r < chain.rounds.size(); ++r) {
      PofoOptions options;
      options.memory_bytes = static_cast<std::uint64_t>(static_cast<double>(full_bytes[r]) * share);
      options.offload_bytes_per_ns = std::max(device.d2h_gbps, 1e-3);
      options.prefetch_bytes_per_ns = std::max(device.h2d_gbps, 1e-3);
      options.beam = kBeam;
      const auto plan = pofo(chains[r], tables[r], options);
      if (!plan) return kNever;
      schedules.push_back(schedule_of(*plan, tables[r]));
      mark_offloads(chain.rounds[r], *plan, marks);
    }
    std::uint64_t least_bytes = kNever;
    auto base = plan_of_order(profile, order_of(profile, chain, schedules), true, "pofo", 0);
    if (!base.ok()) return least_bytes;
    for (const std::uint64_t ahead : {std::uint64_t{0}, request.budget_bytes}) {
      Plan plan;
      plan.program = offload_in_program(profile, device, base.value().program, marks, ahead);
      plan.decisions = decisions_of(profile, plan.program);
      least_bytes = std::min(least_bytes, candidates.add(std::move(plan)));
    }
    return least_bytes;
  };
  // The case in which nothing is offloaded: rotor, in the same slots.
  std::vector<RotorTable> plain;
  for (std::size_t r = 0; r < tables.size(); ++r)
    plain.emplace_back(chain.rounds[r].chain,
                       tables[r].slot_bytes(),
                       tables[r].slots() + static_cast<std::uint32_t>(keep[r].size()));
  const std::size_t tries = std::min<std::size_t>(candidate_limit(profile), 60);
  for (std::size_t i = 1; i <= tries; ++i) {
    std::vector<ChainSchedule> schedules;
    for (std::size_t r = 0; r < tables.size(); ++r) {
      schedules.push_back(
          plain[r].schedule(static_cast<std::uint32_t>(plain[r].slots() * i / tries)));
      if (schedules.back().empty()) schedules.back() = keep[r];
    }
    candidates.add_order(order_of(profile, chain, schedules));
  }
  const auto memories =
      static_cast<std::uint32_t>(std::min<std::size_t>(kMemories, candidate_limit(profile)));
  double fits = 0;
  double smallest = 1;  // with a plan
  double too_large = 1;
  for (std::uint32_t i = 1; i <= memories; ++i) {
    const double share = static_cast<double>(i) / memories;
    const std::uint64_t bytes = try_share(share);
    if (bytes != kNever) smallest = std::min(smallest, share);
    if (bytes <= request.budget_bytes) {
      fits = share;
      too_large = 1;
    } else if (too_large == 1) {
      too_large = share;
    }
  }
  // The least memory with a plan lies between two of these; whatever the budget, it is tried.
  double without = smallest - 1.0 / memories;
  const int refinements =
      static_cast<int>(std::min<std::size_t>(kRefinements, candidate_limit(profile) / 4 + 1));
  for (int i = 0; i < refinements; ++i) {
    const double middle = (smallest + without) / 2;
    const std::uint64_t bytes = try_share(middle);
    (bytes != kNever ? smallest : without) = middle;
    if (bytes <= request.budget_bytes) fits = std::max(fits, middle);
  }
  for (int i = 0; i < refinements && fits > 0 && fits < too_large; ++i) {
    const double middle = (fits + too_large) / 2;
    (try_share(middle) <= request.budget_bytes ? fits : too_large) = middle;
  }
  return candidates.finish();
}

}  // namespace spillway
