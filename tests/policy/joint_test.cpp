// SPDX-License-Identifier: Apache-2.0
// What joint promises beside legality: never slower than a named method, than itself with fewer
// levers, or than itself with less memory on the host; and the host's limit is kept.
#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/policy/tiny_step.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::int64_t kNoPlan = std::numeric_limits<std::int64_t>::max();

struct Case {
  Profile profile;
  ProfileSummary summary;
  DeviceModel device;
  PlanRequest request;

  /// Steps of up to 24, 90 and 300 ops, by turns.
  explicit Case(std::uint64_t seed) {
    Random random(seed * 1000003);
    const auto forward_ops = static_cast<std::uint32_t>(20 + random.below(20));
    profile = seed % 3 == 0 ? TinyStep(seed).make()
                            : random_profile(seed, seed % 3 == 1 ? forward_ops : 5 * forward_ops);
    summary = summarize(profile);
    device = tiny_device(&random);
    const std::uint64_t range = summary.keep_all_peak_bytes - summary.unmovable_bytes;
    request.budget_bytes = summary.unmovable_bytes + range * (1 + random.below(8)) / 10;
    request.allow_lossy = random.below(3) == 0;
    request.work_limit = 1000;
  }

  /// The step's time; kNoPlan when there is no plan.
  [[nodiscard]] std::int64_t step_ns(const Planner& planner, const PlanRequest& asked) const {
    const PlanOutcome outcome = planner.plan(profile, summary, device, asked);
    const Plan* plan = std::get_if<Plan>(&outcome);
    if (plan == nullptr) return kNoPlan;
    SimOptions sim_options;
    sim_options.budget_bytes = asked.budget_bytes;
    sim_options.pinned_bytes = asked.pinned_bytes;
    const auto sim = simulate(profile, device, *plan, sim_options);
    REQUIRE_MESSAGE(sim.ok(), sim.status().message());
    CHECK(sim.value().fits);
    ValidateOptions options;
    options.budget_bytes = asked.budget_bytes;
    options.pinned_bytes = asked.pinned_bytes;
    options.allow_lossy = asked.allow_lossy;
    const Verdict verdict = validate(profile, device, *plan, options);
    for (const Violation& violation : verdict.violations)
      FAIL_CHECK(std::string(name_of(violation.law)) << ": " << violation.text);
    return sim.value().step_ns;
  }
};

const Planner& joint() {
  PlanRequest any;
  return *find_planner("joint", &any).value();
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("joint is never slower than a named method that joins its contest") {
    int plans = 0;
    MESSAGE("seeds 1 to 18");
    for (std::uint64_t seed = 1; seed <= 18; ++seed) {
      CAPTURE(seed);
      const Case c(seed);
      const std::int64_t joint_ns = c.step_ns(joint(), c.request);
      const std::size_t op_count = c.profile.ops.size();
      for (const Planner& planner : planners()) {
        CAPTURE(planner.name);
        CAPTURE(op_count);
        const bool slow = planner.name == "pofo" || planner.name == "rotor" ||
                          planner.name == "bptt" || planner.name == "revolve";
        if (planner.name == "joint" || (slow && op_count > 100)) continue;
        // On tiny steps joint is monotone in the budget, so those that are not stay out.
        const bool moody = planner.name == "pofo" || planner.name == "capuchin" ||
                           planner.name == "dtr" || planner.name == "torch-budget";
        if (moody && op_count <= 32) continue;
        const std::int64_t named_ns = c.step_ns(planner, c.request);
        if (named_ns == kNoPlan) continue;
        ++plans;
        CHECK(joint_ns <= named_ns);
      }
    }
    CHECK(plans >= 40);
  }

  TEST_CASE("joint with more levers is never slower than with some of them") {
    int plans = 0;
    MESSAGE("seeds 1 to 12, steps of up to 200 ops");
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      const Case c(seed);
      if (c.profile.ops.size() > 200) continue;
      std::array<std::int64_t, 8> step_ns{};
      for (unsigned bits = 0; bits < 8; ++bits) {
        PlanRequest some = c.request;
        some.actions = static_cast<ActionSet>(action_bit(Action::kKeep) | bits << 1);
        step_ns[bits] = c.step_ns(joint(), some);
        plans += step_ns[bits] != kNoPlan ? 1 : 0;
        for (unsigned part = 0; part < bits; ++part) {
          CAPTURE(part);
          CAPTURE(bits);
          if ((part & ~bits) == 0) CHECK(step_ns[bits] <= step_ns[part]);
        }
      }
      PlanRequest exact = c.request;
      exact.allow_lossy = false;
      if (c.request.allow_lossy) CHECK(step_ns[7] <= c.step_ns(joint(), exact));
    }
    CHECK(plans >= 20);
  }

  TEST_CASE("joint keeps the host's limit, and offload within it is never worse than none") {
    int offloads = 0, limited = 0;
    MESSAGE("seeds 1 to 12");
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      const Case c(seed);
      const bool tiny = c.profile.ops.size() <= 32;
      PlanRequest without = c.request;
      without.actions = static_cast<ActionSet>(kAllActions & ~action_bit(Action::kOffload));
      const std::int64_t without_ns = c.step_ns(joint(), without);
      const std::int64_t unlimited_ns = c.step_ns(joint(), c.request);
      std::int64_t before_ns = kNoPlan;
      for (const std::uint64_t part : {500u, 50u, 10u, 4u, 2u}) {
        CAPTURE(part);
        PlanRequest limit = c.request;
        limit.pinned_bytes = 1 + c.summary.activation_bytes / part;
        const std::int64_t step_ns = c.step_ns(joint(), limit);
        if (c.profile.ops.size() <= 200) CHECK(step_ns <= without_ns);
        if (tiny) CHECK(step_ns <= before_ns);
        if (step_ns < without_ns) ++offloads;
        if (step_ns > unlimited_ns) ++limited;
        before_ns = step_ns;
      }
    }
    // The limit matters in some, and is made use of in some.
    CHECK(offloads >= 5);
    CHECK(limited >= 5);
  }
}
