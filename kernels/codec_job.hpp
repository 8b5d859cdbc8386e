// SPDX-License-Identifier: Apache-2.0
// The table of tensors that one launch of a codec kernel works on. It travels by value as the
// kernel's only parameter: nothing to upload, nothing to keep alive, and a captured launch carries
// it. Shared by the CUDA kernels, their launcher and the simulator's bodies.
#pragma once

#include <cstdint>

namespace spillway {

/// One tensor. Its values follow from its tiles (up to the next job's first) and the last tile's.
struct CodecJob {
  std::uint64_t plain;             // address: source of an encode, destination of a decode
  std::uint64_t payload;           // address; where a copy writes to, where block fingerprints go
  std::uint64_t tensor_key;        // int4's random numbers follow from it
  std::uint32_t first_tile;        // of this job in the launch: sum over the jobs before
  std::uint16_t last_tile_values;  // 1 to 2048
  std::uint16_t sparse_capacity;   // sixteenths of a tile; sparse alone
};
static_assert(sizeof(CodecJob) == 32);

struct CodecTableHead {
  std::uint32_t count = 0;         // jobs
  std::uint32_t total_tiles = 0;   // of all jobs, less than 2^32
  std::uint64_t step = 0;          // int4's random numbers follow from it
  std::uint64_t fingerprints = 0;  // device address of a zeroed u64 per job; 0: none wanted
  std::uint64_t misfits = 0;  // address of a zeroed u32 per job, which host and device see; or 0
  std::uint8_t codec = 0;     // spillway::Codec
  std::uint8_t dtype = 0;     // spillway::Dtype
  std::uint8_t reserved[30] = {};
};
static_assert(sizeof(CodecTableHead) == 64);

template <std::uint32_t kCapacity>
struct CodecTable {
  CodecTableHead head;
  CodecJob jobs[kCapacity];
};

inline constexpr std::uint32_t kSmallTableJobs = 16;
inline constexpr std::uint32_t kLargeTableJobs = 1000;
using SmallCodecTable = CodecTable<kSmallTableJobs>;
using LargeCodecTable = CodecTable<kLargeTableJobs>;
/// Bytes of parameters that a kernel of CUDA 12.1 and later may have on compute 7.0 and later.
inline constexpr std::uint32_t kMaxParameterBytes = 32764;
static_assert(sizeof(LargeCodecTable) == 32064 && sizeof(LargeCodecTable) <= kMaxParameterBytes);

/// What a misfit word becomes. A word of 0 after the launch: everything fitted.
inline constexpr std::uint32_t kMisfitTile = 1;    // a tile that the codec cannot hold, or restore
inline constexpr std::uint32_t kMisfitHeader = 2;  // decode: the payload is another one than asked

/// Every kernel runs so many threads in a block: eight warps, one tile each at a time.
inline constexpr std::uint32_t kCodecBlockThreads = 256;
inline constexpr std::uint32_t kCodecBlockWarps = kCodecBlockThreads / 32;

/// Values of job `i`.
template <typename Head, typename Jobs>
#ifdef __CUDACC__
__host__ __device__ __forceinline__
#endif
    constexpr std::uint64_t
    job_values(const Head& head, const Jobs& jobs, std::uint32_t i) {
  const std::uint32_t end = i + 1 < head.count ? jobs[i + 1].first_tile : head.total_tiles;
  return (std::uint64_t{end} - jobs[i].first_tile - 1) * 2048 + jobs[i].last_tile_values;
}

}  // namespace spillway
