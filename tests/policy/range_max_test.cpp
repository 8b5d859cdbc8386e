// SPDX-License-Identifier: Apache-2.0
// The tree against a plain array.
#include "policy/search/range_max.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

using namespace spillway;

TEST_CASE("ranges of bytes add up and compare as in a plain array") {
  for (const std::size_t size : {1u, 2u, 7u, 64u, 100u}) {
    Random random(size);
    std::vector<std::uint64_t> plain(size);
    for (std::uint64_t& value : plain) value = random.below(1000);
    RangeMax tree(plain);
    for (int round = 0; round < 300; ++round) {
      const std::size_t begin = random.below(size + 1);
      const std::size_t end = begin + random.below(size + 1 - begin);
      const std::uint64_t value = random.below(50);
      tree.add(begin, end, value);
      for (std::size_t i = begin; i < end; ++i) plain[i] += value;
      const std::size_t from = random.below(size + 1);
      const std::size_t to = from + random.below(size + 1 - from);
      std::uint64_t largest = 0;
      for (std::size_t i = from; i < to; ++i) largest = std::max(largest, plain[i]);
      CHECK(tree.max(from, to) == largest);
      const std::uint64_t limit = random.below(plain[0] + 1200);
      std::size_t last = to;
      for (std::size_t i = from; i < to; ++i)
        if (plain[i] > limit) last = i;
      CHECK(tree.last_above(from, to, limit) == last);
    }
  }
}
