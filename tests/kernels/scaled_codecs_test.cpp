// SPDX-License-Identifier: Apache-2.0
// int8 and the two fp8 codecs against a model in double arithmetic, written from the definitions:
// every decoded value is the one that the model says, on the whole bf16 grid.
#include "core/random.hpp"
#include "tests/kernels/lab.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace spillway {
namespace {

using codec_lab::Buffer;
using codec_lab::buffer_of;
using codec_lab::max_finite;
using codec_lab::raw_at;
using codec_lab::round_trip;
using codec_lab::RoundTrip;
using codec_lab::same_bytes;
using codec_lab::value_of;

constexpr std::array kScaled = {Codec::kInt8, Codec::kFp8E4m3, Codec::kFp8E5m2};
constexpr std::array kFloats = {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32};

struct Grid {
  double top;
  int mantissa_bits;   // 0: integers
  int least_exponent;  // of normal numbers
};

Grid grid_of(Codec codec) {
  switch (codec) {
    case Codec::kFp8E4m3:
      return {448, 3, -6};
    case Codec::kFp8E5m2:
      return {57344, 2, -14};
    default:
      return {127, 0, 0};
  }
}

/// The smallest power of two, at least 2^-126, under which `max` does not pass the grid's top.
double scale_for(const Grid& grid, double max) {
  double scale = std::ldexp(1.0, -126);
  while (max > grid.top * scale) scale *= 2;
  return scale;
}

/// Nearest value of the grid, ties to even.
double nearest(const Grid& grid, double value) {
  double unit = 1;
  if (grid.mantissa_bits != 0) {
    int exponent = 0;
    std::frexp(value, &exponent);
    unit = std::ldexp(1.0, std::max(exponent - 1, grid.least_exponent) - grid.mantissa_bits);
  }
  return std::nearbyint(value / unit) * unit;
}

struct Judge {
  Codec codec;
  Dtype dtype;
  double worst_relative = 0;  // among values that the grid holds as normal numbers
  double worst_of_scale = 0;  // among the others

  /// Checks one round trip of whole and partial groups without Inf and NaN.
  void check(std::span<const std::uint32_t> raw) {
    const Grid grid = grid_of(codec);
    const Buffer source = buffer_of(dtype, raw);
    const RoundTrip trip = round_trip({codec, dtype}, source);
    const CodecErrorBound bound = error_bound(codec);
    std::uint64_t wrong = 0;
    std::uint64_t beyond = 0;
    for (std::size_t begin = 0; begin < raw.size(); begin += kCodecGroupValues) {
      const std::size_t end = std::min<std::size_t>(begin + kCodecGroupValues, raw.size());
      double max = 0;
      for (std::size_t i = begin; i < end; ++i)
        max = std::max(max, std::fabs(value_of(dtype, raw[i])));
      const double scale = scale_for(grid, max);
      for (std::size_t i = begin; i < end; ++i) {
        const double x = value_of(dtype, raw[i]);
        const double got = value_of(dtype, raw_at(trip.back, dtype, i));
        const double expected = std::copysign(
            std::min(std::fabs(nearest(grid, x / scale) * scale), max_finite(dtype)), x);
        if (got != expected) ++wrong;
        const double error = std::fabs(got - x);
        if (error >
            std::max({bound.relative * std::fabs(x), bound.of_group_max * max, bound.absolute}))
          ++beyond;
        if (grid.mantissa_bits != 0 && std::fabs(x) >= std::ldexp(scale, grid.least_exponent))
          worst_relative = std::max(worst_relative, error / std::fabs(x));
        else
          worst_of_scale = std::max(worst_of_scale, error / scale);
      }
    }
    CHECK(wrong == 0);
    CHECK(beyond == 0);
    // Decoding, encoding and decoding again changes nothing.
    const RoundTrip again = round_trip({codec, dtype}, trip.back);
    CHECK(same_bytes(again.back, trip.back));
  }
};

/// All bf16 patterns with |x| <= max, in groups that each hold `max`.
std::vector<std::uint32_t> grid_below(std::uint32_t max) {
  std::vector<std::uint32_t> raw;
  for (std::uint32_t magnitude = 0; magnitude <= max; ++magnitude) {
    if (raw.size() % kCodecGroupValues == 0) raw.push_back(max);
    raw.push_back(magnitude);
    if (raw.size() % kCodecGroupValues == 0) raw.push_back(max);
    raw.push_back(magnitude | 0x8000);
  }
  return raw;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("int8 and fp8 give the nearest value of their grid, on every bf16 value") {
    for (const Codec codec : kScaled) {
      CAPTURE(std::string(name_of(codec)));
      Judge judge{codec, Dtype::kBf16};
      // Mantissas around those where a scale steps up: 1.75 (0x60) and 1.984375 (0x7e).
      for (const std::uint32_t exponent : {0u, 1u, 2u, 127u, 253u, 254u})
        for (const std::uint32_t mantissa : {0u, 1u, 64u, 95u, 96u, 97u, 125u, 126u, 127u})
          judge.check(grid_below(exponent << 7 | mantissa));
      // The bounds of the definition are reached, not only kept.
      if (codec == Codec::kInt8) CHECK(judge.worst_of_scale == 0.5);
      if (codec == Codec::kFp8E4m3) {
        CHECK(judge.worst_relative == 1.0 / 17);
        CHECK(judge.worst_of_scale == 0x1.0p-10);
      }
      if (codec == Codec::kFp8E5m2) {
        CHECK(judge.worst_relative == 1.0 / 9);
        CHECK(judge.worst_of_scale == 0x1.0p-17);
      }
    }
  }

  TEST_CASE("int8 and fp8 agree with the model on random fp16 and fp32 tensors of every length") {
    const std::uint64_t seed = 20261122;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='int8 and fp8 agree*'");
    Random random(seed);
    for (const Codec codec : kScaled)
      for (const Dtype dtype : kFloats) {
        CAPTURE(std::string(name_of(codec)));
        CAPTURE(std::string(name_of(dtype)));
        Judge judge{codec, dtype};
        for (std::size_t count = 1; count <= 300; ++count) {
          std::vector<std::uint32_t> raw(count);
          // One window of exponents per tensor, wide or narrow, anywhere in the format.
          const std::uint32_t mantissa_bits = dtype == Dtype::kFp32   ? 23
                                              : dtype == Dtype::kBf16 ? 7
                                                                      : 10;
          const std::uint32_t top = dtype == Dtype::kFp16 ? 30 : 254;
          const auto high = static_cast<std::uint32_t>(random.below(top + 1));
          const auto low = static_cast<std::uint32_t>(random.below(high + 1));
          for (std::uint32_t& value : raw) {
            const auto exponent = static_cast<std::uint32_t>(low + random.below(high - low + 1));
            const auto rest = static_cast<std::uint32_t>(random.next());
            value = exponent << mantissa_bits | (rest & ((1u << mantissa_bits) - 1));
            if (random.below(16) == 0) value = 0;
            if (random.below(2) == 0) value |= dtype == Dtype::kFp32 ? 0x80000000u : 0x8000u;
          }
          judge.check(raw);
        }
      }
  }

  TEST_CASE("a group with NaN or Inf keeps them and every other group is as if alone") {
    for (const Codec codec : kScaled)
      for (const Dtype dtype : kFloats) {
        CAPTURE(std::string(name_of(codec)));
        CAPTURE(std::string(name_of(dtype)));
        const std::uint32_t infinity = dtype == Dtype::kFp32   ? 0x7f800000
                                       : dtype == Dtype::kBf16 ? 0x7f80
                                                               : 0x7c00;
        const std::uint32_t sign = dtype == Dtype::kFp32 ? 0x80000000 : 0x8000;
        const std::uint32_t one = dtype == Dtype::kFp32   ? 0x3f800000
                                  : dtype == Dtype::kBf16 ? 0x3f80
                                                          : 0x3c00;
        std::vector<std::uint32_t> raw(384, one);
        raw[128] = infinity;
        raw[129] = infinity | sign;
        raw[130] = infinity | 1;
        raw[131] = infinity | sign | 1;
        raw[132] = infinity - 1;  // the largest finite value
        raw[133] = (infinity - 1) | sign;
        raw[134] = sign;  // -0
        const RoundTrip trip = round_trip({codec, dtype}, buffer_of(dtype, raw));
        for (const std::size_t i : {0u, 127u, 256u, 383u})
          CHECK(raw_at(trip.back, dtype, i) == one);
        CHECK(raw_at(trip.back, dtype, 128) == infinity);
        CHECK(raw_at(trip.back, dtype, 129) == (infinity | sign));
        CHECK(std::isnan(value_of(dtype, raw_at(trip.back, dtype, 130))));
        CHECK(std::isnan(value_of(dtype, raw_at(trip.back, dtype, 131))));
        const double top = codec == Codec::kInt8 ? 126 : codec == Codec::kFp8E4m3 ? 416 : 57344;
        CHECK(value_of(dtype, raw_at(trip.back, dtype, 132)) == top);
        CHECK(value_of(dtype, raw_at(trip.back, dtype, 133)) == -top);
        CHECK(value_of(dtype, raw_at(trip.back, dtype, 134)) == 0);
        CHECK(raw_at(trip.back, dtype, 135) == one);
        const RoundTrip again = round_trip({codec, dtype}, trip.back);
        CHECK(same_bytes(again.back, trip.back));
      }
  }

  TEST_CASE("a group of zeros has scale exponent 1 and comes back as zeros, fp8 with their signs") {
    for (const Codec codec : kScaled)
      for (const Dtype dtype : kFloats) {
        const std::uint32_t sign = dtype == Dtype::kFp32 ? 0x80000000 : 0x8000;
        std::vector<std::uint32_t> raw(128, 0);
        raw[5] = sign;
        const RoundTrip trip = round_trip({codec, dtype}, buffer_of(dtype, raw));
        CHECK(trip.payload.at<std::uint8_t>(kCodecHeaderBytes + 128) == 1);
        CHECK(raw_at(trip.back, dtype, 0) == 0);
        CHECK(raw_at(trip.back, dtype, 5) == (codec == Codec::kInt8 ? 0 : sign));
      }
  }
}

}  // namespace spillway
