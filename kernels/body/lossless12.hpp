// SPDX-License-Identifier: Apache-2.0
// lossless12: sign and mantissa of bf16 as one byte, the exponent as a 4-bit distance below the
// largest of its group of 128. Distance 15 says exponent 0 (zero, subnormal) unless the tile's
// escape list holds the value's true exponent. fp32 stores its low 16 bits beside.
#pragma once

#include "kernels/body/lanes.hpp"

namespace spillway::SPW_BODY {

struct Lossless12 {
  static constexpr uint32_t kEscape = 15;
  static constexpr uint32_t kSlots = 8;
  static constexpr uint32_t kNoIndex = 0xffff;

  /// Exponents count from 255 (Inf, NaN) as the lowest: one Inf must not move the group's base.
  SPW_HD static uint32_t rank(uint32_t high) { return ((high >> 7) + 1) & 0xff; }

  /// Codes the upper halves `high` of this lane: a byte a value, two nibbles a byte. Returns the
  /// base byte; `*escaped`: whether this lane has a value for the escape list.
  template <typename Lanes>
  SPW_HD static uint32_t encode(const Lanes& lanes,
                                const uint16_t* SPW_RESTRICT high,
                                uint8_t* SPW_RESTRICT bytes,
                                uint8_t* SPW_RESTRICT nibbles,
                                bool* SPW_RESTRICT escaped) {
    uint32_t base = 0;
    for (uint32_t i = 0; i < Lanes::kValues; ++i) base = larger(base, rank(high[i]));
    base = lanes.group_max(base);
    uint32_t wide = 0;
    uint8_t distance[Lanes::kValues];
    for (uint32_t i = 0; i < Lanes::kValues; ++i) {
      bytes[i] = static_cast<uint8_t>((high[i] >> 8 & 0x80) | (high[i] & 0x7f));
      const uint32_t below = base - rank(high[i]);
      const bool zero = (high[i] & 0x7f80) == 0;
      wide |= !zero && below >= kEscape ? 1u : 0u;
      distance[i] = static_cast<uint8_t>(zero ? kEscape : smaller(below, kEscape));
    }
    for (uint32_t i = 0; i < Lanes::kValues / 2; ++i)
      nibbles[i] = static_cast<uint8_t>(distance[2 * i] | distance[2 * i + 1] << 4);
    *escaped = wide != 0;
    return base;
  }

  /// Appends this step's escapes to the tile's list in index order: `count` so far, on all lanes.
  /// `first`: index in the tile of this lane's first value. Those past the slots are dropped; the
  /// count tells.
  template <typename Lanes>
  SPW_HD static uint32_t append_escapes(const Lanes& lanes,
                                        const uint16_t* SPW_RESTRICT high,
                                        uint32_t base,
                                        uint32_t first,
                                        uint32_t count,
                                        uint16_t* SPW_RESTRICT indices,
                                        uint8_t* SPW_RESTRICT exponents) {
    uint32_t mine = 0;
    for (uint32_t i = 0; i < Lanes::kValues; ++i) mine += is_escape(high[i], base) ? 1u : 0u;
    uint32_t total = 0;
    uint32_t slot = count + lanes.exclusive_sum(mine, &total);
    for (uint32_t i = 0; i < Lanes::kValues; ++i) {
      if (!is_escape(high[i], base)) continue;
      if (slot < kSlots) {
        indices[slot] = static_cast<uint16_t>(first + i);
        exponents[slot] = static_cast<uint8_t>(high[i] >> 7);
      }
      ++slot;
    }
    return count + total;
  }

  /// The upper halves; values in the escape list come out with exponent 0.
  template <typename Lanes>
  SPW_HD static void decode(const Lanes&,
                            uint32_t base,
                            const uint8_t* SPW_RESTRICT bytes,
                            const uint8_t* SPW_RESTRICT nibbles,
                            uint16_t* SPW_RESTRICT high) {
    uint8_t distance[Lanes::kValues];
    for (uint32_t i = 0; i < Lanes::kValues / 2; ++i) {
      distance[2 * i] = nibbles[i] & 15;
      distance[2 * i + 1] = nibbles[i] >> 4;
    }
    for (uint32_t i = 0; i < Lanes::kValues; ++i) {
      const uint32_t exponent = distance[i] == kEscape ? 0u : (base - distance[i] - 1) & 0xff;
      high[i] = static_cast<uint16_t>((bytes[i] & 0x80u) << 8 | exponent << 7 | (bytes[i] & 0x7fu));
    }
  }

  /// A decoded upper half with the exponent that the escape list has for it.
  SPW_HD static uint16_t patch(uint16_t high, uint32_t exponent) {
    return static_cast<uint16_t>((high & 0x807f) | (exponent & 0xff) << 7);
  }

 private:
  SPW_HD static bool is_escape(uint32_t high, uint32_t base) {
    return (high & 0x7f80) != 0 && base - rank(high) >= kEscape;
  }
};

}  // namespace spillway::SPW_BODY
