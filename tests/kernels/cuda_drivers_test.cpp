// SPDX-License-Identifier: Apache-2.0
// The drivers that the CUDA kernels run, on emulated warps of 32 lanes, against the host's path:
// the same bytes of payload, the same values back, the same fingerprints and misfits, for every
// tail, for tables of many tensors and for payloads that somebody has damaged.
#include "core/random.hpp"
#include "kernels/host_codec.hpp"
#include "tests/kernels/cuda_table.hpp"
#include "tests/kernels/lab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

using namespace spillway;
using codec_lab::Buffer;
using test::EmulatedTable;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kLengthStep = 11;  // ten times as slow there
#else
constexpr std::uint64_t kLengthStep = 1;
#endif

/// Values of several kinds: alike in size, of any bit pattern, half of them zero, positive ones.
Buffer random_values(Dtype dtype, std::uint64_t count, Random* random) {
  Buffer out(count * dtype_bytes(dtype));
  const std::uint64_t kind = random->below(6);
  const unsigned bits = dtype_bytes(dtype) * 8;
  const unsigned mantissa_bits = dtype == Dtype::kFp32 ? 23 : dtype == Dtype::kBf16 ? 7 : 10;
  const std::uint64_t top = dtype == Dtype::kFp16 ? 8 + random->below(20) : 20 + random->below(230);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t raw = random->next();
    const std::uint64_t mantissa = raw & ((1ull << mantissa_bits) - 1);
    const std::uint64_t sign = raw >> 40 & 1;
    if (dtype == Dtype::kBool) {
      raw &= kind == 0 && random->below(64) == 0 ? 0xffu : 1u;
    } else if (kind != 0) {
      // Sizes within 2^6; now and then far smaller.
      const std::uint64_t below = random->below(kind == 1 ? 24 : 7);
      raw = sign << (bits - 1) | (top > below ? top - below : 0) << mantissa_bits | mantissa;
      if (kind == 2 && random->below(2) == 0) raw = 0;
      if (kind == 3) raw &= (1ull << (bits - 1)) - 1;
      if (kind == 4 && random->below(97) == 0) raw = random->next();
      if (kind == 5 && random->below(300) == 0)
        raw = ((1ull << (bits - 1)) - (1ull << mantissa_bits)) | (sign << (bits - 1)) |
              (random->below(2) == 0 ? mantissa : 0);
    }
    for (unsigned b = 0; b < bits / 8; ++b)
      out.set<std::uint8_t>(i * (bits / 8) + b, static_cast<std::uint8_t>(raw >> (8 * b)));
  }
  return out;
}

bool same(const Buffer& a, const Buffer& b) { return codec_lab::same_bytes(a, b); }

template <typename Tiles>
struct Judge {
  Codec codec;
  Dtype dtype;

  [[nodiscard]] CodecFormat format(std::uint8_t capacity) const { return {codec, dtype, capacity}; }

  /// Tensors of these lengths in one table, over so many blocks, there and back.
  void check(const std::vector<std::uint64_t>& lengths,
             std::uint32_t blocks,
             Random* random) const {
    const auto capacity = static_cast<std::uint8_t>(1 + random->below(16));
    const CodecFormat f = format(capacity);
    const std::uint64_t step = random->next();
    std::vector<Buffer> plain;
    std::vector<Buffer> expected;
    std::vector<Buffer> payload;
    std::vector<Buffer> back;
    std::vector<std::uint64_t> keys;
    std::vector<std::uint64_t> sums;
    std::vector<std::uint32_t> misfits;
    EmulatedTable encodes(codec, dtype);
    encodes.set_step(step);
    for (const std::uint64_t values : lengths) {
      plain.push_back(random_values(dtype, values, random));
      expected.emplace_back(f.payload_bytes_for(values), static_cast<unsigned char>(0x11));
      payload.emplace_back(f.payload_bytes_for(values), static_cast<unsigned char>(0xee));
      keys.push_back(random->next());
      std::uint64_t sum = 0;
      HostCodecOptions options;
      options.threads = 1;
      options.tensor_key = keys.back();
      options.step = step;
      options.fingerprint = &sum;
      const auto encoded = encode(f, plain.back().span(), expected.back().span(), options);
      REQUIRE_MESSAGE(encoded.ok(), encoded.status().message());
      misfits.push_back(encoded.value().misfit_tiles == 0 ? 0 : kMisfitTile);
      sums.push_back(sum);
      encodes.add(
          plain.back().data(), payload.back().data(), values, keys.back(), f.sparse_capacity);
    }
    REQUIRE(encodes.run_codec<Tiles, true>(blocks, random->next()));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      CAPTURE(i);
      CAPTURE(lengths[i]);
      REQUIRE(same(payload[i], expected[i]));
      REQUIRE(encodes.fingerprints[i] == sums[i]);
      REQUIRE(encodes.misfits[i] == misfits[i]);
    }
    // Some payloads are damaged, some so badly that the header tells.
    EmulatedTable decodes(codec, dtype);
    std::vector<Buffer> decoded;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::uint64_t damage = random->below(4);
      for (std::uint64_t n = damage == 1 ? 8 : 0; n > 0; --n)
        payload[i].set<std::uint8_t>(
            kCodecHeaderBytes + random->below(payload[i].size() - kCodecHeaderBytes),
            static_cast<std::uint8_t>(random->next()));
      if (damage == 2) {
        const std::uint64_t at = random->below(kCodecHeaderBytes);
        payload[i].set<std::uint8_t>(
            at,
            static_cast<std::uint8_t>(payload[i].at<std::uint8_t>(at) ^ (1 + random->below(255))));
      }
      decoded.emplace_back(plain[i].size(), static_cast<unsigned char>(0x33));
      back.emplace_back(plain[i].size(), static_cast<unsigned char>(0x33));
      HostCodecOptions options;
      options.threads = 1;
      sums[i] = 0;
      options.fingerprint = &sums[i];
      const Status status = decode(payload[i].span(), decoded.back().span(), options);
      misfits[i] = status.ok() ? 0 : damage == 2 ? kMisfitHeader : kMisfitTile;
      if (damage == 2) REQUIRE(!status.ok());
      decodes.add(back.back().data(), payload[i].data(), lengths[i], 0, f.sparse_capacity);
    }
    REQUIRE(decodes.run_codec<Tiles, false>(blocks, random->next()));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      CAPTURE(i);
      CAPTURE(lengths[i]);
      REQUIRE(same(back[i], decoded[i]));
      REQUIRE(decodes.fingerprints[i] == sums[i]);
      REQUIRE(decodes.misfits[i] == misfits[i]);
    }
  }

  void check_all(std::uint64_t seed) const {
    std::printf("%s of %s: seed %llu\n",
                std::string(name_of(codec)).c_str(),
                std::string(name_of(dtype)).c_str(),
                static_cast<unsigned long long>(seed));
    Random random(seed);
    for (std::uint64_t length = 1; length <= 300; length += kLengthStep)
      check({length}, 1, &random);
    // Ends around a group, a step, a tile; several tensors a warp, several warps a tensor.
    check({128, 256, 1920, 2047, 2048, 2049, 4096 + 129}, 2, &random);
    check({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}, 1, &random);
    check({20000, 1, 1, 9000, 2048 * 9, 3}, 3, &random);
    check({30000}, 1, &random);
  }
};

template <typename Tiles>
void check_codec(Codec codec, Dtype dtype, std::uint64_t seed) {
  Judge<Tiles>{codec, dtype}.check_all(seed);
}

/// Every code at every scale, two groups of codes a scale.
template <typename Tiles>
void check_codes(Codec codec, Dtype dtype) {
  CAPTURE(name_of(codec));
  CAPTURE(name_of(dtype));
  constexpr std::uint64_t kValues = 256 * 256;
  const CodecFormat format{codec, dtype};
  const Buffer plain(kValues * dtype_bytes(dtype), 0);
  const Buffer payload(format.payload_bytes_for(kValues));
  HostCodecOptions options;
  options.threads = 1;
  REQUIRE(encode(format, plain.span(), payload.span(), options).ok());
  for (std::uint64_t i = 0; i < kValues; ++i)
    payload.data()[kCodecHeaderBytes + i] = static_cast<std::byte>(i);
  for (std::uint64_t group = 0; group < kValues / 128; ++group)
    payload.data()[kCodecHeaderBytes + kValues + group] = static_cast<std::byte>(group / 2);
  const Buffer expected(plain.size());
  REQUIRE(decode(payload.span(), expected.span(), options).ok());
  const Buffer back(plain.size());
  EmulatedTable table(codec, dtype);
  table.add(back.data(), payload.data(), kValues);
  REQUIRE(table.run_codec<Tiles, false>(1, 1));
  CHECK(same(back, expected));
}

using namespace spillway::body;

template <template <typename> class Of>
void check_codes_of_three(Codec codec) {
  check_codes<Of<Bf16>>(codec, Dtype::kBf16);
  check_codes<Of<Fp16>>(codec, Dtype::kFp16);
  check_codes<Of<Fp32>>(codec, Dtype::kFp32);
}

template <template <typename> class Of>
void check_three(Codec codec, std::uint64_t seed) {
  check_codec<Of<Bf16>>(codec, Dtype::kBf16, seed);
  check_codec<Of<Fp16>>(codec, Dtype::kFp16, seed + 1);
  check_codec<Of<Fp32>>(codec, Dtype::kFp32, seed + 2);
}
template <typename Value>
using Int8Of = WarpScaled8<Value, Int8Grid>;
template <typename Value>
using E4m3Of = WarpScaled8<Value, E4m3Grid>;
template <typename Value>
using E5m2Of = WarpScaled8<Value, E5m2Grid>;
template <typename Value>
using MaskOf = WarpMask<Positive<Value>>;

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("int8 by emulated warps has the host's bits") { check_three<Int8Of>(Codec::kInt8, 1); }
  TEST_CASE("fp8-e4m3 by emulated warps has the host's bits") {
    check_three<E4m3Of>(Codec::kFp8E4m3, 11);
  }
  TEST_CASE("fp8-e5m2 by emulated warps has the host's bits") {
    check_three<E5m2Of>(Codec::kFp8E5m2, 21);
  }
  TEST_CASE("int4 by emulated warps has the host's bits") {
    check_three<WarpInt4>(Codec::kInt4, 31);
  }
  TEST_CASE("lossless12 by emulated warps has the host's bits, escapes past the slots too") {
    check_codec<WarpLossless12<std::uint16_t>>(Codec::kLossless12, Dtype::kBf16, 41);
    check_codec<WarpLossless12<std::uint32_t>>(Codec::kLossless12, Dtype::kFp32, 42);
  }
  TEST_CASE("mask1 by emulated warps has the host's bits") {
    check_codec<WarpMask<Boolean>>(Codec::kMask1, Dtype::kBool, 50);
    check_three<MaskOf>(Codec::kMask1, 51);
  }
  TEST_CASE("sparse by emulated warps has the host's bits, tiles past the capacity too") {
    check_codec<WarpSparse<std::uint16_t>>(Codec::kSparse, Dtype::kBf16, 61);
    check_codec<WarpSparse<std::uint16_t>>(Codec::kSparse, Dtype::kFp16, 62);
    check_codec<WarpSparse<std::uint32_t>>(Codec::kSparse, Dtype::kFp32, 63);
  }

  TEST_CASE("every code at every scale is decoded by emulated warps as by the host") {
    check_codes_of_three<Int8Of>(Codec::kInt8);
    check_codes_of_three<E4m3Of>(Codec::kFp8E4m3);
    check_codes_of_three<E5m2Of>(Codec::kFp8E5m2);
  }

  TEST_CASE("copies and fingerprints by emulated warps are those of the host") {
    std::printf("seed 71\n");
    Random random(71);
    std::vector<std::vector<std::uint64_t>> tables;
    for (std::uint64_t length = 1; length <= 300; length += kLengthStep) tables.push_back({length});
    tables.push_back({511, 512, 513, 2047, 2048, 2049, 5000, 100000});
    for (const std::vector<std::uint64_t>& lengths : tables) {
      std::vector<Buffer> plain;
      std::vector<Buffer> copies;
      std::vector<Buffer> blocks;
      EmulatedTable copy(Codec::kNone, Dtype::kUnknown);
      EmulatedTable sum(Codec::kNone, Dtype::kUnknown);
      EmulatedTable block(Codec::kNone, Dtype::kUnknown);
      for (const std::uint64_t bytes : lengths) {
        plain.emplace_back(bytes);
        for (std::uint64_t i = 0; i < bytes; ++i)
          plain.back().set<std::uint8_t>(i, static_cast<std::uint8_t>(random.next()));
        copies.emplace_back(bytes);
        blocks.emplace_back((bytes + 511) / 512 * 8);
        copy.add(plain.back().data(), copies.back().data(), bytes);
        sum.add(plain.back().data(), nullptr, bytes);
        block.add(plain.back().data(), blocks.back().data(), bytes);
      }
      copy.reports = lengths.size() > 1;
      REQUIRE(copy.run_bytes<ByteWork::kCopy>(2, random.next()));
      REQUIRE(sum.run_bytes<ByteWork::kSum>(3, random.next()));
      REQUIRE(block.run_bytes<ByteWork::kBlocks>(1, random.next()));
      for (std::size_t i = 0; i < lengths.size(); ++i) {
        CAPTURE(lengths[i]);
        const std::uint64_t expected = fingerprint(plain[i].span());
        REQUIRE(same(plain[i], copies[i]));
        REQUIRE(copy.fingerprints[i] == (copy.reports ? expected : 0));
        REQUIRE(sum.fingerprints[i] == expected);
        const std::vector<std::uint64_t> all = fingerprint_blocks(plain[i].span());
        REQUIRE(all.size() * 8 == blocks[i].size());
        REQUIRE(std::memcmp(all.data(), blocks[i].data(), blocks[i].size()) == 0);
      }
    }
  }

  TEST_CASE("lanes that do not meet alike are reported and not waited for") {
    test::WarpEmulator warp(1);
    using Lanes = test::WarpEmulator::Lanes;
    CHECK(warp.run([](const Lanes& lanes) { static_cast<void>(lanes.sum(1)); }));
    CHECK_FALSE(warp.run([](const Lanes& lanes) {
      if (lanes.lane() != 7) static_cast<void>(lanes.sum(1));
    }));
    CHECK_FALSE(warp.run([](const Lanes& lanes) {
      if (lanes.lane() < 16)
        static_cast<void>(lanes.any(false));
      else
        static_cast<void>(lanes.group_max(1));
    }));
  }
}

TEST_SUITE("unit") {
  TEST_CASE("every tile of a launch belongs to one warp, whatever the grid") {
    for (const std::uint32_t total : {1u, 7u, 8u, 9u, 64u, 1000u, 1057u}) {
      for (const std::uint32_t blocks : {1u, 2u, 3u, 17u, 132u}) {
        std::vector<int> taken(total, 0);
        for (std::uint32_t block = 0; block < blocks; ++block) {
          for (std::uint32_t w = 0; w < kCodecBlockWarps; ++w) {
            const TileWalk walk = tiles_of_warp(total, block, blocks, w);
            for (std::uint32_t t = walk.first; t < walk.end; t += walk.stride) ++taken[t];
          }
        }
        CAPTURE(total);
        CAPTURE(blocks);
        CHECK(std::count(taken.begin(), taken.end(), 1) == total);
      }
    }
  }
}
