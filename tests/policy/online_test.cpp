// SPDX-License-Identifier: Apache-2.0
// The online policy on DTR logs: the budget holds, noise does not make it nervous, shapes may
// change, and a search looks at few.
#include "policy/online.hpp"

#include "policy/dtr/dtr_engine.hpp"
#include "tests/policy/dtr/log_maker.hpp"
#include "tests/policy/online_lab.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace spillway;
using namespace spillway::test;

namespace {

std::uint64_t peak_of(const DtrLog& log) {
  const auto all = run_dtr(log, DtrScore::kLru, std::uint64_t{1} << 60);
  REQUIRE(all.ok());
  return all.value().peak_bytes;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a victim is unlocked, cheap and long unused; what has no lever stays") {
    OnlinePolicy policy;
    policy.begin_step();
    OnlineStorage storage{1, 100, 50, false, false};
    const std::uint32_t weight = policy.made(storage, {});
    policy.unlock(weight, 0);
    const std::uint32_t inputs[] = {weight};
    storage = {2, 100, 50, true, false};
    const std::uint32_t cheap = policy.made(storage, inputs);
    storage = {3, 100, 5000, true, false};
    const std::uint32_t dear = policy.made(storage, inputs);
    CHECK(!policy.victim(10));
    policy.unlock(dear, 5);
    policy.unlock(cheap, 5);
    const auto first = policy.victim(10);
    REQUIRE(first.has_value());
    CHECK(first->id == cheap);
    CHECK(first->action == Action::kRecompute);
    CHECK(policy.victim(10)->id == dear);
    CHECK(!policy.victim(10));
  }

  TEST_CASE("an evicted parent makes its child dear, and its return cheap again") {
    const auto child_goes_first = [](bool parent_returns) {
      OnlinePolicy policy;
      policy.begin_step();
      const std::uint32_t parent = policy.made({1, 100, 50'000, true, false}, {});
      const std::uint32_t from_parent[] = {parent};
      const std::uint32_t child = policy.made({2, 100, 10'000, true, false}, from_parent);
      const std::uint32_t other = policy.made({3, 100, 20'000, true, false}, {});
      policy.unlock(parent, 1);
      CHECK(policy.victim(50)->id == parent);
      policy.unlock(child, 1);
      policy.unlock(other, 1);
      if (parent_returns) policy.returned(parent, 50'000);
      return policy.victim(60)->id == child;
    };
    CHECK(!child_goes_first(false));
    CHECK(child_goes_first(true));
  }

  TEST_CASE("what is dear to run again and cheap to copy goes to the host") {
    OnlineOptions options;
    options.d2h_gbps = options.h2d_gbps = 10;
    OnlinePolicy policy(options);
    policy.begin_step();
    const std::uint32_t conv = policy.made({1, 1000, 1'000'000, true, true}, {});
    const std::uint32_t relu = policy.made({2, 1000, 20, true, true}, {});
    policy.unlock(conv, 1);
    policy.unlock(relu, 1);
    CHECK(policy.victim(10)->action == Action::kRecompute);
    const auto second = policy.victim(10);
    CHECK(second->id == conv);
    CHECK(second->action == Action::kOffload);
    CHECK(*policy.lever_of(1) == Action::kOffload);
    CHECK(*policy.lever_of(2) == Action::kRecompute);
    CHECK(!policy.lever_of(3));
  }

  TEST_CASE("a measured rate and lateness move the prefetch") {
    OnlineOptions options;
    options.d2h_gbps = options.h2d_gbps = 10;
    OnlinePolicy policy(options);
    policy.begin_step();
    const std::uint32_t x = policy.made({1, 64u << 20, 100, true, true}, {});
    const std::int64_t at_first = policy.prefetch_ahead_ns(x);
    CHECK(at_first == (64 << 20) / 10 + 1);
    policy.arrived(x, 5'000'000, 0, 1'000'000'000);
    CHECK(policy.prefetch_ahead_ns(x) == at_first + 5'000'000);
    for (int i = 0; i < 20; ++i) policy.copied_back(64u << 20, (64 << 20) / 5);
    CHECK(policy.back_rate().gbps == doctest::Approx(5).epsilon(0.01));
    CHECK(policy.prefetch_ahead_ns(x) > 2 * at_first);
  }
}

TEST_SUITE("property") {
  TEST_CASE("on random steps with noise the budget holds and time stays near DTR's own") {
    const char* text = std::getenv("SPILLWAY_TEST_SEED");
    const std::uint64_t begin = text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
    const std::uint64_t end = text == nullptr ? begin + 60 : begin + 1;
    double online_sum = 0;
    double dtr_sum = 0;
    int runs = 0;
    for (std::uint64_t seed = begin; seed < end; ++seed) {
      CAPTURE(seed);
      const DtrLog log = random_dtr_log(seed, 60);
      Random random(seed);
      OnlinePolicy policy;
      LabOptions options;
      options.budget_bytes = peak_of(log) * 7 / 10;
      options.noise = 0.2;
      const auto reference = run_dtr(log, DtrScore::kEq, options.budget_bytes);
      REQUIRE(reference.ok());
      for (int step = 0; step < 4; ++step) {
        const LabResult result = run_online(log, policy, random, options);
        if (!result.done || reference.value().end != DtrEnd::kOk) continue;
        online_sum += static_cast<double>(result.clock_ns) / static_cast<double>(result.first_ns);
        dtr_sum +=
            static_cast<double>(reference.value().clock_ns) / static_cast<double>(log.model_ns());
        ++runs;
      }
    }
    MESSAGE("mean time over compute: online ",
            online_sum / runs,
            ", h_eq of the engine ",
            dtr_sum / runs,
            " in ",
            runs,
            " steps");
    CHECK(runs > 100);
    CHECK(online_sum <= dtr_sum * 1.05);
  }

  TEST_CASE("a copy of the policy goes the same way") {
    const DtrLog log = random_dtr_log(5, 80);
    LabOptions options;
    options.budget_bytes = peak_of(log) / 2;
    options.noise = 0.3;
    OnlinePolicy one;
    Random first(1);
    run_online(log, one, first, options);
    OnlinePolicy two = one;
    Random a(2);
    Random b(2);
    const LabResult x = run_online(log, one, a, options);
    const LabResult y = run_online(log, two, b, options);
    CHECK(x.clock_ns == y.clock_ns);
    CHECK(x.drops == y.drops);
    CHECK(one.compared() == two.compared());
  }

  TEST_CASE("shapes that change from step to step keep the budget and the learned times") {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
      CAPTURE(seed);
      const DtrLog log = random_dtr_log(seed, 60);
      Random random(seed * 31);
      OnlineOptions online;
      online.d2h_gbps = online.h2d_gbps = 5;
      OnlinePolicy policy(online);
      LabOptions options;
      options.budget_bytes = peak_of(log) * 3 / 4;
      options.noise = 0.1;
      options.link_gbps = 5;
      for (int step = 0; step < 12; ++step) {
        const double factor = 0.5 + 0.6 * random.unit();
        const LabResult result = run_online(scaled(log, factor), policy, random, options);
        CHECK(result.done);
      }
      CHECK(policy.out_rate().gbps <= 5.01);
    }
  }

  TEST_CASE("noise of a fifth changes few levers from step to step, without hysteresis many") {
    // Running an op again costs about what both copies of its output do: the levers are close.
    const double gbps = 2;
    const auto close_levers = [gbps](std::uint64_t seed) {
      DtrLog log = random_dtr_log(seed, 60);
      Random random(seed);
      for (DtrLog::Op& op : log.ops) {
        if (op.inputs_begin == op.inputs_end || op.outputs_begin == op.outputs_end) continue;
        const std::uint64_t bytes = log.storages[log.tensors[op.outputs_begin].storage].bytes;
        op.cost_ns = static_cast<std::int64_t>(static_cast<double>(2 * bytes) / gbps *
                                               (0.9 + 0.2 * random.unit()));
      }
      return log;
    };
    const auto switches =
        [gbps](const DtrLog& log, const FeedbackOptions& feedback, std::uint64_t seed) {
          OnlineOptions options;
          options.feedback = feedback;
          options.d2h_gbps = options.h2d_gbps = gbps;
          OnlinePolicy policy(options);
          Random random(seed);
          LabOptions lab;
          lab.budget_bytes = peak_of(log) * 7 / 10;
          lab.noise = 0.2;
          lab.link_gbps = gbps;
          for (int step = 0; step < 30; ++step) CHECK(run_online(log, policy, random, lab).done);
          return policy.switch_count();
        };
    FeedbackOptions nervous;
    nervous.switch_margin = 0;
    nervous.switch_steps = 1;
    nervous.time_weight = 1;
    std::uint64_t steady_sum = 0;
    std::uint64_t nervous_sum = 0;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      CAPTURE(seed);
      const DtrLog log = close_levers(seed);
      steady_sum += switches(log, {}, seed);
      nervous_sum += switches(log, nervous, seed);
    }
    MESSAGE("lever changes in 240 steps: ", steady_sum, ", without hysteresis ", nervous_sum);
    CHECK(nervous_sum > 100);
    CHECK(steady_sum * 4 <= nervous_sum);
  }
}
