// SPDX-License-Identifier: Apache-2.0
// The recurrences of the header, filled by memory, then by length. Splits are found again when the
// schedule is built.
#include "policy/chain/bptt.hpp"

#include "core/check.hpp"

#include <algorithm>
#include <limits>

namespace spillway {

BpttTable::BpttTable(BpttStates states,
                     std::uint32_t steps,
                     std::uint32_t slots,
                     std::uint32_t alpha)
    : states_(states),
      steps_(steps),
      slots_(std::max(slots, 1u)),
      alpha_(std::max(alpha, 1u)),
      cost_((std::size_t{std::max(slots, 1u)} + 1) * (steps + std::size_t{1}), 0) {
  for (std::uint64_t t = 1; t <= steps_; ++t)
    cost_[index(static_cast<std::uint32_t>(t), 1)] = t * (t + 1) / 2;
  for (std::uint32_t m = 2; m <= slots_; ++m)
    for (std::uint32_t t = 1; t <= steps_; ++t) (void)best_split(t, m, &cost_[index(t, m)]);
}

std::uint64_t BpttTable::forward_steps(std::uint32_t steps, std::uint32_t slots) const {
  SPW_CHECK(steps <= steps_ && slots >= 1);
  return cost_[index(steps, std::min(slots, slots_))];
}

BpttTable::Split BpttTable::best_split(std::uint32_t t,
                                       std::uint32_t m,
                                       std::uint64_t* cost) const {
  Split split;
  if (t <= 1) {
    *cost = t;
    return split;
  }
  if (m == 1) {  // run up to the last step, over and over
    *cost = std::uint64_t{t} * (t + 1) / 2;
    split.at = t - 1;
    return split;
  }
  std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
  if (states_ != BpttStates::kInternal)
    for (std::uint32_t y = 1; y < t; ++y) {
      const std::uint64_t here = y + cost_[index(t - y, m - 1)] + cost_[index(y, m)];
      if (here < best) {
        best = here;
        split = {y, false};
      }
    }
  if (states_ != BpttStates::kHidden && m > internal_slots())
    for (std::uint32_t y = 1; y <= t; ++y) {
      const std::uint64_t here =
          y + cost_[index(t - y, m - internal_slots())] + cost_[index(y - 1, m)];
      if (here < best) {
        best = here;
        split = {y, true};
      }
    }
  *cost = best;
  return split;
}

ChainSchedule BpttTable::schedule(std::uint32_t slots) const {
  struct Task {
    enum Kind : std::uint8_t { kSolve, kRestoreAndSolve, kBackward } kind;
    std::uint32_t begin, end, slots;
  };
  ChainSchedule result;
  if (steps_ == 0) return result;
  std::vector<Task> tasks = {{Task::kSolve, 0, steps_, std::clamp(slots, 1u, slots_)}};
  while (!tasks.empty()) {
    const Task task = tasks.back();
    tasks.pop_back();
    if (task.kind == Task::kBackward) {
      result.push_back({ChainStepKind::kBackward, task.begin});
      continue;
    }
    if (task.kind == Task::kRestoreAndSolve) {
      result.push_back({ChainStepKind::kRestore, task.begin});
    }
    if (task.begin == task.end) continue;
    std::uint64_t cost = 0;
    Split split = best_split(task.end - task.begin, task.slots, &cost);
    if (split.at == 0) {  // one step
      result.push_back({ChainStepKind::kForwardAll, task.begin});
      result.push_back({ChainStepKind::kBackward, task.begin});
      continue;
    }
    const std::uint32_t at = task.begin + split.at;
    if (!split.internal) {
      result.push_back({ChainStepKind::kForwardKeep, task.begin});
      for (std::uint32_t s = task.begin + 1; s < at; ++s)
        result.push_back({ChainStepKind::kForwardDrop, s});
      tasks.push_back({Task::kRestoreAndSolve, task.begin, at, task.slots});
      // With one slot only the last step is left, whatever slots it is given.
      tasks.push_back({Task::kSolve, at, task.end, std::max(task.slots - 1, 1u)});
      continue;
    }
    for (std::uint32_t s = task.begin; s + 1 < at; ++s)
      result.push_back(
          {s == task.begin ? ChainStepKind::kForwardKeep : ChainStepKind::kForwardDrop, s});
    result.push_back({ChainStepKind::kForwardAll, at - 1});
    if (split.at > 1) tasks.push_back({Task::kRestoreAndSolve, task.begin, at - 1, task.slots});
    tasks.push_back({Task::kBackward, at - 1, at, 0});
    tasks.push_back({Task::kSolve, at, task.end, task.slots - internal_slots()});
  }
  return result;
}

}  // namespace spillway
