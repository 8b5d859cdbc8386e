// SPDX-License-Identifier: Apache-2.0
// The entry points of the codec kernels: SPW_CODEC(name, Tiles) makes spw_NAME_encode_small,
// ..._encode_large and the two of decode. The name and the table are all that launcher and kernel
// share.
#pragma once

#define SPW_BODY body_cuda
#include "kernels/body/warp_lanes.cuh"
#include "kernels/cuda/byte_driver.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace spillway::SPW_BODY {

__device__ __forceinline__ TileWalk walk_of_this_warp(const CodecTableHead& head) {
  return tiles_of_warp(head.total_tiles, blockIdx.x, gridDim.x, threadIdx.x / 32);
}

}  // namespace spillway::SPW_BODY

// At most 64 registers a thread: 32 warps of a multiprocessor keep 32 KiB of loads under way.
#define SPW_KERNEL(name, capacity, ...)                                              \
  extern "C" __global__ void __launch_bounds__(spillway::kCodecBlockThreads, 4)      \
      name(const __grid_constant__ spillway::CodecTable<capacity> table) {           \
    using namespace spillway::SPW_BODY;                                              \
    __VA_ARGS__(WarpLanes{}, table.head, table.jobs, walk_of_this_warp(table.head)); \
  }

#define SPW_BOTH_TABLES(name, ...)                                 \
  SPW_KERNEL(name##_small, spillway::kSmallTableJobs, __VA_ARGS__) \
  SPW_KERNEL(name##_large, spillway::kLargeTableJobs, __VA_ARGS__)

#define SPW_CODEC(name, ...)                                         \
  SPW_BOTH_TABLES(spw_##name##_encode, run_codec<__VA_ARGS__, true>) \
  SPW_BOTH_TABLES(spw_##name##_decode, run_codec<__VA_ARGS__, false>)
