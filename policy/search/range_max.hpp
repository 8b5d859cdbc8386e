// SPDX-License-Identifier: Apache-2.0
// Bytes per op with "add to a range", "largest of a range" and "last one above a limit", all in
// logarithmic time: a tree over the ops whose nodes hold what was added to all of their leaves and
// the largest sum below.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway {

class RangeMax {
 public:
  explicit RangeMax(const std::vector<std::uint64_t>& values) : size_(1) {
    while (size_ < values.size()) size_ *= 2;
    largest_.assign(2 * size_, 0);
    added_.assign(2 * size_, 0);
    for (std::size_t i = 0; i < values.size(); ++i) largest_[size_ + i] = values[i];
    for (std::size_t node = size_; node-- > 1;)
      largest_[node] = std::max(largest_[2 * node], largest_[2 * node + 1]);
  }

  /// Adds `value` to [begin, end).
  void add(std::size_t begin, std::size_t end, std::uint64_t value) {
    if (begin < end) add(1, 0, size_, begin, end, value);
  }
  /// Largest of [begin, end); 0 when empty.
  [[nodiscard]] std::uint64_t max(std::size_t begin, std::size_t end) const {
    return begin < end ? max(1, 0, size_, begin, end) : 0;
  }
  /// The last position of [begin, end) that is above `limit`; `end` when none is.
  [[nodiscard]] std::size_t last_above(std::size_t begin,
                                       std::size_t end,
                                       std::uint64_t limit) const {
    const std::size_t found = begin < end ? last_above(1, 0, size_, begin, end, limit, 0) : kNone;
    return found == kNone ? end : found;
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  // `above`: what was added to the nodes above this one.
  [[nodiscard]] std::size_t last_above(std::size_t node,
                                       std::size_t low,
                                       std::size_t high,
                                       std::size_t begin,
                                       std::size_t end,
                                       std::uint64_t limit,
                                       std::uint64_t above) const {
    if (high <= begin || end <= low || above + largest_[node] <= limit) return kNone;
    if (high - low == 1) return low;
    const std::size_t middle = (low + high) / 2;
    const std::uint64_t below = above + added_[node];
    const std::size_t right = last_above(2 * node + 1, middle, high, begin, end, limit, below);
    return right != kNone ? right : last_above(2 * node, low, middle, begin, end, limit, below);
  }
  void add(std::size_t node,
           std::size_t low,
           std::size_t high,
           std::size_t begin,
           std::size_t end,
           std::uint64_t value) {
    if (begin <= low && high <= end) {
      added_[node] += value;
      largest_[node] += value;
      return;
    }
    const std::size_t middle = (low + high) / 2;
    if (begin < middle) add(2 * node, low, middle, begin, end, value);
    if (end > middle) add(2 * node + 1, middle, high, begin, end, value);
    largest_[node] = added_[node] + std::max(largest_[2 * node], largest_[2 * node + 1]);
  }
  [[nodiscard]] std::uint64_t max(std::size_t node,
                                  std::size_t low,
                                  std::size_t high,
                                  std::size_t begin,
                                  std::size_t end) const {
    if (begin <= low && high <= end) return largest_[node];
    const std::size_t middle = (low + high) / 2;
    std::uint64_t best = 0;
    if (begin < middle) best = max(2 * node, low, middle, begin, end);
    if (end > middle) best = std::max(best, max(2 * node + 1, middle, high, begin, end));
    return best + added_[node];
  }

  std::size_t size_;
  std::vector<std::uint64_t> largest_;  // of the leaves below, what was added above them excepted
  std::vector<std::uint64_t> added_;
};

}  // namespace spillway
