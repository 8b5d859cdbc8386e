// SPDX-License-Identifier: Apache-2.0
// capuchin: what hides is swapped, what does not is recomputed where that is cheaper, and the
// budget holds on any step.
#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

PlanOutcome plan_capuchin_for(const Profile& profile,
                              const DeviceModel& device,
                              std::uint64_t budget_bytes) {
  PlanRequest request;
  const auto planner = find_planner("capuchin", &request);
  REQUIRE(planner.ok());
  request.budget_bytes = budget_bytes;
  return planner.value()->plan(profile, summarize(profile), device, request);
}

SimResult run(const Profile& profile,
              const DeviceModel& device,
              const Plan& plan,
              std::uint64_t budget_bytes) {
  SimOptions options;
  options.budget_bytes = budget_bytes;
  const auto sim = simulate(profile, device, plan, options);
  REQUIRE_MESSAGE(sim.ok(), sim.status().message());
  CHECK(sim.value().fits);
  ValidateOptions laws;
  laws.budget_bytes = budget_bytes;
  const Verdict verdict = validate(profile, device, plan, laws);
  if (!verdict.ok())
    FAIL_CHECK(std::string(name_of(verdict.violations[0].law))
               << ": " << verdict.violations[0].text);
  return sim.value();
}

std::size_t count(const Plan& plan, InstructionKind kind) {
  return static_cast<std::size_t>(
      std::count_if(plan.program.begin(), plan.program.end(), [kind](const Instruction& i) {
        return i.kind == kind;
      }));
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("with a link faster than the ops, capuchin swaps and loses no time") {
    const Profile profile = chain_profile(32, 100, 0, 1000, 2000);
    const std::uint64_t budget = summarize(profile).keep_all_peak_bytes * 6 / 10;
    const PlanOutcome outcome = plan_capuchin_for(profile, simple_device(), budget);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    const Plan& plan = std::get<Plan>(outcome);
    CHECK(count(plan, InstructionKind::kOffload) > 0);
    CHECK(count(plan, InstructionKind::kRecompute) == 0);
    CHECK(run(profile, simple_device(), plan, budget).step_ns == summarize(profile).compute_ns);
  }

  TEST_CASE("with a link far slower than the ops, capuchin recomputes") {
    const Profile profile = chain_profile(16, 10'000, 0, 10, 20);
    const std::uint64_t budget = summarize(profile).keep_all_peak_bytes * 7 / 10;
    const PlanOutcome outcome = plan_capuchin_for(profile, simple_device(), budget);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    const Plan& plan = std::get<Plan>(outcome);
    CHECK(count(plan, InstructionKind::kOffload) == 0);
    CHECK(count(plan, InstructionKind::kRecompute) > 0);
    CHECK(run(profile, simple_device(), plan, budget).peak_bytes <= budget);
  }

  TEST_CASE("capuchin keeps everything when everything fits") {
    const Profile profile = chain_profile(8, 100, 50, 10, 20);
    const PlanOutcome outcome = plan_capuchin_for(profile, simple_device(), 850);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    CHECK(std::get<Plan>(outcome).program.size() == profile.ops.size());
  }
}

TEST_SUITE("property") {
  TEST_CASE("capuchin serves every budget that any plan can, and calls the others infeasible") {
    for (std::uint64_t seed = 1; seed <= 80; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 4 + static_cast<std::uint32_t>(seed) / 2);
      const ProfileSummary summary = summarize(profile);
      DeviceModel device = simple_device();
      device.d2h_gbps = device.h2d_gbps = 0.25 * static_cast<double>(1 + seed % 16);
      const std::uint64_t span = summary.keep_all_peak_bytes - summary.unmovable_bytes;
      for (const std::uint64_t percent : {80u, 50u, 20u, 0u}) {
        const std::uint64_t budget = summary.unmovable_bytes + span * percent / 100;
        CAPTURE(budget);
        const PlanOutcome outcome = plan_capuchin_for(profile, device, budget);
        REQUIRE(std::holds_alternative<Plan>(outcome));
        CHECK(run(profile, device, std::get<Plan>(outcome), budget).peak_bytes <= budget);
      }
      const PlanOutcome below = plan_capuchin_for(profile, device, summary.unmovable_bytes - 1);
      REQUIRE(std::holds_alternative<Infeasible>(below));
      CHECK(std::get<Infeasible>(below).min_budget_bytes == summary.unmovable_bytes);
    }
  }
}
