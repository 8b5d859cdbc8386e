// SPDX-License-Identifier: Apache-2.0
// Free blocks by size: two-level segregated lists (TLSF: Masmano et al., ECRTS 2004) with 32 bins
// per power of two and sizes up to 2 TiB, each bin sorted by (size, address). The search is best
// fit with the lowest address among equals; bins longer than kScanBlocks give a good fit instead,
// so that every operation is O(1).
#pragma once

#include "allocator/block.hpp"

#include <array>
#include <bit>
#include <cstdint>

namespace spillway {

/// Bin of a size: sizes below 32 quanta have one each, above it 32 bins per power of two.
constexpr std::uint32_t size_class(Quanta quanta) {
  if (quanta < 32) return quanta;
  const auto log2 = static_cast<std::uint32_t>(std::bit_width(quanta)) - 1;
  return (log2 - 4) * 32 + ((quanta >> (log2 - 5)) & 31);
}
inline constexpr std::uint32_t kSizeClasses = size_class(0xffffffffu) + 1;

/// INVARIANT: a block is in the bin of its size class iff it was inserted and not erased; a bin's
/// bit is set iff the bin is not empty. Threads: none; the pool's lock.
class FreeIndex {
 public:
  /// How many blocks of a bin are looked at before good is good enough.
  static constexpr std::uint32_t kScanBlocks = 16;

  void insert(BlockTable& blocks, BlockIndex index);
  void erase(BlockTable& blocks, BlockIndex index);

  /// The smallest block of at least `quanta`, the lowest address among those; none if there is
  /// none. REQUIRES: quanta > 0.
  [[nodiscard]] BlockIndex find(const BlockTable& blocks, Quanta quanta) const;

  [[nodiscard]] bool empty() const { return rows_ == 0; }
  [[nodiscard]] std::uint64_t quanta() const { return quanta_; }
  [[nodiscard]] std::uint32_t count() const { return count_; }
  /// Some block of the largest bin; none when empty.
  [[nodiscard]] BlockIndex any_large() const;
  /// First block of a bin, for walks over all.
  [[nodiscard]] BlockIndex head(std::uint32_t bin) const { return heads_[bin]; }

 private:
  static constexpr std::uint32_t kRows = (kSizeClasses + 31) / 32;
  static_assert(kRows <= 32);

  [[nodiscard]] BlockIndex head_from(std::uint32_t bin) const;

  std::uint32_t rows_ = 0;  // bit r: bits_[r] != 0
  std::uint32_t count_ = 0;
  std::uint64_t quanta_ = 0;
  std::array<std::uint32_t, kRows> bits_{};
  std::array<BlockIndex, kSizeClasses> heads_{};
};

}  // namespace spillway
