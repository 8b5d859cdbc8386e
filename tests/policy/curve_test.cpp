// SPDX-License-Identifier: Apache-2.0
// The curve never rises, each point keeps its budget, and no point is worse than planning afresh.
#include "policy/curve.hpp"

#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <variant>

using namespace spillway;
using namespace spillway::test;

namespace {

/// Keeps everything, but at even budgets it wants twice the memory: a planner that is not monotone.
PlanOutcome moody_planner(const Profile& profile,
                          const ProfileSummary& summary,
                          const DeviceModel& device,
                          const PlanRequest& request) {
  PlanRequest other;
  const Planner* planner =
      find_planner(request.budget_bytes % 2 == 0 ? "offload-all" : "joint", &other).value();
  return planner->plan(profile, summary, device, request);
}

void check_curve(const Profile& profile,
                 const DeviceModel& device,
                 const PlanRequest& request,
                 PlanFunction planner,
                 const std::vector<CurvePoint>& curve) {
  const ProfileSummary summary = summarize(profile);
  const CurvePoint* before = nullptr;
  for (const CurvePoint& point : curve) {
    CAPTURE(point.budget_bytes);
    if (before != nullptr) {
      CHECK(point.budget_bytes > before->budget_bytes);
      CHECK(point.feasible >= before->feasible);
    }
    PlanRequest here = request;
    here.budget_bytes = point.budget_bytes;
    const PlanOutcome own = planner(profile, summary, device, here);
    if (point.feasible) {
      if (before != nullptr && before->feasible) CHECK(point.sim.step_ns <= before->sim.step_ns);
      CHECK(point.run_budget_bytes <= point.budget_bytes);
      ValidateOptions options;
      options.budget_bytes = point.run_budget_bytes;
      const Verdict verdict = validate(profile, device, point.plan, options);
      CHECK(verdict.ok());
      CHECK(verdict.step_ns == point.sim.step_ns);
      CHECK(verdict.peak_bytes <= point.budget_bytes);
      if (const Plan* plan = std::get_if<Plan>(&own)) {
        SimOptions sim_options;
        sim_options.budget_bytes = point.budget_bytes;
        const auto sim = simulate(profile, device, *plan, sim_options);
        REQUIRE(sim.ok());
        if (sim.value().fits) CHECK(point.sim.step_ns <= sim.value().step_ns);
      }
    } else {
      CHECK(!std::holds_alternative<Plan>(own));
      CHECK(point.min_budget_bytes > point.budget_bytes);
    }
    before = &point;
  }
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("budgets of the curve go from the least that an op needs to keep-all's peak") {
    ProfileSummary summary;
    summary.unmovable_bytes = 101;
    summary.keep_all_peak_bytes = 1000;
    const std::vector<std::uint64_t> budgets = curve_budgets(summary, 8);
    REQUIRE(budgets.size() == 9);
    CHECK(budgets.front() == 101);
    CHECK(budgets.back() == 1000);
    for (std::size_t i = 1; i < budgets.size(); ++i) {
      CHECK(budgets[i] - budgets[i - 1] >= 112);
      CHECK(budgets[i] - budgets[i - 1] <= 113);
    }
    CHECK(curve_budgets(summary, 0).size() == 2);
    CHECK(curve_budgets(summary, 100'000).size() == 1001);
  }

  TEST_CASE("a plan of a smaller budget stands in where the planner finds a worse one or none") {
    const Profile profile = chain_profile(6, 100, 50, 1000, 2000);
    const DeviceModel device = simple_device();
    const ProfileSummary summary = summarize(profile);
    std::vector<std::uint64_t> budgets;
    for (std::uint64_t bytes = summary.unmovable_bytes; bytes <= summary.keep_all_peak_bytes;
         bytes += 37)
      budgets.push_back(bytes);
    const auto curve =
        trade_off_curve(profile, summary, device, PlanRequest{}, moody_planner, budgets);
    REQUIRE(curve.size() == budgets.size());
    check_curve(profile, device, PlanRequest{}, moody_planner, curve);
    CHECK(curve.back().feasible);
  }

  TEST_CASE("budgets are sorted, repeated and empty ones dropped") {
    const Profile profile = chain_profile(3, 100, 50, 1000, 2000);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    const Planner* keep_all = find_planner("keep-all", &request).value();
    const auto curve = trade_off_curve(
        profile, summary, simple_device(), request, keep_all->plan, {900, 0, 1, 900, 400});
    REQUIRE(curve.size() == 3);
    CHECK(curve[0].budget_bytes == 1);
    CHECK(!curve[0].feasible);
    CHECK(curve[0].proven_infeasible);
    CHECK(curve[2].feasible);
  }
}

TEST_SUITE("property") {
  TEST_CASE(
      "on random steps the step time never rises with the budget, for every planner that "
      "decides by it") {
    const std::uint64_t first = 1;
    MESSAGE("seeds from ", first);
    for (std::uint64_t seed = first; seed < first + 4; ++seed) {
      const Profile profile = random_profile(seed, 6 + static_cast<std::uint32_t>(seed % 7));
      const ProfileSummary summary = summarize(profile);
      DeviceModel device = simple_device();
      device.copy_latency_ns = seed % 3 * 20;
      for (const Planner& planner : planners()) {
        if (!planner.budgeted) continue;
        CAPTURE(seed);
        CAPTURE(planner.name);
        PlanRequest request;
        request.seed = seed;
        request.work_limit = 200;
        const auto curve = trade_off_curve(
            profile, summary, device, request, planner.plan, curve_budgets(summary, 7));
        check_curve(profile, device, request, planner.plan, curve);
      }
    }
  }
}
