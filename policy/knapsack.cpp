// SPDX-License-Identifier: Apache-2.0
// The table keeps one bit per item and capacity: was it taken? Values of the row before are enough
// to fill the next.
#include "policy/knapsack.hpp"

#include "core/check.hpp"

#include <algorithm>
#include <numeric>

namespace spillway {

Knapsack::Knapsack(std::vector<KnapsackItem> items, std::uint64_t capacity_max, std::uint32_t steps)
    : items_(std::move(items)),
      capacity_max_(std::max<std::uint64_t>(capacity_max, 1)),
      steps_(std::max(steps, 1u)) {
  const std::size_t width = steps_ + std::size_t{1};
  taken_.assign(items_.size() * width, false);
  std::vector<std::uint64_t> best(width, 0);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const std::uint64_t weight = items_[i].weight;
    std::uint32_t rounded = steps_ + 1;  // never fits
    if (weight <= capacity_max_)
      rounded = static_cast<std::uint32_t>(scaled(weight, capacity_max_ - 1));
    rounded_.push_back(rounded);
    if (rounded > steps_ || weight == 0) continue;
    for (std::size_t c = steps_; c >= rounded; --c) {
      const std::uint64_t with = best[c - rounded] + items_[i].value;
      if (with > best[c]) {
        best[c] = with;
        taken_[i * width + c] = true;
      }
      if (c == 0) break;
    }
  }
}

std::uint64_t Knapsack::scaled(std::uint64_t weight, std::uint64_t round) const {
  // weight * steps may pass 64 bits: the whole part and the rest are scaled apart.
  const std::uint64_t bits = weight;
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  for (int bit = 63; bit >= 0; --bit) {
    // (high, low): quotient and remainder of what was read so far times steps, by capacity_max.
    high *= 2;
    low *= 2;
    if ((bits >> bit & 1) != 0) low += steps_;
    high += low / capacity_max_;
    low %= capacity_max_;
  }
  return high + (low + round) / capacity_max_;
}

std::vector<char> Knapsack::take(std::uint64_t capacity) const {
  auto left = static_cast<std::size_t>(scaled(std::min(capacity, capacity_max_), 0));
  std::vector<char> marks(items_.size(), 0);
  for (std::size_t i = items_.size(); i-- > 0;) {
    const bool taken = items_[i].weight == 0 || taken_[i * (steps_ + std::size_t{1}) + left];
    marks[i] = taken ? 1 : 0;
    if (taken && items_[i].weight != 0) left -= rounded_[i];
  }
  return marks;
}

std::vector<char> greedy_knapsack(const std::vector<KnapsackItem>& items, std::uint64_t capacity) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto density = [&](std::size_t i) {
    return static_cast<double>(items[i].value) / static_cast<double>(items[i].weight);
  };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (items[a].weight == 0 || items[b].weight == 0)
      return items[a].weight == 0 && items[b].weight != 0;
    return density(a) > density(b);
  });
  std::vector<char> marks(items.size(), 0);
  for (const std::size_t i : order) {
    if (items[i].weight > capacity) continue;
    capacity -= items[i].weight;
    marks[i] = 1;
  }
  return marks;
}

}  // namespace spillway
