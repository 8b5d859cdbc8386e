// SPDX-License-Identifier: Apache-2.0
// Rows of the table are contiguous in memory, so that the inner loop over memory is a vector min.
// Choices are not stored: the rebuild looks for the branch that gives the stored time.
#include "policy/chain/rotor.hpp"

#include "core/check.hpp"

#include <algorithm>
#include <limits>

namespace spillway {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

std::uint64_t RotorTable::table_bytes(std::size_t length, std::uint32_t slots) {
  const std::uint64_t stages = length + 1;
  return stages * (stages + 1) / 2 * (std::uint64_t{slots} + 1) * sizeof(double);
}

RotorTable::RotorTable(const Chain& chain, std::uint64_t slot_bytes, std::uint32_t slots)
    : stages_(chain.length() + 1), slot_bytes_(slot_bytes), slots_(slots) {
  SPW_CHECK(chain.consistent());
  SPW_CHECK(slot_bytes > 0);
  const auto in_slots = [&](std::uint64_t bytes) {
    return bytes / slot_bytes + (bytes % slot_bytes != 0 ? 1 : 0);
  };
  const std::size_t n = chain.length();
  forward_sum_.push_back(0);
  for (std::size_t s = 0; s < stages_; ++s) {
    const bool loss = s == n;
    forward_.push_back(loss ? 0 : static_cast<double>(chain.forward_ns[s]));
    leaf_.push_back(loss || chain.forward_leaf_ns.empty()
                        ? forward_.back()
                        : static_cast<double>(chain.forward_leaf_ns[s]));
    backward_.push_back(loss ? 0 : static_cast<double>(chain.backward_ns[s]));
    forward_sum_.push_back(forward_sum_.back() + forward_.back());
    saved_.push_back(loss ? 0 : in_slots(chain.saved_bytes[s]));
    forward_extra_.push_back(loss ? 0 : in_slots(chain.forward_extra_bytes[s]));
    backward_extra_.push_back(loss ? 0 : in_slots(chain.backward_extra_bytes[s]));
    input_.push_back(in_slots(chain.input_bytes[s]));
  }
  input_.push_back(0);
  cost_.assign(stages_ * (stages_ + 1) / 2 * (slots_ + std::size_t{1}), kNever);
  for (std::size_t s = 0; s < stages_; ++s) fill_leaf(s);
  for (std::size_t width = 1; width < stages_; ++width)
    for (std::size_t first = 0; first + width < stages_; ++first) fill(first, first + width);
}

std::size_t RotorTable::row(std::size_t first, std::size_t last) const {
  return last * (last + 1) / 2 + first;
}

void RotorTable::fill_leaf(std::size_t s) {
  double* out = &cost_[row(s, s) * (slots_ + std::size_t{1})];
  const std::uint64_t need =
      input_[s] + saved_[s] + std::max(forward_extra_[s], backward_extra_[s]);
  for (std::uint64_t m = need; m <= slots_; ++m) out[m] = leaf_[s] + backward_[s];
}

std::uint64_t RotorTable::guard_slots(std::size_t first, std::size_t last) const {
  std::uint64_t need = input_[last + 1] + input_[first + 1] + forward_extra_[first];
  for (std::size_t j = first + 1; j < last; ++j)
    need = std::max(need, input_[last + 1] + input_[j] + input_[j + 1] + forward_extra_[j]);
  return need;
}

std::uint64_t RotorTable::save_all_slots(std::size_t s) const {
  return std::max({input_[s + 1] + saved_[s] + forward_extra_[s],
                   input_[s] + saved_[s] + backward_extra_[s],
                   saved_[s]});
}

void RotorTable::fill(std::size_t first, std::size_t last) {
  const std::uint64_t guard = guard_slots(first, last);
  if (guard > slots_) return;
  double* out = &cost_[row(first, last) * (slots_ + std::size_t{1})];
  for (std::size_t s = first + 1; s <= last; ++s) {
    const std::uint64_t begin = std::max(guard, input_[s]);
    if (begin > slots_) continue;
    const double forward = forward_sum_[s] - forward_sum_[first];
    const double* right = at(s, last) + (begin - input_[s]);
    const double* left = at(first, s - 1) + begin;
    double* here = out + begin;
    const std::size_t count = slots_ - begin + 1;
    for (std::size_t i = 0; i < count; ++i) {
      const double time = forward + right[i] + left[i];
      here[i] = time < here[i] ? time : here[i];
    }
  }
  const std::uint64_t begin = std::max(guard, save_all_slots(first));
  const double* rest = at(first + 1, last);
  for (std::uint64_t m = begin; m <= slots_; ++m)
    out[m] = std::min(out[m], forward_[first] + backward_[first] + rest[m - saved_[first]]);
}

std::optional<std::int64_t> RotorTable::time_ns(std::uint32_t first,
                                                std::uint32_t last,
                                                std::uint32_t memory_slots) const {
  SPW_CHECK(first <= last && last < stages_);
  const double time = at(first, last)[std::min(memory_slots, slots_)];
  if (time == kNever) return std::nullopt;
  return static_cast<std::int64_t>(time);
}

std::optional<std::int64_t> RotorTable::time_ns(std::uint32_t memory_slots) const {
  return time_ns(0, static_cast<std::uint32_t>(stages_ - 1), memory_slots);
}

ChainSchedule RotorTable::schedule(std::uint32_t memory_slots) const {
  return schedule(0, static_cast<std::uint32_t>(stages_ - 1), memory_slots);
}

ChainSchedule RotorTable::schedule(std::uint32_t first_stage,
                                   std::uint32_t last_stage,
                                   std::uint32_t memory_slots) const {
  struct Task {
    enum Kind : std::uint8_t { kSolve, kRestoreAndSolve, kBackward } kind;
    std::uint32_t first, last;
    std::uint64_t memory;
  };
  ChainSchedule result;
  if (!time_ns(first_stage, last_stage, memory_slots)) return result;
  const auto step = [&](ChainStepKind kind, std::uint32_t stage) {
    if (stage + 1 < stages_) result.push_back({kind, stage});
  };
  std::vector<Task> tasks = {
      {Task::kSolve, first_stage, last_stage, std::min(memory_slots, slots_)}};
  while (!tasks.empty()) {
    const Task task = tasks.back();
    tasks.pop_back();
    const std::uint32_t first = task.first;
    const std::uint32_t last = task.last;
    const std::uint64_t m = task.memory;
    if (task.kind == Task::kBackward) {
      step(ChainStepKind::kBackward, first);
      continue;
    }
    if (task.kind == Task::kRestoreAndSolve) step(ChainStepKind::kRestore, first);
    if (first == last) {
      step(ChainStepKind::kForwardAll, first);
      step(ChainStepKind::kBackward, first);
      continue;
    }
    const double time = at(first, last)[m];
    const bool save_all =
        m >= save_all_slots(first) &&
        forward_[first] + backward_[first] + at(first + 1, last)[m - saved_[first]] == time;
    if (save_all) {
      step(ChainStepKind::kForwardAll, first);
      tasks.push_back({Task::kBackward, first, first, 0});
      tasks.push_back({Task::kSolve, first + 1, last, m - saved_[first]});
      continue;
    }
    std::uint32_t split = first + 1;
    for (; split <= last; ++split) {
      if (m < input_[split]) continue;
      const double forward = forward_sum_[split] - forward_sum_[first];
      if (forward + at(split, last)[m - input_[split]] + at(first, split - 1)[m] == time) break;
    }
    SPW_CHECK(split <= last);
    step(ChainStepKind::kForwardKeep, first);
    for (std::uint32_t s = first + 1; s < split; ++s) step(ChainStepKind::kForwardDrop, s);
    tasks.push_back({Task::kRestoreAndSolve, first, split - 1, m});
    tasks.push_back({Task::kSolve, split, last, m - input_[split]});
  }
  return result;
}

}  // namespace spillway
