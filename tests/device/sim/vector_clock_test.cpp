// SPDX-License-Identifier: Apache-2.0
// Vector clocks agree with a plain map from agent to tick, inside the object and on the heap.
#include "device/sim/vector_clock.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

TEST_SUITE("unit") {
  TEST_CASE("a new clock knows of nothing and covers only tick 0") {
    const VectorClock clock;
    CHECK(clock.empty());
    CHECK(clock.get(0) == 0);
    CHECK(clock.get(4000000000u) == 0);
    CHECK(clock.covers({3, 0}));
    CHECK_FALSE(clock.covers({3, 1}));
  }

  TEST_CASE("raise never lowers a tick, and tick takes the next one") {
    VectorClock clock;
    clock.raise(5, 7);
    clock.raise(5, 3);
    CHECK(clock.get(5) == 7);
    CHECK(clock.get(4) == 0);
    CHECK(clock.tick(5) == 8);
    CHECK(clock.tick(2) == 1);
    CHECK(clock.covers({5, 8}));
    CHECK_FALSE(clock.covers({5, 9}));
    clock.raise(9, 0);
    CHECK(clock.get(9) == 0);
  }

  TEST_CASE("a copy is a snapshot: it does not move when the original ticks on") {
    for (const AgentId agent : {AgentId{1}, AgentId{40}}) {
      CAPTURE(agent);
      VectorClock clock;
      clock.raise(agent, 2);
      const VectorClock copy = clock;
      VectorClock assigned;
      assigned.raise(3, 1);
      assigned = clock;
      clock.tick(agent);
      CHECK(copy.get(agent) == 2);
      CHECK(assigned.get(agent) == 2);
      CHECK(assigned.get(3) == 0);
      CHECK(clock.get(agent) == 3);
    }
  }

  TEST_CASE("a cleared clock forgets ticks that a larger one would bring back") {
    VectorClock clock;
    clock.raise(30, 9);
    clock.raise(2, 9);
    clock.clear();
    CHECK(clock.empty());
    clock.raise(31, 1);
    CHECK(clock.get(30) == 0);
    CHECK(clock.get(2) == 0);
  }
}

TEST_SUITE("model") {
  TEST_CASE("random joins, copies and moves of clocks agree with maps of ticks") {
    constexpr std::size_t kClocks = 6;
    const std::uint64_t seed = 20;
    CAPTURE(seed);
    Random random(seed);
    for (int run = 0; run < 200; ++run) {
      const std::uint64_t agents = run % 2 == 0 ? 8 : 70;  // inside the object, and beyond
      std::vector<VectorClock> clocks(kClocks);
      std::vector<std::map<AgentId, std::uint64_t>> model(kClocks);
      for (int step = 0; step < 100; ++step) {
        const auto a = static_cast<std::size_t>(random.below(kClocks));
        const auto b = static_cast<std::size_t>(random.below(kClocks));
        const auto agent = static_cast<AgentId>(random.below(agents));
        switch (random.below(6)) {
          case 0: {
            const std::uint64_t tick = random.below(17);
            clocks[a].raise(agent, tick);
            model[a][agent] = std::max(model[a][agent], tick);
            break;
          }
          case 1:
            CHECK(clocks[a].tick(agent) == ++model[a][agent]);
            break;
          case 2:
            clocks[a].join(clocks[b]);
            for (const auto& [who, tick] : std::map(model[b]))
              model[a][who] = std::max(model[a][who], tick);
            break;
          case 3: {
            const VectorClock copy = clocks[b];
            clocks[a] = copy;
            model[a] = std::map(model[b]);
            break;
          }
          case 4:
            if (a == b) break;
            clocks[a] = std::move(clocks[b]);
            clocks[b] = VectorClock();
            model[a] = std::exchange(model[b], {});
            break;
          default:
            clocks[a].clear();
            model[a].clear();
        }
        bool same = true;
        for (std::size_t i = 0; i < kClocks; ++i)
          for (AgentId who = 0; who < agents; ++who) {
            const auto found = model[i].find(who);
            same = same && clocks[i].get(who) == (found == model[i].end() ? 0 : found->second);
          }
        if (!same) {
          CAPTURE(run);
          CAPTURE(step);
          FAIL("a clock and its map of ticks differ");
        }
      }
    }
  }
}
