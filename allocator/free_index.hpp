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

// Inline: these are most of what an allocation does that finds no block of its size kept.
inline void FreeIndex::insert(BlockTable& blocks, BlockIndex index) {
  Block& block = blocks.at(index);
  const Quanta quanta = block.quanta.get();
  const std::uint32_t bin = size_class(quanta);
  BlockIndex before = kNoBlock;
  BlockIndex after = heads_[bin];
  for (std::uint32_t scanned = 0; after != kNoBlock && scanned < kScanBlocks; ++scanned) {
    const Block& other = blocks.at(after);
    const Quanta size = other.quanta.get();
    if (size > quanta || (size == quanta && other.begin.get() > block.begin.get())) break;
    before = after;
    after = other.link_next;
  }
  block.link_prev = before;
  block.link_next = after;
  if (after != kNoBlock) blocks.at(after).link_prev = index;
  if (before != kNoBlock) {
    blocks.at(before).link_next = index;
  } else {
    heads_[bin] = index;
    bits_[bin / 32] |= 1u << (bin % 32);
    rows_ |= 1u << (bin / 32);
  }
  quanta_ += quanta;
  ++count_;
}

inline void FreeIndex::erase(BlockTable& blocks, BlockIndex index) {
  Block& block = blocks.at(index);
  const BlockIndex before = block.link_prev;
  const BlockIndex after = block.link_next;
  if (after != kNoBlock) blocks.at(after).link_prev = before;
  if (before != kNoBlock) {
    blocks.at(before).link_next = after;
  } else {
    const std::uint32_t bin = size_class(block.quanta.get());
    heads_[bin] = after;
    if (after == kNoBlock) {
      bits_[bin / 32] &= ~(1u << (bin % 32));
      if (bits_[bin / 32] == 0) rows_ &= ~(1u << (bin / 32));
    }
  }
  block.link_next = kNoBlock;
  block.link_prev = kNoBlock;
  quanta_ -= block.quanta.get();
  --count_;
}

inline BlockIndex FreeIndex::head_from(std::uint32_t bin) const {
  if (bin >= kSizeClasses) return kNoBlock;
  const std::uint32_t row = bin / 32;
  const std::uint32_t bits = bits_[row] & (~0u << (bin % 32));
  if (bits != 0) return heads_[row * 32 + static_cast<std::uint32_t>(std::countr_zero(bits))];
  const std::uint32_t rows = row >= 31 ? 0 : rows_ & (~0u << (row + 1));
  if (rows == 0) return kNoBlock;
  const auto next = static_cast<std::uint32_t>(std::countr_zero(rows));
  return heads_[next * 32 + static_cast<std::uint32_t>(std::countr_zero(bits_[next]))];
}

inline BlockIndex FreeIndex::find(const BlockTable& blocks, Quanta quanta) const {
  const std::uint32_t bin = size_class(quanta);
  BlockIndex index = heads_[bin];
  for (std::uint32_t scanned = 0; index != kNoBlock && scanned < kScanBlocks; ++scanned) {
    const Block& block = blocks.at(index);
    if (block.quanta.get() >= quanta) return index;
    index = block.link_next;
  }
  return head_from(bin + 1);
}

}  // namespace spillway
