// SPDX-License-Identifier: Apache-2.0
// The planner's law, on random tiny steps: a plan passes the validator within its budget; what is
// called infeasible is, held against an exhaustive search; a larger budget never gives a slower
// step. SPILLWAY_LAW_STEPS sets how many steps (./run nightly asks for 100,000 budgets).
#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/policy/least_budget.hpp"
#include "tests/policy/tiny_step.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

std::uint64_t number_from(const char* variable, std::uint64_t fallback) {
  const char* text = std::getenv(variable);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

struct Tally {
  std::uint64_t steps = 0, budgets = 0, plans = 0, infeasible = 0, gave_up = 0;
  std::uint64_t gave_up_although = 0;      // a program exists
  std::uint64_t not_decided = 0;           // steps that the exhaustive search gave up
  std::uint64_t compared = 0, beaten = 0;  // plans of named methods; those faster than joint's
};

/// What a planner promises about larger budgets.
bool is_monotone(const Planner& planner) {
  return planner.name != "dtr" && planner.name != "capuchin" && planner.name != "pofo" &&
         planner.name != "torch-budget";
}

class LawCheck {
 public:
  LawCheck(std::uint64_t seed, Tally* tally)
      : random_(seed * 6364136223846793005u + 1), tally_(*tally) {
    profile_ = TinyStep(seed).make();
    summary_ = summarize(profile_);
    device_ = tiny_device(&random_);
    request_.actions = static_cast<ActionSet>(action_bit(Action::kKeep) | random_.below(8) << 1);
    if (random_.below(2) == 0) request_.actions = kAllActions;
    request_.allow_lossy = random_.below(3) == 0;
    request_.work_limit = 2000;
  }

  void run() {
    ++tally_.steps;
    least_bytes_ =
        LeastBudget(profile_, request_.actions, request_.allow_lossy).search(kStateLimit);
    if (!least_bytes_) ++tally_.not_decided;
    std::vector<std::uint64_t> budgets = budgets_of();
    tally_.budgets += budgets.size();
    PlanRequest any;
    check(*find_planner("joint", &any).value(), budgets);
    // The named methods do not ask what they may use.
    if (request_.actions != kAllActions || random_.below(2) != 0) return;
    for (const Planner& planner : planners())
      if (planner.name != "joint") check(planner, budgets);
  }

 private:
  static constexpr std::size_t kStateLimit = 60'000;

  std::vector<std::uint64_t> budgets_of() {
    const std::uint64_t low = least_bytes_.value_or(summary_.unmovable_bytes);
    const std::uint64_t high = std::max(low, summary_.keep_all_peak_bytes);
    std::vector<std::uint64_t> budgets = {low, high};
    if (low > 1) budgets.push_back(low - 1);
    budgets.push_back(1 + low / 2 + random_.below(low));
    for (int i = 0; i < 4; ++i) budgets.push_back(low + random_.below(high - low + 1));
    std::sort(budgets.begin(), budgets.end());
    budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
    return budgets;
  }

  void check(const Planner& planner, const std::vector<std::uint64_t>& budgets) {
    CAPTURE(planner.name);
    std::int64_t before_ns = 0;
    std::uint64_t before_bytes = 0;
    for (const std::uint64_t budget_bytes : budgets) {
      CAPTURE(budget_bytes);
      CAPTURE(before_bytes);
      request_.budget_bytes = budget_bytes;
      const PlanOutcome outcome = planner.plan(profile_, summary_, device_, request_);
      if (const Plan* plan = std::get_if<Plan>(&outcome)) {
        ++tally_.plans;
        const std::int64_t step_ns = check_plan(*plan);
        compare(planner, budget_bytes, step_ns);
        if (least_bytes_) CHECK(budget_bytes >= *least_bytes_);
        if (is_monotone(planner) && before_bytes != 0) CHECK(step_ns <= before_ns);
        before_ns = step_ns;
        before_bytes = budget_bytes;
        continue;
      }
      if (is_monotone(planner)) CHECK_MESSAGE(before_bytes == 0, "a smaller budget had a plan");
      if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
        ++tally_.infeasible;
        CHECK(infeasible->min_budget_bytes > budget_bytes);
        if (!least_bytes_) continue;
        CHECK(infeasible->min_budget_bytes >= *least_bytes_);
        // joint speaks for all plans, the others for their own.
        if (planner.name == "joint") CHECK(infeasible->min_budget_bytes == *least_bytes_);
      } else {
        ++tally_.gave_up;
        if (!least_bytes_) continue;
        CHECK(std::get<GaveUp>(outcome).best_budget_bytes >= *least_bytes_);
        if (planner.name == "joint" && budget_bytes >= *least_bytes_) {
          ++tally_.gave_up_although;
          if (std::getenv("SPILLWAY_LAW_VERBOSE") != nullptr)
            MESSAGE("gave up at " << budget_bytes << ", least " << *least_bytes_ << ", best "
                                  << std::get<GaveUp>(outcome).best_budget_bytes << ", unmovable "
                                  << summary_.unmovable_bytes << ", peak "
                                  << summary_.keep_all_peak_bytes << ", actions "
                                  << int(request_.actions)
                                  << (request_.allow_lossy ? " lossy" : ""));
        }
      }
    }
  }

  void compare(const Planner& planner, std::uint64_t budget_bytes, std::int64_t step_ns) {
    if (planner.name == "joint") {
      joint_ns_[budget_bytes] = step_ns;
      return;
    }
    ++tally_.compared;
    const auto joint = joint_ns_.find(budget_bytes);
    REQUIRE(joint != joint_ns_.end());
    if (joint->second <= step_ns) return;
    ++tally_.beaten;
    // By construction, but for those whose own steps may get slower with more memory.
    CHECK(!is_monotone(planner));
  }

  std::int64_t check_plan(const Plan& plan) {
    SimOptions sim_options;
    sim_options.budget_bytes = request_.budget_bytes;
    const auto sim = simulate(profile_, device_, plan, sim_options);
    REQUIRE_MESSAGE(sim.ok(), sim.status().message());
    CHECK(sim.value().fits);
    ValidateOptions options;
    options.budget_bytes = request_.budget_bytes;
    options.allow_lossy = request_.allow_lossy;
    const Verdict verdict = validate(profile_, device_, plan, options);
    for (const Violation& violation : verdict.violations)
      FAIL_CHECK(std::string(name_of(violation.law)) << ": " << violation.text);
    CHECK(verdict.step_ns == sim.value().step_ns);
    CHECK(verdict.peak_bytes == sim.value().peak_bytes);
    CHECK(verdict.peak_bytes <= request_.budget_bytes);
    return sim.value().step_ns;
  }

  Random random_;
  Tally& tally_;
  Profile profile_;
  ProfileSummary summary_;
  DeviceModel device_;
  PlanRequest request_;
  std::optional<std::uint64_t> least_bytes_;
  std::map<std::uint64_t, std::int64_t> joint_ns_;  // by budget
};

}  // namespace

TEST_SUITE("property") {
  TEST_CASE(
      "plans of tiny steps keep the law: legal, infeasible only if so, monotone in the budget") {
    const std::uint64_t begin = number_from("SPILLWAY_TEST_SEED", 1);
    const std::uint64_t steps =
        number_from("SPILLWAY_LAW_STEPS", std::getenv("SPILLWAY_TEST_SEED") != nullptr ? 1 : 40);
    MESSAGE("seeds from " << begin << " to " << begin + steps - 1);
    Tally tally;
    for (std::uint64_t seed = begin; seed < begin + steps; ++seed) {
      CAPTURE(seed);
      INFO("repeat with SPILLWAY_TEST_SEED="
           << seed << " spillway_policy_tests -tc='plans of tiny steps keep the law*'");
      LawCheck(seed, &tally).run();
    }
    MESSAGE(tally.steps << " steps, " << tally.budgets << " budgets, " << tally.plans << " plans, "
                        << tally.infeasible << " infeasible, " << tally.gave_up << " gave up ("
                        << tally.gave_up_although << " of them joint's although a program fits), "
                        << tally.not_decided << " steps too large for the exhaustive search, "
                        << tally.beaten << " of " << tally.compared
                        << " plans of named methods faster than joint's");
    // The check can fail: all three answers occur, and nearly every step is decided.
    if (steps < 40) return;
    CHECK(tally.plans > tally.steps);
    CHECK(tally.infeasible > tally.steps / 4);
    CHECK(tally.not_decided * 10 <= tally.steps);
  }
}
