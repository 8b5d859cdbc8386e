// SPDX-License-Identifier: Apache-2.0
// Each codec's payload as a warp writes and reads it, step by step around the bodies. The bytes are
// those of kernels/body/host_tiles.hpp. A Tiles has payload_bytes(), an Encoder and a Decoder for
// one tile; PlainTile does the other side.
#pragma once

#include "kernels/body/bitmaps.hpp"
#include "kernels/body/int4.hpp"
#include "kernels/body/lossless12.hpp"
#include "kernels/body/lossless12_pairs.hpp"
#include "kernels/body/scaled8.hpp"
#include "kernels/cuda/plain_tile.hpp"

namespace spillway::SPW_BODY {

/// Appends a byte of step 0, 1, ...: after 8 of them that of step s is byte s.
SPW_HD uint64_t push_byte(uint64_t bytes, uint32_t byte) {
  return bytes >> 8 | static_cast<uint64_t>(byte) << 56;
}

template <typename Value, typename Grid>
struct WarpScaled8 {
  using Word = typename Value::Word;
  static constexpr bool kIsRandom = false;
  static constexpr bool kIsSparse = false;

  SPW_HD static uint64_t payload_bytes(uint64_t values, uint32_t) {
    return Scaled8Layout(values).scales() + tiles_of(values) * kTileGroups;
  }

  struct Encoder {
    uint8_t* codes;
    uint8_t* scales_at;
    uint64_t scales = 0;

    template <typename Lanes>
    SPW_HD Encoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Scaled8Layout layout(t.values);
      codes = t.payload + layout.codes() + tile * kTileValues + lanes.first();
      scales_at = t.payload + layout.scales() + tile * kTileGroups;
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const uint32_t* words, bool exists) {
      Word in[kLaneValues];
      unpack(words, in);
      uint8_t code[kLaneValues];
      const uint32_t exponent = Scaled8<Value, Grid>::encode(lanes, in, code);
      if (exists) store<8>(codes + s * kStepValues, code);
      scales = push_byte(scales, exists ? exponent : 0);
    }
    template <typename Lanes>
    SPW_HD bool finish(const Lanes& lanes) const {
      store_group_bytes(lanes, scales, scales_at);
      return true;
    }
  };

  struct Decoder {
    struct Loaded {
      uint8_t code[kLaneValues];
    };
    const uint8_t* codes;
    uint64_t scales;

    template <typename Lanes>
    SPW_HD Decoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Scaled8Layout layout(t.values);
      codes = t.payload + layout.codes() + tile * kTileValues + lanes.first();
      scales = load_group_bytes(lanes, t.payload + layout.scales() + tile * kTileGroups);
    }
    SPW_HD void load(uint32_t s, bool exists, Loaded* loaded) const {
      if (exists) load_stream<8>(loaded->code, codes + s * kStepValues);
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t, const Loaded& loaded, uint32_t* words) {
      Word out[kLaneValues];
      Scaled8<Value, Grid>::decode(lanes, static_cast<uint32_t>(scales & 0xff), loaded.code, out);
      pack(out, words);
      scales >>= 8;
    }
    SPW_HD bool finish() const { return true; }
  };
};

template <typename Value>
struct WarpInt4 {
  using Word = typename Value::Word;
  static constexpr bool kIsRandom = true;
  static constexpr bool kIsSparse = false;

  SPW_HD static uint64_t payload_bytes(uint64_t values, uint32_t) {
    return Int4Layout(values).zeros() + tiles_of(values) * kTileGroups;
  }

  struct Encoder {
    uint8_t* codes;
    uint8_t* exponents_at;
    uint8_t* zeros_at;
    uint64_t exponents = 0;
    uint64_t zeros = 0;
    uint64_t first;
    RandomKey key;

    template <typename Lanes>
    SPW_HD Encoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Int4Layout layout(t.values);
      first = tile * kTileValues + lanes.first();
      codes = t.payload + layout.codes() + first / 2;
      exponents_at = t.payload + layout.exponents() + tile * kTileGroups;
      zeros_at = t.payload + layout.zeros() + tile * kTileGroups;
      key = {t.tensor_key, t.step};
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const uint32_t* words, bool exists) {
      Word in[kLaneValues];
      unpack(words, in);
      uint8_t code[kLaneValues / 2];
      const Int4Group group = Int4<Value>::encode(lanes, in, first + s * kStepValues, key, code);
      if (exists) store<4>(codes + s * (kStepValues / 2), code);
      exponents = push_byte(exponents, exists ? group.exponent : 0);
      zeros = push_byte(zeros, exists ? static_cast<uint8_t>(group.zero) : 0);
    }
    template <typename Lanes>
    SPW_HD bool finish(const Lanes& lanes) const {
      store_group_bytes(lanes, exponents, exponents_at);
      store_group_bytes(lanes, zeros, zeros_at);
      return true;
    }
  };

  struct Decoder {
    struct Loaded {
      uint8_t code[kLaneValues / 2];
    };
    const uint8_t* codes;
    uint64_t exponents;
    uint64_t zeros;

    template <typename Lanes>
    SPW_HD Decoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Int4Layout layout(t.values);
      codes = t.payload + layout.codes() + (tile * kTileValues + lanes.first()) / 2;
      exponents = load_group_bytes(lanes, t.payload + layout.exponents() + tile * kTileGroups);
      zeros = load_group_bytes(lanes, t.payload + layout.zeros() + tile * kTileGroups);
    }
    SPW_HD void load(uint32_t s, bool exists, Loaded* loaded) const {
      if (exists) load_stream<4>(loaded->code, codes + s * (kStepValues / 2));
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t, const Loaded& loaded, uint32_t* words) {
      const Int4Group group{static_cast<uint32_t>(exponents & 0xff),
                            static_cast<signed char>(zeros & 0xff)};
      Word out[kLaneValues];
      Int4<Value>::decode(lanes, group, loaded.code, out);
      pack(out, words);
      exponents >>= 8;
      zeros >>= 8;
    }
    SPW_HD bool finish() const { return true; }
  };
};

/// Of bf16, or of fp32 whose low halves are stored as they are.
template <typename WordType>
struct WarpLossless12 {
  using Word = WordType;
  static constexpr bool kIsRandom = false;
  static constexpr bool kIsSparse = false;
  static constexpr bool kHasLow = sizeof(Word) == 4;
  static constexpr uint32_t kSlots = Lossless12::kSlots;

  SPW_HD static uint64_t payload_bytes(uint64_t values, uint32_t) {
    const Lossless12Layout layout(values, kHasLow);
    return layout.exponents() + layout.tiles * kSlots;
  }

  struct Encoder {
    uint8_t* bytes;
    uint8_t* nibbles;
    uint8_t* low;
    uint8_t* bases_at;
    uint16_t* indices;
    uint8_t* exponents;
    uint64_t bases = 0;
    uint32_t escapes = 0;  // so far, the same on all lanes

    template <typename Lanes>
    SPW_HD Encoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Lossless12Layout layout(t.values, kHasLow);
      const uint64_t first = tile * kTileValues + lanes.first();
      bytes = t.payload + layout.bytes() + first;
      nibbles = t.payload + layout.nibbles() + first / 2;
      low = t.payload + layout.low() + first * 2;
      bases_at = t.payload + layout.bases() + tile * kTileGroups;
      indices = reinterpret_cast<uint16_t*>(t.payload + layout.indices() + tile * 16);
      exponents = t.payload + layout.exponents() + tile * kSlots;
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const uint32_t* words, bool exists) {
      uint32_t upper[kLaneValues / 2];
      uint32_t lower[kLaneValues / 2];
      split(words, upper, lower);
      uint32_t byte[2];
      uint32_t nibble;
      bool escaped = false;
      const uint32_t base = Lossless12Pairs::encode(lanes, upper, byte, &nibble, &escaped);
      if (exists) {
        store<8>(bytes + s * kStepValues, byte);
        store<4>(nibbles + s * (kStepValues / 2), &nibble);
        if constexpr (kHasLow) store<16>(low + s * (kStepValues * 2), lower);
      }
      bases = push_byte(bases, exists ? base : 0);
      if (lanes.any(escaped)) {
        uint16_t high[kLaneValues];
        unpack(upper, high);
        escapes = Lossless12::append_escapes(
            lanes, high, base, s * kStepValues + lanes.first(), escapes, indices, exponents);
      }
    }
    /// Slots that no escape took are written here; those of escapes were.
    template <typename Lanes>
    SPW_HD bool finish(const Lanes& lanes) const {
      store_group_bytes(lanes, bases, bases_at);
      const uint32_t lane = lanes.lane();
      if (escapes == 0) {
        if (lane == 0) {
          const uint32_t none[4] = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
          const uint32_t zero[2] = {0, 0};
          store<16>(indices, none);
          store<8>(exponents, zero);
        }
      } else if (lane >= escapes && lane < kSlots) {
        indices[lane] = static_cast<uint16_t>(Lossless12::kNoIndex);
        exponents[lane] = 0;
      }
      return escapes <= kSlots;
    }

   private:
    /// Upper and lower halves, two a word; of bf16 there is only an upper one.
    SPW_HD static void split(const uint32_t* SPW_RESTRICT words,
                             uint32_t* SPW_RESTRICT upper,
                             uint32_t* SPW_RESTRICT lower) {
      SPW_UNROLL
      for (uint32_t i = 0; i < kLaneValues / 2; ++i) {
        if constexpr (kHasLow) {
          upper[i] = words[2 * i] >> 16 | (words[2 * i + 1] & 0xffff0000);
          lower[i] = (words[2 * i] & 0xffff) | words[2 * i + 1] << 16;
        } else {
          upper[i] = words[i];
          lower[i] = 0;
        }
      }
    }
  };

  struct Decoder {
    struct Loaded {
      uint32_t byte[2];
      uint32_t nibble;
      uint32_t low[kHasLow ? kLaneValues / 2 : 1];
    };
    const uint8_t* bytes;
    const uint8_t* nibbles;
    const uint8_t* low;
    uint64_t bases;
    uint64_t exponents;    // of the slots, a byte each
    uint64_t index[2];     // of the slots, 16 bits each
    uint32_t tile_values;  // escapes point below

    template <typename Lanes>
    SPW_HD Decoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const Lossless12Layout layout(t.values, kHasLow);
      const uint64_t first = tile * kTileValues + lanes.first();
      bytes = t.payload + layout.bytes() + first;
      nibbles = t.payload + layout.nibbles() + first / 2;
      low = t.payload + layout.low() + first * 2;
      bases = load_group_bytes(lanes, t.payload + layout.bases() + tile * kTileGroups);
      load_stream<16>(index, t.payload + layout.indices() + tile * 16);
      load_stream<8>(&exponents, t.payload + layout.exponents() + tile * kSlots);
      tile_values = static_cast<uint32_t>(smaller(t.values - tile * kTileValues, kTileValues));
    }
    SPW_HD void load(uint32_t s, bool exists, Loaded* loaded) const {
      if (!exists) return;
      load_stream<8>(loaded->byte, bytes + s * kStepValues);
      load_stream<4>(&loaded->nibble, nibbles + s * (kStepValues / 2));
      if constexpr (kHasLow) load_stream<16>(loaded->low, low + s * (kStepValues * 2));
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const Loaded& loaded, uint32_t* words) {
      uint32_t upper[kLaneValues / 2];
      Lossless12Pairs::decode(
          static_cast<uint32_t>(bases & 0xff), loaded.byte, loaded.nibble, upper);
      bases >>= 8;
      if ((index[0] & index[1]) != ~uint64_t{0}) {
        uint16_t high[kLaneValues];
        unpack(upper, high);
        patch(s * kStepValues + lanes.first(), high);
        pack(high, upper);
      }
      SPW_UNROLL
      for (uint32_t i = 0; i < kLaneValues / 2; ++i) {
        if constexpr (kHasLow) {
          words[2 * i] = upper[i] << 16 | (loaded.low[i] & 0xffff);
          words[2 * i + 1] = (upper[i] & 0xffff0000) | loaded.low[i] >> 16;
        } else {
          words[i] = upper[i];
        }
      }
    }
    SPW_HD bool finish() const {
      uint32_t bad = 0;
      SPW_UNROLL
      for (uint32_t i = 0; i < kSlots; ++i)
        bad |= slot(i) >= tile_values && slot(i) != Lossless12::kNoIndex ? 1u : 0u;
      return bad == 0;
    }

   private:
    SPW_HD uint32_t slot(uint32_t i) const {
      return static_cast<uint32_t>(index[i / 4] >> (16 * (i % 4))) & 0xffff;
    }
    /// In the order of the slots, as on the host: of two with one index the later one holds.
    SPW_HD void patch(uint32_t first, uint16_t* high) const {
      SPW_UNROLL
      for (uint32_t i = 0; i < kSlots; ++i) {
        const uint32_t at = slot(i) - first;
        if (at >= kLaneValues) continue;
        const uint32_t exponent = static_cast<uint32_t>(exponents >> (8 * i)) & 0xff;
        SPW_UNROLL
        for (uint32_t j = 0; j < kLaneValues; ++j)
          if (at == j) high[j] = Lossless12::patch(high[j], exponent);
      }
    }
  };
};

template <typename Rule>
struct WarpMask {
  using Word = typename Rule::Word;
  static constexpr bool kIsRandom = false;
  static constexpr bool kIsSparse = false;

  SPW_HD static uint64_t payload_bytes(uint64_t values, uint32_t) {
    return BitmapLayout(values).packed();
  }

  struct Encoder {
    uint8_t* bits;
    bool fits = true;

    template <typename Lanes>
    SPW_HD Encoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      bits = t.payload + BitmapLayout(t.values).bits() + (tile * kTileValues + lanes.first()) / 8;
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const uint32_t* words, bool exists) {
      Word in[kLaneValues];
      unpack(words, in);
      fits = all_fit<Rule>(lanes, in) && fits;
      uint8_t byte[1];
      encode_bits<Rule>(lanes, in, byte);
      if (exists) store<1>(bits + s * (kStepValues / 8), byte);
    }
    template <typename Lanes>
    SPW_HD bool finish(const Lanes&) const {
      return fits;
    }
  };

  struct Decoder {
    struct Loaded {
      uint8_t byte[1];
    };
    const uint8_t* bits;

    template <typename Lanes>
    SPW_HD Decoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      bits = t.payload + BitmapLayout(t.values).bits() + (tile * kTileValues + lanes.first()) / 8;
    }
    SPW_HD void load(uint32_t s, bool exists, Loaded* loaded) const {
      if (exists) load_stream<1>(loaded->byte, bits + s * (kStepValues / 8));
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t, const Loaded& loaded, uint32_t* words) {
      Word out[kLaneValues];
      decode_bits<Rule>(lanes, loaded.byte, out);
      pack(out, words);
    }
    SPW_HD bool finish() const { return true; }
  };
};

template <typename WordType>
struct WarpSparse {
  using Word = WordType;
  static constexpr bool kIsRandom = false;
  static constexpr bool kIsSparse = true;

  SPW_HD static uint64_t payload_bytes(uint64_t values, uint32_t sixteenths) {
    return BitmapLayout(values).packed() +
           tiles_of(values) * BitmapLayout::capacity(sixteenths) * sizeof(Word);
  }

  /// The two planes of a tile.
  struct Planes {
    uint8_t* bits;
    Word* packed;
    uint32_t capacity;

    template <typename Lanes>
    SPW_HD Planes(const Lanes& lanes, const CodecTensor& t, uint64_t tile) {
      const BitmapLayout layout(t.values);
      capacity = BitmapLayout::capacity(t.sparse_capacity);
      bits = t.payload + layout.bits() + (tile * kTileValues + lanes.first()) / 8;
      packed = reinterpret_cast<Word*>(t.payload + layout.packed()) + tile * capacity;
    }
  };

  struct Encoder : Planes {
    uint32_t count = 0;  // so far, the same on all lanes

    template <typename Lanes>
    SPW_HD Encoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile)
        : Planes(lanes, t, tile) {}
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t s, const uint32_t* words, bool exists) {
      Word in[kLaneValues];
      unpack(words, in);
      uint8_t byte[1];
      encode_bits<NonZero<Word>>(lanes, in, byte);
      if (exists) store<1>(this->bits + s * (kStepValues / 8), byte);
      count = pack_values(lanes, in, count, this->capacity, this->packed);
    }
    template <typename Lanes>
    SPW_HD bool finish(const Lanes& lanes) const {
      for (uint32_t i = count + lanes.lane(); i < this->capacity; i += 32) this->packed[i] = 0;
      return count <= this->capacity;
    }
  };

  struct Decoder : Planes {
    struct Loaded {
      uint8_t byte[1];
    };
    uint32_t count = 0;

    template <typename Lanes>
    SPW_HD Decoder(const Lanes& lanes, const CodecTensor& t, uint64_t tile)
        : Planes(lanes, t, tile) {}
    SPW_HD void load(uint32_t s, bool exists, Loaded* loaded) const {
      if (exists) load_stream<1>(loaded->byte, this->bits + s * (kStepValues / 8));
    }
    template <typename Lanes>
    SPW_HD void step(const Lanes& lanes, uint32_t, const Loaded& loaded, uint32_t* words) {
      Word out[kLaneValues];
      count = unpack_values(lanes, loaded.byte, count, this->capacity, this->packed, out);
      pack(out, words);
    }
    SPW_HD bool finish() const { return count <= this->capacity; }
  };
};

}  // namespace spillway::SPW_BODY
