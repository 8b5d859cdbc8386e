// SPDX-License-Identifier: Apache-2.0
// Lanes of a warp: 32 of them with 8 neighbouring values each, two groups of 128 a step. All lanes
// call every function here together; none of it stands behind a condition that lanes differ in.
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

struct WarpLanes {
  static constexpr uint32_t kValues = 8;
  static constexpr uint32_t kStepValues = 256;
  static constexpr uint32_t kAll = 0xffffffff;

  __device__ __forceinline__ uint32_t lane() const { return threadIdx.x & 31; }
  __device__ __forceinline__ uint32_t first() const { return lane() * kValues; }
  __device__ __forceinline__ uint32_t group_max(uint32_t value) const {
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2)
      value = larger(value, __shfl_xor_sync(kAll, value, apart, 16));
    return value;
  }
  __device__ __forceinline__ bool any(bool value) const { return __any_sync(kAll, value) != 0; }
  __device__ __forceinline__ uint32_t exclusive_sum(uint32_t value, uint32_t* total) const {
    uint32_t sum = value;
#pragma unroll
    for (uint32_t apart = 1; apart < 32; apart *= 2) {
      const uint32_t below = __shfl_up_sync(kAll, sum, apart);
      sum += lane() >= apart ? below : 0;
    }
    *total = __shfl_sync(kAll, sum, 31);
    return sum - value;
  }
  /// The value that lane `from` has.
  __device__ __forceinline__ uint64_t value_of(uint64_t value, uint32_t from) const {
    return __shfl_sync(kAll, value, from);
  }
  /// Sum over all lanes, on all lanes.
  __device__ __forceinline__ uint64_t sum(uint64_t value) const {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(kAll, value, apart);
    return value;
  }
  /// For one lane: adds to a number that other warps add to as well.
  __device__ __forceinline__ void add(uint64_t* to, uint64_t value) const {
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
  }
};

}  // namespace spillway::SPW_BODY
