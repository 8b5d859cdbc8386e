// SPDX-License-Identifier: Apache-2.0
// Every candidate is judged by the step simulator, never by the model that proposed it.
#include "policy/search/contest.hpp"

#include "policy/op_order.hpp"
#include "policy/prefetch_ahead.hpp"
#include "policy/simulator.hpp"

#include <algorithm>

namespace spillway {

void Contest::enter(const Choices& choices) {
  const Lowered tight = step_.lowering.just_in_time(choices);
  note_need(tight.min_budget_bytes(),
            [&] { return make_plan(step_.profile, step_.gaps, choices, tight, "joint", 0); });
  if (tight.min_budget_bytes() > request_.budget_bytes) return;
  const auto step_ns = enter(make_plan(step_.profile,
                                       step_.gaps,
                                       choices,
                                       step_.lowering.ahead(choices, request_.budget_bytes, tight),
                                       "joint",
                                       request_.budget_bytes));
  if (step_ns) starts_.emplace_back(*step_ns, choices);
}

void Contest::enter(std::vector<Instruction> program) {
  Plan plan;
  plan.policy = "joint";
  plan.budget_bytes = request_.budget_bytes;
  plan.decisions = decisions_of(step_.profile, program);
  for (const double lead : {1.0, 1.5}) {
    plan.program =
        prefetch_ahead(step_.profile, step_.device, program, request_.budget_bytes, lead);
    (void)enter(plan);
  }
}

std::optional<std::int64_t> Contest::enter(Plan plan) {
  SimOptions options;
  options.budget_bytes = request_.budget_bytes;
  options.pinned_bytes = request_.pinned_bytes;
  const auto sim = simulate(step_.profile, step_.device, plan, options);
  if (!sim.ok()) return std::nullopt;
  plan.policy = "joint";
  plan.budget_bytes = request_.budget_bytes;
  if (!sim.value().fits) {
    note_need(sim.value().min_budget_bytes, [&] { return plan; });
    return std::nullopt;
  }
  const auto key = std::pair(sim.value().step_ns, sim.value().offload_bytes);
  if (best_ && key >= key_) return key.first;
  key_ = key;
  best_ = std::move(plan);
  return key.first;
}

std::vector<Choices> Contest::starts(std::size_t count) {
  std::stable_sort(starts_.begin(), starts_.end(), [](const auto& a, const auto& b) {
    return a.first < b.first;
  });
  std::vector<Choices> best;
  for (std::size_t i = 0; i < std::min(count, starts_.size()); ++i)
    best.push_back(starts_[i].second);
  return best;
}

PlanOutcome Contest::outcome() {
  if (best_) return std::move(*best_);
  GaveUp gave_up;
  if (least_ && least_bytes_ <= step_.summary.keep_all_peak_bytes) {
    gave_up.best_budget_bytes = least_bytes_;
    gave_up.best = std::move(*least_);
    return gave_up;
  }
  const Choices keep(step_.gaps.gaps.size());
  gave_up.best_budget_bytes = step_.summary.keep_all_peak_bytes;
  gave_up.best =
      make_plan(step_.profile, step_.gaps, keep, step_.lowering.just_in_time(keep), "joint", 0);
  return gave_up;
}

// What fits the budget but not the pinned memory says nothing about the smallest budget.
template <typename Make>
void Contest::note_need(std::uint64_t bytes, const Make& make) {
  if (best_ || bytes <= request_.budget_bytes || (least_ && bytes >= least_bytes_)) return;
  least_bytes_ = bytes;
  least_ = make();
}

}  // namespace spillway
