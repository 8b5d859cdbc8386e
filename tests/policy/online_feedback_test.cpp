// SPDX-License-Identifier: Apache-2.0
// Feedback as pure functions: what one measurement changes, and where many lead.
#include "policy/online_feedback.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace spillway;

TEST_SUITE("unit") {
  TEST_CASE("the first measurement is believed, later ones by their weight") {
    const FeedbackOptions options;
    TimeEstimate time = observed(TimeEstimate{}, 100, 1000, options);
    CHECK(time.ns == 1000);
    time = observed(time, 100, 2000, options);
    CHECK(time.ns == doctest::Approx(1250));
    CHECK(expected_ns(time, 100) == doctest::Approx(1250));
  }

  TEST_CASE("a time is scaled when the shape changes, and not learned anew") {
    const FeedbackOptions options;
    TimeEstimate time = observed(TimeEstimate{}, 100, 1000, options);
    CHECK(expected_ns(time, 50) == doctest::Approx(500));
    time = observed(time, 200, 2000, options);
    CHECK(time.ns == doctest::Approx(2000));
    CHECK(expected_ns(time, 100) == doctest::Approx(1000));
  }

  TEST_CASE("a link that halves its rate is known within 10 % after 16 large copies") {
    const FeedbackOptions options;
    LinkRate rate;
    for (int i = 0; i < 10; ++i) rate = observed(rate, 16 << 20, (16 << 20) / 50, options);
    CHECK(rate.gbps == doctest::Approx(50).epsilon(0.001));
    for (int i = 0; i < 16; ++i) rate = observed(rate, 16 << 20, (16 << 20) / 25, options);
    CHECK(rate.gbps == doctest::Approx(25).epsilon(0.1));
    CHECK(copy_ns(rate, 1'000'000) == doctest::Approx(1'000'000 / rate.gbps).epsilon(0.001));
  }

  TEST_CASE("small copies, all latency, hardly move the rate; empty ones not at all") {
    const FeedbackOptions options;
    LinkRate rate = observed(LinkRate{}, 64 << 20, (64 << 20) / 50, options);
    const double before = rate.gbps;
    for (int i = 0; i < 20; ++i) rate = observed(rate, 512, 10'000, options);
    CHECK(rate.gbps > before * 0.7);
    const LinkRate same = observed(rate, 0, 100, options);
    CHECK(same.gbps == rate.gbps);
    CHECK(observed(rate, 100, 0, options).gbps == rate.gbps);
  }

  TEST_CASE("a late prefetch is issued earlier next time, by its lateness or 5 % of the copy") {
    const FeedbackOptions options;
    PrefetchLead lead = corrected({}, 1000, 300, 0, 10'000, options);
    CHECK(lead.ns == 300);
    lead = corrected(lead, 1000, 1, 0, 10'000, options);
    CHECK(lead.ns == 350);
    CHECK(corrected(lead, 1000, 50'000, 0, 2'000, options).ns == 2'000);
  }

  TEST_CASE("a lead that is not needed is given back slowly, a small one stays") {
    const FeedbackOptions options;
    PrefetchLead lead{1600};
    lead = corrected(lead, 1000, 0, 1050, 10'000, options);
    CHECK(lead.ns == 1600 - 62);
    CHECK(corrected(lead, 1000, 0, 50, 10'000, options).ns == lead.ns);
  }

  TEST_CASE("the trigger is the last op that leaves time for copy and lead, inside the gap") {
    const std::vector<std::int64_t> begin_ns = {0, 100, 200, 300, 400, 500};
    CHECK(trigger_op(begin_ns, 0, 5, 100, {0}) == 4);
    CHECK(trigger_op(begin_ns, 0, 5, 100, {1}) == 3);
    CHECK(trigger_op(begin_ns, 0, 5, 100, {250}) == 1);
    CHECK(trigger_op(begin_ns, 2, 5, 400, {0}) == 3);  // not before it may leave
    CHECK(trigger_op(begin_ns, 4, 5, 400, {0}) == 5);
  }

  TEST_CASE("a lever changes only for a margin, in two steps in a row, or when it is gone") {
    const FeedbackOptions options;
    LeverChoice lever = decided({}, 100, 90, options);
    CHECK(lever.action == Action::kOffload);
    lever = decided(lever, 80, 90, options);  // better, but not by 20 %
    CHECK(lever.action == Action::kOffload);
    lever = decided(lever, 50, 90, options);
    CHECK(lever.action == Action::kOffload);
    lever = decided(lever, 100, 90, options);  // not in a row
    lever = decided(lever, 50, 90, options);
    CHECK(lever.action == Action::kOffload);
    lever = decided(lever, 50, 90, options);
    CHECK(lever.action == Action::kRecompute);
    const double never = std::numeric_limits<double>::infinity();
    CHECK(decided(lever, never, 90, options).action == Action::kOffload);
  }
}

TEST_SUITE("property") {
  TEST_CASE("noise of a quarter flips no lever whose prices differ by less than the margin") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      FeedbackOptions steady;
      FeedbackOptions nervous = steady;
      nervous.switch_margin = 0;
      nervous.switch_steps = 1;
      LeverChoice a;
      LeverChoice b;
      int steady_flips = 0;
      int nervous_flips = 0;
      TimeEstimate time;
      for (int step = 0; step < 200; ++step) {
        const double factor = 0.75 + 0.5 * random.unit();
        time = observed(time, 1, static_cast<std::int64_t>(1000 * factor), steady);
        const LeverChoice next_a = decided(a, time.ns, 1000, steady);
        const LeverChoice next_b = decided(b, 1000 * factor, 1000, nervous);
        steady_flips += a.made && a.action != next_a.action ? 1 : 0;
        nervous_flips += b.made && b.action != next_b.action ? 1 : 0;
        a = next_a;
        b = next_b;
      }
      CHECK(steady_flips == 0);
      CHECK(nervous_flips > 50);
    }
  }

  TEST_CASE("lateness goes to nothing within a few steps, on a link slower than its rate says") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const FeedbackOptions options;
      const auto copy = static_cast<std::int64_t>(1000 + random.below(9000));
      PrefetchLead lead;
      std::int64_t late_in_the_end = 0;
      for (int step = 0; step < 60; ++step) {
        // Queueing costs up to 80 % of the copy and varies by a tenth from step to step.
        const double queue = 0.7 + 0.1 * random.unit();
        const auto real = static_cast<std::int64_t>(static_cast<double>(copy) * (1 + queue));
        const std::int64_t late = std::max<std::int64_t>(0, real - copy - lead.ns);
        const std::int64_t early = std::max<std::int64_t>(0, copy + lead.ns - real);
        lead = corrected(lead, copy, late, early, 10 * copy, options);
        if (step >= 10) late_in_the_end += late;
      }
      CHECK(late_in_the_end < copy / 2);  // over 50 steps: under 1 % of a copy each
      CHECK(lead.ns < copy);
    }
  }
}
