// SPDX-License-Identifier: Apache-2.0
// Where a payload's planes lie. A tensor is cut into tiles of 2048 values and groups of 128; a
// plane holds one kind of field for all groups, in order, so that neighbours are written together.
// Every byte of a payload is written by the encoder. Sizes agree with core/codec.hpp.
#pragma once

#include "kernels/body/host_device.hpp"

namespace spillway::SPW_BODY {

inline constexpr uint64_t kGroupValues = 128;
inline constexpr uint64_t kTileValues = 2048;
inline constexpr uint64_t kTileGroups = kTileValues / kGroupValues;
inline constexpr uint64_t kHeaderBytes = 64;

SPW_HD uint64_t groups_of(uint64_t values) { return (values + (kGroupValues - 1)) / kGroupValues; }
SPW_HD uint64_t tiles_of(uint64_t values) { return (values + (kTileValues - 1)) / kTileValues; }

/// First 64 bytes of a payload, little-endian. Says enough to decode it without anything else, and
/// to refuse it when it is something else.
struct PayloadHeader {
  uint32_t magic;    // kMagic
  uint8_t version;   // 1
  uint8_t codec;     // spillway::Codec
  uint8_t dtype;     // spillway::Dtype
  uint8_t capacity;  // sixteenths, for sparse; 0 for the others
  uint64_t values;
  uint64_t payload_bytes;
  uint64_t tensor_key;  // int4's random key, for the record; 0 for the others
  uint64_t step;
  uint64_t reserved[2];                           // 0
  uint64_t check;                                 // mix of all of the above
  static constexpr uint32_t kMagic = 0x43575053;  // "SPWC"
};
static_assert(sizeof(PayloadHeader) == kHeaderBytes);

/// int8, fp8: codes, then scale bytes (16 a tile).
struct Scaled8Layout {
  uint64_t groups;
  SPW_HD explicit Scaled8Layout(uint64_t values) : groups(groups_of(values)) {}
  SPW_HD uint64_t codes() const { return kHeaderBytes; }
  SPW_HD uint64_t scales() const { return codes() + groups * kGroupValues; }
};

/// lossless12: sign and mantissa bytes, nibbles, low halves (fp32 alone), bases (16 a tile), escape
/// indices (8 of 2 bytes a tile), escape exponents (8 a tile).
struct Lossless12Layout {
  uint64_t groups;
  uint64_t tiles;
  uint64_t low_bytes;  // of a group
  SPW_HD Lossless12Layout(uint64_t values, bool has_low)
      : groups(groups_of(values)),
        tiles(tiles_of(values)),
        low_bytes(has_low ? 2 * kGroupValues : 0) {}
  SPW_HD uint64_t bytes() const { return kHeaderBytes; }
  SPW_HD uint64_t nibbles() const { return bytes() + groups * kGroupValues; }
  SPW_HD uint64_t low() const { return nibbles() + groups * (kGroupValues / 2); }
  SPW_HD uint64_t bases() const { return low() + groups * low_bytes; }
  SPW_HD uint64_t indices() const { return bases() + tiles * kTileGroups; }
  SPW_HD uint64_t exponents() const { return indices() + tiles * 16; }
};

/// int4: codes, exponents (16 a tile), zero points (16 a tile).
struct Int4Layout {
  uint64_t groups;
  uint64_t tiles;
  SPW_HD explicit Int4Layout(uint64_t values)
      : groups(groups_of(values)), tiles(tiles_of(values)) {}
  SPW_HD uint64_t codes() const { return kHeaderBytes; }
  SPW_HD uint64_t exponents() const { return codes() + groups * (kGroupValues / 2); }
  SPW_HD uint64_t zeros() const { return exponents() + tiles * kTileGroups; }
};

/// mask1 and sparse: bits, then for sparse the packed values of each tile at its capacity.
struct BitmapLayout {
  uint64_t groups;
  SPW_HD explicit BitmapLayout(uint64_t values) : groups(groups_of(values)) {}
  SPW_HD uint64_t bits() const { return kHeaderBytes; }
  SPW_HD uint64_t packed() const { return bits() + groups * (kGroupValues / 8); }
  /// Values that a tile may hold.
  SPW_HD static uint32_t capacity(uint32_t sixteenths) {
    return static_cast<uint32_t>(kTileValues / 16) * sixteenths;
  }
};

}  // namespace spillway::SPW_BODY
