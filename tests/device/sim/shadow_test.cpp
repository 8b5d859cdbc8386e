// SPDX-License-Identifier: Apache-2.0
// Shadow memory: which earlier access is reported for which bytes, and that the map stays small.
#include "device/sim/shadow.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {

/// Agents that know only of themselves, so that accesses of two of them always race, until one
/// joins the other.
class Agents {
 public:
  std::vector<Conflict> access(AgentId agent, Range range, AccessKind kind) {
    VectorClock& clock = at(agent);
    std::vector<Conflict> out;
    const Site site{"test", ++op_, {agent, clock.tick(agent)}, kind};
    shadow.access(range, clock, site, out);
    CHECK(shadow.check_invariants());
    return out;
  }
  std::vector<Conflict> read(AgentId agent, Range range) {
    return access(agent, range, AccessKind::kRead);
  }
  std::vector<Conflict> write(AgentId agent, Range range) {
    return access(agent, range, AccessKind::kWrite);
  }
  void join(AgentId to, AgentId from) {
    at(std::max(to, from));
    at(to).join(at(from));
  }

  Shadow shadow;

 private:
  VectorClock& at(AgentId agent) {
    if (agent >= clocks_.size()) clocks_.resize(agent + 1);
    return clocks_[agent];
  }

  std::vector<VectorClock> clocks_;
  std::uint64_t op_ = 0;
};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("two reads never race; a write races with both, in the order of the agents") {
    Agents agents;
    CHECK(agents.read(1, {0, 100}).empty());
    CHECK(agents.read(0, {0, 100}).empty());
    const auto races = agents.write(2, {0, 100});
    REQUIRE(races.size() == 2);
    CHECK(races[0].earlier.op == 2);
    CHECK(races[1].earlier.op == 1);
    CHECK(races[1].earlier.epoch == Epoch{1, 1});
    CHECK(races[1].later.op == 3);
    CHECK(races[1].later.kind == AccessKind::kWrite);
    CHECK(races[1].range == Range{0, 100});
  }

  TEST_CASE("a race names only the bytes that both touch") {
    Agents agents;
    CHECK(agents.write(0, {10, 20}).empty());
    const auto races = agents.read(1, {15, 40});
    REQUIRE(races.size() == 1);
    CHECK(races[0].range == Range{15, 20});
    CHECK(agents.read(1, {0, 10}).empty());
    CHECK(agents.read(1, {20, 30}).empty());
  }

  TEST_CASE("an access over many pieces of one earlier access makes one entry") {
    Agents agents;
    CHECK(agents.write(0, {0, 100}).empty());
    agents.join(1, 0);
    for (std::uint64_t at = 0; at < 100; at += 10) CHECK(agents.read(1, {at, at + 5}).empty());
    const auto races = agents.write(2, {0, 100});
    REQUIRE_FALSE(races.empty());
    CHECK(races[0].earlier.op == 1);
    CHECK(races[0].range == Range{0, 100});
    CHECK(races.size() == 11);  // the write, and ten reads that are ten operations
    CHECK(agents.shadow.interval_count() == 1);
  }

  TEST_CASE("an ordered access is silent, and the clock tells how much was covered") {
    Agents agents;
    CHECK(agents.write(0, {0, 8}).empty());
    agents.join(1, 0);
    CHECK(agents.write(0, {8, 16}).empty());
    CHECK(agents.write(0, {8, 16}).empty());
    CHECK(agents.read(1, {0, 8}).empty());
    const auto races = agents.read(1, {0, 16});
    REQUIRE(races.size() == 1);
    CHECK(races[0].range == Range{8, 16});
    CHECK(races[0].covered_tick == 1);
    CHECK(races[0].earlier.epoch.tick == 3);
  }

  TEST_CASE("lifetime events count as writes") {
    for (const AccessKind kind :
         {AccessKind::kAllocate, AccessKind::kFree, AccessKind::kMap, AccessKind::kUnmap}) {
      CAPTURE(static_cast<int>(kind));
      Agents agents;
      CHECK(agents.read(0, {0, 8}).empty());
      const auto races = agents.access(1, {0, 8}, kind);
      REQUIRE(races.size() == 1);
      CHECK(races[0].later.kind == kind);
      const auto use = agents.read(2, {0, 8});
      REQUIRE(use.size() == 1);
      CHECK(use[0].earlier.kind == kind);
    }
  }

  TEST_CASE("at most one read per agent is kept, and a read that a newer one covers goes") {
    Agents agents;
    for (int round = 0; round < 10; ++round)
      for (AgentId agent = 0; agent < 5; ++agent) CHECK(agents.read(agent, {0, 64}).empty());
    CHECK(agents.shadow.read_count(0) == 5);
    CHECK(agents.shadow.read_count(64) == 0);
    agents.join(7, 1);
    agents.join(7, 3);
    CHECK(agents.read(7, {0, 64}).empty());
    CHECK(agents.shadow.read_count(63) == 4);  // agents 0, 2, 4 and 7
    CHECK(agents.write(9, {0, 64}).size() == 4);
    CHECK(agents.shadow.read_count(0) == 0);
  }

  TEST_CASE("pieces of one write and pieces of one history merge again") {
    Agents agents;
    CHECK(agents.write(0, {0, 1000}).empty());
    for (std::uint64_t at = 0; at < 1000; at += 10) CHECK(agents.read(0, {at, at + 3}).empty());
    CHECK(agents.shadow.interval_count() == 200);
    CHECK(agents.read(0, {0, 1000}).empty());
    CHECK(agents.shadow.interval_count() == 1);
    CHECK(agents.write(0, {500, 501}).empty());
    CHECK(agents.shadow.interval_count() == 3);
    CHECK(agents.write(0, {400, 2000}).empty());
    CHECK(agents.shadow.interval_count() == 2);
  }

  TEST_CASE("two ranges of one operation that touch become one interval") {
    Shadow shadow;
    std::vector<Conflict> out;
    VectorClock clock;
    const Site site{"test", 1, {0, clock.tick(0)}, AccessKind::kWrite};
    shadow.access({0, 10}, clock, site, out);
    shadow.access({20, 30}, clock, site, out);
    CHECK(shadow.interval_count() == 2);
    shadow.access({10, 20}, clock, site, out);
    CHECK(shadow.interval_count() == 1);
    CHECK(out.empty());
  }

  TEST_CASE("a read that fills the gaps between its own pieces leaves one interval") {
    for (std::uint64_t from = 0; from < 60; ++from) {
      CAPTURE(from);
      Shadow shadow;
      std::vector<Conflict> out;
      VectorClock clock;
      const Site site{"test", 1, {0, clock.tick(0)}, AccessKind::kRead};
      for (std::uint64_t piece = 0; piece < 60; ++piece)
        shadow.access({piece * 4, piece * 4 + 2}, clock, site, out);
      shadow.access({from * 4 + 1, 1000}, clock, site, out);
      CHECK(shadow.check_invariants());
      CHECK(shadow.interval_count() == from + 1);
    }
  }

  TEST_CASE("forgotten bytes race with nothing; their neighbours still do") {
    Agents agents;
    CHECK(agents.write(0, {0, 100}).empty());
    agents.shadow.forget({40, 60});
    CHECK(agents.shadow.check_invariants());
    agents.shadow.forget({90, 10});
    CHECK(agents.read(1, {40, 60}).empty());
    const auto races = agents.read(2, {0, 100});
    REQUIRE(races.size() == 2);
    CHECK(races[0].range == Range{0, 40});
    CHECK(races[1].range == Range{60, 100});
  }

  TEST_CASE("an empty or inverted range is no access") {
    Agents agents;
    CHECK(agents.write(0, {8, 8}).empty());
    CHECK(agents.write(0, {9, 8}).empty());
    CHECK(agents.shadow.interval_count() == 0);
  }

  TEST_CASE("the last byte of the address space is a byte like any other") {
    Agents agents;
    constexpr std::uint64_t kTop = ~std::uint64_t{0};
    CHECK(agents.write(0, {kTop - 10, kTop}).empty());
    CHECK(agents.write(0, {0, 1}).empty());
    CHECK(agents.read(1, {0, kTop}).size() == 2);
    CHECK(agents.write(1, {0, kTop}).size() == 2);
    CHECK(agents.shadow.interval_count() == 1);
  }

  TEST_CASE("after a reset nothing of the past is left") {
    Agents agents;
    for (std::uint64_t at = 0; at < 5000; ++at) {
      std::vector<Conflict> out;
      VectorClock clock;
      clock.raise(0, at + 1);
      agents.shadow.access(
          {at * 2, at * 2 + 1}, clock, {"test", at, {0, at + 1}, AccessKind::kWrite}, out);
    }
    CHECK(agents.shadow.interval_count() == 5000);
    agents.shadow.reset();
    CHECK(agents.shadow.interval_count() == 0);
    CHECK(agents.write(3, {0, 20000}).empty());
    CHECK(agents.shadow.interval_count() == 1);
  }
}

TEST_SUITE("property") {
  TEST_CASE("fragmented accesses leave no more intervals than borders, and one write leaves one") {
    const std::uint64_t seed = 4;
    CAPTURE(seed);
    Random random(seed);
    Shadow shadow;
    VectorClock clock;
    std::vector<Conflict> out;
    constexpr std::uint64_t kBytes = 3000;
    for (std::uint64_t op = 1; op <= 20000; ++op) {
      const std::uint64_t begin = random.below(kBytes);
      const Range range{begin,
                        std::min(kBytes, begin + 1 + random.below(op % 100 == 0 ? kBytes : 9))};
      const auto kind = random.below(2) == 0 ? AccessKind::kRead : AccessKind::kWrite;
      const Site site{"test", op, {0, clock.tick(0)}, kind};
      if (op % 500 == 0) {
        shadow.forget(range);
      } else {
        shadow.access(range, clock, site, out);
      }
      if (op % 250 == 0) REQUIRE(shadow.check_invariants());
    }
    CHECK(shadow.interval_count() > 100);
    CHECK(shadow.interval_count() <= kBytes);
    CHECK(out.empty());  // one agent never races with itself
    shadow.access({0, kBytes}, clock, {"test", 0, {0, clock.tick(0)}, AccessKind::kWrite}, out);
    CHECK(shadow.interval_count() == 1);
    CHECK(shadow.check_invariants());
  }
}
