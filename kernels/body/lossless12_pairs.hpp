// SPDX-License-Identifier: Apache-2.0
// lossless12 for lanes of 8 values, two 16-bit halves a word: each instruction works on both, so
// that a GPU has time for them at the speed of its memory. The bits are those of lossless12.hpp.
#pragma once

#include "kernels/body/lossless12.hpp"

namespace spillway::SPW_BODY {

struct Lossless12Pairs {
  static constexpr uint32_t kOnes = 0x00010001;

  /// `upper`: the upper halves of this lane's 8 values. Bytes, nibbles, base and `*escaped` as
  /// Lossless12::encode() has them.
  template <typename Lanes>
  SPW_HD static uint32_t encode(const Lanes& lanes,
                                const uint32_t* SPW_RESTRICT upper,
                                uint32_t* SPW_RESTRICT bytes,
                                uint32_t* SPW_RESTRICT nibbles,
                                bool* SPW_RESTRICT escaped) {
    uint32_t rank[4];
    // As one number, a word is ordered by its high half.
    uint32_t highest = 0;
    uint32_t highest_low = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      rank[i] = ((upper[i] >> 7 & 0xff * kOnes) + kOnes) & 0xff * kOnes;
      highest = larger(highest, rank[i]);
      highest_low = larger(highest_low, rank[i] << 16);
    }
    const uint32_t base = lanes.group_max(larger(highest, highest_low) >> 16);
    uint32_t wide = 0;
    uint32_t signs[4];
    uint32_t pair[4];
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t below = base * kOnes - rank[i];
      // Bit 8 of a half: the exponent is out of reach; it is not 0 (rank 1).
      const uint32_t is_far = below + (0x100 - Lossless12::kEscape) * kOnes;
      const uint32_t is_other = (rank[i] ^ kOnes) + 0xff * kOnes;
      wide |= is_far & is_other;
      const uint32_t no_distance = (is_far | ~is_other) >> 8 & kOnes;
      const uint32_t distance = (below | no_distance * Lossless12::kEscape) & 15 * kOnes;
      pair[i] = distance | distance >> 12;
      signs[i] = (upper[i] >> 8 & 0x80 * kOnes) | (upper[i] & 0x7f * kOnes);
    }
    *escaped = (wide & 0x100 * kOnes) != 0;
    bytes[0] = low_bytes(signs[0], signs[1]);
    bytes[1] = low_bytes(signs[2], signs[3]);
    *nibbles = (pair[0] & 0xff) | (pair[1] & 0xff) << 8 | (pair[2] & 0xff) << 16 | pair[3] << 24;
    return base;
  }

  /// As Lossless12::decode(), to two halves a word.
  SPW_HD static void decode(uint32_t base,
                            const uint32_t* SPW_RESTRICT bytes,
                            uint32_t nibbles,
                            uint32_t* SPW_RESTRICT upper) {
    const uint32_t top = ((base - 1) & 0xff) * kOnes + 0x100 * kOnes;  // no borrow between halves
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t byte = nibbles >> (8 * i);
      const uint32_t distance = (byte & 15) | (byte & 0xf0) << 12;
      const uint32_t is_none = (distance + kOnes) >> 4 & kOnes;
      const uint32_t exponent = (top - distance) & 0xff * kOnes & ~(is_none * 0xff);
      const uint32_t sign = halves_of(bytes[i / 2], i % 2);
      upper[i] = (sign << 8 & 0x8000 * kOnes) | (sign & 0x7f * kOnes) | exponent << 7;
    }
  }

 private:
  /// Bytes 0 and 2 of `a`, then of `b`.
  SPW_HD static uint32_t low_bytes(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, 0x6420);
#else
    return (a & 0xff) | (a >> 8 & 0xff00) | (b & 0xff) << 16 | (b << 8 & 0xff000000);
#endif
  }
  /// Two neighbouring bytes as halves: of bytes 0 and 1, or of 2 and 3.
  SPW_HD static uint32_t halves_of(uint32_t bytes, uint32_t second) {
#ifdef __CUDA_ARCH__
    return __byte_perm(bytes, 0, second == 0 ? 0x4140 : 0x4342);
#else
    const uint32_t two = bytes >> (16 * second);
    return (two & 0xff) | (two & 0xff00) << 8;
#endif
  }
};

}  // namespace spillway::SPW_BODY
