// SPDX-License-Identifier: Apache-2.0
// lossless12, sparse and mask1: every bit pattern comes back, or the encoder says that it does not.
#include "core/random.hpp"
#include "tests/kernels/lab.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace spillway {
namespace {

using codec_lab::Buffer;
using codec_lab::buffer_of;
using codec_lab::raw_at;
using codec_lab::round_trip;
using codec_lab::RoundTrip;
using codec_lab::same_bytes;

std::uint32_t exponent_of(std::uint32_t high) { return high >> 7 & 0xff; }

/// How many values of a tile need an escape, by the definition: the base of a group is its largest
/// exponent below 255, exponents 0 to 14 below it have a code, zero exponents have one of their
/// own.
std::size_t escapes_of(std::span<const std::uint32_t> highs) {
  std::size_t escapes = 0;
  for (std::size_t begin = 0; begin < highs.size(); begin += kCodecGroupValues) {
    const std::size_t end = std::min<std::size_t>(begin + kCodecGroupValues, highs.size());
    int base = -1;  // 255 counts as -1
    for (std::size_t i = begin; i < end; ++i)
      if (exponent_of(highs[i]) != 255)
        base = std::max(base, static_cast<int>(exponent_of(highs[i])));
    for (std::size_t i = begin; i < end; ++i) {
      const auto exponent = static_cast<int>(exponent_of(highs[i]));
      if (exponent == 0) continue;
      if (base - (exponent == 255 ? -1 : exponent) > 14) ++escapes;
    }
  }
  return escapes;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("lossless12 returns all 65,536 patterns in groups of like exponents") {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
      std::vector<std::uint32_t> raw;
      // 14 exponents share a window; groups run through all patterns in that order.
      for (std::uint32_t pattern = 0; pattern < 65536; ++pattern)
        raw.push_back(dtype == Dtype::kBf16 ? pattern
                                            : pattern << 16 | (pattern * 40503u & 0xffff));
      const Buffer source = buffer_of(dtype, raw);
      const RoundTrip trip = round_trip({Codec::kLossless12, dtype}, source);
      CHECK(trip.misfits == 0);
      CHECK(same_bytes(trip.back, source));
    }
  }

  TEST_CASE("lossless12 holds any arrangement of patterns or counts the tile as a misfit") {
    const std::uint64_t seed = 7;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='lossless12 holds any*'");
    Random random(seed);
    int held = 0;
    int refused = 0;
    for (int round = 0; round < 600; ++round) {
      const Dtype dtype = round % 2 == 0 ? Dtype::kBf16 : Dtype::kFp32;
      const std::size_t count = 1 + random.below(2048);
      // Mostly one window of exponents, and so many strangers: none to far too many.
      const std::uint64_t strangers = random.below(13);
      const auto center = static_cast<std::uint32_t>(random.below(256));
      std::vector<std::uint32_t> highs(count);
      for (std::uint32_t& high : highs) {
        const auto exponent =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(center + random.below(8), 255));
        high = static_cast<std::uint32_t>(random.below(2)) << 15 | exponent << 7 |
               static_cast<std::uint32_t>(random.below(128));
      }
      for (std::uint64_t i = 0; i < strangers; ++i)
        highs[random.below(count)] = static_cast<std::uint32_t>(random.below(65536));
      std::vector<std::uint32_t> raw = highs;
      if (dtype == Dtype::kFp32)
        for (std::uint32_t& value : raw)
          value = value << 16 | static_cast<std::uint32_t>(random.below(65536));
      const Buffer source = buffer_of(dtype, raw);
      const RoundTrip trip = round_trip({Codec::kLossless12, dtype}, source);
      const bool fits = escapes_of(highs) <= kLossless12EscapeSlots;
      CHECK((trip.misfits == 0) == fits);
      if (fits) CHECK(same_bytes(trip.back, source));
      ++(fits ? held : refused);
    }
    CHECK(held > 100);
    CHECK(refused > 20);
  }

  TEST_CASE("lossless12's list takes exactly its slots, at either end of the tile") {
    for (const std::size_t escapes : {0u, 1u, 7u, 8u, 9u, 100u})
      for (const bool at_end : {false, true}) {
        std::vector<std::uint32_t> raw(2048, 0x3f80);
        // Spread over groups, so that each group keeps its base.
        for (std::size_t i = 0; i < escapes; ++i)
          raw[at_end ? 2047 - i : i] = 0x0080 | static_cast<std::uint32_t>(i);
        const Buffer source = buffer_of(Dtype::kBf16, raw);
        const RoundTrip trip = round_trip({Codec::kLossless12, Dtype::kBf16}, source);
        CHECK((trip.misfits == 0) == (escapes <= 8));
        if (escapes <= 8) CHECK(same_bytes(trip.back, source));
      }
  }

  TEST_CASE("one Inf among small values costs lossless12 one slot, not the group") {
    std::vector<std::uint32_t> raw(128, 0x3c00);
    raw[17] = 0x7f80;
    raw[90] = 0xffc1;
    const Buffer source = buffer_of(Dtype::kBf16, raw);
    const RoundTrip trip = round_trip({Codec::kLossless12, Dtype::kBf16}, source);
    CHECK(trip.misfits == 0);
    CHECK(same_bytes(trip.back, source));
  }

  TEST_CASE("sparse holds what its capacity allows, bit for bit, and says when it does not") {
    const std::uint64_t seed = 11;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='sparse holds*'");
    Random random(seed);
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32})
      for (int capacity = 1; capacity <= 16; ++capacity)
        for (const int over : {-1, 0, 1}) {
          // So many non-zero values in the second tile of three.
          const auto room = static_cast<std::size_t>(128 * capacity);
          const std::size_t filled = room + static_cast<std::size_t>(over + 1) - 1;
          if (filled > 2048) continue;
          std::vector<std::uint32_t> raw(2048 + 2048 + 77, 0);
          for (std::size_t i = 0; i < filled; ++i)
            raw[2048 + i] = 1 + static_cast<std::uint32_t>(random.below(0xffff));
          for (std::size_t i = filled; i-- > 0;)
            std::swap(raw[2048 + i], raw[2048 + i + random.below(2048 - i)]);
          raw[3] = dtype == Dtype::kFp32 ? 0x80000000 : 0x8000;  // -0 is a value
          raw[4100] = 0x7f81;
          const Buffer source = buffer_of(dtype, raw);
          const CodecFormat format{Codec::kSparse, dtype, static_cast<std::uint8_t>(capacity)};
          const RoundTrip trip = round_trip(format, source);
          CHECK((trip.misfits != 0) == (over > 0));
          if (over <= 0) CHECK(same_bytes(trip.back, source));
        }
  }

  TEST_CASE("mask1 returns booleans, and whether a value is positive") {
    std::vector<std::uint32_t> raw(300);
    for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = i % 3 == 0 ? 1 : 0;
    const Buffer booleans = buffer_of(Dtype::kBool, raw);
    const RoundTrip exact = round_trip({Codec::kMask1, Dtype::kBool}, booleans);
    CHECK(exact.misfits == 0);
    CHECK(same_bytes(exact.back, booleans));

    raw[299] = 2;
    CHECK(round_trip({Codec::kMask1, Dtype::kBool}, buffer_of(Dtype::kBool, raw)).misfits == 1);

    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16}) {
      std::vector<std::uint32_t> all(65536);
      for (std::uint32_t i = 0; i < 65536; ++i) all[i] = i;
      const RoundTrip trip = round_trip({Codec::kMask1, dtype}, buffer_of(dtype, all));
      CHECK(trip.misfits == 0);
      std::size_t wrong = 0;
      for (std::uint32_t i = 0; i < 65536; ++i) {
        const double expected = codec_lab::value_of(dtype, i) > 0 ? 1 : 0;
        if (codec_lab::value_of(dtype, raw_at(trip.back, dtype, i)) != expected) ++wrong;
      }
      CHECK(wrong == 0);
    }
    const std::vector<std::uint32_t> fp32 = {
        0x3f800000, 0xbf800000, 0, 0x80000000, 1, 0x7f800000, 0x7fc00000, 0xff800000};
    const RoundTrip trip = round_trip({Codec::kMask1, Dtype::kFp32}, buffer_of(Dtype::kFp32, fp32));
    const std::array<std::uint32_t, 8> expected = {1, 0, 0, 0, 1, 1, 0, 0};
    for (std::size_t i = 0; i < expected.size(); ++i)
      CHECK(raw_at(trip.back, Dtype::kFp32, i) == expected[i] * 0x3f800000u);
  }

  TEST_CASE("every codec takes tensors of every length from 1 to 300 and around a tile") {
    const std::uint64_t seed = 13;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='every codec takes tensors*'");
    Random random(seed);
    for (int c = 1; c < kCodecCount; ++c)
      for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32, Dtype::kBool}) {
        const CodecFormat format{static_cast<Codec>(c), dtype, 16};
        if (!codec_supports(format.codec, dtype)) continue;
        CAPTURE(std::string(name_of(format.codec)));
        std::vector<std::size_t> counts;
        for (std::size_t i = 1; i <= 300; ++i) counts.push_back(i);
        for (const std::size_t count : {2047u, 2048u, 2049u, 4096u, 70001u})
          counts.push_back(count);
        for (const std::size_t count : counts) {
          std::vector<std::uint32_t> raw(count);
          for (std::uint32_t& value : raw)
            value = dtype == Dtype::kBool ? static_cast<std::uint32_t>(random.below(2))
                    : dtype == Dtype::kFp32
                        ? 0x3f000000u + static_cast<std::uint32_t>(random.below(1u << 26))
                    : dtype == Dtype::kBf16
                        ? 0x3f00u + static_cast<std::uint32_t>(random.below(1u << 9))
                        : 0x3000u + static_cast<std::uint32_t>(random.below(1u << 12));
          const Buffer source = buffer_of(dtype, raw);
          const RoundTrip trip = round_trip(format, source);
          CHECK(trip.misfits == 0);
          if (is_lossless(format.codec) && (format.codec != Codec::kMask1 || dtype == Dtype::kBool))
            CHECK(same_bytes(trip.back, source));
          // The payload does not depend on what was in the buffer.
          Buffer other(trip.payload.size(), 0x3c);
          REQUIRE(encode(format, source.span(), other.span()).ok());
          CHECK(same_bytes(other, trip.payload));
        }
      }
  }
}

}  // namespace spillway
