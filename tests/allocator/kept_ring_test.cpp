// SPDX-License-Identifier: Apache-2.0
// The ring of kept blocks by itself, against a list.
#include "allocator/kept_ring.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>

namespace spillway {

TEST_SUITE("unit") {
  TEST_CASE("a ring gives back blocks of exactly the size asked for") {
    KeptRing ring;
    CHECK(ring.take(7) == kNoBlock);
    CHECK(ring.put(1, 7) == kNoBlock);
    CHECK(ring.put(2, 9) == kNoBlock);
    CHECK(ring.count() == 2);
    CHECK(ring.take(8) == kNoBlock);
    CHECK(ring.take(7) == 1);
    CHECK(ring.take(7) == kNoBlock);
    CHECK(ring.take(9) == 2);
    CHECK(ring.count() == 0);
  }

  TEST_CASE("a full ring lets go of the block that is in it longest") {
    KeptRing ring;
    for (BlockIndex i = 1; i <= KeptRing::kSlots; ++i) CHECK(ring.put(i, 100 + i) == kNoBlock);
    CHECK(ring.count() == KeptRing::kSlots);
    for (BlockIndex i = 1; i <= 3; ++i) CHECK(ring.put(50 + i, 200) == i);
    CHECK(ring.count() == KeptRing::kSlots);
    CHECK(ring.take(101) == kNoBlock);
    CHECK(ring.take(104) == 4);
  }
}

TEST_SUITE("model") {
  TEST_CASE("what goes into a ring comes out of it once") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      KeptRing ring;
      std::map<BlockIndex, Quanta> inside;
      BlockIndex next = 1;
      bool agrees = true;
      for (int step = 0; step < 5000 && agrees; ++step) {
        const auto quanta = static_cast<Quanta>(1 + random.below(12));
        const std::uint64_t what = random.below(100);
        if (what < 50) {
          inside[next] = quanta;
          const BlockIndex leaves = ring.put(next++, quanta);
          if (leaves != kNoBlock) agrees = inside.erase(leaves) == 1;
        } else if (what < 99) {
          const BlockIndex taken = ring.take(quanta);
          const bool has = std::any_of(inside.begin(), inside.end(), [&](const auto& entry) {
            return entry.second == quanta;
          });
          agrees = (taken != kNoBlock) == has && (!has || inside[taken] == quanta);
          inside.erase(taken);
        } else {
          ring.drain([&](BlockIndex index) { agrees = agrees && inside.erase(index) == 1; });
          agrees = agrees && inside.empty();
        }
        agrees = agrees && ring.count() == inside.size() && ring.count() <= KeptRing::kSlots;
      }
      CHECK(agrees);
    }
  }
}

}  // namespace spillway
