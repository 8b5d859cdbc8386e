// SPDX-License-Identifier: Apache-2.0
// mask1 (one bit a value) and sparse (one bit a value, and the values whose bits are not all zero).
// Bit b of byte j stands for value 8 j + b.
#pragma once

#include "kernels/body/lanes.hpp"
#include "kernels/body/values.hpp"

namespace spillway::SPW_BODY {

/// Bytes that are 0 or 1; others do not fit.
struct Boolean {
  using Word = uint8_t;
  static constexpr Word kOne = 1;
  SPW_HD static bool bit(Word raw) { return raw != 0; }
  SPW_HD static bool fits(Word raw) { return raw <= 1; }
};

/// 1 where x > 0: all that the backward of a ReLU reads. Comes back as 1 and +0.
template <typename Value>
struct Positive {
  using Word = typename Value::Word;
  static constexpr Word kOne = sizeof(Word) == 4                     ? 0x3f800000
                               : Value::kInfinity == Bf16::kInfinity ? 0x3f80
                                                                     : 0x3c00;
  SPW_HD static bool bit(Word raw) { return raw != 0 && raw <= Value::kInfinity; }
  SPW_HD static bool fits(Word) { return true; }
};

/// Exact bit patterns: -0 is not zero.
template <typename WordType>
struct NonZero {
  using Word = WordType;
  SPW_HD static bool bit(Word raw) { return raw != 0; }
};

/// A byte for each 8 values of this lane.
template <typename Rule, typename Lanes>
SPW_HD void encode_bits(const Lanes&,
                        const typename Rule::Word* SPW_RESTRICT in,
                        uint8_t* SPW_RESTRICT bits) {
  uint8_t is_set[Lanes::kValues];
  for (uint32_t i = 0; i < Lanes::kValues; ++i) is_set[i] = Rule::bit(in[i]) ? 1 : 0;
  for (uint32_t i = 0; i < Lanes::kValues / 8; ++i) {
    // Byte b of the word is 0 or 1; the product has it as bit 56 + b, and no carries.
    uint64_t word;
    __builtin_memcpy(&word, is_set + 8 * i, 8);
    bits[i] = static_cast<uint8_t>(word * 0x0102040810204080u >> 56);
  }
}

/// The inverse: a byte for each bit, 0 where it is 0.
template <uint32_t kValues>
SPW_HD void spread_bits(const uint8_t* SPW_RESTRICT bits, uint8_t* SPW_RESTRICT is_set) {
  for (uint32_t i = 0; i < kValues / 8; ++i) {
    const uint64_t word = bits[i] * 0x0101010101010101u & 0x8040201008040201u;
    __builtin_memcpy(is_set + 8 * i, &word, 8);
  }
}

template <typename Rule, typename Lanes>
SPW_HD bool all_fit(const Lanes&, const typename Rule::Word* SPW_RESTRICT in) {
  uint32_t bad = 0;
  for (uint32_t i = 0; i < Lanes::kValues; ++i) bad |= Rule::fits(in[i]) ? 0u : 1u;
  return bad == 0;
}

template <typename Rule, typename Lanes>
SPW_HD void decode_bits(const Lanes&,
                        const uint8_t* SPW_RESTRICT bits,
                        typename Rule::Word* SPW_RESTRICT out) {
  using Word = typename Rule::Word;
  uint8_t is_set[Lanes::kValues];
  spread_bits<Lanes::kValues>(bits, is_set);
  for (uint32_t i = 0; i < Lanes::kValues; ++i)
    out[i] = static_cast<Word>(is_set[i] != 0 ? Rule::kOne : 0);
}

/// Appends this step's non-zero values to the tile's `packed`, of which `count` are taken; values
/// past `capacity` are dropped, the returned count tells.
template <typename Word, typename Lanes>
SPW_HD uint32_t pack_values(const Lanes& lanes,
                            const Word* SPW_RESTRICT in,
                            uint32_t count,
                            uint32_t capacity,
                            Word* SPW_RESTRICT packed) {
  uint32_t mine = 0;
  for (uint32_t i = 0; i < Lanes::kValues; ++i) mine += in[i] != 0 ? 1u : 0u;
  uint32_t total = 0;
  uint32_t slot = count + lanes.exclusive_sum(mine, &total);
  if constexpr (Lanes::kValues == Lanes::kStepValues) {
    // A lane that is alone may write past its count: what comes next overwrites it. No branch on
    // the values, which no processor predicts.
    if (slot + Lanes::kValues <= capacity) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) {
        packed[slot] = in[i];
        slot += in[i] != 0 ? 1u : 0u;
      }
      return slot;
    }
  }
  for (uint32_t i = 0; i < Lanes::kValues; ++i) {
    if (in[i] == 0) continue;
    if (slot < capacity) packed[slot] = in[i];
    ++slot;
  }
  return count + total;
}

/// The inverse; a mask that asks for more than `capacity` gives zeros from there on.
template <typename Word, typename Lanes>
SPW_HD uint32_t unpack_values(const Lanes& lanes,
                              const uint8_t* SPW_RESTRICT bits,
                              uint32_t count,
                              uint32_t capacity,
                              const Word* SPW_RESTRICT packed,
                              Word* SPW_RESTRICT out) {
  uint32_t mine = 0;
  for (uint32_t i = 0; i < Lanes::kValues / 8; ++i) mine += count_ones(bits[i]);
  uint32_t total = 0;
  uint32_t slot = count + lanes.exclusive_sum(mine, &total);
  // Far enough from the end every read is sound, needed or not, and there is nothing to branch on.
  if (slot + Lanes::kValues <= capacity) {
    for (uint32_t i = 0; i < Lanes::kValues / 8; ++i) {
      for (uint32_t b = 0; b < 8; ++b) {
        const uint32_t set = bits[i] >> b & 1;
        out[8 * i + b] = static_cast<Word>(packed[slot] & (0u - set));
        slot += set;
      }
    }
    return count + total;
  }
  for (uint32_t i = 0; i < Lanes::kValues; ++i) {
    const bool set = (bits[i / 8] >> (i % 8) & 1) != 0;
    out[i] = set && slot < capacity ? packed[slot] : static_cast<Word>(0);
    slot += set ? 1u : 0u;
  }
  return count + total;
}

}  // namespace spillway::SPW_BODY
