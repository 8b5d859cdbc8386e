// SPDX-License-Identifier: Apache-2.0
// The plain side of a tile as a warp sees it: 8 steps, 8 neighbouring values a lane and step, and
// the fingerprint of what passes by. kWhole: the tile has all its 2048 values; the others, the last
// of their tensor, are guarded value by value.
#pragma once

#include "kernels/body/fingerprint.hpp"
#include "kernels/body/layout.hpp"
#include "kernels/codec_tensor.hpp"
#include "kernels/cuda/vector_memory.hpp"

namespace spillway::SPW_BODY {

inline constexpr uint32_t kLaneValues = 8;
inline constexpr uint32_t kStepValues = 256;
inline constexpr uint32_t kTileSteps = static_cast<uint32_t>(kTileValues) / kStepValues;

/// What a lane has summed up of a tensor's fingerprint.
struct LaneSum {
  bool wanted;  // the same on all lanes
  uint64_t sum;
};

/// Values of a lane out of its words, and back.
SPW_HD void unpack(const uint32_t* SPW_RESTRICT words, uint8_t* SPW_RESTRICT values) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues; ++i)
    values[i] = static_cast<uint8_t>(words[i / 4] >> (8 * (i % 4)));
}
SPW_HD void unpack(const uint32_t* SPW_RESTRICT words, uint16_t* SPW_RESTRICT values) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues; ++i)
    values[i] = static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2)));
}
SPW_HD void unpack(const uint32_t* SPW_RESTRICT words, uint32_t* SPW_RESTRICT values) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues; ++i) values[i] = words[i];
}
SPW_HD void pack(const uint8_t* SPW_RESTRICT values, uint32_t* SPW_RESTRICT words) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues / 4; ++i)
    words[i] = values[4 * i] | static_cast<uint32_t>(values[4 * i + 1]) << 8 |
               static_cast<uint32_t>(values[4 * i + 2]) << 16 |
               static_cast<uint32_t>(values[4 * i + 3]) << 24;
}
SPW_HD void pack(const uint16_t* SPW_RESTRICT values, uint32_t* SPW_RESTRICT words) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues / 2; ++i)
    words[i] = values[2 * i] | static_cast<uint32_t>(values[2 * i + 1]) << 16;
}
SPW_HD void pack(const uint32_t* SPW_RESTRICT values, uint32_t* SPW_RESTRICT words) {
  SPW_UNROLL
  for (uint32_t i = 0; i < kLaneValues; ++i) words[i] = values[i];
}

template <typename WordType, bool kWhole>
struct PlainTile {
  using Word = WordType;
  static constexpr uint32_t kLaneBytes = kLaneValues * sizeof(Word);
  static constexpr uint32_t kLaneWords = kLaneBytes / 8;  // of the fingerprint

  Word* at;           // this lane's first value of step 0
  int left;           // values of the tile from that one on; of whole tiles unused
  uint64_t position;  // mix()'s, of this lane's first 8-byte word of step 0

  template <typename Lanes>
  SPW_HD PlainTile(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
    const uint64_t first = tile * kTileValues + lanes.first();
    at = static_cast<Word*>(t.plain) + first;
    left = kWhole
               ? 0
               : static_cast<int>(t.values - tile * kTileValues) - static_cast<int>(lanes.first());
    position = (first / (8 / sizeof(Word)) + 1) * kFingerprintStride;
  }

  /// Values that this lane has in `step`, 0 to 8.
  SPW_HD int count(uint32_t step) const {
    const int of_step = left - static_cast<int>(step * kStepValues);
    return kWhole ? static_cast<int>(kLaneValues)
                  : larger(smaller(of_step, static_cast<int>(kLaneValues)), 0);
  }
  /// Whether the lane's group of 128 has any values in `step`: then its bytes of payload exist.
  template <typename Lanes>
  SPW_HD bool group_exists(const Lanes& lanes, uint32_t step) const {
    const int lane_in_group = static_cast<int>(lanes.lane() % 16);
    return kWhole || left + lane_in_group * static_cast<int>(kLaneValues) >
                         static_cast<int>(step * kStepValues);
  }

  /// A lane's bytes of `step`, in words; values past the end are 0.
  SPW_HD void load(uint32_t step, uint32_t* SPW_RESTRICT words) const {
    const Word* from = at + step * kStepValues;
    if constexpr (kWhole) {
      load_stream<kLaneBytes>(words, from);
    } else if (count(step) == static_cast<int>(kLaneValues)) {
      load_stream<kLaneBytes>(words, from);
    } else {
      Word in[kLaneValues];
      SPW_UNROLL
      for (int i = 0; i < static_cast<int>(kLaneValues); ++i)
        in[i] = i < count(step) ? from[i] : static_cast<Word>(0);
      pack(in, words);
    }
  }
  /// Values past the end become the first of their group.
  template <typename Lanes>
  SPW_HD void fill(const Lanes& lanes, uint32_t step, uint32_t* words) const {
    if (count(step) == static_cast<int>(kLaneValues) || !group_exists(lanes, step)) return;
    const Word first =
        (at + step * kStepValues)[-static_cast<int>(lanes.lane() % 16 * kLaneValues)];
    Word in[kLaneValues];
    unpack(words, in);
    SPW_UNROLL
    for (int i = 0; i < static_cast<int>(kLaneValues); ++i)
      if (i >= count(step)) in[i] = first;
    pack(in, words);
  }
  SPW_HD void put(uint32_t step, const uint32_t* SPW_RESTRICT words) const {
    Word* to = at + step * kStepValues;
    if constexpr (kWhole) {
      store<kLaneBytes>(to, words);
    } else if (count(step) == static_cast<int>(kLaneValues)) {
      store<kLaneBytes>(to, words);
    } else {
      Word out[kLaneValues];
      unpack(words, out);
      SPW_UNROLL
      for (int i = 0; i < static_cast<int>(kLaneValues); ++i)
        if (i < count(step)) to[i] = out[i];
    }
  }

  /// Of the 8-byte words of this step; values past the end count as 0.
  SPW_HD uint64_t sum_of(uint32_t step, const uint32_t* SPW_RESTRICT words) const {
    constexpr uint64_t kStepStride = kStepValues / (8 / sizeof(Word)) * kFingerprintStride;
    const uint64_t begin = position + step * kStepStride;
    uint64_t sum = 0;
    SPW_UNROLL
    for (uint32_t i = 0; i < kLaneWords; ++i) {
      uint64_t word = static_cast<uint64_t>(words[2 * i + 1]) << 32 | words[2 * i];
      if constexpr (!kWhole) {
        const int values = count(step) - static_cast<int>(i * (8 / sizeof(Word)));
        const int bits = values * static_cast<int>(8 * sizeof(Word));
        if (bits <= 0) continue;
        if (bits < 64) word &= (uint64_t{1} << bits) - 1;
      }
      sum += mix(word, begin + i * kFingerprintStride);
    }
    return sum;
  }
};

/// 16 bytes, one a group of the tile, from what each half of the warp has collected: byte s of a
/// lane's `mine` belongs to its group of step s. Stored by lane 0.
template <typename Lanes>
SPW_HD void store_group_bytes(const Lanes& lanes, uint64_t mine, uint8_t* SPW_RESTRICT at) {
  const uint64_t odd = lanes.value_of(mine, 16);
  if (lanes.lane() != 0) return;
  uint32_t out[4];
  const uint32_t even_half[2] = {static_cast<uint32_t>(mine), static_cast<uint32_t>(mine >> 32)};
  const uint32_t odd_half[2] = {static_cast<uint32_t>(odd), static_cast<uint32_t>(odd >> 32)};
  SPW_UNROLL
  for (uint32_t i = 0; i < 2; ++i) {
#ifdef __CUDA_ARCH__
    out[2 * i] = __byte_perm(even_half[i], odd_half[i], 0x5140);
    out[2 * i + 1] = __byte_perm(even_half[i], odd_half[i], 0x7362);
#else
    out[2 * i] = 0;
    out[2 * i + 1] = 0;
    for (uint32_t b = 0; b < 2; ++b) {
      out[2 * i] |= (even_half[i] >> (8 * b) & 0xff) << (16 * b) | (odd_half[i] >> (8 * b) & 0xff)
                                                                       << (16 * b + 8);
      out[2 * i + 1] |= (even_half[i] >> (8 * b + 16) & 0xff) << (16 * b) |
                        (odd_half[i] >> (8 * b + 16) & 0xff) << (16 * b + 8);
    }
#endif
  }
  store<16>(at, out);
}

/// The inverse: byte s of the result is that of this lane's group in step s.
template <typename Lanes>
SPW_HD uint64_t load_group_bytes(const Lanes& lanes, const uint8_t* SPW_RESTRICT at) {
  uint32_t in[4];
  load_stream<16>(in, at);
  const uint32_t half = lanes.lane() / 16;
  uint32_t out[2];
  SPW_UNROLL
  for (uint32_t i = 0; i < 2; ++i) {
#ifdef __CUDA_ARCH__
    out[i] = __byte_perm(in[2 * i], in[2 * i + 1], half == 0 ? 0x6420 : 0x7531);
#else
    out[i] = 0;
    for (uint32_t b = 0; b < 4; ++b)
      out[i] |= (in[2 * i + b / 2] >> (16 * (b % 2) + 8 * half) & 0xff) << (8 * b);
#endif
  }
  return static_cast<uint64_t>(out[1]) << 32 | out[0];
}

}  // namespace spillway::SPW_BODY
