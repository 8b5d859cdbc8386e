// SPDX-License-Identifier: Apache-2.0
// The end of every preset: lower, compare with the budget, explain when it does not fit.
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"

#include <algorithm>

namespace spillway {

Choices recompute_every_gap(const GapTable& gaps) {
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < choices.size(); ++g)
    if (gaps.gaps[g].rebuildable) choices[g].action = Action::kRecompute;
  return choices;
}

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
  // Without a budget, prefetches may use what keeping everything would use, and no more.
  const std::uint64_t prefetch_bytes =
      request.budget_bytes != 0 ? request.budget_bytes
                                : std::max(need_bytes, summarize(profile).keep_all_peak_bytes);
  Lowered lowered = fits ? lowering.ahead(choices, prefetch_bytes, tight) : tight;
  // A prefetch moved ahead may find a chain of recomputes that it did not foresee.
  if (fits && request.budget_bytes != 0 && lowered.min_budget_bytes() > request.budget_bytes)
    lowered = tight;
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
