// SPDX-License-Identifier: Apache-2.0
// Tiles on the host: reads and writes the planes of a payload, one group of 128 values at a time,
// around the bodies. The last group of a tensor goes through a padded copy.
#pragma once

#include "kernels/body/bitmaps.hpp"
#include "kernels/body/fingerprint.hpp"
#include "kernels/body/int4.hpp"
#include "kernels/body/layout.hpp"
#include "kernels/body/lossless12.hpp"
#include "kernels/body/scaled8.hpp"
#include "kernels/codec_tensor.hpp"
#include "kernels/host/half_floats.hpp"

namespace spillway::SPW_BODY {

/// The groups of one tile.
struct TileRange {
  uint64_t first_group;
  uint32_t groups;
};

SPW_HD TileRange groups_of_tile(uint64_t values, uint64_t tile) {
  const uint64_t first = tile * kTileGroups;
  const uint64_t left = groups_of(values) - first;
  return {first, static_cast<uint32_t>(smaller(left, kTileGroups))};
}

/// One group of plain values: in place when it is whole, else through `pad`.
template <typename Word>
struct PlainGroup {
  Word pad[kGroupValues];
  Word* at;
  uint32_t count;

  SPW_HD PlainGroup(void* plain, uint64_t values, uint64_t group) {
    at = static_cast<Word*>(plain) + group * kGroupValues;
    count = static_cast<uint32_t>(smaller(values - group * kGroupValues, kGroupValues));
  }
  SPW_HD bool whole() const { return count == kGroupValues; }
  /// For reading: values past the end are `fill_first ? the group's first value : 0`.
  SPW_HD const Word* padded(bool fill_first) {
    if (whole()) return at;
    for (uint32_t i = 0; i < kGroupValues; ++i)
      pad[i] = i < count ? at[i] : fill_first ? at[0] : static_cast<Word>(0);
    return pad;
  }
  /// For writing: then store().
  SPW_HD Word* target() { return whole() ? at : pad; }
  SPW_HD void store() {
    if (whole()) return;
    for (uint32_t i = 0; i < count; ++i) at[i] = pad[i];
  }
};

/// The lossy bodies on one group. fp16 takes those of fp32 where the processor converts: the values
/// are the same.
template <typename Value, typename Grid>
struct Scaled8Groups : Scaled8<Value, Grid> {};
template <typename Value>
struct Int4Groups : Int4<Value> {};

#ifdef SPW_HALF_FLOATS
template <typename Grid>
struct Scaled8Groups<Fp16, Grid> {
  SPW_HD static uint32_t encode_below(const HostLane& lane,
                                      uint32_t max,
                                      const uint16_t* SPW_RESTRICT in,
                                      uint8_t* SPW_RESTRICT codes) {
    if (max >= Fp16::kInfinity) return Scaled8<Fp16, Grid>::encode_below(lane, max, in, codes);
    uint32_t wide[kGroupValues];
    half_to_float(in, wide);
    return Scaled8<Fp32, Grid>::encode_below(lane, Fp16::to_float(max), wide, codes);
  }
  SPW_HD static void decode(const HostLane& lane,
                            uint32_t exponent,
                            const uint8_t* SPW_RESTRICT codes,
                            uint16_t* SPW_RESTRICT out) {
    if (exponent + Grid::kTopExponent + 1 > Fp16::kMaxFiniteAsFloat >> 23)
      return Scaled8<Fp16, Grid>::decode(lane, exponent, codes, out);
    uint32_t wide[kGroupValues];
    Scaled8<Fp32, Grid>::decode(lane, exponent, codes, wide);
    float_to_half(wide, out);
  }
};

template <>
struct Int4Groups<Fp16> {
  SPW_HD static Int4Group encode(const HostLane& lane,
                                 const uint16_t* SPW_RESTRICT in,
                                 uint64_t first,
                                 const RandomKey& key,
                                 uint8_t* SPW_RESTRICT codes) {
    uint32_t wide[kGroupValues];
    half_to_float(in, wide);
    return Int4<Fp32>::encode(lane, wide, first, key, codes);
  }
  SPW_HD static void decode(const HostLane& lane,
                            const Int4Group& group,
                            const uint8_t* SPW_RESTRICT codes,
                            uint16_t* SPW_RESTRICT out) {
    // Any zero point comes from memory: up to 128 + 15 steps.
    if (group.exponent + 8 > Fp16::kMaxFiniteAsFloat >> 23)
      return Int4<Fp16>::decode(lane, group, codes, out);
    uint32_t wide[kGroupValues];
    Int4<Fp32>::decode(lane, group, codes, wide);
    float_to_half(wide, out);
  }
};
#endif

template <typename Value, typename Grid>
struct Scaled8Tiles {
  using Word = typename Value::Word;

  SPW_HD static bool encode(const CodecTensor& t, uint64_t tile) {
    const Scaled8Layout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    uint8_t* scales = t.payload + layout.scales() + tile * kTileGroups;
    // All maxima first: no group waits for the end of its own search.
    uint32_t max[kTileGroups];
    for (uint32_t g = 0; g < range.groups; ++g) {
      PlainGroup<Word> plain(t.plain, t.values, range.first_group + g);
      max[g] = largest_magnitude<Value, HostLane>(plain.padded(false));
    }
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      scales[g] = static_cast<uint8_t>(Scaled8Groups<Value, Grid>::encode_below(
          HostLane{},
          max[g],
          plain.padded(false),
          t.payload + layout.codes() + group * kGroupValues));
    }
    for (uint32_t g = range.groups; g < kTileGroups; ++g) scales[g] = 0;
    return true;
  }

  SPW_HD static bool decode(const CodecTensor& t, uint64_t tile) {
    const Scaled8Layout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    const uint8_t* scales = t.payload + layout.scales() + tile * kTileGroups;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      Scaled8Groups<Value, Grid>::decode(
          HostLane{}, scales[g], t.payload + layout.codes() + group * kGroupValues, plain.target());
      plain.store();
    }
    return true;
  }
};

template <typename Value>
struct Int4Tiles {
  using Word = typename Value::Word;

  SPW_HD static bool encode(const CodecTensor& t, uint64_t tile) {
    const Int4Layout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    uint8_t* exponents = t.payload + layout.exponents() + tile * kTileGroups;
    uint8_t* zeros = t.payload + layout.zeros() + tile * kTileGroups;
    const RandomKey key{t.tensor_key, t.step};
    for (uint32_t g = 0; g < kTileGroups; ++g) {
      Int4Group coded;
      const uint64_t group = range.first_group + g;
      if (g < range.groups) {
        PlainGroup<Word> plain(t.plain, t.values, group);
        // Zeros would stretch the range of a short group that has none.
        coded = Int4Groups<Value>::encode(HostLane{},
                                          plain.padded(true),
                                          group * kGroupValues,
                                          key,
                                          t.payload + layout.codes() + group * (kGroupValues / 2));
      }
      exponents[g] = static_cast<uint8_t>(coded.exponent);
      zeros[g] = static_cast<uint8_t>(coded.zero);
    }
    return true;
  }

  SPW_HD static bool decode(const CodecTensor& t, uint64_t tile) {
    const Int4Layout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    const uint8_t* exponents = t.payload + layout.exponents() + tile * kTileGroups;
    const uint8_t* zeros = t.payload + layout.zeros() + tile * kTileGroups;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      Int4Groups<Value>::decode(HostLane{},
                                Int4Group{exponents[g], static_cast<signed char>(zeros[g])},
                                t.payload + layout.codes() + group * (kGroupValues / 2),
                                plain.target());
      plain.store();
    }
    return true;
  }
};

/// Of bf16, or of fp32 whose low halves are stored as they are.
template <typename WordType>
struct Lossless12Tiles {
  using Word = WordType;
  static constexpr bool kHasLow = sizeof(Word) == 4;

  SPW_HD static bool encode(const CodecTensor& t, uint64_t tile) {
    const Lossless12Layout layout(t.values, kHasLow);
    const TileRange range = groups_of_tile(t.values, tile);
    uint8_t* bases = t.payload + layout.bases() + tile * kTileGroups;
    uint16_t indices[Lossless12::kSlots];
    uint8_t exponents[Lossless12::kSlots];
    for (uint32_t i = 0; i < Lossless12::kSlots; ++i) {
      indices[i] = static_cast<uint16_t>(Lossless12::kNoIndex);
      exponents[i] = 0;
    }
    uint32_t escapes = 0;
    for (uint32_t g = 0; g < kTileGroups; ++g) {
      bases[g] = 0;
      if (g >= range.groups) continue;
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      const Word* in = plain.padded(false);
      uint16_t upper[kGroupValues];
      const uint16_t* high = split(in, upper, t.payload + layout.low() + group * layout.low_bytes);
      bool escaped = false;
      const uint32_t base =
          Lossless12::encode(HostLane{},
                             high,
                             t.payload + layout.bytes() + group * kGroupValues,
                             t.payload + layout.nibbles() + group * (kGroupValues / 2),
                             &escaped);
      bases[g] = static_cast<uint8_t>(base);
      if (escaped)
        escapes = Lossless12::append_escapes(HostLane{},
                                             high,
                                             base,
                                             g * static_cast<uint32_t>(kGroupValues),
                                             escapes,
                                             indices,
                                             exponents);
    }
    uint8_t* index_bytes = t.payload + layout.indices() + tile * 16;
    uint8_t* exponent_bytes = t.payload + layout.exponents() + tile * 8;
    for (uint32_t i = 0; i < Lossless12::kSlots; ++i) {
      index_bytes[2 * i] = static_cast<uint8_t>(indices[i]);
      index_bytes[2 * i + 1] = static_cast<uint8_t>(indices[i] >> 8);
      exponent_bytes[i] = exponents[i];
    }
    return escapes <= Lossless12::kSlots;
  }

  SPW_HD static bool decode(const CodecTensor& t, uint64_t tile) {
    const Lossless12Layout layout(t.values, kHasLow);
    const TileRange range = groups_of_tile(t.values, tile);
    const uint8_t* bases = t.payload + layout.bases() + tile * kTileGroups;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      uint16_t high[kGroupValues];
      Lossless12::decode(HostLane{},
                         bases[g],
                         t.payload + layout.bytes() + group * kGroupValues,
                         t.payload + layout.nibbles() + group * (kGroupValues / 2),
                         high);
      join(high, t.payload + layout.low() + group * layout.low_bytes, plain.target());
      plain.store();
    }
    const uint8_t* index_bytes = t.payload + layout.indices() + tile * 16;
    const uint8_t* exponent_bytes = t.payload + layout.exponents() + tile * 8;
    const uint64_t first = tile * kTileValues;
    const uint64_t count = smaller(t.values - first, kTileValues);
    bool sound = true;
    for (uint32_t i = 0; i < Lossless12::kSlots; ++i) {
      const uint32_t index = index_bytes[2 * i] | static_cast<uint32_t>(index_bytes[2 * i + 1])
                                                      << 8;
      if (index == Lossless12::kNoIndex) continue;
      if (index >= count) {
        sound = false;
        continue;
      }
      Word* at = static_cast<Word*>(t.plain) + first + index;
      if constexpr (kHasLow)
        *at = (*at & 0xffff) | static_cast<uint32_t>(Lossless12::patch(
                                   static_cast<uint16_t>(*at >> 16), exponent_bytes[i]))
                                   << 16;
      else
        *at = Lossless12::patch(*at, exponent_bytes[i]);
    }
    return sound;
  }

 private:
  SPW_HD static const uint16_t* split(const uint16_t* in, uint16_t*, uint8_t*) { return in; }
  SPW_HD static const uint16_t* split(const uint32_t* SPW_RESTRICT in,
                                      uint16_t* SPW_RESTRICT upper,
                                      uint8_t* SPW_RESTRICT low) {
    uint16_t lower[kGroupValues];
    for (uint32_t i = 0; i < kGroupValues; ++i) {
      upper[i] = static_cast<uint16_t>(in[i] >> 16);
      lower[i] = static_cast<uint16_t>(in[i]);
    }
    __builtin_memcpy(low, lower, sizeof(lower));
    return upper;
  }
  SPW_HD static void join(const uint16_t* high, const uint8_t*, uint16_t* out) {
    __builtin_memcpy(out, high, 2 * kGroupValues);
  }
  SPW_HD static void join(const uint16_t* SPW_RESTRICT high,
                          const uint8_t* SPW_RESTRICT low,
                          uint32_t* SPW_RESTRICT out) {
    uint16_t lower[kGroupValues];
    __builtin_memcpy(lower, low, sizeof(lower));
    for (uint32_t i = 0; i < kGroupValues; ++i)
      out[i] = static_cast<uint32_t>(high[i]) << 16 | lower[i];
  }
};

template <typename Rule>
struct MaskTiles {
  using Word = typename Rule::Word;

  SPW_HD static bool encode(const CodecTensor& t, uint64_t tile) {
    const BitmapLayout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    bool fits = true;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      const Word* in = plain.padded(false);
      fits = all_fit<Rule>(HostLane{}, in) && fits;
      encode_bits<Rule>(HostLane{}, in, t.payload + layout.bits() + group * (kGroupValues / 8));
    }
    return fits;
  }

  SPW_HD static bool decode(const CodecTensor& t, uint64_t tile) {
    const BitmapLayout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      decode_bits<Rule>(
          HostLane{}, t.payload + layout.bits() + group * (kGroupValues / 8), plain.target());
      plain.store();
    }
    return true;
  }
};

template <typename WordType>
struct SparseTiles {
  using Word = WordType;

  SPW_HD static bool encode(const CodecTensor& t, uint64_t tile) {
    const BitmapLayout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    const uint32_t capacity = BitmapLayout::capacity(t.sparse_capacity);
    Word* packed = packed_of(t, layout, tile, capacity);
    uint32_t count = 0;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      const Word* in = plain.padded(false);
      encode_bits<NonZero<Word>>(
          HostLane{}, in, t.payload + layout.bits() + group * (kGroupValues / 8));
      count = pack_values(HostLane{}, in, count, capacity, packed);
    }
    for (uint32_t i = count; i < capacity; ++i) packed[i] = 0;
    return count <= capacity;
  }

  SPW_HD static bool decode(const CodecTensor& t, uint64_t tile) {
    const BitmapLayout layout(t.values);
    const TileRange range = groups_of_tile(t.values, tile);
    const uint32_t capacity = BitmapLayout::capacity(t.sparse_capacity);
    const Word* packed = packed_of(t, layout, tile, capacity);
    uint32_t count = 0;
    for (uint32_t g = 0; g < range.groups; ++g) {
      const uint64_t group = range.first_group + g;
      PlainGroup<Word> plain(t.plain, t.values, group);
      count = unpack_values(HostLane{},
                            t.payload + layout.bits() + group * (kGroupValues / 8),
                            count,
                            capacity,
                            packed,
                            plain.target());
      plain.store();
    }
    return count <= capacity;
  }

 private:
  /// 16-byte aligned: every plane before it has a multiple of 16 bytes.
  SPW_HD static Word* packed_of(const CodecTensor& t,
                                const BitmapLayout& layout,
                                uint64_t tile,
                                uint32_t capacity) {
    return reinterpret_cast<Word*>(t.payload + layout.packed()) + tile * capacity;
  }
};

/// Sum over the words of `bytes` bytes at `data`, which begin with word `first_word` of the tensor.
SPW_HD uint64_t fingerprint_sum(const void* data, uint64_t bytes, uint64_t first_word) {
  const auto* at = static_cast<const uint8_t*>(data);
  const uint64_t words = bytes / 8;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < words; ++i) {
    uint64_t word;
    __builtin_memcpy(&word, at + 8 * i, 8);
    sum += mix(word, (first_word + i + 1) * kFingerprintStride);
  }
  if (bytes % 8 != 0) {
    uint64_t word = 0;
    __builtin_memcpy(&word, at + 8 * words, bytes % 8);
    sum += mix(word, (first_word + words + 1) * kFingerprintStride);
  }
  return sum;
}

}  // namespace spillway::SPW_BODY
