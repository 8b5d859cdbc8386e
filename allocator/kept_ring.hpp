// SPDX-License-Identifier: Apache-2.0
// The blocks given back last on a stream, whole: the next allocation of exactly such a size takes
// one without searching, splitting and merging, which is what most allocations of a training step
// find. Few of them, so that what they keep apart is soon merged: eight cost no memory on recorded
// steps that remapping does not repair, thirty-two do (docs/allocator.md).
#pragma once

#include "allocator/block.hpp"

#include <array>
#include <bit>
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace spillway {

/// INVARIANT: a slot holds a block iff its size is not 0; count() of them do.
/// Threads: none; the pool's lock.
class KeptRing {
 public:
  static constexpr std::uint32_t kSlots = 8;

  /// A block of exactly `quanta`, which leaves; none if there is none. REQUIRES: quanta > 0.
  BlockIndex take(Quanta quanta) {
    const std::uint32_t found = slots_of(quanta);
    if (found == 0) return kNoBlock;
    const auto slot = static_cast<std::uint32_t>(std::countr_zero(found));
    quanta_[slot] = 0;
    hole_ = slot;
    --count_;
    return blocks_[slot];
  }

  /// Enters a block. Returns the one that has to leave for it, about the one that is in longest;
  /// none while there is room.
  BlockIndex put(BlockIndex index, Quanta quanta) {
    std::uint32_t slot = hole_;
    BlockIndex leaves = kNoBlock;
    if (quanta_[slot] != 0) {
      slot = hand_;
      if (count_ == kSlots) {
        leaves = blocks_[slot];
        --count_;
      } else {
        while (quanta_[slot] != 0) slot = (slot + 1) % kSlots;
      }
      hand_ = (slot + 1) % kSlots;
    }
    quanta_[slot] = quanta;
    blocks_[slot] = index;
    ++count_;
    return leaves;
  }

  /// Empties the ring; `body(index)` for each block that was in it.
  template <typename Body>
  void drain(Body body) {
    if (count_ == 0) return;
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      if (quanta_[slot] == 0) continue;
      quanta_[slot] = 0;
      body(blocks_[slot]);
    }
    count_ = 0;
  }
  template <typename Body>
  void for_each(Body body) const {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot)
      if (quanta_[slot] != 0) body(blocks_[slot], quanta_[slot]);
  }
  [[nodiscard]] std::uint32_t count() const { return count_; }

 private:
  // Bit i: slot i is of this size. Without branches, since the sizes that follow one another in a
  // step are never the same for long.
  [[nodiscard]] std::uint32_t slots_of(Quanta quanta) const {
#if defined(__SSE2__)
    static_assert(kSlots == 8);
    const __m128i wanted = _mm_set1_epi32(static_cast<int>(quanta));
    const auto* const sizes = reinterpret_cast<const __m128i*>(quanta_.data());
    const __m128i low = _mm_cmpeq_epi32(_mm_load_si128(sizes), wanted);
    const __m128i high = _mm_cmpeq_epi32(_mm_load_si128(sizes + 1), wanted);
    const __m128i both = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
    return static_cast<std::uint32_t>(_mm_movemask_epi8(both));
#else
    std::uint32_t found = 0;
    for (std::uint32_t slot = 0; slot < kSlots; ++slot)
      found |= std::uint32_t{quanta_[slot] == quanta} << slot;
    return found;
#endif
  }

  alignas(16) std::array<Quanta, kSlots> quanta_{};
  std::array<BlockIndex, kSlots> blocks_{};
  std::uint32_t hole_ = 0;  // emptied last
  std::uint32_t hand_ = 0;  // leaves next
  std::uint32_t count_ = 0;
};

}  // namespace spillway
