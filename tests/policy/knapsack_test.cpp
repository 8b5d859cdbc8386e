// SPDX-License-Identifier: Apache-2.0
// The table against all subsets, and what rounding may cost.
#include "policy/knapsack.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

using namespace spillway;

namespace {

std::vector<KnapsackItem> random_items(Random& random, std::size_t count) {
  std::vector<KnapsackItem> items(count);
  for (KnapsackItem& item : items) item = {random.below(30), random.below(100)};
  return items;
}

std::uint64_t sum(const std::vector<KnapsackItem>& items,
                  const std::vector<char>& marks,
                  std::uint64_t KnapsackItem::*field) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (marks[i] != 0) total += items[i].*field;
  return total;
}

std::uint64_t best_value(const std::vector<KnapsackItem>& items, std::uint64_t capacity) {
  std::uint64_t best = 0;
  for (std::uint32_t set = 0; set < 1u << items.size(); ++set) {
    std::uint64_t weight = 0;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      weight += items[i].weight;
      value += items[i].value;
    }
    if (weight <= capacity) best = std::max(best, value);
  }
  return best;
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("the knapsack's table finds the best subset for every capacity") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const std::vector<KnapsackItem> items = random_items(random, 1 + random.below(10));
      const std::uint64_t most = 1 + random.below(150);
      const Knapsack table(items, most, static_cast<std::uint32_t>(most));
      for (std::uint64_t capacity = 0; capacity <= most; ++capacity) {
        CAPTURE(capacity);
        const std::vector<char> marks = table.take(capacity);
        CHECK(sum(items, marks, &KnapsackItem::weight) <= capacity);
        CHECK(sum(items, marks, &KnapsackItem::value) == best_value(items, capacity));
      }
    }
  }

  TEST_CASE("coarse steps and the greedy rule stay within the capacity, and below the best value") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const std::vector<KnapsackItem> items = random_items(random, 10);
      const std::uint64_t capacity = random.below(200);
      const Knapsack table(items, 200, 23);
      for (const std::vector<char>& marks :
           {table.take(capacity), greedy_knapsack(items, capacity)}) {
        CHECK(sum(items, marks, &KnapsackItem::weight) <= capacity);
        CHECK(sum(items, marks, &KnapsackItem::value) <= best_value(items, capacity));
      }
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("the greedy rule takes what is worth most per byte first") {
    const std::vector<KnapsackItem> items = {{10, 10}, {1, 5}, {0, 1}, {9, 27}};
    CHECK(greedy_knapsack(items, 10) == std::vector<char>{0, 1, 1, 1});
  }
}
