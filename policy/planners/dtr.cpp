// SPDX-License-Identifier: Apache-2.0
// dtr: the step is run online under the budget, evicting by score and running ops again, with no
// look ahead (Kirisame et al., ICLR 2021); the order in which ops ran becomes the plan.
#include "policy/dtr/dtr_engine.hpp"
#include "policy/dtr/profile_log.hpp"
#include "policy/op_order.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

namespace spillway {
namespace {

// In steps of more ops than this, a victim is sought among some storages only, and a candidate that
// needs many evicted storages is priced by some of them; the prototype samples too. 128 and 32 take
// 0.7 s where 512 and 64 take 5 s for 38,626 ops, and overheads are as often lower as higher.
constexpr std::size_t kExactOpCount = 2'000;
constexpr std::size_t kScanLimit = 128;
constexpr std::size_t kWalkLimit = 32;
// Budgets tried when the one asked for is too small, by the size of the step.
constexpr int kRetries = 12;
constexpr int kRetriesLarge = 6;
constexpr std::size_t kLargeOpCount = 20'000;

class DtrPlanner {
 public:
  DtrPlanner(const Profile& profile,
             const DeviceModel& device,
             const PlanRequest& request,
             DtrScore score)
      : profile_(profile),
        device_(device),
        request_(request),
        score_(score),
        name_(request.variant.empty() ? "dtr" : "dtr:" + request.variant),
        log_(dtr_log_of(profile, find_gaps(profile))) {}

  /// The plan that runs in `budget_bytes`, if the online run gets through.
  [[nodiscard]] std::optional<Plan> attempt(std::uint64_t budget_bytes) const {
    std::vector<std::uint32_t> order;
    DtrOptions options;
    if (profile_.ops.size() > kExactOpCount) {
      options.scan_limit = kScanLimit;
      options.walk_limit = kWalkLimit;
    }
    options.order = &order;
    const auto result = run_dtr(log_.log, score_, budget_bytes, options);
    if (!result.ok() || result.value().end != DtrEnd::kOk) return std::nullopt;
    std::size_t kept = 0;
    for (const std::uint32_t op : order)
      if (op >= log_.preexisting_count) order[kept++] = op - log_.preexisting_count;
    order.resize(kept);
    return plan_in(order, true, budget_bytes);
  }

  [[nodiscard]] Plan keep_all() const {
    std::vector<std::uint32_t> order(profile_.ops.size());
    std::iota(order.begin(), order.end(), 0u);
    auto plan = plan_of_order(profile_, order, false, name_, request_.budget_bytes);
    return plan.ok() ? std::move(plan).value() : Plan{};
  }

 private:
  [[nodiscard]] std::optional<Plan> plan_in(const std::vector<std::uint32_t>& order,
                                            bool drop_tails,
                                            std::uint64_t budget_bytes) const {
    auto plan = plan_of_order(profile_, order, drop_tails, name_, request_.budget_bytes);
    if (!plan.ok()) return std::nullopt;
    SimOptions options;
    options.budget_bytes = budget_bytes;
    const auto sim = simulate(profile_, device_, plan.value(), options);
    if (!sim.ok() || !sim.value().fits) return std::nullopt;
    return std::move(plan).value();
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  DtrScore score_;
  std::string name_;
  ProfileLog log_;
};

}  // namespace

PlanOutcome plan_dtr(const Profile& profile,
                     const ProfileSummary& summary,
                     const DeviceModel& device,
                     const PlanRequest& request) {
  const DtrScore score = find_dtr_score(request.variant).value_or(DtrScore::kDtr);
  const DtrPlanner planner(profile, device, request, score);
  if (request.budget_bytes == 0 || summary.keep_all_peak_bytes <= request.budget_bytes)
    return planner.keep_all();
  if (auto plan = planner.attempt(request.budget_bytes)) return *std::move(plan);
  // No monotony is promised by an online heuristic, so this finds a small budget, not the smallest.
  std::uint64_t too_small = std::max(request.budget_bytes, summary.unmovable_bytes);
  std::uint64_t enough = summary.keep_all_peak_bytes;
  Plan best = planner.keep_all();
  const int retries = profile.ops.size() > kLargeOpCount ? kRetriesLarge : kRetries;
  for (int i = 0; i < retries && enough - too_small > 1; ++i) {
    const std::uint64_t middle = too_small + (enough - too_small) / 2;
    auto plan = planner.attempt(middle);
    if (!plan) {
      too_small = middle;
      continue;
    }
    enough = middle;
    best = *std::move(plan);
  }
  if (request.budget_bytes >= summary.unmovable_bytes) return GaveUp{enough, std::move(best)};
  Infeasible infeasible;
  infeasible.min_budget_bytes = enough;
  infeasible.at = "op " + std::to_string(summary.unmovable_op) + " " +
                  std::string(profile.text(profile.ops[summary.unmovable_op].name));
  infeasible.holders = holders_at_min_budget(profile, device, best, 8);
  return infeasible;
}

}  // namespace spillway
