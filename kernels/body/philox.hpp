// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011):
// random bits as a function of (key, counter), the same on every machine and in any order.
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

struct PhiloxBlock {
  uint32_t word[4];
};

SPW_HD PhiloxBlock philox(PhiloxBlock counter, uint32_t key_low, uint32_t key_high) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = static_cast<uint64_t>(0xd2511f53u) * counter.word[0];
    const uint64_t b = static_cast<uint64_t>(0xcd9e8d57u) * counter.word[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.word[1] ^ key_low,
                static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.word[3] ^ key_high,
                static_cast<uint32_t>(a)}};
    key_low += 0x9e3779b9u;
    key_high += 0xbb67ae85u;
  }
  return counter;
}

/// Four words a call, for kCalls counters {call, its upper half, third, fourth} that follow each
/// other.
template <uint32_t kCalls>
SPW_HD void philox_calls(uint64_t first_call,
                         uint64_t upper_counter,
                         uint64_t key,
                         uint32_t* SPW_RESTRICT words) {
  for (uint32_t i = 0; i < kCalls; ++i) {
    const uint64_t call = first_call + i;
    const PhiloxBlock block = philox({{static_cast<uint32_t>(call),
                                       static_cast<uint32_t>(call >> 32),
                                       static_cast<uint32_t>(upper_counter),
                                       static_cast<uint32_t>(upper_counter >> 32)}},
                                     static_cast<uint32_t>(key),
                                     static_cast<uint32_t>(key >> 32));
    for (uint32_t j = 0; j < 4; ++j) words[4 * i + j] = block.word[j];
  }
}

}  // namespace spillway::SPW_BODY
