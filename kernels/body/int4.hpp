// SPDX-License-Identifier: Apache-2.0
// int4: 16 levels on a power-of-two grid around an integer zero point, (code + zero) * 2^(e - 127),
// so that every decoded value is exact; stochastic rounding with 16 random bits a value, so that
// the expected value is the value. Philox keyed by tensor, counted by step and index.
#pragma once

#include "kernels/body/lanes.hpp"
#include "kernels/body/philox.hpp"
#include "kernels/body/scaled8.hpp"
#include "kernels/body/values.hpp"

namespace spillway::SPW_BODY {

/// What the random bits of a tensor follow from.
struct RandomKey {
  uint64_t tensor = 0;
  uint64_t step = 0;
};

struct Int4Group {
  uint32_t exponent = 0;
  int zero = 0;  // -64 to 63
};

template <typename Value>
struct Int4 {
  using Word = typename Value::Word;
  static constexpr uint32_t kLevels = 16;
  // Codes of a flagged group: 0 to 12 are -6 to 6.
  static constexpr uint32_t kMinusInfinity = 13;
  static constexpr uint32_t kPlusInfinity = 14;
  static constexpr uint32_t kNan = 15;

  /// `in`: this lane's values, the first of which has the index `first` in the tensor (a multiple
  /// of 8). Two codes a byte, the earlier one low.
  template <typename Lanes>
  SPW_HD static Int4Group encode(const Lanes& lanes,
                                 const Word* SPW_RESTRICT in,
                                 uint64_t first,
                                 const RandomKey& key,
                                 uint8_t* SPW_RESTRICT codes) {
    using Signed = typename Value::Signed;
    Signed highest = ordered(in[0]);
    Signed lowest = highest;
    for (uint32_t i = 1; i < Lanes::kValues; ++i) {
      highest = larger(highest, ordered(in[i]));
      lowest = smaller(lowest, ordered(in[i]));
    }
    // All lanes agree before any branch. They agree on a maximum of unsigned numbers; the
    // complement makes one of a minimum.
    constexpr uint32_t kMiddle = Value::kSign;
    const uint32_t max = lanes.group_max(largest_magnitude<Value, Lanes>(in));
    const uint32_t high_rank = lanes.group_max(static_cast<uint32_t>(highest) + kMiddle);
    const uint32_t low_rank = ~lanes.group_max(~(static_cast<uint32_t>(lowest) + kMiddle));
    if (max >= Value::kInfinity) {
      for (uint32_t i = 0; i < Lanes::kValues / 2; ++i)
        codes[i] = static_cast<uint8_t>(flagged_code(in[2 * i]) | flagged_code(in[2 * i + 1]) << 4);
      return {kFlaggedGroup, 0};
    }
    const Int4Group group = scale_for(float_of(Value::to_float(from_order(low_rank - kMiddle))),
                                      float_of(Value::to_float(from_order(high_rank - kMiddle))),
                                      Value::to_float(max));
    const float inverse = power_of_two(254 - group.exponent);
    uint32_t random[Lanes::kValues / 2];
    philox_calls<Lanes::kValues / 8>(first / 8, key.step, key.tensor, random);
    for (uint32_t i = 0; i < Lanes::kValues / 2; ++i) {
      const float even = float_of(Value::to_float(in[2 * i])) * inverse;
      const float odd = float_of(Value::to_float(in[2 * i + 1])) * inverse;
      codes[i] = static_cast<uint8_t>(round(even, group.zero, random[i] & 0xffff) |
                                      round(odd, group.zero, random[i] >> 16) << 4);
    }
    return group;
  }

  template <typename Lanes>
  SPW_HD static void decode(const Lanes&,
                            const Int4Group& group,
                            const uint8_t* SPW_RESTRICT codes,
                            Word* SPW_RESTRICT out) {
    uint8_t code[Lanes::kValues];
    unpack_nibbles<Lanes::kValues>(codes, code);
    if (group.exponent == kFlaggedGroup) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) out[i] = flagged_value(code[i]);
      return;
    }
    const float scale = power_of_two(group.exponent);
    for (uint32_t i = 0; i < Lanes::kValues; ++i)
      out[i] = finite_value(static_cast<int>(code[i]) + group.zero, scale);
  }

  /// floor(value + random / 2^16) - zero, value taken to the nearest 2^-16; |value| <= 63.
  /// Sums to value * 2^16 over all 2^16 random numbers.
  SPW_HD static uint32_t round(float value, int zero, uint32_t random) {
    // Adding 1.5 * 2^23 leaves an integer in the low bits.
    const int fixed =
        static_cast<int>(bits_of(value * 65536.0f + 12582912.0f) - bits_of(12582912.0f));
    const int code = ((fixed + static_cast<int>(random)) >> 16) - zero;
    return static_cast<uint32_t>(smaller(larger(code, 0), static_cast<int>(kLevels) - 1));
  }

  /// Finest grid of which 16 levels span [low, high] with |value| <= 63 steps.
  SPW_HD static Int4Group scale_for(float low, float high, uint32_t max_bits) {
    // Halves: the range itself may not be finite. 7.5 = 1.875 * 2^2, 63 = 1.96875 * 2^5.
    const uint32_t half_range = bits_of(high * 0.5f - low * 0.5f);
    uint32_t exponent =
        larger(scale_exponent<2, 0x700000>(half_range), scale_exponent<5, 0x7c0000>(max_bits));
    // The ends may lie between levels: then one level more is needed, and the next grid has it.
    Int4Group group = zero_point(low, exponent);
    if (top_level(high, exponent) - group.zero >= static_cast<int>(kLevels))
      group = zero_point(low, exponent + 1);
    return group;
  }

 private:
  /// Numbers in the order of the values, and back; the low bits as wide as the values count.
  SPW_HD static typename Value::Signed ordered(Word raw) {
    const auto bits = static_cast<typename Value::Signed>(raw);
    const auto negative = static_cast<typename Value::Signed>(bits >> (8 * sizeof(Word) - 1));
    return static_cast<typename Value::Signed>(
        bits ^ (negative & static_cast<typename Value::Signed>(Value::kMagnitude)));
  }
  SPW_HD static uint32_t from_order(uint32_t order) {
    return static_cast<Word>(ordered(static_cast<Word>(order)));
  }

  /// floor and ceil of |value| < 2^22, without the library's.
  SPW_HD static int floor_of(float value) {
    const int whole = static_cast<int>(value);
    return whole - (static_cast<float>(whole) > value ? 1 : 0);
  }
  SPW_HD static Int4Group zero_point(float low, uint32_t exponent) {
    return {exponent, floor_of(low * power_of_two(254 - exponent))};
  }
  SPW_HD static int top_level(float high, uint32_t exponent) {
    return -floor_of(-high * power_of_two(254 - exponent));
  }

  SPW_HD static uint8_t flagged_code(uint32_t raw) {
    const uint32_t magnitude = raw & Value::kMagnitude;
    if (magnitude > Value::kInfinity) return kNan;
    const bool negative = (raw & Value::kSign) != 0;
    if (magnitude == Value::kInfinity)
      return static_cast<uint8_t>(negative ? kMinusInfinity : kPlusInfinity);
    const float value = smaller(float_of(Value::to_float(magnitude)), 6.0f);
    const int nearest = static_cast<int>(bits_of(value + 12582912.0f) - bits_of(12582912.0f));
    return static_cast<uint8_t>(6 + (negative ? -nearest : nearest));
  }

  SPW_HD static Word flagged_value(uint32_t code) {
    if (code == kNan) return static_cast<Word>(Value::kNan);
    if (code >= kMinusInfinity)
      return static_cast<Word>(Value::kInfinity | (code == kMinusInfinity ? Value::kSign : 0));
    return finite_value(static_cast<int>(code) - 6, 1.0f);
  }

  SPW_HD static Word finite_value(int steps, float scale) {
    const uint32_t bits = bits_of(static_cast<float>(steps) * scale);
    const uint32_t magnitude = smaller<uint32_t>(bits & 0x7fffffff, Value::kMaxFiniteAsFloat);
    return static_cast<Word>(Value::from_float(magnitude | (bits & 0x80000000)));
  }
};

}  // namespace spillway::SPW_BODY
