// SPDX-License-Identifier: Apache-2.0
// The three dtypes that codecs read: raw bits to fp32 and back, with integers and exact fp32
// arithmetic only, so that every compiler and every device gives the same bits. Arithmetic here
// assumes the default floating-point environment (round to nearest, no flushing of subnormals).
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

struct Bf16 {
  using Word = uint16_t;
  static constexpr uint32_t kMagnitude = 0x7fff;
  static constexpr uint32_t kInfinity = 0x7f80;
  static constexpr uint32_t kNan = 0x7fc0;
  static constexpr uint32_t kSign = 0x8000;
  static constexpr uint32_t kMaxFiniteAsFloat = 0x7f7f0000;

  /// Bits of the fp32 with the same value; exact. Any input.
  SPW_HD static uint32_t to_float(uint32_t raw) { return raw << 16; }
  /// Exact for finite fp32 bits that bf16 can hold.
  SPW_HD static uint32_t from_float(uint32_t bits) { return bits >> 16; }
};

struct Fp16 {
  using Word = uint16_t;
  static constexpr uint32_t kMagnitude = 0x7fff;
  static constexpr uint32_t kInfinity = 0x7c00;
  static constexpr uint32_t kNan = 0x7e00;
  static constexpr uint32_t kSign = 0x8000;
  static constexpr uint32_t kMaxFiniteAsFloat = 0x477fe000;  // 65504

  /// Exact for finite inputs, subnormals too; Inf and NaN come out as 65536 and above.
  SPW_HD static uint32_t to_float(uint32_t raw) {
    const float scaled = float_of((raw & kMagnitude) << 13) * power_of_two(127 + 112);
    return bits_of(scaled) | (raw & kSign) << 16;
  }
  /// Exact for finite fp32 bits that fp16 can hold.
  SPW_HD static uint32_t from_float(uint32_t bits) {
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t normal = (magnitude - (112u << 23)) >> 13;
    // Below 2^-14: one unit is 2^-24, as in the last place of 0.5.
    const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    return (magnitude < (113u << 23) ? subnormal : normal) | (bits >> 16 & kSign);
  }
};

struct Fp32 {
  using Word = uint32_t;
  static constexpr uint32_t kMagnitude = 0x7fffffff;
  static constexpr uint32_t kInfinity = 0x7f800000;
  static constexpr uint32_t kNan = 0x7fc00000;
  static constexpr uint32_t kSign = 0x80000000;
  static constexpr uint32_t kMaxFiniteAsFloat = 0x7f7fffff;

  SPW_HD static uint32_t to_float(uint32_t raw) { return raw; }
  SPW_HD static uint32_t from_float(uint32_t bits) { return bits; }
};

}  // namespace spillway::SPW_BODY
