// SPDX-License-Identifier: Apache-2.0
// Every program is judged by the step simulator, never by the model that proposed it.
#include "policy/planners/candidates.hpp"

#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spillway {

std::uint64_t Candidates::add_order(std::span<const std::uint32_t> order) {
  Result<Plan> plan = plan_of_order(profile_, order, true, policy_, request_.budget_bytes);
  return plan.ok() ? add(std::move(plan).value()) : std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t Candidates::add(Plan plan) {
  SimOptions options;
  options.budget_bytes = request_.budget_bytes;
  options.pinned_bytes = request_.pinned_bytes;
  const auto sim = simulate(profile_, device_, plan, options);
  if (!sim.ok()) return std::numeric_limits<std::uint64_t>::max();
  plan.policy = policy_;
  plan.budget_bytes = request_.budget_bytes;
  const std::int64_t ns = sim.value().step_ns;
  const std::uint64_t bytes = sim.value().min_budget_bytes;
  if (sim.value().fits && (!best_ || ns < best_ns_ || (ns == best_ns_ && bytes < best_bytes_))) {
    best_ns_ = ns;
    best_bytes_ = bytes;
    best_ = std::move(plan);
    return bytes;
  }
  // What fits the budget but not the pinned memory says nothing about the smallest budget.
  const bool over = request_.budget_bytes != 0 && bytes > request_.budget_bytes;
  if (!over || (smallest_ && bytes >= smallest_bytes_)) return bytes;
  smallest_bytes_ = bytes;
  smallest_op_ = sim.value().min_budget_op;
  smallest_ = std::move(plan);
  return bytes;
}

PlanOutcome Candidates::finish() {
  if (best_) return std::move(*best_);
  Infeasible infeasible;
  if (!smallest_) return infeasible;
  infeasible.min_budget_bytes = smallest_bytes_;
  infeasible.at = "op " + std::to_string(smallest_op_) + " " +
                  std::string(profile_.text(profile_.ops[smallest_op_].name));
  infeasible.holders = holders_at_min_budget(profile_, device_, *smallest_, 8);
  return infeasible;
}

std::string policy_text(std::string_view name, const PlanRequest& request) {
  std::string text(name);
  if (request.k != 0) return text + ":" + std::to_string(request.k);
  if (!request.variant.empty()) return text + ":" + request.variant;
  return text;
}

PlanOutcome keep_all_as(const Profile& profile,
                        const DeviceModel& device,
                        const PlanRequest& request,
                        std::string_view policy) {
  const GapTable gaps = find_gaps(profile);
  return outcome_of(profile, device, request, gaps, Choices(gaps.gaps.size()), policy);
}

std::size_t candidate_limit(const Profile& profile) {
  return std::clamp<std::size_t>(400'000 / (profile.ops.size() + 1), 10, 100);
}

std::vector<std::uint32_t> thinned(std::uint32_t last, std::size_t count) {
  std::vector<std::uint32_t> values;
  if (last <= count) {
    for (std::uint32_t v = 1; v <= last; ++v) values.push_back(v);
    return values;
  }
  const double ratio =
      std::pow(static_cast<double>(last), 1.0 / std::max(1.0, static_cast<double>(count) - 1.0));
  double next = 1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = std::min(last,
                                std::max(static_cast<std::uint32_t>(std::lround(next)),
                                         values.empty() ? 1 : values.back() + 1));
    if (values.empty() || value > values.back()) values.push_back(value);
    next = std::max(next * ratio, static_cast<double>(value));
  }
  if (values.back() != last) values.back() = last;
  return values;
}

}  // namespace spillway
