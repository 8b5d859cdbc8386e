// SPDX-License-Identifier: Apache-2.0
// The textbook: one arena without an upper end, in units of 512 bytes, best fit or first fit with
// address-ordered ties, neighbours merged at once. What it holds is its high-water mark. A
// yardstick for the pool, not a product: no streams, no driver.
#pragma once

#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace spillway {

class FitModel final : public AllocatorUnderTest {
 public:
  enum class Fit : std::uint8_t { kBest, kFirst };

  /// `budget_bytes` 0: no limit.
  FitModel(Fit fit, std::uint64_t budget_bytes) : fit_(fit), budget_bytes_(budget_bytes) {}

  [[nodiscard]] std::string_view name() const override {
    return fit_ == Fit::kBest ? "best-fit" : "first-fit";
  }
  Result<std::uint64_t> allocate(const AllocationTrace& trace, std::uint32_t block) override;
  Status release(const AllocationTrace& trace,
                 std::uint32_t block,
                 std::uint64_t address,
                 std::uint32_t stream) override;
  [[nodiscard]] std::uint64_t reserved_bytes() const override { return top_; }
  [[nodiscard]] std::uint64_t largest_hole_bytes() const override {
    return by_size_.empty() ? 0 : by_size_.rbegin()->first;
  }
  [[nodiscard]] std::vector<ReservedRange> reserved_ranges() const override;

 private:
  void insert_hole(std::uint64_t address, std::uint64_t bytes);
  void erase_hole(std::map<std::uint64_t, std::uint64_t>::iterator hole);

  Fit fit_;
  std::uint64_t budget_bytes_;
  std::uint64_t top_ = 0;                                      // high-water mark
  std::map<std::uint64_t, std::uint64_t> holes_;               // address -> bytes; never adjacent
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;  // the same as (bytes, address)
};

}  // namespace spillway
