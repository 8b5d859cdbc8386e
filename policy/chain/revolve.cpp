// SPDX-License-Identifier: Apache-2.0
// Splits are found from the closed form: the cost of a split is convex in its position, so a binary
// search on the slope finds the first best one.
#include "policy/chain/revolve.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kManySteps = std::uint64_t{1} << 62;

/// Steps of splitting l stages behind the first m of them.
std::uint64_t split_steps(std::uint32_t l, std::uint32_t c, std::uint32_t m) {
  return m + revolve_forward_steps(l - m, c - 1) + revolve_forward_steps(m, c);
}

std::uint32_t best_split(std::uint32_t l, std::uint32_t c) {
  if (c == 1) return l - 1;
  std::uint32_t low = 1;
  std::uint32_t high = l - 1;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (split_steps(l, c, middle + 1) >= split_steps(l, c, middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

std::uint64_t revolve_reach(std::uint32_t checkpoints, std::uint32_t repeats) {
  const std::uint64_t k = std::min(checkpoints, repeats);
  const std::uint64_t n = std::uint64_t{checkpoints} + repeats;
  std::uint64_t value = 1;
  for (std::uint64_t i = 1; i <= k; ++i) {
    // C(n-k+i, i) is an integer at every i; the product before the division must not overflow.
    const std::uint64_t factor = n - k + i;
    if (value > kManySteps / factor) return kManySteps;
    value = value * factor / i;
  }
  return value;
}

std::uint64_t revolve_forward_steps(std::uint32_t length, std::uint32_t checkpoints) {
  const std::uint64_t l = length;
  if (length <= 1 || checkpoints == 0) return 0;
  if (checkpoints == 1) return l * (l - 1) / 2;
  std::uint32_t r = 1;
  while (revolve_reach(checkpoints, r) < l) ++r;
  return r * l - revolve_reach(checkpoints + 1, r - 1);
}

std::uint64_t revolve_forward_steps_by_table(std::uint32_t length, std::uint32_t checkpoints) {
  if (length <= 1 || checkpoints == 0) return 0;
  std::vector<std::uint64_t> fewer(length + 1, 0);  // P(., c - 1)
  std::vector<std::uint64_t> steps(length + 1, 0);
  for (std::uint64_t l = 1; l <= length; ++l) fewer[l] = l * (l - 1) / 2;
  for (std::uint32_t c = 2; c <= checkpoints; ++c) {
    for (std::uint32_t l = 2; l <= length; ++l) {
      std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
      for (std::uint32_t m = 1; m < l; ++m) best = std::min(best, m + fewer[l - m] + steps[m]);
      steps[l] = best;
    }
    std::swap(fewer, steps);
  }
  return fewer[length];
}

ChainSchedule revolve_schedule(std::uint32_t length, std::uint32_t checkpoints) {
  struct Task {
    std::uint32_t begin, end, checkpoints;
    bool restore;  // from a checkpoint; otherwise the input is at hand
  };
  ChainSchedule schedule;
  if (length == 0) return schedule;
  std::vector<Task> tasks = {{0, length, std::max(checkpoints, 1u), false}};
  while (!tasks.empty()) {
    const Task task = tasks.back();
    tasks.pop_back();
    if (task.restore) schedule.push_back({ChainStepKind::kRestore, task.begin});
    if (task.end - task.begin == 1) {
      schedule.push_back({ChainStepKind::kForwardAll, task.begin});
      schedule.push_back({ChainStepKind::kBackward, task.begin});
      continue;
    }
    const std::uint32_t split = task.begin + best_split(task.end - task.begin, task.checkpoints);
    schedule.push_back({ChainStepKind::kForwardKeep, task.begin});
    for (std::uint32_t s = task.begin + 1; s < split; ++s)
      schedule.push_back({ChainStepKind::kForwardDrop, s});
    tasks.push_back({task.begin, split, task.checkpoints, true});
    tasks.push_back({split, task.end, task.checkpoints - 1, false});
  }
  return schedule;
}

}  // namespace spillway
