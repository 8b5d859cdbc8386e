// SPDX-License-Identifier: Apache-2.0
// How a body's step is spread: on the host one lane holds the 128 values of a group; on a GPU
// (warp_lanes.cuh) 32 lanes hold 8 values each, two groups a step. Every body is written against
// this interface and knows no more of where it runs.
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

struct HostLane {
  static constexpr uint32_t kValues = 128;      // of one lane
  static constexpr uint32_t kStepValues = 128;  // of all lanes together

  /// Index of this lane's first value in the step.
  SPW_HD static uint32_t first() { return 0; }
  /// Maximum over the lanes that share a group.
  SPW_HD static uint32_t group_max(uint32_t value) { return value; }
  /// True when it is true on any lane of the step.
  SPW_HD static bool any(bool value) { return value; }
  /// Sum over the lanes before this one; `*total` over all lanes.
  SPW_HD static uint32_t exclusive_sum(uint32_t value, uint32_t* total) {
    *total = value;
    return 0;
  }
};

/// Two numbers below 16 a byte, the earlier one low. Pairs are read as one 16-bit number.
template <uint32_t kValues>
SPW_HD void pack_nibbles(const uint8_t* SPW_RESTRICT numbers, uint8_t* SPW_RESTRICT nibbles) {
  for (size_t i = 0; i < kValues / 2; ++i) {
    uint16_t pair;
    __builtin_memcpy(&pair, numbers + 2 * i, 2);
    nibbles[i] = static_cast<uint8_t>(pair | pair >> 4);
  }
}

/// The inverse.
template <uint32_t kValues>
SPW_HD void unpack_nibbles(const uint8_t* SPW_RESTRICT nibbles, uint8_t* SPW_RESTRICT numbers) {
  for (size_t i = 0; i < kValues / 2; ++i) {
    const auto pair = static_cast<uint16_t>((nibbles[i] | nibbles[i] << 4) & 0x0f0f);
    __builtin_memcpy(numbers + 2 * i, &pair, 2);
  }
}

}  // namespace spillway::SPW_BODY
