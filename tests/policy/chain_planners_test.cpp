// SPDX-License-Identifier: Apache-2.0
// revolve, rotor and bptt as planners: on chains of equal layers they cost what their sources say.
#include "policy/chain/bptt.hpp"
#include "policy/chain/revolve.hpp"
#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

using namespace spillway;
using namespace spillway::test;

namespace {

PlanOutcome plan_by(const char* policy, const Profile& profile, std::uint64_t budget_bytes) {
  PlanRequest request;
  const Planner* planner = find_planner(policy, &request).value();
  request.budget_bytes = budget_bytes;
  return planner->plan(profile, summarize(profile), simple_device(), request);
}

SimResult run(const Profile& profile, const Plan& plan) {
  SimOptions options;
  options.budget_bytes = plan.budget_bytes;
  auto result = simulate(profile, simple_device(), plan, options);
  REQUIRE(result.ok());
  return std::move(result).value();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("revolve:C recomputes as many layers as the formula says and needs C layers and two") {
    const Profile profile = chain_profile(24, 100, 50, 10, 20);
    for (const std::uint32_t c : {1u, 2u, 3u, 5u, 8u}) {
      CAPTURE(c);
      const std::string policy = "revolve:" + std::to_string(c);
      const Plan plan = std::get<Plan>(plan_by(policy.c_str(), profile, 0));
      CHECK(plan.policy == policy);
      const SimResult sim = run(profile, plan);
      CHECK(sim.recompute_ns == static_cast<std::int64_t>(revolve_forward_steps(24, c)) * 10);
      // c counts the chain's own input, which has no bytes here.
      CHECK(sim.peak_bytes <= 50 + (c - 1 + 2) * 100);
    }
  }

  TEST_CASE("revolve takes the checkpoints that the budget holds") {
    const Profile profile = chain_profile(24, 100, 50, 10, 20);
    std::int64_t before_ns = 1'000'000;
    for (std::uint64_t layers = 3; layers <= 26; ++layers) {
      CAPTURE(layers);
      const PlanOutcome outcome = plan_by("revolve", profile, 50 + layers * 100);
      REQUIRE(std::holds_alternative<Plan>(outcome));
      const SimResult sim = run(profile, std::get<Plan>(outcome));
      CHECK(sim.fits);
      CHECK(sim.step_ns <= before_ns);
      before_ns = sim.step_ns;
    }
    const PlanOutcome none = plan_by("revolve", profile, 60);
    REQUIRE(std::holds_alternative<Infeasible>(none));
    CHECK(std::get<Infeasible>(none).min_budget_bytes == 250);
  }

  TEST_CASE("rotor is keep-all when that fits, and never slower than revolve") {
    const Profile profile = chain_profile(24, 100, 50, 10, 20);
    const ProfileSummary summary = summarize(profile);
    const Plan all = std::get<Plan>(plan_by("rotor", profile, summary.keep_all_peak_bytes));
    CHECK(run(profile, all).recompute_ns == 0);
    for (std::uint64_t layers = 4; layers <= 26; ++layers) {
      CAPTURE(layers);
      const std::uint64_t budget = 50 + layers * 100;
      const SimResult rotor = run(profile, std::get<Plan>(plan_by("rotor", profile, budget)));
      const SimResult revolve = run(profile, std::get<Plan>(plan_by("revolve", profile, budget)));
      CHECK(rotor.peak_bytes <= budget);
      CHECK(rotor.step_ns <= revolve.step_ns);
    }
  }

  TEST_CASE("bptt with hidden states recomputes what revolve does, mixed states no more") {
    const Profile profile = chain_profile(24, 100, 50, 10, 20);
    for (std::uint64_t layers = 4; layers <= 20; ++layers) {
      CAPTURE(layers);
      const std::uint64_t budget = 50 + layers * 100;
      const SimResult hidden =
          run(profile, std::get<Plan>(plan_by("bptt:hidden", profile, budget)));
      const SimResult revolve = run(profile, std::get<Plan>(plan_by("revolve", profile, budget)));
      const SimResult mixed = run(profile, std::get<Plan>(plan_by("bptt", profile, budget)));
      CHECK(hidden.recompute_ns == revolve.recompute_ns);
      CHECK(mixed.recompute_ns <= hidden.recompute_ns);
    }
  }

  TEST_CASE("pofo moves what recompute would cost more for, and is rotor where the link is slow") {
    const Profile profile = chain_profile(24, 100, 50, 100, 200);
    DeviceModel device = simple_device();
    const auto plan_with = [&](double gbps) {
      device.d2h_gbps = device.h2d_gbps = gbps;
      PlanRequest request;
      const Planner* planner = find_planner("pofo", &request).value();
      request.budget_bytes = 50 + 1200;
      return std::get<Plan>(planner->plan(profile, summarize(profile), device, request));
    };
    const Plan fast = plan_with(2);
    SimOptions options;
    options.budget_bytes = fast.budget_bytes;
    const SimResult with_link = simulate(profile, device, fast, options).value();
    CHECK(with_link.fits);
    CHECK(with_link.offload_bytes > 0);
    const Plan slow = plan_with(0.001);
    const SimResult without = simulate(profile, device, slow, options).value();
    CHECK(without.offload_bytes == 0);
    CHECK(with_link.step_ns < without.step_ns);
    const SimResult rotor =
        run(profile, std::get<Plan>(plan_by("rotor", profile, fast.budget_bytes)));
    CHECK(with_link.step_ns < rotor.step_ns);
    CHECK(without.step_ns <= rotor.step_ns + rotor.step_ns / 20);
  }

  TEST_CASE("pofo keeps the pinned budget, and names a budget above the one it was given") {
    const Profile profile = chain_profile(24, 100, 50, 100, 200);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    const Planner* planner = find_planner("pofo", &request).value();
    DeviceModel device = simple_device();
    device.d2h_gbps = device.h2d_gbps = 4;
    for (const std::uint64_t pinned : {1u, 250u, 100'000u})
      for (const std::uint64_t budget : {150u, 250u, 450u, 1250u}) {
        CAPTURE(pinned);
        CAPTURE(budget);
        request.pinned_bytes = pinned;
        request.budget_bytes = budget;
        const PlanOutcome outcome = planner->plan(profile, summary, device, request);
        if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
          CHECK(infeasible->min_budget_bytes > budget);
          continue;
        }
        SimOptions options;
        options.budget_bytes = budget;
        options.pinned_bytes = pinned;
        const SimResult sim = simulate(profile, device, std::get<Plan>(outcome), options).value();
        CHECK(sim.fits);
        CHECK(sim.pinned_peak_bytes <= pinned);
      }
  }

  TEST_CASE("chain planners leave a trace whose ops cannot run again as it is") {
    ProfileMaker maker;
    for (std::uint64_t i = 1; i <= 6; ++i) {
      maker.alloc(i, 1000, BufferKind::kActivation);
      maker.advance_ns(10);
    }
    for (std::uint64_t i = 6; i >= 1; --i) maker.free(i);
    const Profile profile = maker.must_finish();
    REQUIRE(!profile.can_recompute);
    for (const char* policy : {"revolve", "rotor", "bptt:internal", "pofo"}) {
      CAPTURE(policy);
      const Plan plan = std::get<Plan>(plan_by(policy, profile, 0));
      CHECK(plan.policy == policy);
      CHECK(plan.program.size() == profile.ops.size());
    }
  }

  TEST_CASE("parameters of chain planners are checked") {
    PlanRequest request;
    CHECK(!find_planner("revolve:0", &request).ok());
    CHECK(!find_planner("bptt:most", &request).ok());
    CHECK(!find_planner("rotor:3", &request).ok());
    CHECK(find_planner("bptt:internal", &request).ok());
    CHECK(request.variant == "internal");
  }
}

TEST_SUITE("property") {
  TEST_CASE(
      "plans of the chain and graph planners are legal, inside the budget, and judged alike") {
    for (std::uint64_t seed = 1; seed <= 18; ++seed) {
      CAPTURE(seed);
      Random random(seed * 31);
      const Profile profile =
          random_profile(seed + 5000, 20 + static_cast<std::uint32_t>(random.below(70)));
      const ProfileSummary summary = summarize(profile);
      DeviceModel device = simple_device();
      device.d2h_gbps = 0.5 + random.unit() * 40;
      device.h2d_gbps = 0.5 + random.unit() * 40;
      for (const char* policy : {"revolve",
                                 "rotor",
                                 "bptt",
                                 "bptt:internal",
                                 "pofo",
                                 "segments",
                                 "collection",
                                 "speed",
                                 "memory",
                                 "torch-budget",
                                 "chen-sqrt:greedy",
                                 "chen-sqrt:strict"})
        for (const double part : {1.0, 0.7, 0.4, 0.1}) {
          CAPTURE(policy);
          CAPTURE(part);
          PlanRequest request;
          const Planner* planner = find_planner(policy, &request).value();
          request.budget_bytes =
              summary.unmovable_bytes +
              static_cast<std::uint64_t>(part * static_cast<double>(summary.keep_all_peak_bytes -
                                                                    summary.unmovable_bytes));
          PlanOutcome outcome = planner->plan(profile, summary, device, request);
          if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
            REQUIRE(infeasible->min_budget_bytes > request.budget_bytes);
            request.budget_bytes = infeasible->min_budget_bytes;
            outcome = planner->plan(profile, summary, device, request);
          }
          REQUIRE(std::holds_alternative<Plan>(outcome));
          const Plan& plan = std::get<Plan>(outcome);
          CHECK(plan.policy == policy);
          SimOptions sim_options;
          sim_options.budget_bytes = request.budget_bytes;
          const auto sim = simulate(profile, device, plan, sim_options);
          REQUIRE_MESSAGE(sim.ok(), sim.status().message());
          CHECK(sim.value().fits);
          ValidateOptions options;
          options.budget_bytes = request.budget_bytes;
          const Verdict verdict = validate(profile, device, plan, options);
          if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
          CHECK(verdict.step_ns == sim.value().step_ns);
          CHECK(verdict.peak_bytes == sim.value().peak_bytes);
        }
    }
  }

  TEST_CASE("revolve, rotor and bptt are no slower with a larger budget") {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed + 900, 40);
      const ProfileSummary summary = summarize(profile);
      for (const char* policy : {"revolve", "rotor", "bptt"}) {
        CAPTURE(policy);
        std::int64_t before_ns = -1;
        for (std::uint64_t percent = 30; percent <= 110; percent += 10) {
          CAPTURE(percent);
          const PlanOutcome outcome =
              plan_by(policy, profile, summary.keep_all_peak_bytes * percent / 100);
          if (!std::holds_alternative<Plan>(outcome)) {
            CHECK(before_ns == -1);
            continue;
          }
          const std::int64_t ns = run(profile, std::get<Plan>(outcome)).step_ns;
          if (before_ns != -1) CHECK(ns <= before_ns);
          before_ns = ns;
        }
      }
    }
  }
}
