// SPDX-License-Identifier: Apache-2.0
// Prices of alternatives are those of plans: each is the step of the same choices with one changed.
#include "policy/explain.hpp"

#include "policy/lowering.hpp"
#include "policy/simulator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <variant>

using namespace spillway;
using namespace spillway::test;

TEST_SUITE("unit") {
  TEST_CASE("choices come back from the program they were lowered to") {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 10);
      const GapTable gaps = find_gaps(profile);
      Choices choices(gaps.gaps.size());
      for (std::size_t g = 0; g < choices.size(); ++g)
        if ((g + seed) % 2 == 0) choices[g].action = Action::kOffload;
      const DeviceModel device = simple_device();
      const Lowered lowered = Lowering(profile, device, gaps).just_in_time(choices);
      const Choices back = choices_of_program(profile, gaps, lowered.program);
      for (std::size_t g = 0; g < choices.size(); ++g) {
        // A tail that is offloaded or dropped is away either way.
        if (!gaps.gaps[g].returns) continue;
        CHECK(back[g].action == choices[g].action);
      }
    }
  }

  TEST_CASE("on a chain each price can be added up by hand") {
    // Three activations of 100 bytes, a link of 1 byte per ns.
    const Profile profile = chain_profile(3, 100, 50, 1000, 2000);
    const ProfileSummary summary = summarize(profile);
    const DeviceModel device = simple_device();
    PlanRequest request;
    const Planner* planner = find_planner("keep-all", &request).value();
    const PlanOutcome outcome = planner->plan(profile, summary, device, request);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    const std::vector<std::uint32_t> storages = largest_storages(profile, "", 10);
    REQUIRE(!storages.empty());
    const ExplainedPlan explained =
        explain(profile, summary, device, request, std::get<Plan>(outcome), storages);
    CHECK(explained.step_ns == summary.compute_ns);
    CHECK(explained.budget_bytes == summary.keep_all_peak_bytes);
    REQUIRE(explained.explanations.size() == storages.size());
    for (const Explanation& one : explained.explanations) {
      CHECK(one.chosen == Decision());
      CHECK(one.bytes == 100);
      bool recompute = false;
      for (const Alternative& other : one.alternatives) {
        REQUIRE(other.fits);
        CHECK(!(other.decision == one.chosen));
        if (other.decision.action != Action::kRecompute) continue;
        recompute = true;
        CHECK(other.step_ns == summary.compute_ns + 1000);
      }
      CHECK(recompute);
    }
  }

  TEST_CASE(
      "what does not fit says what it needs, and levers that are not allowed are not priced") {
    const Profile profile = chain_profile(6, 100, 50, 1000, 2000);
    const ProfileSummary summary = summarize(profile);
    const DeviceModel device = simple_device();
    PlanRequest request;
    request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
    request.budget_bytes = summary.keep_all_peak_bytes - 150;
    const Planner* planner = find_planner("joint", &request).value();
    const PlanOutcome outcome = planner->plan(profile, summary, device, request);
    REQUIRE(std::holds_alternative<Plan>(outcome));
    const ExplainedPlan explained = explain(profile,
                                            summary,
                                            device,
                                            request,
                                            std::get<Plan>(outcome),
                                            largest_storages(profile, "", 100));
    int dear = 0;
    for (const Explanation& one : explained.explanations) {
      for (const Alternative& other : one.alternatives) {
        CHECK((other.decision.action == Action::kKeep ||
               other.decision.action == Action::kRecompute));
        if (other.fits) continue;
        ++dear;
        CHECK(other.min_budget_bytes > explained.budget_bytes);
      }
    }
    CHECK(dear > 0);
    CHECK(largest_storages(profile, "no such name", 100).empty());
    CHECK(largest_storages(profile, "", 2).size() == 2);
  }
}
