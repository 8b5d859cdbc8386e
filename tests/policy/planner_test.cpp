// SPDX-License-Identifier: Apache-2.0
// Planners against the judge on random steps: whatever the graph and the budget, an accepted plan
// is legal, stays inside the budget, and simulator and validator agree on bytes and time to the
// last digit.
#include "policy/planner.hpp"

#include "policy/gaps.hpp"
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace spillway;
using namespace spillway::test;

namespace {

std::uint64_t first_seed() {
  const char* text = std::getenv("SPILLWAY_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

void check_plan(const Profile& profile,
                const DeviceModel& device,
                const Plan& plan,
                std::uint64_t budget_bytes,
                bool lossy) {
  SimOptions sim_options;
  sim_options.budget_bytes = budget_bytes;
  sim_options.timeline = true;
  const auto sim = simulate(profile, device, plan, sim_options);
  REQUIRE_MESSAGE(sim.ok(), sim.status().message());
  REQUIRE(sim.value().fits);
  ValidateOptions options;
  options.budget_bytes = budget_bytes;
  options.allow_lossy = lossy;
  const Verdict verdict = validate(profile, device, plan, options);
  if (!verdict.ok())
    FAIL_CHECK(std::string(name_of(verdict.violations[0].law))
               << ": " << verdict.violations[0].text);
  CHECK(verdict.peak_bytes == sim.value().peak_bytes);
  CHECK(verdict.step_ns == sim.value().step_ns);
  if (budget_bytes != 0) CHECK(sim.value().peak_bytes <= budget_bytes);
  const Verdict times = validate_timeline(profile, device, plan, *sim.value().timeline);
  if (!times.ok())
    FAIL_CHECK(std::string(name_of(times.violations[0].law)) << ": " << times.violations[0].text);
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("every plan that a planner offers is accepted by the validator and keeps its budget") {
    const std::uint64_t begin = first_seed();
    const std::uint64_t end = std::getenv("SPILLWAY_TEST_SEED") != nullptr ? begin + 1 : begin + 10;
    for (std::uint64_t seed = begin; seed < end; ++seed) {
      CAPTURE(seed);
      INFO("repeat with SPILLWAY_TEST_SEED="
           << seed << " policy_tests -tc='every plan that a planner offers*'");
      Random random(seed * 977);
      const Profile profile =
          random_profile(seed, 3 + static_cast<std::uint32_t>(random.below(40)));
      const ProfileSummary summary = summarize(profile);
      DeviceModel device = simple_device();
      device.d2h_gbps = 0.5 + random.unit() * 20;
      device.h2d_gbps = 0.5 + random.unit() * 20;
      device.copy_latency_ns = random.below(50);
      for (const double part : {1.0, 0.8, 0.6, 0.4, 0.1, 0.0}) {
        PlanRequest request;
        request.budget_bytes =
            summary.unmovable_bytes +
            static_cast<std::uint64_t>(
                part * static_cast<double>(summary.keep_all_peak_bytes - summary.unmovable_bytes));
        request.allow_lossy = random.below(2) == 0;
        request.work_limit = 2000;
        for (const Planner& planner : planners()) {
          CAPTURE(planner.name);
          CAPTURE(part);
          const PlanOutcome outcome = planner.plan(profile, summary, device, request);
          if (const Plan* plan = std::get_if<Plan>(&outcome)) {
            check_plan(profile, device, *plan, request.budget_bytes, request.allow_lossy);
          } else if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
            CHECK(infeasible->min_budget_bytes > request.budget_bytes);
            CHECK(!infeasible->holders.empty());
            // What it names is enough.
            PlanRequest enough = request;
            enough.budget_bytes = infeasible->min_budget_bytes;
            const PlanOutcome again = planner.plan(profile, summary, device, enough);
            REQUIRE(std::holds_alternative<Plan>(again));
            check_plan(
                profile, device, std::get<Plan>(again), enough.budget_bytes, request.allow_lossy);
          }
        }
      }
    }
  }

  TEST_CASE(
      "lowering knows the smallest budget that the simulator finds, with and without prefetch "
      "ahead") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const Profile profile =
          random_profile(seed, 5 + static_cast<std::uint32_t>(random.below(30)));
      const DeviceModel device = simple_device();
      const GapTable gaps = find_gaps(profile);
      const Lowering lowering(profile, device, gaps);
      Choices choices(gaps.gaps.size());
      for (std::size_t g = 0; g < choices.size(); ++g) {
        const std::uint64_t dice = random.below(4);
        if (dice == 1) choices[g] = {Action::kOffload, Codec::kNone};
        if (dice == 2 && gaps.gaps[g].rebuildable) choices[g] = {Action::kRecompute, Codec::kNone};
        if (dice == 3 && gaps.gaps[g].returns) choices[g] = {Action::kCompress, Codec::kLossless12};
      }
      const Lowered tight = lowering.just_in_time(choices);
      const std::uint64_t need_bytes = tight.min_budget_bytes();
      const Plan plan = make_plan(profile, gaps, choices, tight, "test", 0);
      const auto sim = simulate(profile, device, plan, {});
      REQUIRE_MESSAGE(sim.ok(), sim.status().message());
      CHECK(sim.value().min_budget_bytes == need_bytes);
      CHECK(sim.value().recompute_ns == tight.recompute_ns);
      CHECK(sim.value().codec_ns == tight.codec_ns);
      const std::uint64_t budget = need_bytes + random.below(need_bytes);
      const Lowered ahead = lowering.ahead(choices, budget);
      CHECK(ahead.min_budget_bytes() <= budget);
      check_plan(
          profile, device, make_plan(profile, gaps, choices, ahead, "test", budget), budget, false);
    }
  }

  TEST_CASE("offloading every gap needs no more than the unmovable bytes when nothing is encoded") {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 20);
      const DeviceModel device = simple_device();
      const GapTable gaps = find_gaps(profile);
      const Lowering lowering(profile, device, gaps);
      CHECK(lowering.just_in_time(offload_every_gap(gaps)).min_budget_bytes() ==
            summarize(profile).unmovable_bytes);
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("keep-all costs nothing and moves nothing") {
    const Profile profile = chain_profile(8, 100, 50, 10, 20);
    const ProfileSummary summary = summarize(profile);
    CHECK(summary.keep_all_peak_bytes == 850);
    CHECK(summary.activation_bytes == 800);
    CHECK(summary.unmovable_bytes == 250);
    CHECK(summary.compute_ns == 240);
    PlanRequest request;
    const PlanOutcome outcome = find_planner("keep-all", &request)
                                    .value()
                                    ->plan(profile, summary, simple_device(), request);
    const auto sim = simulate(profile, simple_device(), std::get<Plan>(outcome), {});
    CHECK(sim.value().step_ns == 240);
    CHECK(sim.value().peak_bytes == 850);
    CHECK(bytes_by_action(profile, summary, std::get<Plan>(outcome)).keep == 800);
  }

  TEST_CASE("recompute of a chain of equal layers costs at most one more forward pass") {
    const Profile profile = chain_profile(16, 100, 0, 10, 20);
    const ProfileSummary summary = summarize(profile);
    for (const char* name : {"chen-sqrt", "every-k:4"}) {
      CAPTURE(name);
      PlanRequest request;
      const Planner* planner = find_planner(name, &request).value();
      const Plan plan = std::get<Plan>(planner->plan(profile, summary, simple_device(), request));
      const auto sim = simulate(profile, simple_device(), plan, {});
      CHECK(sim.value().recompute_ns <= 160);
      CHECK(sim.value().recompute_ns > 0);
      CHECK(sim.value().peak_bytes < summary.keep_all_peak_bytes);
      const ActionBytes bytes = bytes_by_action(profile, summary, plan);
      CHECK(bytes.keep + bytes.recompute == summary.activation_bytes);
      CHECK(bytes.recompute > 0);
    }
  }

  TEST_CASE("joint keeps everything when everything fits") {
    const Profile profile = chain_profile(8, 100, 50, 10, 20);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.budget_bytes = summary.keep_all_peak_bytes;
    const Plan plan = std::get<Plan>(
        find_planner("joint", &request).value()->plan(profile, summary, simple_device(), request));
    CHECK(plan.program.size() == profile.ops.size());
  }

  TEST_CASE("joint hides offload under compute when the link is fast") {
    const Profile profile = chain_profile(32, 100, 0, 1000, 2000);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.budget_bytes = summary.keep_all_peak_bytes / 2;
    const Plan plan = std::get<Plan>(
        find_planner("joint", &request).value()->plan(profile, summary, simple_device(), request));
    SimOptions options;
    options.budget_bytes = request.budget_bytes;
    const auto sim = simulate(profile, simple_device(), plan, options);
    CHECK(sim.value().step_ns == summary.compute_ns);
    CHECK(sim.value().peak_bytes <= request.budget_bytes);
  }

  TEST_CASE("joint uses only the levers it was given") {
    const Profile profile = chain_profile(16, 1 << 16, 0, 1000, 2000, Dtype::kBf16);
    const ProfileSummary summary = summarize(profile);
    for (const Action lever : {Action::kCompress, Action::kOffload, Action::kRecompute}) {
      CAPTURE(name_of(lever));
      PlanRequest request;
      request.budget_bytes = summary.keep_all_peak_bytes * 9 / 10;
      request.actions = static_cast<ActionSet>(action_bit(Action::kKeep) | action_bit(lever));
      const PlanOutcome outcome =
          find_planner("joint", &request).value()->plan(profile, summary, simple_device(), request);
      REQUIRE(std::holds_alternative<Plan>(outcome));
      for (const Decision& decision : std::get<Plan>(outcome).decisions)
        CHECK((decision.action == Action::kKeep || decision.action == lever));
    }
  }

  TEST_CASE("an unknown policy is named with those that exist") {
    PlanRequest request;
    const auto missing = find_planner("magic", &request);
    REQUIRE(!missing.ok());
    CHECK(missing.status().message().find("chen-sqrt") != std::string::npos);
    CHECK(!find_planner("every-k:0", &request).ok());
    CHECK(!find_planner("joint:3", &request).ok());
    CHECK(find_planner("every-k:3", &request).ok());
    CHECK(request.k == 3);
  }

  TEST_CASE("planning twice gives the same plan") {
    const Profile profile = random_profile(7, 40);
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.budget_bytes = (summary.keep_all_peak_bytes + summary.unmovable_bytes) / 2;
    const Planner* joint = find_planner("joint", &request).value();
    const Plan a = std::get<Plan>(joint->plan(profile, summary, simple_device(), request));
    const Plan b = std::get<Plan>(joint->plan(profile, summary, simple_device(), request));
    CHECK(a.program == b.program);
    CHECK(a.decisions == b.decisions);
  }
}
