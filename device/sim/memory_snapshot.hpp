// SPDX-License-Identifier: Apache-2.0
// Bytes of flat ranges put aside, for proving what a kernel declares: flip the bytes it does not
// read, run it, compare what it does not write, put everything back. Nothing without contents.
#pragma once

#include "device/sim/memory.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway::sim {

class MemorySnapshot {
 public:
  /// Copies the ranges as they are now. `memory` must outlive this; the ranges must lie in
  /// simulated memory (not in registered host memory).
  MemorySnapshot(const Memory& memory, std::vector<ByteRange> flat_ranges);

  [[nodiscard]] const std::vector<ByteRange>& ranges() const { return ranges_; }
  /// The copy of range `index`; nullptr without contents.
  [[nodiscard]] const std::byte* bytes(std::size_t index) const {
    return bytes_.empty() ? nullptr : bytes_.data() + begins_[index];
  }

  /// Memory back to the copy.
  void restore() const;
  /// Memory to the complement of the copy.
  void flip() const;
  /// The first flat offset where memory differs from the copy (or, if `flipped`, from its
  /// complement); kSame when none does.
  static constexpr std::uint64_t kSame = ~std::uint64_t{0};
  [[nodiscard]] std::uint64_t first_difference(bool flipped = false) const;

 private:
  const Memory* memory_;
  std::vector<ByteRange> ranges_;
  std::vector<std::size_t> begins_;  // of each range in bytes_
  std::vector<std::byte> bytes_;
};

}  // namespace spillway::sim
