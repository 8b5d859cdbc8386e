// SPDX-License-Identifier: Apache-2.0
// The bound against the truth: every program of tiny steps, and every plan of every planner on
// larger ones. A bound that is too high is a lie about all plans; one that is too low is only weak.
#include "policy/bound.hpp"

#include "policy/bound/linear_program.hpp"
#include "policy/op_order.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/all_programs.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr ActionSet kKeepOrRecompute = action_bit(Action::kKeep) | action_bit(Action::kRecompute);

std::uint64_t first_seed() {
  const char* text = std::getenv("SPILLWAY_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

/// Links and memory of random speed, so that every lever is the best one now and then.
DeviceModel random_device(Random* random) {
  DeviceModel device = simple_device();
  device.d2h_gbps = 0.5 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.h2d_gbps = 0.5 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.copy_latency_ns = random->below(50);
  device.hbm_gbps = 5.0 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.launch_ns = random->below(50);
  return device;
}

/// A budget between what the fattest op needs alone and what keep-all needs.
std::uint64_t random_budget(const ProfileSummary& summary, Random* random) {
  const std::uint64_t low = summary.unmovable_bytes;
  const std::uint64_t high = std::max(low, summary.keep_all_peak_bytes);
  return low + (high - low) * random->below(9) / 8;
}

struct Variant {
  const char* name = "";
  BoundOptions options;
};

std::vector<Variant> variants() {
  std::vector<Variant> list(5);
  list[0] = {"knapsack", {}};
  list[0].options.linear_program = false;
  list[1] = {"quick", {}};
  list[2] = {"best", {}};
  list[2].options.effort = BoundEffort::kBest;
  list[3] = {"one point", {}};
  list[3].options.points = 1;
  list[4] = {"stopped early", {}};
  list[4].options.work_limit = 2000;
  return list;
}

/// How often a search reached the truth, to see that the test could fail.
struct Tally {
  int steps = 0, above_keep_all = 0, said = 0, tight = 0;
};

void check_against_all_programs(const Profile& profile,
                                std::uint64_t seed,
                                ActionSet actions,
                                bool lossy,
                                std::size_t state_limit,
                                Tally* tally) {
  CAPTURE(seed);
  Random random(seed * 7919 + 13);
  const ProfileSummary summary = summarize(profile);
  const DeviceModel device = random_device(&random);
  PlanRequest request;
  request.actions = actions;
  request.allow_lossy = lossy;
  request.budget_bytes = random_budget(summary, &random);
  const BestProgram best = best_program(profile, device, request, state_limit);
  if (!best.found) return;  // no program fits, or none was found within the limit

  // The search speaks the same language as the simulator and the judge.
  Plan plan;
  plan.program = best.program;
  plan.decisions = decisions_of(profile, best.program);
  SimOptions sim_options;
  sim_options.budget_bytes = request.budget_bytes;
  const auto sim = simulate(profile, device, plan, sim_options);
  REQUIRE_MESSAGE(sim.ok(), sim.status().message());
  CHECK(sim.value().fits);
  CHECK(sim.value().step_ns == best.step_ns);
  ValidateOptions validate_options;
  validate_options.budget_bytes = request.budget_bytes;
  validate_options.allow_lossy = lossy;
  const Verdict verdict = validate(profile, device, plan, validate_options);
  for (const Violation& violation : verdict.violations)
    // Decisions are for people; a program may do more to a storage than one word says.
    CHECK_MESSAGE(violation.law == Law::kDecisionMismatch, violation.text);

  ++tally->steps;
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const Bound bound = lower_bound(profile, summary, device, request, variant.options);
    CHECK(bound.bound_ns >= summary.compute_ns);
    CHECK(bound.bound_ns <= best.step_ns);
    if (variant.options.effort != BoundEffort::kBest) continue;
    if (best.step_ns > summary.compute_ns) ++tally->above_keep_all;
    if (bound.bound_ns > summary.compute_ns) ++tally->said;
    if (best.step_ns > summary.compute_ns &&
        static_cast<double>(bound.bound_ns - summary.compute_ns) >=
            0.5 * static_cast<double>(best.step_ns - summary.compute_ns))
      ++tally->tight;
  }
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("no recompute program of a tiny step is faster than the bound") {
    const std::uint64_t begin = first_seed();
    MESSAGE("seeds from " << begin);
    Tally tally;
    for (std::uint64_t seed = begin; seed < begin + 20; ++seed)
      check_against_all_programs(random_profile(seed, static_cast<std::uint32_t>(3 + seed % 5)),
                                 seed,
                                 kKeepOrRecompute,
                                 false,
                                 10'000,
                                 &tally);
    MESSAGE(tally.steps << " steps, " << tally.above_keep_all << " slower than keep-all, the bound "
                        << "too in " << tally.said << ", by half of it or more in " << tally.tight);
    CHECK(tally.above_keep_all >= 10);
    CHECK(tally.said >= 5);
  }

  TEST_CASE("no program of a tiny step is faster than the bound, whatever levers it pulls") {
    const std::uint64_t begin = first_seed();
    MESSAGE("seeds from " << begin);
    Tally tally;
    for (std::uint64_t seed = begin; seed < begin + 60; ++seed)
      check_against_all_programs(random_profile(seed, static_cast<std::uint32_t>(2 + seed % 3)),
                                 seed,
                                 kAllActions,
                                 seed % 4 == 0,
                                 6'000,
                                 &tally);
    MESSAGE(tally.steps << " steps, " << tally.above_keep_all << " slower than keep-all, the bound "
                        << "too in " << tally.said << ", by half of it or more in " << tally.tight);
    CHECK(tally.above_keep_all >= 10);
    CHECK(tally.said >= 5);
  }

  TEST_CASE(
      "no program of a chain is faster than the bound when links and codecs are the narrows") {
    const std::uint64_t begin = first_seed();
    MESSAGE("seeds from " << begin);
    Tally tally;
    for (std::uint64_t seed = begin; seed < begin + 60; ++seed) {
      Random random(seed + 77);
      const std::uint64_t bytes = std::uint64_t{2048} << random.below(4);
      const Profile profile = chain_profile(static_cast<std::uint32_t>(3 + random.below(3)),
                                            bytes,
                                            random.below(100),
                                            200 + random.below(2000),
                                            200 + random.below(4000),
                                            Dtype::kBf16);
      ActionSet actions = action_bit(Action::kKeep) | action_bit(Action::kOffload);
      if (seed % 3 == 1) actions |= action_bit(Action::kCompress);
      if (seed % 3 == 2) actions |= action_bit(Action::kRecompute);
      check_against_all_programs(profile, seed, actions, false, 10'000, &tally);
    }
    MESSAGE(tally.steps << " steps, " << tally.above_keep_all << " slower than keep-all, the bound "
                        << "too in " << tally.said << ", by half of it or more in " << tally.tight);
    CHECK(tally.above_keep_all >= 10);
    CHECK(tally.said >= 10);
  }

  TEST_CASE("no plan of any planner is faster than the bound") {
    const std::uint64_t begin = first_seed();
    const std::uint64_t end = std::getenv("SPILLWAY_TEST_SEED") != nullptr ? begin + 1 : begin + 20;
    MESSAGE("seeds from " << begin);
    int plans = 0;
    for (std::uint64_t seed = begin; seed < end; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const Profile profile =
          random_profile(seed, static_cast<std::uint32_t>(4 + random.below(40)));
      const ProfileSummary summary = summarize(profile);
      const DeviceModel device = random_device(&random);
      PlanRequest request;
      request.actions = seed % 3 == 0 ? kKeepOrRecompute : kAllActions;
      request.allow_lossy = seed % 5 == 0;
      request.budget_bytes = random_budget(summary, &random);
      const Bound quick = lower_bound(profile, summary, device, request, {});
      BoundOptions options;
      options.effort = BoundEffort::kBest;
      const Bound best = lower_bound(profile, summary, device, request, options);
      for (const Planner& planner : planners()) {
        // A preset is what its name says, whatever levers are allowed.
        if ((planner.uses & ~request.actions) != 0 && planner.name != "joint") continue;
        CAPTURE(planner.name);
        const PlanOutcome outcome = planner.plan(profile, summary, device, request);
        const Plan* plan = std::get_if<Plan>(&outcome);
        if (plan == nullptr) continue;
        SimOptions sim_options;
        sim_options.budget_bytes = request.budget_bytes;
        const auto sim = simulate(profile, device, *plan, sim_options);
        REQUIRE(sim.ok());
        if (!sim.value().fits) continue;
        ++plans;
        CHECK(quick.bound_ns <= sim.value().step_ns);
        CHECK(best.bound_ns <= sim.value().step_ns);
      }
    }
    CHECK(plans > 0);
  }
}

TEST_SUITE("unit") {
  TEST_CASE("a linear program's proven value is below its minimum for any prices") {
    // Minimise x + 2 y, x + y >= 1, y >= 0.25 (as a row), both at most 1: 1.25 at (0.75, 0.25).
    LinearProgram program;
    const std::uint32_t x = program.add_column(1, 1), y = program.add_column(2, 1);
    program.add_row(std::vector<LinearProgram::Entry>{{x, 1}, {y, 1}}, 1);
    program.add_row(std::vector<LinearProgram::Entry>{{y, 1}}, 0.25);
    CHECK(program.proven_by(std::vector<double>{1, 1}) == doctest::Approx(1.25));
    CHECK(program.proven_by(std::vector<double>{1, 1}) <= 1.25);
    Random random(5);
    for (int n = 0; n < 200; ++n)
      CHECK(program.proven_by(std::vector<double>{6 * random.unit() - 2, 6 * random.unit() - 2}) <=
            1.25);
    CHECK(program.proven_by(std::vector<double>{1}) == 0);  // not this program's prices
    if (has_linear_program()) {
      const LpPrices prices = solve(program, 1000);
      CHECK(prices.finished);
      CHECK(program.proven_by(prices.prices) == doctest::Approx(1.25));
    }
  }

  TEST_CASE("a budget that keep-all fits asks for nothing more than the step's own ops") {
    const Profile profile = chain_profile(6, 1000, 500, 10, 20);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    for (const std::uint64_t budget : {std::uint64_t{0}, summary.keep_all_peak_bytes}) {
      request.budget_bytes = budget;
      const Bound bound = lower_bound(profile, summary, simple_device(), request, {});
      CHECK(bound.bound_ns == summary.compute_ns);
      CHECK(bound.method == BoundMethod::kKeepAll);
      CHECK(!bound.gave_up);
    }
  }

  TEST_CASE("on a chain the bound counts the ops that must run again") {
    // Eight activations of 1000 bytes; at the turn of the step five fit. Backward op 8 needs 8 and
    // 7, so of the six others three must be away and made again: three forward ops of 10 ns.
    const Profile profile = chain_profile(8, 1000, 0, 10, 20);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.actions = kKeepOrRecompute;
    request.budget_bytes = 5000;
    BoundOptions options;
    options.linear_program = false;
    const Bound knapsack = lower_bound(profile, summary, simple_device(), request, options);
    CHECK(knapsack.method == BoundMethod::kKnapsack);
    CHECK(knapsack.bound_ns - summary.compute_ns >= 29);
    CHECK(knapsack.bound_ns - summary.compute_ns <= 30);
    if (!has_linear_program()) return;
    options = {};
    options.effort = BoundEffort::kBest;
    const Bound lp = lower_bound(profile, summary, simple_device(), request, options);
    CHECK(lp.bound_ns >= knapsack.bound_ns);
  }

  TEST_CASE("a bound is the same every time, and says when its work limit ended it") {
    const Profile profile = random_profile(11, 60);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.budget_bytes = (summary.unmovable_bytes + summary.keep_all_peak_bytes) / 2;
    const DeviceModel device = simple_device();
    BoundOptions options;
    options.effort = BoundEffort::kBest;
    const Bound first = lower_bound(profile, summary, device, request, options);
    const Bound second = lower_bound(profile, summary, device, request, options);
    CHECK(first.bound_ns == second.bound_ns);
    CHECK(first.method == second.method);
    if (!has_linear_program()) return;
    options.work_limit = 1;
    const Bound stopped = lower_bound(profile, summary, device, request, options);
    CHECK(stopped.gave_up);
    CHECK(stopped.bound_ns <= first.bound_ns);
  }
}
