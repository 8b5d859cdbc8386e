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
  static constexpr bool kPairs = false;
  static constexpr uint32_t kTopExponent = 6;  // 127 = 1.984375 * 2^6
  static constexpr uint32_t kTopMantissa = 0x7e0000;
  // In flagged groups: codes of what is not finite.
  static constexpr uint32_t kPlusInfinity = 127;
  static constexpr uint32_t kMinusInfinity = 0x81;
  static constexpr uint32_t kNan = 0x80;
  static constexpr float kFlaggedTop = 126;

  // Codes whose low 7 bits reach this are NaN also in groups without a flag: none.
  static constexpr uint32_t kFirstNan = 0x80;

  /// |raw| * inverse <= 127. Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low
  /// bits.
  template <typename Value>
  SPW_HD static uint8_t code(uint32_t raw, float inverse) {
    return static_cast<uint8_t>(bits_of(float_of(Value::to_float(raw)) * inverse + 12582912.0f));
  }
  /// Any code.
  SPW_HD static float value(uint32_t code) {
    return static_cast<float>(static_cast<int>(static_cast<signed char>(code)));
  }
  /// value(code) * scale, which Value can hold.
  template <typename Value>
  SPW_HD static uint32_t scaled(uint32_t code, float scale) {
    return Value::from_float(bits_of(value(code) * scale));
  }
};

/// OCP 8-bit floats: kMantissaBits, bias; round to nearest even.
template <uint32_t kMantissaBits, uint32_t kBias>
struct Fp8Grid {
  /// Lanes of few values convert two at a time: devices of compute 8.9 have instructions for it,
  /// with the same bits for every input that comes up here (finite, no larger than the top).
  static constexpr bool kPairs = true;

  /// code() of `low` in bits 0 to 7, that of `high` in bits 8 to 15.
  template <typename Value>
  SPW_HD static uint32_t code_pair(uint32_t low, uint32_t high, float inverse) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    const float a = float_of(Value::to_float(low)) * inverse;
    const float b = float_of(Value::to_float(high)) * inverse;
    uint16_t codes;
    if constexpr (kMantissaBits == 3)
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(b), "f"(a));
    else
      asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(b), "f"(a));
    return codes;
#else
    return code<Value>(low, inverse) | static_cast<uint32_t>(code<Value>(high, inverse)) << 8;
#endif
  }
  /// value() of two codes, none of them Inf or NaN.
  SPW_HD static void value_pair(uint32_t codes, float* low, float* high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint32_t halves;
    if constexpr (kMantissaBits == 3)
      asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(codes)));
    else
      asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(codes)));
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
        : "=f"(*low), "=f"(*high)
        : "r"(halves));
#else
    *low = value(codes & 0xff);
    *high = value(codes >> 8 & 0xff);
#endif
  }

  template <typename Value>
  SPW_HD static uint8_t code(uint32_t raw, float inverse) {
    const float magnitude = float_of(Value::to_float(raw & Value::kMagnitude)) * inverse;
    return static_cast<uint8_t>(round_to_small_float<kMantissaBits, kBias>(magnitude) |
                                (raw >> Value::kSignShift & 0x80));
  }
  SPW_HD static float value(uint32_t code) {
    return float_of(bits_of(small_float<kMantissaBits, kBias>(code & 0x7f)) | (code & 0x80) << 24);
  }
  template <typename Value>
  SPW_HD static uint32_t scaled(uint32_t code, float scale) {
    const float magnitude = small_float<kMantissaBits, kBias>(code & 0x7f) * scale;
    return Value::from_magnitude(bits_of(magnitude)) | (code & 0x80) << Value::kSignShift;
  }
};

struct E4m3Grid : Fp8Grid<3, 7> {
  static constexpr uint32_t kTopExponent = 8;  // 448 = 1.75 * 2^8
  static constexpr uint32_t kTopMantissa = 0x600000;
  static constexpr uint32_t kPlusInfinity = 0x7e;
  static constexpr uint32_t kMinusInfinity = 0xfe;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr float kFlaggedTop = 416;
  static constexpr uint32_t kFirstNan = 0x7f;
};

struct E5m2Grid : Fp8Grid<2, 15> {
  static constexpr uint32_t kTopExponent = 15;  // 57344 = 1.75 * 2^15
  static constexpr uint32_t kTopMantissa = 0x600000;
  static constexpr uint32_t kPlusInfinity = 0x7c;
  static constexpr uint32_t kMinusInfinity = 0xfc;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr float kFlaggedTop = 57344;
  static constexpr uint32_t kFirstNan = 0x7c;
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
    return encode_below(lanes, lanes.group_max(largest_magnitude<Value, Lanes>(in)), in, codes);
  }

  /// The same, `max` being the raw bits of the group's largest magnitude.
  template <typename Lanes>
  SPW_HD static uint32_t encode_below(const Lanes&,
                                      uint32_t max,
                                      const Word* SPW_RESTRICT in,
                                      uint8_t* SPW_RESTRICT codes) {
    if (max >= Value::kInfinity) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) codes[i] = flagged_code(in[i]);
      return kFlaggedGroup;
    }
    const uint32_t exponent =
        scale_exponent<Grid::kTopExponent, Grid::kTopMantissa>(Value::to_float(max));
    const float inverse = power_of_two(254 - exponent);
    if constexpr (Grid::kPairs && Lanes::kValues < 128) {
      for (uint32_t i = 0; i < Lanes::kValues; i += 2) {
        const uint32_t pair = Grid::template code_pair<Value>(in[i], in[i + 1], inverse);
        codes[i] = static_cast<uint8_t>(pair);
        codes[i + 1] = static_cast<uint8_t>(pair >> 8);
      }
    } else {
      for (uint32_t i = 0; i < Lanes::kValues; ++i)
        codes[i] = Grid::template code<Value>(in[i], inverse);
    }
    return exponent;
  }

  /// Any bytes decode to something: codes and scale come from memory.
  template <typename Lanes>
  SPW_HD static void decode(const Lanes&,
                            uint32_t exponent,
                            const uint8_t* SPW_RESTRICT codes,
                            Word* SPW_RESTRICT out) {
    // Where nothing can come out as NaN or exceed the dtype, the loop is half as long.
    if (exponent + Grid::kTopExponent + 1 <= Value::kMaxFiniteAsFloat >> 23 &&
        !any_nan<Lanes>(codes)) {
      const float scale = power_of_two(exponent);
      if constexpr (Grid::kPairs && Lanes::kValues < 128) {
        for (uint32_t i = 0; i < Lanes::kValues; i += 2) {
          float low;
          float high;
          Grid::value_pair(codes[i] | static_cast<uint32_t>(codes[i + 1]) << 8, &low, &high);
          out[i] = static_cast<Word>(Value::from_float(bits_of(low * scale)));
          out[i + 1] = static_cast<Word>(Value::from_float(bits_of(high * scale)));
        }
      } else {
        for (uint32_t i = 0; i < Lanes::kValues; ++i)
          out[i] = static_cast<Word>(Grid::template scaled<Value>(codes[i], scale));
      }
      return;
    }
    if (exponent == kFlaggedGroup) {
      for (uint32_t i = 0; i < Lanes::kValues; ++i) out[i] = flagged_value(codes[i]);
      return;
    }
    const float scale = power_of_two(exponent);
    for (uint32_t i = 0; i < Lanes::kValues; ++i) out[i] = finite_value(codes[i], scale);
  }

 private:
  template <typename Lanes>
  SPW_HD static bool any_nan(const uint8_t* SPW_RESTRICT codes) {
    uint8_t largest = 0;
    if constexpr (Grid::kFirstNan < 0x80)
      for (uint32_t i = 0; i < Lanes::kValues; ++i)
        largest = larger(largest, static_cast<uint8_t>(codes[i] & 0x7f));
    return largest >= Grid::kFirstNan;
  }

  /// Rounding up the largest values of a dtype would give Inf: the largest finite one stands in.
  SPW_HD static Word finite_value(uint32_t code, float scale) {
    const uint32_t bits = bits_of(Grid::value(code) * scale);
    const uint32_t magnitude = smaller<uint32_t>(bits & 0x7fffffff, Value::kMaxFiniteAsFloat);
    const uint32_t raw = Value::from_float(magnitude | (bits & 0x80000000));
    const uint32_t is_nan = 0u - ((Grid::kFirstNan - 1 - (code & 0x7f)) >> 31);
    return static_cast<Word>((raw & ~is_nan) | (Value::kNan & is_nan));
  }

  SPW_HD static uint8_t flagged_code(uint32_t raw) {
    const uint32_t magnitude = raw & Value::kMagnitude;
    if (magnitude > Value::kInfinity) return static_cast<uint8_t>(Grid::kNan);
    const bool negative = (raw & Value::kSign) != 0;
    if (magnitude == Value::kInfinity)
      return static_cast<uint8_t>(negative ? Grid::kMinusInfinity : Grid::kPlusInfinity);
    const float value = smaller(float_of(Value::to_float(magnitude)), Grid::kFlaggedTop);
    return Grid::template code<Fp32>(bits_of(negative ? -value : value), 1.0f);
  }

  SPW_HD static Word flagged_value(uint32_t code) {
    if (code == Grid::kPlusInfinity) return static_cast<Word>(Value::kInfinity);
    if (code == Grid::kMinusInfinity) return static_cast<Word>(Value::kInfinity | Value::kSign);
    if (code == Grid::kNan) return static_cast<Word>(Value::kNan);
    return finite_value(code, 1.0f);
  }
};

}  // namespace spillway::SPW_BODY
