// SPDX-License-Identifier: Apache-2.0
// Copies and fingerprints of plain bytes: tiles of 2048 bytes, four steps of 512 with 16 bytes a
// lane, all four loads under way together. A step is a block of the per-block fingerprint.
#pragma once

#include "kernels/cuda/table_driver.hpp"

namespace spillway::SPW_BODY {

inline constexpr uint32_t kByteSteps = 4;
inline constexpr uint32_t kStepBytes = 512;
static_assert(kByteSteps * kStepBytes == kTileValues && kStepBytes == kFingerprintBlockBytes);

enum class ByteWork : uint8_t {
  kCopy,    // plain to payload; with a fingerprint when the table wants one
  kSum,     // fingerprint of plain
  kBlocks,  // sums of the 512-byte blocks of plain, to payload as u64
};

/// 16 bytes of a lane, or as many as there are.
struct LaneBytes {
  uint64_t word[2] = {0, 0};
  int count = 16;

  template <bool kWhole>
  SPW_HD void load(const uint8_t* SPW_RESTRICT at) {
    if constexpr (kWhole) {
      load_stream<16>(word, at);
    } else if (count == 16) {
      load_stream<16>(word, at);
    } else {
      SPW_UNROLL
      for (int i = 0; i < 16; ++i)
        if (i < count) word[i / 8] |= static_cast<uint64_t>(at[i]) << (8 * (i % 8));
    }
  }
  template <bool kWhole>
  SPW_HD void put(uint8_t* SPW_RESTRICT at) const {
    if constexpr (kWhole) {
      store<16>(at, word);
    } else if (count == 16) {
      store<16>(at, word);
    } else {
      SPW_UNROLL
      for (int i = 0; i < 16; ++i)
        if (i < count) at[i] = static_cast<uint8_t>(word[i / 8] >> (8 * (i % 8)));
    }
  }
  template <bool kWhole>
  SPW_HD uint64_t sum(uint64_t position) const {
    uint64_t all = 0;
    if (kWhole || count > 0) all += mix(word[0], position);
    if (kWhole || count > 8) all += mix(word[1], position + kFingerprintStride);
    return all;
  }
};

template <ByteWork kWork, bool kWhole, typename Lanes>
SPW_HD void byte_tile(const Lanes& lanes, const CodecTensor& t, uint64_t tile, LaneSum* sum) {
  const uint64_t first = tile * kTileValues + lanes.lane() * 16;
  const uint8_t* from = static_cast<const uint8_t*>(t.plain) + first;
  const int left = kWhole ? 0
                          : static_cast<int>(t.values - tile * kTileValues) -
                                static_cast<int>(lanes.lane() * 16);
  const uint64_t position = (first / 8 + 1) * kFingerprintStride;
  LaneBytes bytes[kByteSteps];
  SPW_UNROLL
  for (uint32_t s = 0; s < kByteSteps; ++s) {
    if (!kWhole) bytes[s].count = larger(smaller(left - static_cast<int>(s * kStepBytes), 16), 0);
    bytes[s].template load<kWhole>(from + s * kStepBytes);
  }
  SPW_UNROLL
  for (uint32_t s = 0; s < kByteSteps; ++s) {
    if constexpr (kWork == ByteWork::kCopy)
      bytes[s].template put<kWhole>(t.payload + first + s * kStepBytes);
    if (kWork == ByteWork::kCopy && !sum->wanted) continue;
    const uint64_t here =
        bytes[s].template sum<kWhole>(position + s * (kStepBytes / 8) * kFingerprintStride);
    if constexpr (kWork == ByteWork::kBlocks) {
      const uint64_t block = lanes.sum(here);
      const bool exists = kWhole || tile * kTileValues + s * kStepBytes < t.values;
      if (exists && lanes.lane() == 0)
        reinterpret_cast<uint64_t*>(t.payload)[tile * kByteSteps + s] = block;
    } else {
      sum->sum += here;
    }
  }
}

/// The last tile of a tensor, when it is not whole.
template <ByteWork kWork, typename Lanes>
SPW_HD_RARE uint64_t last_byte_tile(Lanes lanes, CodecTensor t, uint64_t tile, bool wanted) {
  LaneSum sum{wanted, 0};
  byte_tile<kWork, false>(lanes, t, tile, &sum);
  return sum.sum;
}

template <ByteWork kWork, typename Lanes>
SPW_HD void run_bytes(const Lanes& lanes,
                      const CodecTableHead& head,
                      const CodecJob* jobs,
                      const TileWalk& walk) {
  walk_jobs(head, jobs, walk, [&](const CodecTensor& t, uint32_t job, const TileWalk& tiles) {
    LaneSum sum{kWork == ByteWork::kSum || (kWork == ByteWork::kCopy && head.fingerprints != 0), 0};
    const uint32_t whole = static_cast<uint32_t>(t.values / kTileValues);
    SPW_NO_UNROLL
    for (uint32_t tile = tiles.first; tile < tiles.end; tile += tiles.stride) {
      if (tile < whole)
        byte_tile<kWork, true>(lanes, t, tile, &sum);
      else
        sum.sum += last_byte_tile<kWork>(lanes, t, tile, sum.wanted);
    }
    leave_job(lanes, head, job, false, sum, tiles.first == 0 ? fingerprint_start(t.values) : 0);
  });
}

}  // namespace spillway::SPW_BODY
