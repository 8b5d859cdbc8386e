// SPDX-License-Identifier: Apache-2.0
// Rotor: the fastest persistent schedule of a heterogeneous chain inside a memory, by dynamic
// programming over (first stage, last stage, free memory) (Beaumont, Eyraud-Dubois, Herrmann, Joly,
// Shilova 2019, arXiv 1911.13214). Persistent: a checkpoint stays until its backward; without that
// the problem is NP-hard, so optimal here means optimal among persistent schedules.
#pragma once

#include "policy/chain/schedule.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace spillway {

/// C(s, t, m) for every sub-chain and every memory of 0..slots slots, O(L^2 slots) doubles, found
/// in O(L^3 slots). A loss stage without cost is appended, as in the reference.
class RotorTable {
 public:
  /// Sizes are rounded up to whole slots, so that what fits here fits in bytes.
  /// REQUIRES: chain.consistent(), slot_bytes > 0.
  RotorTable(const Chain& chain, std::uint64_t slot_bytes, std::uint32_t slots);

  [[nodiscard]] std::uint32_t slots() const { return slots_; }
  [[nodiscard]] std::uint64_t slot_bytes() const { return slot_bytes_; }

  /// Least time of the whole chain with `memory_slots` beside its input; none when nothing fits.
  [[nodiscard]] std::optional<std::int64_t> time_ns(std::uint32_t memory_slots) const;
  /// The same for stages first..last, both included.
  [[nodiscard]] std::optional<std::int64_t> time_ns(std::uint32_t first,
                                                    std::uint32_t last,
                                                    std::uint32_t memory_slots) const;

  /// A schedule that takes time_ns(memory_slots); empty when there is none.
  [[nodiscard]] ChainSchedule schedule(std::uint32_t memory_slots) const;
  [[nodiscard]] ChainSchedule schedule(std::uint32_t first,
                                       std::uint32_t last,
                                       std::uint32_t memory_slots) const;

  /// Bytes of the table for a chain of `length` stages.
  static std::uint64_t table_bytes(std::size_t length, std::uint32_t slots);

 private:
  [[nodiscard]] std::size_t row(std::size_t first, std::size_t last) const;
  [[nodiscard]] const double* at(std::size_t first, std::size_t last) const {
    return &cost_[row(first, last) * (slots_ + std::size_t{1})];
  }
  void fill_leaf(std::size_t stage);
  void fill(std::size_t first, std::size_t last);
  /// Slots below which neither branch is allowed.
  [[nodiscard]] std::uint64_t guard_slots(std::size_t first, std::size_t last) const;
  [[nodiscard]] std::uint64_t save_all_slots(std::size_t stage) const;

  std::size_t stages_;  // the loss included
  std::uint64_t slot_bytes_;
  std::uint32_t slots_;
  std::vector<double> forward_, leaf_, backward_, forward_sum_;                // ns; prefix sums
  std::vector<std::uint64_t> input_, saved_, forward_extra_, backward_extra_;  // slots
  std::vector<double> cost_;  // ns; exact, as sums stay below 2^53; infinity: does not fit
};

}  // namespace spillway
