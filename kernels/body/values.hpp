// SPDX-License-Identifier: Apache-2.0
// The three dtypes that codecs read: raw bits to fp32 and back, with integers and exact fp32
// arithmetic only, so that every compiler and every device gives the same bits. Arithmetic here
// assumes the default floating-point environment (round to nearest, no flushing of subnormals).
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

/// Finite `magnitude` >= 0 as a float with kMantissaBits and bias kBias, nearest, ties to even, its
/// sign bit 0; right in the low kMantissaBits + 5 bits or more. It must not exceed the target's
/// largest value. Adding the unit of magnitude's own binade, times 2^23, rounds in that unit; so do
/// subnormals, whose unit is that of the first binade.
template <uint32_t kMantissaBits, uint32_t kBias>
SPW_HD uint32_t round_to_small_float(float magnitude) {
  constexpr uint32_t kShift = 23 - kMantissaBits;
  constexpr uint32_t kFirstExponent = 128 - kBias;
  // Sets the first binade's exponent field to 0; even, so that ties stay ties to even.
  constexpr uint32_t kOffset = (0u - (kFirstExponent << kMantissaBits)) & 0xffff;
  const auto binade = static_cast<uint32_t>(
      larger(static_cast<int32_t>(bits_of(magnitude) & 0x7f800000), int32_t{kFirstExponent << 23}));
  return bits_of(magnitude + float_of(binade + (kShift << 23) + kOffset + (binade >> kShift)));
}

/// The inverse for any `code` without sign; the exponent of Inf and NaN counts as any other.
/// Never multiplies subnormals: processors take a hundred cycles for that.
template <uint32_t kMantissaBits, uint32_t kBias>
SPW_HD float small_float(uint32_t code) {
  constexpr uint32_t kShift = 23 - kMantissaBits;
  const uint32_t is_subnormal = 0u - ((code - (1u << kMantissaBits)) >> 31);
  const uint32_t bits = (code << kShift) + ((127 - kBias) << 23) + (is_subnormal & 1u << 23);
  return float_of(bits) - float_of(is_subnormal & (128 - kBias) << 23);
}

struct Bf16 {
  using Word = uint16_t;
  using Signed = int16_t;
  static constexpr uint32_t kMagnitude = 0x7fff;
  static constexpr uint32_t kInfinity = 0x7f80;
  static constexpr uint32_t kNan = 0x7fc0;
  static constexpr uint32_t kSign = 0x8000;
  static constexpr uint32_t kSignShift = 8;  // from the sign bit to that of a byte
  static constexpr uint32_t kMaxFiniteAsFloat = 0x7f7f0000;

  /// Bits of the fp32 with the same value; exact. Any input.
  SPW_HD static uint32_t to_float(uint32_t raw) { return raw << 16; }
  /// Exact for finite fp32 bits that bf16 can hold.
  SPW_HD static uint32_t from_float(uint32_t bits) { return bits >> 16; }
  /// The same where the sign bit is 0; only the low 16 bits count.
  SPW_HD static uint32_t from_magnitude(uint32_t bits) { return bits >> 16; }
};

struct Fp16 {
  using Word = uint16_t;
  using Signed = int16_t;
  static constexpr uint32_t kMagnitude = 0x7fff;
  static constexpr uint32_t kInfinity = 0x7c00;
  static constexpr uint32_t kNan = 0x7e00;
  static constexpr uint32_t kSign = 0x8000;
  static constexpr uint32_t kSignShift = 8;                  // from the sign bit to that of a byte
  static constexpr uint32_t kMaxFiniteAsFloat = 0x477fe000;  // 65504

  /// Exact for finite inputs, subnormals too; Inf and NaN come out as 65536 and above.
  SPW_HD static uint32_t to_float(uint32_t raw) {
    return bits_of(small_float<10, 15>(raw & kMagnitude)) | (raw & kSign) << 16;
  }
  /// Exact for finite fp32 bits that fp16 can hold.
  SPW_HD static uint32_t from_float(uint32_t bits) {
    return (from_magnitude(bits & 0x7fffffff) & kMagnitude) | (bits >> 16 & kSign);
  }
  /// The same where the sign bit is 0; only the low 16 bits count.
  SPW_HD static uint32_t from_magnitude(uint32_t bits) {
    return round_to_small_float<10, 15>(float_of(bits));
  }
};

struct Fp32 {
  using Word = uint32_t;
  using Signed = int32_t;
  static constexpr uint32_t kMagnitude = 0x7fffffff;
  static constexpr uint32_t kInfinity = 0x7f800000;
  static constexpr uint32_t kNan = 0x7fc00000;
  static constexpr uint32_t kSign = 0x80000000;
  static constexpr uint32_t kSignShift = 24;
  static constexpr uint32_t kMaxFiniteAsFloat = 0x7f7fffff;

  SPW_HD static uint32_t to_float(uint32_t raw) { return raw; }
  SPW_HD static uint32_t from_float(uint32_t bits) { return bits; }
  SPW_HD static uint32_t from_magnitude(uint32_t bits) { return bits; }
};

/// The largest magnitude among this lane's values. Signed numbers as wide as the values: every
/// instruction set has their maximum.
template <typename Value, typename Lanes>
SPW_HD uint32_t largest_magnitude(const typename Value::Word* SPW_RESTRICT in) {
  typename Value::Signed max = 0;
  for (uint32_t i = 0; i < Lanes::kValues; ++i)
    max = larger(max, static_cast<typename Value::Signed>(in[i] & Value::kMagnitude));
  return static_cast<uint32_t>(max);
}

}  // namespace spillway::SPW_BODY
