// SPDX-License-Identifier: Apache-2.0
// The search's state: keep-all at first, moves that agree with a fresh count of everything, and
// programs that need and cost exactly what the stages say.
#include "policy/search/schedule.hpp"

#include "policy/op_order.hpp"
#include "policy/prefetch_ahead.hpp"
#include "policy/search/descent.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

using namespace spillway;
using namespace spillway::test;

namespace {

std::uint64_t first_seed() {
  const char* text = std::getenv("SPILLWAY_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

Plan plan_of(const Profile& profile, std::vector<Instruction> program) {
  Plan plan;
  plan.policy = "test";
  plan.decisions = decisions_of(profile, program);
  plan.program = std::move(program);
  return plan;
}

}  // namespace

TEST_CASE("a new schedule is keep-all") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const Profile profile = random_profile(seed, 12);
    const DeviceModel device = simple_device();
    const StepModel model(profile, device, PlanRequest{});
    Schedule schedule(model);
    CHECK(schedule.is_legal());
    CHECK(schedule.cost_ns() == 0);
    CHECK(schedule.peak_bytes() == summarize(profile).keep_all_peak_bytes);
    const Status invariants = schedule.check_invariants();
    CHECK_MESSAGE(invariants.ok(), invariants.message());
  }
}

TEST_CASE("what a search leaves costs and needs what its program does, to the byte") {
  const std::uint64_t begin = first_seed();
  const std::uint64_t end = std::getenv("SPILLWAY_TEST_SEED") != nullptr ? begin + 1 : begin + 40;
  for (std::uint64_t seed = begin; seed < end; ++seed) {
    CAPTURE(seed);
    INFO("repeat with SPILLWAY_TEST_SEED=" << seed
                                           << " spillway_policy_tests -tc='what a search leaves*'");
    Random random(seed);
    const Profile profile = random_profile(seed, 4 + static_cast<std::uint32_t>(random.below(30)));
    const ProfileSummary summary = summarize(profile);
    DeviceModel device = simple_device();
    device.d2h_gbps = 0.5 + random.unit() * 20;
    PlanRequest request;
    request.allow_lossy = random.below(2) == 0;
    if (random.below(2) == 0)
      request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
    else if (random.below(2) == 0)
      request.pinned_bytes = 1 + random.below(summary.keep_all_peak_bytes);
    request.budget_bytes =
        summary.unmovable_bytes +
        (summary.keep_all_peak_bytes - summary.unmovable_bytes) * random.below(100) / 100;
    const StepModel model(profile, device, request);
    Schedule schedule(model);
    DescentOptions options;
    options.budget_bytes = request.budget_bytes;
    options.work_limit = 4000;
    options.seed = seed;
    Descent descent(model, schedule, options);
    const bool found = descent.run();
    const Status invariants = schedule.check_invariants();
    CHECK_MESSAGE(invariants.ok(), invariants.message());
    const Plan plan = plan_of(profile, schedule.program());
    const auto sim = simulate(profile, device, plan, {});
    REQUIRE_MESSAGE(sim.ok(), sim.status().message());
    CHECK(sim.value().min_budget_bytes == schedule.peak_bytes());
    CHECK(static_cast<double>(sim.value().recompute_ns + sim.value().codec_ns) ==
          doctest::Approx(schedule.cost_ns()));
    if (found) CHECK(schedule.peak_bytes() <= request.budget_bytes);
    if (found)
      for (const std::uint64_t bytes : schedule.host_bytes()) CHECK(bytes <= request.pinned_bytes);
    // The program says the same, read back.
    Schedule again(model);
    REQUIRE(again.load(plan.program));
    const Status same = again.check_invariants();
    CHECK_MESSAGE(same.ok(), same.message());
    CHECK(again.program() == plan.program);
    ValidateOptions judge;
    judge.allow_lossy = request.allow_lossy;
    if (found) judge.budget_bytes = request.budget_bytes;
    const Verdict verdict = validate(profile, device, plan, judge);
    if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
  }
}

TEST_CASE("a search is the same for the same seed, and more work never makes it worse") {
  const Profile profile = random_profile(7, 40);
  const ProfileSummary summary = summarize(profile);
  const DeviceModel device = simple_device();
  PlanRequest request;
  request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
  request.budget_bytes = (summary.unmovable_bytes + summary.keep_all_peak_bytes) / 2;
  const StepModel model(profile, device, request);
  const auto search = [&](std::uint64_t work) {
    Schedule schedule(model);
    DescentOptions options;
    options.budget_bytes = request.budget_bytes;
    options.work_limit = work;
    Descent descent(model, schedule, options);
    REQUIRE(descent.run());
    CHECK(std::is_sorted(descent.history().rbegin(), descent.history().rend()));
    return schedule.program();
  };
  CHECK(search(30'000) == search(30'000));
  const auto time_of = [&](std::uint64_t work) {
    const auto sim = simulate(profile, device, plan_of(profile, search(work)), {});
    REQUIRE(sim.ok());
    return sim.value().step_ns;
  };
  CHECK(time_of(200'000) <= time_of(30'000));
}

TEST_CASE("prefetches moved ahead keep the budget and wait less") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    const Profile profile = random_profile(seed, 20);
    const ProfileSummary summary = summarize(profile);
    const DeviceModel device = simple_device();
    PlanRequest request;
    request.actions = action_bit(Action::kKeep) | action_bit(Action::kOffload);
    request.budget_bytes = (summary.unmovable_bytes + summary.keep_all_peak_bytes) / 2;
    const StepModel model(profile, device, request);
    Schedule schedule(model);
    DescentOptions options;
    options.budget_bytes = request.budget_bytes;
    options.work_limit = 4000;
    Descent descent(model, schedule, options);
    if (!descent.run()) continue;
    const std::vector<Instruction> late = schedule.program();
    const std::vector<Instruction> early =
        prefetch_ahead(profile, device, late, request.budget_bytes);
    CHECK(std::is_permutation(early.begin(), early.end(), late.begin(), late.end()));
    SimOptions sim_options;
    sim_options.budget_bytes = request.budget_bytes;
    const auto before = simulate(profile, device, plan_of(profile, late), sim_options);
    const auto after = simulate(profile, device, plan_of(profile, early), sim_options);
    REQUIRE(before.ok());
    REQUIRE_MESSAGE(after.ok(), after.status().message());
    CHECK(before.value().fits);
    CHECK(after.value().fits);
    CHECK(after.value().min_budget_bytes <= request.budget_bytes);
  }
}

TEST_CASE("the plans of other planners are read as schedules that cost and need the same or less") {
  int read = 0;
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    CAPTURE(seed);
    const Profile profile = random_profile(seed, 25);
    const ProfileSummary summary = summarize(profile);
    const DeviceModel device = simple_device();
    PlanRequest request;
    request.budget_bytes = (summary.unmovable_bytes + summary.keep_all_peak_bytes) / 2;
    const StepModel model(profile, device, request);
    for (const char* name : {"capuchin", "dtr", "chen-sqrt", "offload-all", "revolve", "speed"}) {
      CAPTURE(name);
      PlanRequest any = request;
      const Planner* planner = find_planner(name, &any).value();
      const PlanOutcome outcome = planner->plan(profile, summary, device, any);
      const Plan* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) continue;
      Schedule schedule(model);
      if (!schedule.load(plan->program)) continue;
      ++read;
      const Status invariants = schedule.check_invariants();
      CHECK_MESSAGE(invariants.ok(), invariants.message());
      const auto theirs = simulate(profile, device, *plan, {});
      const auto ours = simulate(profile, device, plan_of(profile, schedule.program()), {});
      REQUIRE_MESSAGE(ours.ok(), ours.status().message());
      CHECK(ours.value().recompute_ns <= theirs.value().recompute_ns);
    }
  }
  CHECK(read >= 60);
}
