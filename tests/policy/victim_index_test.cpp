// SPDX-License-Identifier: Apache-2.0
// The victim index against a full scan.
#include "policy/victim_index.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

using namespace spillway;

TEST_SUITE("unit") {
  TEST_CASE("the cheapest per byte goes first, among equals the one unused longest") {
    VictimIndex index;
    index.insert(1, 100, 10, 0);
    index.insert(2, 100, 1000, 0);
    index.insert(3, 100, 1000, 5);
    CHECK(*index.best(10) == 2);
    index.erase(2);
    CHECK(*index.best(10) == 3);
    index.reprice(3, 1e9);
    CHECK(*index.best(10) == 1);
    index.erase(1);
    index.erase(3);
    index.erase(3);
    CHECK(!index.best(10));
  }

  TEST_CASE("what was used just now is taken only when there is nothing else") {
    VictimIndex index;
    index.insert(1, 1, 1000, 10);
    index.insert(2, 1e6, 10, 3);
    CHECK(*index.best(10) == 2);
    index.erase(2);
    CHECK(*index.best(10) == 1);
  }

  TEST_CASE("what costs nothing goes before everything, and no bytes are no victim") {
    VictimIndex index;
    index.insert(1, 0, 8, 9);
    index.insert(2, 1, 1000, 0);
    index.insert(3, 0, 0, 0);
    CHECK(index.size() == 2);
    CHECK(*index.best(10) == 1);
  }
}

TEST_SUITE("property") {
  TEST_CASE("the victim's score is at most 2^(1/4) of the least, and few are compared") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      VictimIndex index;
      struct Held {
        double price;
        std::uint64_t bytes;
        std::int64_t last;
      };
      std::map<std::uint32_t, Held> held;
      std::int64_t now = 1;
      std::uint32_t next = 0;
      std::uint64_t searches = 0;
      for (int i = 0; i < 3000; ++i) {
        now += static_cast<std::int64_t>(random.below(50));
        const std::uint64_t dice = random.below(4);
        if (dice <= 1) {
          const Held made{std::exp2(random.unit() * 20), 1 + random.below(1 << 20), now};
          held[next] = made;
          index.insert(next++, made.price, made.bytes, made.last);
        } else if (dice == 2 && !held.empty()) {
          auto some = held.lower_bound(static_cast<std::uint32_t>(random.below(next)));
          if (some == held.end()) some = held.begin();
          some->second.price = std::exp2(random.unit() * 20);
          index.reprice(some->first, some->second.price);
        } else if (now > 1) {
          const auto victim = index.best(now);
          ++searches;
          CHECK(victim.has_value() == !held.empty());
          if (!victim) continue;
          const auto score = [now](const Held& h) {
            return now > h.last ? h.price / (static_cast<double>(h.bytes) *
                                             static_cast<double>(now - h.last))
                                : std::numeric_limits<double>::infinity();
          };
          double least = std::numeric_limits<double>::infinity();
          for (const auto& entry : held) least = std::min(least, score(entry.second));
          if (least < std::numeric_limits<double>::infinity())
            CHECK(score(held.at(*victim)) <= least * 1.1893);
          held.erase(*victim);
          index.erase(*victim);
        }
      }
      CHECK(index.size() == held.size());
      CHECK(held.size() > 500);
      CHECK(index.compared() < searches * 170);  // 40 doublings of price per byte, 4 classes each
    }
  }
}
