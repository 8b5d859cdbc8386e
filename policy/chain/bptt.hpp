// SPDX-License-Identifier: Apache-2.0
// Backpropagation through time in a fixed memory (Gruslys, Munos, Danihelka, Lanctot, Graves 2016,
// arXiv 1606.03401): a sequence of t equal steps, memory for m hidden states. What is stored at a
// step is its hidden state (1 slot, the step runs again before its backward) or its internal state
// (alpha slots, it does not).
#pragma once

#include "policy/chain/schedule.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

enum class BpttStates : std::uint8_t {
  kHidden,    // BPTT-HSM
  kInternal,  // BPTT-ISM: m counts internal states
  kMixed,     // BPTT-MSM: m counts hidden states
};

/// C(t, m): least forward steps, those in "save all" mode included, of a sequence of t steps with m
/// slots. m counts the sequence's own first state, so that m = 1 stores nothing:
///   C(0, m) = 0, C(t, 1) = t (t + 1) / 2
///   hidden:   C(t, m) = min over 1 <= y < t of  y + C(t - y, m - 1) + C(y, m)
///   internal: C(t, m) = min over 1 <= y <= t of y + C(t - y, m - 1) + C(y - 1, m)
///   mixed:    the smaller of hidden's and y + C(t - y, m - alpha) + C(y - 1, m), m > alpha
class BpttTable {
 public:
  /// O(steps^2 slots) time, O(steps slots) memory. `alpha`: slots of an internal state, at least 1;
  /// only kMixed looks at it.
  BpttTable(BpttStates states, std::uint32_t steps, std::uint32_t slots, std::uint32_t alpha);

  [[nodiscard]] std::uint64_t forward_steps(std::uint32_t steps, std::uint32_t slots) const;
  /// A schedule of all steps that takes forward_steps(steps, slots). 1 <= slots.
  [[nodiscard]] ChainSchedule schedule(std::uint32_t slots) const;

 private:
  struct Split {
    std::uint32_t at = 0;  // y; 0: nothing to split
    bool internal = false;
  };
  [[nodiscard]] std::size_t index(std::uint32_t steps, std::uint32_t slots) const {
    return std::size_t{slots} * (steps_ + std::size_t{1}) + steps;
  }
  Split best_split(std::uint32_t steps, std::uint32_t slots, std::uint64_t* cost) const;
  [[nodiscard]] std::uint32_t internal_slots() const {
    return states_ == BpttStates::kMixed ? alpha_ : 1;
  }

  BpttStates states_;
  std::uint32_t steps_;
  std::uint32_t slots_;
  std::uint32_t alpha_;
  std::vector<std::uint64_t> cost_;
};

}  // namespace spillway
