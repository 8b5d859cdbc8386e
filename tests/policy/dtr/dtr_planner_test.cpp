// SPDX-License-Identifier: Apache-2.0
// The planner dtr, every score: plans pass the judge and keep the budget, and cost what the engine
// says.
#include "policy/dtr/dtr_engine.hpp"
#include "policy/dtr/profile_log.hpp"
#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

PlanOutcome plan_by(const std::string& policy, const Profile& profile, std::uint64_t budget_bytes) {
  PlanRequest request;
  const auto planner = find_planner(policy, &request);
  REQUIRE_MESSAGE(planner.ok(), planner.status().message());
  request.budget_bytes = budget_bytes;
  return planner.value()->plan(profile, summarize(profile), simple_device(), request);
}

SimResult judged(const Profile& profile, const Plan& plan, std::uint64_t budget_bytes) {
  SimOptions options;
  options.budget_bytes = budget_bytes;
  const auto sim = simulate(profile, simple_device(), plan, options);
  REQUIRE_MESSAGE(sim.ok(), sim.status().message());
  CHECK(sim.value().fits);
  ValidateOptions laws;
  laws.budget_bytes = budget_bytes;
  const Verdict verdict = validate(profile, simple_device(), plan, laws);
  if (!verdict.ok())
    FAIL_CHECK(std::string(name_of(verdict.violations[0].law))
               << ": " << verdict.violations[0].text);
  CHECK(verdict.peak_bytes <= budget_bytes);
  return sim.value();
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("dtr's plans are legal and keep the budget, whatever the score") {
    std::size_t plans = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 4 + static_cast<std::uint32_t>(seed) / 2);
      const ProfileSummary summary = summarize(profile);
      const std::uint64_t span = summary.keep_all_peak_bytes - summary.unmovable_bytes;
      for (int i = 0; i < kDtrScoreCount; ++i) {
        const std::string policy = "dtr:" + std::string(name_of(static_cast<DtrScore>(i)));
        CAPTURE(policy);
        for (const std::uint64_t percent : {90u, 60u, 30u, 0u}) {
          const std::uint64_t budget = summary.unmovable_bytes + span * percent / 100;
          CAPTURE(budget);
          const PlanOutcome outcome = plan_by(policy, profile, budget);
          if (const Plan* plan = std::get_if<Plan>(&outcome)) {
            judged(profile, *plan, budget);
            ++plans;
          } else {
            const auto* gave_up = std::get_if<GaveUp>(&outcome);
            REQUIRE(gave_up != nullptr);
            CHECK(gave_up->best_budget_bytes > budget);
            judged(profile, gave_up->best, gave_up->best_budget_bytes);
          }
        }
      }
    }
    CHECK(plans > 300);
  }

  TEST_CASE("what a plan of dtr recomputes is what the engine recomputed") {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 30);
      const ProfileSummary summary = summarize(profile);
      const std::uint64_t budget =
          (summary.keep_all_peak_bytes * 3 + summary.unmovable_bytes * 2) / 5;
      const PlanOutcome outcome = plan_by("dtr:h_eq", profile, budget);
      const Plan* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) continue;
      const ProfileLog log = dtr_log_of(profile, find_gaps(profile));
      CHECK(check_invariants(log.log).ok());
      const auto engine = run_dtr(log.log, DtrScore::kEq, budget);
      REQUIRE(engine.ok());
      const SimResult sim = judged(profile, *plan, budget);
      CHECK(sim.recompute_ns == engine.value().remat_ns);
      CHECK(sim.step_ns + 1 == engine.value().clock_ns);
      CHECK(sim.peak_bytes <= engine.value().peak_bytes);
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("dtr runs a chain in half its memory for less than one more forward pass") {
    const Profile profile = chain_profile(32, 100, 0, 10, 20);
    const PlanOutcome outcome = plan_by("dtr", profile, 1600);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    const SimResult sim = judged(profile, std::get<Plan>(outcome), 1600);
    CHECK(sim.recompute_ns > 0);
    CHECK(sim.recompute_ns <= 320);
  }

  TEST_CASE(
      "in a step of thousands of ops, where dtr samples, its plans are legal and the same again") {
    const Profile profile = chain_profile(1500, 100, 50, 10, 20);
    const std::uint64_t budget = summarize(profile).keep_all_peak_bytes * 6 / 10;
    for (int i = 0; i < kDtrScoreCount; ++i) {
      const std::string policy = "dtr:" + std::string(name_of(static_cast<DtrScore>(i)));
      CAPTURE(policy);
      const PlanOutcome outcome = plan_by(policy, profile, budget);
      if (!std::holds_alternative<Plan>(outcome)) continue;  // LRU and size may thrash
      judged(profile, std::get<Plan>(outcome), budget);
      const PlanOutcome again = plan_by(policy, profile, budget);
      REQUIRE(std::holds_alternative<Plan>(again));
      CHECK(std::get<Plan>(again).program == std::get<Plan>(outcome).program);
    }
    CHECK(std::holds_alternative<Plan>(plan_by("dtr", profile, budget)));
    CHECK(std::holds_alternative<Plan>(plan_by("dtr:h_eq", profile, budget)));
  }

  TEST_CASE("dtr keeps everything when everything fits") {
    const Profile profile = chain_profile(8, 100, 50, 10, 20);
    const PlanOutcome outcome = plan_by("dtr:LRU", profile, 850);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    CHECK(std::get<Plan>(outcome).program.size() == profile.ops.size());
    CHECK(std::get<Plan>(outcome).policy == "dtr:LRU");
  }

  TEST_CASE("below what any plan needs, dtr says so and names a budget that it can serve") {
    const Profile profile = chain_profile(16, 100, 50, 10, 20);
    const PlanOutcome outcome = plan_by("dtr", profile, 200);
    const auto* infeasible = std::get_if<Infeasible>(&outcome);
    REQUIRE(infeasible != nullptr);
    CHECK(infeasible->min_budget_bytes >= 250);
    CHECK(!infeasible->holders.empty());
    const PlanOutcome again = plan_by("dtr", profile, infeasible->min_budget_bytes);
    REQUIRE(std::holds_alternative<Plan>(again));
    judged(profile, std::get<Plan>(again), infeasible->min_budget_bytes);
  }

  TEST_CASE("an unknown score of dtr is refused with those that exist") {
    PlanRequest request;
    const auto planner = find_planner("dtr:h_best", &request);
    REQUIRE(!planner.ok());
    CHECK(planner.status().message().find("dtr:h_eq") != std::string::npos);
  }
}
