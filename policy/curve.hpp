// SPDX-License-Identifier: Apache-2.0
// The trade-off between budget and step time: one planner over many budgets, from the smallest up.
// What fits a smaller budget fits a larger one, so every plan found is a candidate from then on,
// and the curve never rises whatever the planner does.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace spillway {

struct CurvePoint {
  std::uint64_t budget_bytes = 0;
  bool feasible = false;
  bool proven_infeasible = false;      // by the planner, for its own plans
  std::uint64_t min_budget_bytes = 0;  // not feasible: what the planner says it needs
  // Feasible:
  Plan plan;
  SimResult sim;
  std::uint64_t run_budget_bytes = 0;  // the budget under which `sim` ran: at most budget_bytes
  bool inherited = false;              // the plan comes from a smaller budget
};

/// One point per distinct budget above 0, ascending; `request.budget_bytes` is not looked at. Each
/// point is the fastest of the planner's own plan, the plans of smaller budgets run under this one,
/// those with their prefetches moved ahead into the new room, and the point before as it was. The
/// planner is not asked any more once a step takes no longer than its own ops. Deterministic when
/// the planner is. `on_budget` is called before each.
std::vector<CurvePoint> trade_off_curve(
    const Profile& profile,
    const ProfileSummary& summary,
    const DeviceModel& device,
    const PlanRequest& request,
    PlanFunction planner,
    std::vector<std::uint64_t> budgets,
    const std::function<void(std::uint64_t)>& on_budget = nullptr);

/// `steps` + 1 budgets (1 to 1000 steps) in equal distances from the least that any op needs to
/// keep-all's peak.
std::vector<std::uint64_t> curve_budgets(const ProfileSummary& summary, std::uint32_t steps);

}  // namespace spillway
