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

  /// The base byte of a group.
  template <typename Lanes>
  SPW_HD static uint32_t base_of(const Lanes& lanes, const uint16_t* SPW_RESTRICT high) {
    // 16-bit numbers throughout: twice as many fit a register.
    int16_t highest = 0;
    for (uint32_t i = 0; i < Lanes::kValues; ++i) highest = larger(highest, short_rank(high[i]));
    return lanes.group_max(static_cast<uint32_t>(highest));
  }

  /// Codes the upper halves `high` of this lane: a byte a value, two nibbles a byte. Returns the
  /// base byte; `*escaped`: whether this lane has a value for the escape list.
  template <typename Lanes>
  SPW_HD static uint32_t encode(const Lanes& lanes,
                                const uint16_t* SPW_RESTRICT high,
                                uint8_t* SPW_RESTRICT bytes,
                                uint8_t* SPW_RESTRICT nibbles,
                                bool* SPW_RESTRICT escaped) {
    const uint32_t base = base_of(lanes, high);
    *escaped = encode_below<Lanes>(base, high, bytes, nibbles);
    return base;
  }

  /// The same for a base that is known; returns `escaped`. The loop holds no branch.
  template <typename Lanes>
  SPW_HD static bool encode_below(uint32_t base,
                                  const uint16_t* SPW_RESTRICT high,
                                  uint8_t* SPW_RESTRICT bytes,
                                  uint8_t* SPW_RESTRICT nibbles) {
    constexpr auto kFar = static_cast<int16_t>(kEscape);
    int16_t farthest = 0;
    uint8_t distance[Lanes::kValues];
    for (uint32_t i = 0; i < Lanes::kValues; ++i) {
      bytes[i] = static_cast<uint8_t>((high[i] >> 8 & 0x80) | (high[i] & 0x7f));
      const auto below = static_cast<int16_t>(static_cast<int16_t>(base) - short_rank(high[i]));
      const int16_t zero = is_zero(high[i]);
      farthest = larger(farthest, static_cast<int16_t>(below & ~zero));
      distance[i] = static_cast<uint8_t>(smaller(below, kFar) | (zero & kFar));
    }
    pack_nibbles<Lanes::kValues>(distance, nibbles);
    return farthest >= kFar;
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
    unpack_nibbles<Lanes::kValues>(nibbles, distance);
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
  SPW_HD static int16_t short_rank(uint16_t high) {
    return static_cast<int16_t>(static_cast<uint16_t>((high >> 7) + 1) & 0xff);
  }
  /// All bits where the exponent is 0.
  SPW_HD static int16_t is_zero(uint16_t high) {
    const auto exponent = static_cast<int16_t>(high & 0x7f80);
    return static_cast<int16_t>(static_cast<int16_t>(exponent - 1) >> 15);
  }
  SPW_HD static bool is_escape(uint32_t high, uint32_t base) {
    return (high & 0x7f80) != 0 && base - rank(high) >= kEscape;
  }
};

}  // namespace spillway::SPW_BODY
