// SPDX-License-Identifier: Apache-2.0
// int8, fp8-e4m3 and fp8-e5m2: groups of 128 values share a power-of-two scale 2^(e - 127), rounded
// up so that nothing saturates; one byte a value. Multiplying by a power of two is exact, so the
// only rounding is that to the 8-bit grid. A group with NaN or Inf (e = 255) keeps them as such and
// its other values unscaled. Bounds and proofs: docs/codecs.md.
#pragma once

#include "kernels/body/lanes.hpp"
#include "kernels/body/values.hpp"

namespace spillway::SPW_BODY {

inline constexpr uint32_t kFlaggedGroup = 255;

/// Smallest e >= 1 with max <= top * 2^(e - 127), where top = 1.m * 2^kTopExponent and kTopMantissa
/// is m as fp32 bits. `max_bits`: finite fp32 magnitude. 0 gives 1.
template <uint32_t kTopExponent, uint32_t kTopMantissa>
SPW_HD uint32_t scale_exponent(uint32_t max_bits) {
  const uint32_t exponent = (max_bits >> 23) + ((max_bits & 0x7fffff) > kTopMantissa ? 1 : 0);
  return exponent > kTopExponent ? exponent - kTopExponent : 1;
}

struct Int8Grid {
  static constexpr uint32_t kTopExponent = 6;  // 127 = 1.984375 * 2^6
  static constexpr uint32_t kTopMantissa = 0x7e0000;
  // In flagged groups: codes of what is not finite.
  static constexpr uint32_t kPlusInfinity = 127;
  static constexpr uint32_t kMinusInfinity = 0x81;
  static constexpr uint32_t kNan = 0x80;
  static constexpr float kFlaggedTop = 126;

  /// |value| <= 127. Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits.
  SPW_HD static uint32_t round(float value) { return bits_of(value + 12582912.0f) & 0xff; }
  SPW_HD static float value(uint32_t code) {
    return static_cast<float>(static_cast<int>(static_cast<signed char>(code)));
  }
  SPW_HD static bool is_nan(uint32_t) { return false; }
};

/// OCP 8-bit floats: kMantissaBits, bias; round to nearest even.
template <uint32_t kMantissaBits, uint32_t kBias>
struct Fp8Grid {
  static constexpr uint32_t kShift = 23 - kMantissaBits;

  SPW_HD static uint32_t round(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t rounded =
        (magnitude + ((1u << (kShift - 1)) - 1) + (magnitude >> kShift & 1)) >> kShift;
    const uint32_t normal = rounded - ((127 - kBias) << kMantissaBits);
    // Below the normal numbers the unit is 2^(1 - bias - kMantissaBits), the last place of this:
    const float magic = power_of_two(127 + 23 + 1 - kBias - kMantissaBits);
    const uint32_t subnormal = bits_of(float_of(magnitude) + magic) - bits_of(magic);
    return (magnitude < ((128 - kBias) << 23) ? subnormal : normal) | (bits >> 24 & 0x80);
  }
  /// Any finite code.
  SPW_HD static float value(uint32_t code) {
    const float magnitude = float_of((code & 0x7f) << kShift) * power_of_two(127 + 127 - kBias);
    return float_of(bits_of(magnitude) | (code & 0x80) << 24);
  }
};

struct E4m3Grid : Fp8Grid<3, 7> {
  static constexpr uint32_t kTopExponent = 8;  // 448 = 1.75 * 2^8
  static constexpr uint32_t kTopMantissa = 0x600000;
  static constexpr uint32_t kPlusInfinity = 0x7e;
  static constexpr uint32_t kMinusInfinity = 0xfe;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr float kFlaggedTop = 416;
  SPW_HD static bool is_nan(uint32_t code) { return (code & 0x7f) == 0x7f; }
};

struct E5m2Grid : Fp8Grid<2, 15> {
  static constexpr uint32_t kTopExponent = 15;  // 57344 = 1.75 * 2^15
  static constexpr uint32_t kTopMantissa = 0x600000;
  static constexpr uint32_t kPlusInfinity = 0x7c;
  static constexpr uint32_t kMinusInfinity = 0xfc;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr float kFlaggedTop = 57344;
  SPW_HD static bool is_nan(uint32_t code) { return (code & 0x7f) >= 0x7c; }
};

template <typename Value, typename Grid>
struct Scaled8 {
  using Word = typename Value::Word;

  /// `in` and `codes`: this lane's values. Returns the group's scale byte, the same on all its
  /// lanes.
  template <typename Lanes>
  SPW_HD static uint32_t encode(const Lanes& lanes,
                                const Word* SPW_RESTRICT in,
                                uint8_t* SPW_RESTRICT codes) {
    uint32_t max = 0;
    for (uint32_t i = 0; i < Lanes::kValues; ++i)
      max = larger<uint32_t>(max, in[i] & Value::kMagnitude);
    max = lanes.group_max(max);
    if (max >= Value::kInfinity) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) codes[i] = flagged_code(in[i]);
      return kFlaggedGroup;
    }
    const uint32_t exponent =
        scale_exponent<Grid::kTopExponent, Grid::kTopMantissa>(Value::to_float(max));
    const float inverse = power_of_two(254 - exponent);
    for (uint32_t i = 0; i < Lanes::kValues; ++i)
      codes[i] = static_cast<uint8_t>(Grid::round(float_of(Value::to_float(in[i])) * inverse));
    return exponent;
  }

  /// Any bytes decode to something: codes and scale come from memory.
  template <typename Lanes>
  SPW_HD static void decode(const Lanes&,
                            uint32_t exponent,
                            const uint8_t* SPW_RESTRICT codes,
                            Word* SPW_RESTRICT out) {
    if (exponent == kFlaggedGroup) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) out[i] = flagged_value(codes[i]);
      return;
    }
    const float scale = power_of_two(exponent);
    for (uint32_t i = 0; i < Lanes::kValues; ++i) out[i] = finite_value(codes[i], scale);
  }

 private:
  /// Rounding up the largest values of a dtype would give Inf: the largest finite one stands in.
  SPW_HD static Word finite_value(uint32_t code, float scale) {
    const uint32_t bits = bits_of(Grid::value(code) * scale);
    const uint32_t magnitude = smaller<uint32_t>(bits & 0x7fffffff, Value::kMaxFiniteAsFloat);
    const uint32_t raw = Value::from_float(magnitude | (bits & 0x80000000));
    return static_cast<Word>(Grid::is_nan(code) ? Value::kNan : raw);
  }

  SPW_HD static uint8_t flagged_code(uint32_t raw) {
    const uint32_t magnitude = raw & Value::kMagnitude;
    if (magnitude > Value::kInfinity) return static_cast<uint8_t>(Grid::kNan);
    const bool negative = (raw & Value::kSign) != 0;
    if (magnitude == Value::kInfinity)
      return static_cast<uint8_t>(negative ? Grid::kMinusInfinity : Grid::kPlusInfinity);
    const float value = smaller(float_of(Value::to_float(magnitude)), Grid::kFlaggedTop);
    return static_cast<uint8_t>(Grid::round(negative ? -value : value));
  }

  SPW_HD static Word flagged_value(uint32_t code) {
    if (code == Grid::kPlusInfinity) return static_cast<Word>(Value::kInfinity);
    if (code == Grid::kMinusInfinity) return static_cast<Word>(Value::kInfinity | Value::kSign);
    if (code == Grid::kNan) return static_cast<Word>(Value::kNan);
    return finite_value(code, 1.0f);
  }
};

}  // namespace spillway::SPW_BODY
