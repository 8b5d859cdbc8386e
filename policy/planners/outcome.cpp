// SPDX-License-Identifier: Apache-2.0
// The end of every preset: lower, compare with the budget, explain when it does not fit.
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"

#include <algorithm>
#include <limits>

namespace spillway {

Choices recompute_every_gap(const GapTable& gaps) {
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < choices.size(); ++g)
    if (gaps.gaps[g].rebuildable) choices[g].action = Action::kRecompute;
  return choices;
}

namespace {

// Steps of more ops than this get fewer tries.
constexpr std::size_t kLongStepOps = 2048;

// With a budget: prefetches moved ahead for budgets that do not depend on the one asked for, and
// the fastest that fits. So more memory never makes the step slower. The rungs double their
// distance from the least budget, where a little room means most.
Lowered fastest_ahead(const Profile& profile,
                      const DeviceModel& device,
                      const PlanRequest& request,
                      const GapTable& gaps,
                      const Choices& choices,
                      const Lowering& lowering,
                      const Lowered& tight) {
  const std::uint64_t need_bytes = tight.min_budget_bytes();
  const std::uint64_t high_bytes = std::max(need_bytes, summarize(profile).keep_all_peak_bytes);
  const int doublings = profile.ops.size() > kLongStepOps ? 7 : 10;
  SimOptions options;
  options.budget_bytes = request.budget_bytes;
  Lowered best = tight;
  std::int64_t best_ns = std::numeric_limits<std::int64_t>::max();
  const auto try_plan = [&](Lowered lowered) {
    const Plan plan = make_plan(profile, gaps, choices, lowered, "", request.budget_bytes);
    const auto sim = simulate(profile, device, plan, options);
    if (!sim.ok() || !sim.value().fits || sim.value().step_ns >= best_ns) return;
    best_ns = sim.value().step_ns;
    best = std::move(lowered);
  };
  const auto try_budget = [&](std::uint64_t bytes) {
    if (bytes > request.budget_bytes) return;
    Lowered lowered = lowering.ahead(choices, bytes, tight);
    // A prefetch moved ahead may find a chain of recomputes that it did not foresee.
    if (lowered.min_budget_bytes() <= bytes) try_plan(std::move(lowered));
  };
  try_plan(tight);  // just in time
  try_budget(need_bytes);
  for (int i = doublings; i >= 0; --i) {
    const std::uint64_t room = (high_bytes - need_bytes) >> i;
    try_budget(need_bytes + room);
    try_budget(need_bytes + room + room / 2);
  }
  return best;
}

bool copies_back(const GapTable& gaps, const Choices& choices) {
  for (std::size_t g = 0; g < choices.size(); ++g)
    if (choices[g].action == Action::kOffload && gaps.gaps[g].returns) return true;
  return false;
}

}  // namespace

PlanOutcome outcome_of(const Profile& profile,
                       const DeviceModel& device,
                       const PlanRequest& request,
                       const GapTable& gaps,
                       const Choices& choices,
                       std::string_view policy) {
  const Lowering lowering(profile, device, gaps);
  const Lowered tight = lowering.just_in_time(choices);
  const std::uint64_t need_bytes = tight.min_budget_bytes();
  const bool fits = request.budget_bytes == 0 || need_bytes <= request.budget_bytes;
  Lowered lowered = tight;
  if (fits && copies_back(gaps, choices)) {
    // Without a budget, prefetches may use what keeping everything would use, and no more.
    if (request.budget_bytes == 0)
      lowered = lowering.ahead(
          choices, std::max(need_bytes, summarize(profile).keep_all_peak_bytes), tight);
    else
      lowered = fastest_ahead(profile, device, request, gaps, choices, lowering, tight);
  }
  Plan plan = make_plan(
      profile, gaps, choices, std::move(lowered), std::string(policy), request.budget_bytes);
  if (fits) return plan;
  Infeasible infeasible;
  infeasible.min_budget_bytes = need_bytes;
  std::size_t op = 0;
  while (tight.instant_bytes[op] != need_bytes) ++op;
  infeasible.at =
      "op " + std::to_string(op) + " " + std::string(profile.text(profile.ops[op].name));
  infeasible.holders = holders_at_min_budget(profile, device, plan, 8);
  return infeasible;
}

}  // namespace spillway
