// SPDX-License-Identifier: Apache-2.0
// Warm starts: plans of smaller budgets compete at every larger one.
#include "policy/curve.hpp"

#include "policy/prefetch_ahead.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace spillway {
namespace {

/// Beyond this many instructions only the point before is carried on: time stays linear.
constexpr std::size_t kLongProgram = 20'000;

class PointSearch {
 public:
  PointSearch(const Profile& profile,
              const DeviceModel& device,
              const PlanRequest& request,
              CurvePoint* point)
      : profile_(profile), device_(device), request_(request), point_(*point) {}

  /// Takes `plan` if it fits and is faster than what is there.
  void enter(Plan plan, bool inherited) {
    SimOptions options;
    options.budget_bytes = point_.budget_bytes;
    options.pinned_bytes = request_.pinned_bytes;
    auto sim = simulate(profile_, device_, plan, options);
    if (!sim.ok() || !sim.value().fits) return;
    if (point_.feasible && sim.value().step_ns >= point_.sim.step_ns) return;
    plan.budget_bytes = point_.budget_bytes;
    point_.feasible = true;
    point_.plan = std::move(plan);
    point_.sim = std::move(sim).value();
    point_.run_budget_bytes = point_.budget_bytes;
    point_.inherited = inherited;
  }

  void carry_on(const CurvePoint& before) {
    enter(before.plan, true);
    Plan earlier = before.plan;
    earlier.program =
        prefetch_ahead(profile_, device_, std::move(earlier.program), point_.budget_bytes);
    enter(std::move(earlier), true);
  }

  /// More room could make a copy start at a worse moment; nobody has to use the room.
  void keep_if_faster(const CurvePoint& before) {
    if (point_.feasible && before.sim.step_ns >= point_.sim.step_ns) return;
    const std::uint64_t budget_bytes = point_.budget_bytes;
    point_ = before;
    point_.budget_bytes = budget_bytes;
    point_.inherited = true;
  }

 private:
  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  CurvePoint& point_;
};

}  // namespace

std::vector<CurvePoint> trade_off_curve(const Profile& profile,
                                        const ProfileSummary& summary,
                                        const DeviceModel& device,
                                        const PlanRequest& request,
                                        PlanFunction planner,
                                        std::vector<std::uint64_t> budgets,
                                        const std::function<void(std::uint64_t)>& on_budget) {
  std::sort(budgets.begin(), budgets.end());
  budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
  std::vector<CurvePoint> curve;
  for (const std::uint64_t budget_bytes : budgets) {
    if (budget_bytes == 0) continue;
    if (on_budget) on_budget(budget_bytes);
    CurvePoint point;
    point.budget_bytes = budget_bytes;
    PointSearch search(profile, device, request, &point);
    const CurvePoint* before = curve.empty() || !curve.back().feasible ? nullptr : &curve.back();
    const bool perfect = before != nullptr && before->sim.step_ns <= summary.compute_ns;
    if (!perfect) {
      PlanRequest here = request;
      here.budget_bytes = budget_bytes;
      PlanOutcome outcome = planner(profile, summary, device, here);
      if (auto* plan = std::get_if<Plan>(&outcome)) {
        search.enter(std::move(*plan), false);
      } else if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
        point.proven_infeasible = true;
        point.min_budget_bytes = infeasible->min_budget_bytes;
      } else {
        point.min_budget_bytes = std::get<GaveUp>(outcome).best_budget_bytes;
      }
    }
    if (before != nullptr && !perfect) {
      const bool long_program = before->plan.program.size() > kLongProgram;
      for (const CurvePoint& smaller : curve)
        if (smaller.feasible && !smaller.inherited && (!long_program || &smaller == before))
          search.carry_on(smaller);
    }
    if (before != nullptr) search.keep_if_faster(*before);
    curve.push_back(std::move(point));
  }
  return curve;
}

std::vector<std::uint64_t> curve_budgets(const ProfileSummary& summary, std::uint32_t steps) {
  const std::uint64_t count = std::clamp<std::uint32_t>(steps, 1, 1000);
  const std::uint64_t low = std::min(summary.unmovable_bytes, summary.keep_all_peak_bytes);
  const std::uint64_t span = summary.keep_all_peak_bytes - low;
  std::vector<std::uint64_t> budgets;
  for (std::uint64_t i = 0; i <= count; ++i)
    budgets.push_back(low + span / count * i + span % count * i / count);
  return budgets;
}

}  // namespace spillway
