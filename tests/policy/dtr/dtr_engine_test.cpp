// SPDX-License-Identifier: Apache-2.0
// The DTR engine on logs small enough to follow by hand, and its sums on random ones.
#include "policy/dtr/dtr_engine.hpp"

#include "tests/policy/dtr/log_maker.hpp"

#include <doctest/doctest.h>

#include <string>

namespace spillway {
namespace {

using test::DtrLogMaker;
using test::random_dtr_log;

DtrResult run(const DtrLog& log, DtrScore score, std::uint64_t budget_bytes) {
  const auto result = run_dtr(log, score, budget_bytes);
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  return result.value();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("LRU evicts what was used longest ago and makes it again when it is read") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(10);
  const std::uint32_t x1 = maker.op(5, {w}, {10})[0];
  const std::uint32_t x2 = maker.op(5, {x1}, {10})[0];
  const std::uint32_t x3 = maker.op(5, {x2}, {10})[0];
  const std::uint32_t x4 = maker.op(5, {x3}, {10})[0];     // x1 has to go: last used at 6
  const std::uint32_t y = maker.op(5, {x1, x4}, {10})[0];  // x1 again for x2, then y for x3
  for (const std::uint32_t tensor : {x1, x2, x3, x4}) maker.forget(tensor);
  maker.result(w);
  maker.result(y);
  const DtrResult result = run(maker.log(), DtrScore::kLru, 40);
  CHECK(result.end == DtrEnd::kOk);
  CHECK(result.clock_ns == 1 + 25 + 5);
  CHECK(result.model_ns == 25);
  CHECK(result.remat_ns == 5);
  CHECK(result.remat_count == 1);
  CHECK(result.eviction_count == 3);
  CHECK(result.evicted_bytes == 30);
  CHECK(result.peak_bytes == 40);
}

TEST_CASE("an op that does not fit with all it needs ends the run out of memory") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(10);
  const std::uint32_t x = maker.op(7, {w}, {10})[0];
  maker.op(3, {x}, {100});
  const DtrResult result = run(maker.log(), DtrScore::kLocal, 119);
  CHECK(result.end == DtrEnd::kOutOfMemory);
  CHECK(result.clock_ns == 8);
  CHECK(result.model_ns == 7);
  CHECK(result.log_ns == 10);
  CHECK(run(maker.log(), DtrScore::kLocal, 120).end == DtrEnd::kOk);
}

TEST_CASE("running ops again for longer than the whole step takes is thrashing") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(1);
  const std::uint32_t a = maker.op(10, {w}, {10})[0];
  const std::uint32_t b = maker.op(1, {w}, {10})[0];  // a goes
  for (int i = 0; i < 3; ++i) {
    maker.op(0, {a}, {0});
    maker.op(0, {b}, {0});
  }
  const DtrResult result = run(maker.log(), DtrScore::kLru, 11);
  CHECK(result.end == DtrEnd::kThrash);
  // a 10, b 1, a 10: now 21 of 11 ns.
  CHECK(result.remat_ns == 21);
  CHECK(result.remat_count == 3);
  CHECK(result.clock_ns == 1 + 11 + 21);
}

TEST_CASE("a view of an evicted storage is replayed before it is read") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(1);
  const std::uint32_t a = maker.op(10, {w}, {10})[0];
  const std::uint32_t v = maker.view(2, a);
  const std::uint32_t b = maker.op(3, {w}, {10})[0];  // a goes, and v with it
  maker.forget(b);
  const std::uint32_t c = maker.op(4, {v}, {0})[0];
  maker.forget(a);
  maker.forget(v);
  maker.result(c);
  const DtrResult result = run(maker.log(), DtrScore::kLocal, 11);
  CHECK(result.end == DtrEnd::kOk);
  CHECK(result.remat_ns == 12);
  CHECK(result.remat_count == 2);
  CHECK(result.eviction_count == 1);
}

TEST_CASE("a storage without a name leaves at once, and can still be made again for others") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(1);
  const std::uint32_t a = maker.op(10, {w}, {10})[0];
  const std::uint32_t b = maker.op(5, {a}, {10})[0];
  maker.forget(a);
  const std::uint32_t big = maker.op(1, {w}, {20})[0];  // b goes
  maker.forget(big);
  maker.result(b);
  const DtrResult result = run(maker.log(), DtrScore::kLru, 21);
  CHECK(result.end == DtrEnd::kOk);
  CHECK(result.remat_ns == 15);  // a, then b
  CHECK(result.eviction_count == 1);
  CHECK(result.evicted_bytes == 10);
}

TEST_CASE("the victim is the one that the formula of the score says") {
  // cheap and old: p (bytes 8, cost 4); dear and large: q (16, 40); r (4, 3) follows from e,
  // evicted before by losing its name, with cost 50; s is young.
  const auto victim_bytes = [](DtrScore score) {
    DtrLogMaker maker;
    const std::uint32_t w = maker.constant(1);
    const std::uint32_t p = maker.op(4, {w}, {8})[0];
    const std::uint32_t q = maker.op(40, {w}, {16})[0];
    const std::uint32_t e = maker.op(50, {w}, {1})[0];
    const std::uint32_t r = maker.op(3, {e}, {4})[0];
    maker.forget(e);
    maker.op(10, {w}, {28});  // 29 bytes so far; room for 28 in 56 or 57 less one victim
    for (const std::uint32_t tensor : {p, q, r}) maker.result(tensor);
    maker.log().results.clear();
    return run(maker.log(), score, 56).evicted_bytes;
  };
  // Clock 98 when room is sought; last uses: p 5, q 45, r 98 (fresh: no score that divides by t).
  CHECK(victim_bytes(DtrScore::kLru) == 8);    // p: 1/93
  CHECK(victim_bytes(DtrScore::kSize) == 16);  // q
  CHECK(victim_bytes(DtrScore::kLocal) == 8);  // p 4/(8*93), q 40/(16*53)
  CHECK(victim_bytes(DtrScore::kMsps) == 8);   // p 4/8, q 40/16, r (3+50)/4
  CHECK(victim_bytes(DtrScore::kDtr) == 8);
  CHECK(victim_bytes(DtrScore::kEq) == 8);
}

TEST_CASE("the cost of evicted neighbours protects what would need them") {
  const auto evicted = [](DtrScore score) {
    DtrLogMaker maker;
    const std::uint32_t w = maker.constant(1);
    const std::uint32_t e = maker.op(50, {w}, {1})[0];
    const std::uint32_t r = maker.op(3, {e}, {8})[0];
    maker.forget(e);
    const std::uint32_t p = maker.op(4, {w}, {9})[0];
    maker.op(1, {w}, {0});
    maker.op(10, {w}, {20});
    maker.result(r);
    maker.result(p);
    maker.log().results.clear();
    return run(maker.log(), score, 37).evicted_bytes;
  };
  CHECK(evicted(DtrScore::kLocal) == 8);  // r: 3 / (8 * 5) < p: 4 / (9 * 1)
  CHECK(evicted(DtrScore::kDtr) == 9);    // r: 53 / (8 * 5) > 4 / (9 * 1)
  CHECK(evicted(DtrScore::kEq) == 9);
  CHECK(evicted(DtrScore::kMsps) == 9);
}

TEST_CASE("a log with indices out of order is refused, not followed") {
  DtrLogMaker maker;
  const std::uint32_t w = maker.constant(1);
  maker.op(1, {w}, {1});
  DtrLog log = maker.log();
  CHECK(run_dtr(log, DtrScore::kEq, 10).ok());
  log.inputs[0] = 7;
  CHECK(!run_dtr(log, DtrScore::kEq, 10).ok());
  log = maker.log();
  log.tensors[1].storage = 9;
  CHECK(!run_dtr(log, DtrScore::kEq, 10).ok());
  log = maker.log();
  log.events[0].target = 1;
  CHECK(!run_dtr(log, DtrScore::kEq, 10).ok());
  log = maker.log();
  log.ops[1].cost_ns = -1;
  CHECK(!run_dtr(log, DtrScore::kEq, 10).ok());
  log = maker.log();
  log.results.push_back(99);
  CHECK(!run_dtr(log, DtrScore::kEq, 10).ok());
}

TEST_CASE("scores are found by the names that policies use") {
  for (int i = 0; i < kDtrScoreCount; ++i) {
    const auto score = static_cast<DtrScore>(i);
    REQUIRE(find_dtr_score(name_of(score)).has_value());
    CHECK(*find_dtr_score(name_of(score)) == score);
  }
  CHECK(!find_dtr_score("h_best").has_value());
  CHECK(simulator_name_of(DtrScore::kSize) == "LargestStorage");
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("property");

TEST_CASE("whatever the log, the budget holds and the clock is what ran") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const DtrLog log = random_dtr_log(seed, 5 + static_cast<std::uint32_t>(seed));
    const std::uint64_t peak = run(log, DtrScore::kEq, std::uint64_t{1} << 50).peak_bytes;
    for (int i = 0; i < kDtrScoreCount; ++i) {
      const auto score = static_cast<DtrScore>(i);
      CAPTURE(name_of(score));
      for (const std::uint64_t percent : {100u, 70u, 40u, 10u}) {
        const std::uint64_t budget = peak * percent / 100;
        const DtrResult result = run(log, score, budget);
        CHECK(result.clock_ns == 1 + result.model_ns + result.remat_ns);
        CHECK(result.peak_bytes <= budget);
        CHECK((result.end != DtrEnd::kOk || result.model_ns == log.model_ns()));
        CHECK((result.end == DtrEnd::kThrash) == (result.remat_ns > log.model_ns()));
        if (percent == 100) CHECK(result.eviction_count == 0);
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace spillway
