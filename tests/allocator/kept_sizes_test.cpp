// SPDX-License-Identifier: Apache-2.0
// Kept blocks by size, by themselves, against a list.
#include "allocator/kept_sizes.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>

namespace spillway {
namespace {

struct Keeper {
  BlockTable blocks;
  KeptSizes kept;

  BlockIndex add() {
    REQUIRE(blocks.reserve(1));
    return blocks.add();
  }
  bool put(BlockIndex index, Quanta quanta) { return kept.put(blocks.at(index), index, quanta); }
  BlockIndex take(Quanta quanta) { return kept.take(blocks, quanta); }
};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a block is found again by exactly its size, the newest first") {
    Keeper keeper;
    const BlockIndex a = keeper.add(), b = keeper.add(), c = keeper.add();
    CHECK(keeper.take(7) == kNoBlock);
    CHECK(keeper.put(a, 7));
    CHECK(keeper.put(b, 9));
    CHECK(keeper.put(c, 7));
    CHECK(keeper.kept.count() == 3);
    CHECK(keeper.take(8) == kNoBlock);
    CHECK(keeper.take(7) == c);
    CHECK(keeper.take(7) == a);
    CHECK(keeper.take(7) == kNoBlock);
    CHECK(keeper.take(9) == b);
    CHECK(keeper.kept.count() == 0);
    CHECK(keeper.kept.take_any(keeper.blocks) == kNoBlock);
  }

  TEST_CASE("who finds no room is entered after others have left") {
    Keeper keeper;
    for (std::uint32_t i = 0; i < KeptSizes::kBlocksMax; ++i) CHECK(keeper.put(keeper.add(), 7));
    const BlockIndex late = keeper.add();
    CHECK_FALSE(keeper.put(late, 9));
    CHECK(keeper.kept.take_rival(keeper.blocks, 9) != kNoBlock);
    CHECK(keeper.put(late, 9));
    CHECK(keeper.kept.count() == KeptSizes::kBlocksMax);
    CHECK(keeper.take(9) == late);
  }
}

TEST_SUITE("model") {
  TEST_CASE("what is kept comes out once, at its size, however many sizes there are") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      Keeper keeper;
      const std::uint64_t sizes = seed % 2 == 0 ? 12 : 5000;
      std::map<BlockIndex, Quanta> inside;
      bool agrees = true;
      const auto leaves = [&](BlockIndex index) {
        agrees = agrees && inside.erase(index) == 1;
        keeper.blocks.remove(index);
      };
      for (int step = 0; step < 5000 && agrees; ++step) {
        const auto quanta = static_cast<Quanta>(1 + random.below(sizes));
        const std::uint64_t what = random.below(100);
        if (what < 50) {
          const BlockIndex index = keeper.add();
          int left = 0;
          while (agrees && !keeper.put(index, quanta)) {
            leaves(keeper.kept.take_rival(keeper.blocks, quanta));
            agrees = agrees && ++left <= static_cast<int>(KeptSizes::kBlocksMax);
          }
          inside[index] = quanta;
        } else if (what < 99) {
          const BlockIndex taken = keeper.take(quanta);
          const bool has = std::any_of(inside.begin(), inside.end(), [&](const auto& entry) {
            return entry.second == quanta;
          });
          agrees = (taken != kNoBlock) == has && (!has || inside[taken] == quanta);
          if (has) leaves(taken);
        } else {
          while (keeper.kept.count() != 0) leaves(keeper.kept.take_any(keeper.blocks));
          agrees = agrees && inside.empty();
        }
        std::size_t seen = 0;
        keeper.kept.for_each(keeper.blocks, [&](BlockIndex index, Quanta size) {
          ++seen;
          const auto found = inside.find(index);
          agrees = agrees && found != inside.end() && found->second == size;
        });
        agrees = agrees && seen == inside.size() && keeper.kept.count() == seen &&
                 seen <= KeptSizes::kBlocksMax;
      }
      CHECK(agrees);
    }
  }
}

}  // namespace spillway
