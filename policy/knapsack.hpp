// SPDX-License-Identifier: Apache-2.0
// 0/1 knapsack: which items to take so that their weights stay within a capacity and their values
// add up to the most. Exact on rounded weights, or greedy by value per weight.
#pragma once

#include <cstdint>
#include <vector>

namespace spillway {

struct KnapsackItem {
  std::uint64_t weight = 0;
  std::uint64_t value = 0;
};

/// By dynamic programming over `steps` steps of `capacity_max`; weights are rounded up to whole
/// steps, so what is taken never exceeds the capacity. One table answers all capacities.
/// O(items steps) time and bits.
class Knapsack {
 public:
  Knapsack(std::vector<KnapsackItem> items, std::uint64_t capacity_max, std::uint32_t steps);

  /// Marks per item: taken. Items without weight always are.
  [[nodiscard]] std::vector<char> take(std::uint64_t capacity) const;

 private:
  /// (weight * steps + round) / capacity_max without overflow. REQUIRES: capacity_max < 2^62.
  [[nodiscard]] std::uint64_t scaled(std::uint64_t weight, std::uint64_t round) const;

  std::vector<KnapsackItem> items_;
  std::uint64_t capacity_max_;
  std::uint32_t steps_;
  std::vector<std::uint32_t> rounded_;  // weights in steps
  std::vector<bool> taken_;             // [item * (steps + 1) + capacity in steps]
};

/// The same by falling value per weight, skipping what does not fit.
std::vector<char> greedy_knapsack(const std::vector<KnapsackItem>& items, std::uint64_t capacity);

}  // namespace spillway
