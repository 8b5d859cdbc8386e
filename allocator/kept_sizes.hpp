// SPDX-License-Identifier: Apache-2.0
// Blocks given back on a stream, whole, by size: the next allocation of exactly such a size takes
// one without searching, splitting and merging, which is what most allocations of a training step
// find: its sizes are few. How many are kept, and when they are merged, is a matter of memory
// (docs/allocator.md).
#pragma once

#include "allocator/block.hpp"

#include <array>
#include <bit>
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace spillway {

/// Sets of four sizes each, found by hashing; the blocks of a size are a list through link_next,
/// the newest first.
/// INVARIANT: a way's list is empty iff its size is 0; all blocks of a list have its size.
/// Threads: none; the pool's lock.
class KeptSizes {
 public:
  static constexpr std::uint32_t kBlocksMax = 32;

  /// The newest block of exactly `quanta`, which leaves; none if there is none.
  /// REQUIRES: quanta > 0.
  BlockIndex take(const BlockTable& blocks, Quanta quanta) {
    Set& set = sets_[home(quanta)];
    const std::uint32_t found = set.ways_of(quanta);
    if (found == 0) return kNoBlock;
    return pop(blocks, set, static_cast<std::uint32_t>(std::countr_zero(found)));
  }

  /// Enters a block. False: there is no room; after take_rival() there is.
  bool put(Block& block, BlockIndex index, Quanta quanta) {
    Set& set = sets_[home(quanta)];
    std::uint32_t found = set.ways_of(quanta);
    if (found == 0) found = set.ways_of(0);
    if (found == 0 || count_ == kBlocksMax) [[unlikely]]
      return false;
    const auto way = static_cast<std::uint32_t>(std::countr_zero(found));
    block.link_next = set.heads[way];
    set.quanta[way] = quanta;
    set.heads[way] = index;
    ++count_;
    return true;
  }

  /// A block in whose place one of `quanta` would be entered, which leaves. REQUIRES: put() said
  /// that there is no room. Call until it succeeds.
  BlockIndex take_rival(const BlockTable& blocks, Quanta quanta) {
    Set& set = sets_[home(quanta)];
    if (count_ == kBlocksMax || set.ways_of(0) != 0) return take_any(blocks);
    // A set of sizes all of which are others.
    return pop(blocks, set, quanta % kWays);
  }

  /// A block that leaves, of one size after another; none when there is none.
  BlockIndex take_any(const BlockTable& blocks) {
    if (count_ == 0) return kNoBlock;
    for (;; ++hand_) {
      Set& set = sets_[hand_ % kSets];
      const std::uint32_t used = ~set.ways_of(0) & ((1u << kWays) - 1);
      if (used == 0) continue;
      // From its last way on the next visit starts at the next set.
      const auto way = static_cast<std::uint32_t>(std::countr_zero(used));
      ++hand_;
      return pop(blocks, set, way);
    }
  }

  template <typename Body>
  void for_each(const BlockTable& blocks, Body body) const {
    for (const Set& set : sets_)
      for (std::uint32_t way = 0; way < kWays; ++way)
        for (BlockIndex i = set.heads[way]; i != kNoBlock; i = blocks.at(i).link_next)
          body(i, set.quanta[way]);
  }
  [[nodiscard]] std::uint32_t count() const { return count_; }

 private:
  static constexpr std::uint32_t kSetShift = 5;
  static constexpr std::uint32_t kSets = 1u << kSetShift;
  static constexpr std::uint32_t kWays = 4;

  struct alignas(32) Set {
    std::array<Quanta, kWays> quanta{};
    std::array<BlockIndex, kWays> heads{};

    // Bit i: way i is of this size (0: of none).
    [[nodiscard]] std::uint32_t ways_of(Quanta wanted) const {
#if defined(__SSE2__)
      const __m128i sizes = _mm_load_si128(reinterpret_cast<const __m128i*>(quanta.data()));
      const __m128i equal = _mm_cmpeq_epi32(sizes, _mm_set1_epi32(static_cast<int>(wanted)));
      return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(equal)));
#else
      std::uint32_t found = 0;
      for (std::uint32_t way = 0; way < kWays; ++way)
        found |= std::uint32_t{quanta[way] == wanted} << way;
      return found;
#endif
    }
  };

  // kSetShift bits of the product's upper half.
  static std::uint32_t home(Quanta quanta) { return (quanta * 0x9e3779b1u) >> (32 - kSetShift); }

  BlockIndex pop(const BlockTable& blocks, Set& set, std::uint32_t way) {
    const BlockIndex index = set.heads[way];
    const BlockIndex next = blocks.at(index).link_next;
    set.heads[way] = next;
    if (next == kNoBlock) set.quanta[way] = 0;
    --count_;
    return index;
  }

  std::array<Set, kSets> sets_{};
  std::uint32_t hand_ = 0;  // who leaves next
  std::uint32_t count_ = 0;
};

}  // namespace spillway
