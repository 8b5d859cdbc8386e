// SPDX-License-Identifier: Apache-2.0
// A 64-bit fingerprint of bytes: the sum, modulo 2^64, of every 8-byte word mixed with its
// position. Sums have no order, so any grid, any thread count and any device give the same number.
// mix() is a bijection of the word at a given position: one changed word always changes the sum.
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

inline constexpr uint64_t kFingerprintStride = 0x9e3779b97f4a7c15u;
/// Bytes of a block of the per-block form.
inline constexpr uint64_t kFingerprintBlockBytes = 512;

/// `position`: (index of the word + 1) * kFingerprintStride. The last word of bytes that are no
/// multiple of 8 is filled with zeros.
SPW_HD uint64_t mix(uint64_t word, uint64_t position) {
  // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t z = word + position;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/// What the sum begins with: zeros at the end count.
SPW_HD uint64_t fingerprint_start(uint64_t bytes) { return mix(bytes, 0); }

}  // namespace spillway::SPW_BODY
