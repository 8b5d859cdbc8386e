// SPDX-License-Identifier: Apache-2.0
// int4: the random numbers are Philox's, the rounding is unbiased by enumeration, the levels span
// every group, and the bits follow from tensor, step and index alone.
#include "kernels/body/int4.hpp"

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
using codec_lab::value_of;

constexpr std::array kFloats = {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32};

std::vector<std::uint32_t> random_group(Random* random, Dtype dtype, std::size_t count) {
  const std::uint32_t mantissa_bits = dtype == Dtype::kFp32 ? 23 : dtype == Dtype::kBf16 ? 7 : 10;
  const std::uint32_t top = dtype == Dtype::kFp16 ? 30 : 254;
  const auto high = static_cast<std::uint32_t>(random->below(top + 1));
  const auto low = static_cast<std::uint32_t>(random->below(high + 1));
  const std::uint64_t signs = random->below(3);  // all positive, all negative, both
  std::vector<std::uint32_t> raw(count);
  for (std::uint32_t& value : raw) {
    const auto exponent = static_cast<std::uint32_t>(low + random->below(high - low + 1));
    value = exponent << mantissa_bits |
            (static_cast<std::uint32_t>(random->next()) & ((1u << mantissa_bits) - 1));
    if (signs == 1 || (signs == 2 && random->below(2) == 0))
      value |= dtype == Dtype::kFp32 ? 0x80000000u : 0x8000u;
  }
  return raw;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("Philox4x32-10 gives the known answers of its authors") {
    const body::PhiloxBlock zeros = body::philox({{0, 0, 0, 0}}, 0, 0);
    const std::array<std::uint32_t, 4> of_zeros = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    const body::PhiloxBlock ones = body::philox({{~0u, ~0u, ~0u, ~0u}}, 0xffffffff, 0xffffffff);
    const std::array<std::uint32_t, 4> of_ones = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(zeros.word[i] == of_zeros[i]);
      CHECK(ones.word[i] == of_ones[i]);
    }
  }

  TEST_CASE("stochastic rounding is unbiased: its sum over all random numbers is the value") {
    using Rounding = body::Int4<body::Bf16>;
    for (const float value : {0.0f,
                              1.0f,
                              -1.0f,
                              0.5f,
                              0.25f,
                              -0.75f,
                              6.99609375f,
                              0.0078125f,
                              -3.00390625f,
                              1.0f / 65536,
                              3.3f,
                              -2.7f}) {
      std::int64_t sum = 0;
      for (std::uint32_t random = 0; random < 65536; ++random)
        sum += static_cast<std::int64_t>(Rounding::round(value, -8, random)) - 8;
      const double mean = static_cast<double>(sum) / 65536;
      // Exactly, for what has 16 fractional bits; else to half of the last of them.
      const double scaled = static_cast<double>(value) * 65536;
      CHECK(static_cast<double>(sum) == std::nearbyint(scaled));
      CHECK(std::fabs(mean - static_cast<double>(value)) <= 0x1.0p-17);
    }
  }

  TEST_CASE("int4 decodes to a neighbour on its grid, within the bound, and again the same") {
    const std::uint64_t seed = 5;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='int4 decodes*'");
    Random random(seed);
    for (const Dtype dtype : kFloats)
      for (int round = 0; round < 400; ++round) {
        const std::size_t count = 1 + random.below(256);
        const std::vector<std::uint32_t> raw = random_group(&random, dtype, count);
        HostCodecOptions options;
        options.tensor_key = random.next();
        options.step = random.next();
        const RoundTrip trip = round_trip({Codec::kInt4, dtype}, buffer_of(dtype, raw), options);
        const CodecErrorBound bound = error_bound(Codec::kInt4);
        for (std::size_t begin = 0; begin < count; begin += 128) {
          const std::size_t end = std::min<std::size_t>(begin + 128, count);
          double max = 0;
          for (std::size_t i = begin; i < end; ++i)
            max = std::max(max, std::fabs(value_of(dtype, raw[i])));
          for (std::size_t i = begin; i < end; ++i) {
            const double x = value_of(dtype, raw[i]);
            const double error = std::fabs(value_of(dtype, raw_at(trip.back, dtype, i)) - x);
            CHECK(error <= std::max(bound.of_group_max * max, bound.absolute));
          }
        }
        options.step = random.next();  // values on the grid take no random number
        const RoundTrip again = round_trip({Codec::kInt4, dtype}, trip.back, options);
        CHECK(same_bytes(again.back, trip.back));
      }
  }

  TEST_CASE("int4's bits follow from tensor, step and index, not from threads or neighbours") {
    Random random(3);
    std::vector<std::uint32_t> raw(100000);
    for (std::uint32_t& value : raw)
      value = 0x3c00 + static_cast<std::uint32_t>(random.below(0x200));
    const Buffer source = buffer_of(Dtype::kBf16, raw);
    HostCodecOptions options;
    options.tensor_key = 17;
    options.step = 3;
    const RoundTrip first = round_trip({Codec::kInt4, Dtype::kBf16}, source, options);
    options.threads = 1;
    CHECK(same_bytes(round_trip({Codec::kInt4, Dtype::kBf16}, source, options).payload,
                     first.payload));
    // Whole groups at the front code the same in a shorter tensor.
    const std::vector<std::uint32_t> front(raw.begin(), raw.begin() + 2048);
    const RoundTrip shorter =
        round_trip({Codec::kInt4, Dtype::kBf16}, buffer_of(Dtype::kBf16, front), options);
    CHECK(std::memcmp(shorter.back.data(), first.back.data(), shorter.back.size()) == 0);
    options.step = 4;
    CHECK(!same_bytes(round_trip({Codec::kInt4, Dtype::kBf16}, source, options).payload,
                      first.payload));
    options.step = 3;
    options.tensor_key = 18;
    CHECK(!same_bytes(round_trip({Codec::kInt4, Dtype::kBf16}, source, options).payload,
                      first.payload));
  }

  TEST_CASE("int4 keeps NaN and Inf of a group and clips its other values to 6") {
    std::vector<std::uint32_t> raw(128, 0x3f80);
    raw[1] = 0x7f80;
    raw[2] = 0xff80;
    raw[3] = 0x7fc1;
    raw[4] = 0xc2c8;  // -100
    raw[5] = 0x4040;  // 3
    const RoundTrip trip = round_trip({Codec::kInt4, Dtype::kBf16}, buffer_of(Dtype::kBf16, raw));
    const std::array<double, 6> expected = {1, INFINITY, -INFINITY, NAN, -6, 3};
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double got = value_of(Dtype::kBf16, raw_at(trip.back, Dtype::kBf16, i));
      CHECK((std::isnan(expected[i]) ? std::isnan(got) : got == expected[i]));
    }
  }

  TEST_CASE("int4 spends its levels on the range of the group, wherever that lies") {
    // 16 equally spaced values far from zero: all of them are levels.
    std::vector<std::uint32_t> raw;
    for (std::uint32_t i = 0; i < 128; ++i) {
      const auto value = static_cast<float>(40 + i % 16);
      raw.push_back(body::bits_of(value));
    }
    const Buffer source = buffer_of(Dtype::kFp32, raw);
    CHECK(same_bytes(round_trip({Codec::kInt4, Dtype::kFp32}, source).back, source));
  }
}

}  // namespace spillway
