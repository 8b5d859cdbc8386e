// SPDX-License-Identifier: Apache-2.0
// fp32 values through the int8 and fp8 encoders, one by one, against a model in double arithmetic
// from the formats' definition and, with a CUDA toolkit, against NVIDIA's own host functions. A
// sample here; all 2^32 with SPILLWAY_SWEEP_STRIDE=1 (./run nightly).
#include "kernels/host/host_kernels.hpp"
#include "kernels/host/parallel.hpp"

#include <doctest/doctest.h>

#ifdef SPW_HAVE_CUDA_HEADERS
#include <cuda_fp8.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace spillway {
namespace {

/// What the model needs to know of a codec, and the codes of a group that holds NaN or Inf.
struct Grid {
  Codec codec;
  int mantissa_bits;   // 0: integers
  int least_exponent;  // of normal numbers
  float top;           // largest value; a group that has it is not scaled
  float flagged_top;   // largest that a group with a NaN keeps
  std::uint8_t plus_infinity, minus_infinity, nan;
};
constexpr std::array kGrids = {
    Grid{Codec::kInt8, 0, 0, 127, 126, 127, 0x81, 0x80},
    Grid{Codec::kFp8E4m3, 3, -6, 448, 416, 0x7e, 0xfe, 0x7f},
    Grid{Codec::kFp8E5m2, 2, -14, 57344, 57344, 0x7c, 0xfc, 0x7f},
};

/// The code of the value nearest to `value`, ties to even; |value| <= top.
std::uint8_t model(const Grid& grid, float value) {
  const double magnitude = std::fabs(static_cast<double>(value));
  if (grid.mantissa_bits == 0) {
    const int whole = static_cast<int>(std::nearbyint(magnitude));
    return static_cast<std::uint8_t>(std::signbit(value) ? -whole : whole);
  }
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // Zero has no exponent: the smallest there is.
  exponent = magnitude == 0 ? grid.least_exponent : std::max(exponent - 1, grid.least_exponent);
  const auto units =
      static_cast<int>(std::nearbyint(std::ldexp(magnitude, grid.mantissa_bits - exponent)));
  const int code = ((exponent - grid.least_exponent) << grid.mantissa_bits) + units;
  return static_cast<std::uint8_t>(code | (std::signbit(value) ? 0x80 : 0));
}

std::uint8_t flagged_model(const Grid& grid, float value) {
  if (std::isnan(value)) return grid.nan;
  if (std::isinf(value)) return std::signbit(value) ? grid.minus_infinity : grid.plus_infinity;
  return model(grid, std::clamp(value, -grid.flagged_top, grid.flagged_top));
}

/// NVIDIA's code, or the model's again where there is none.
std::uint8_t second_opinion(const Grid& grid, float value) {
#ifdef SPW_HAVE_CUDA_HEADERS
  if (grid.codec == Codec::kFp8E4m3) return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
  if (grid.codec == Codec::kFp8E5m2) return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E5M2);
#endif
  return model(grid, value);
}

// A group is an anchor and 127 values: the grid's top makes the scale 1, NaN makes no scale at all.
constexpr std::size_t kGroup = static_cast<std::size_t>(kCodecGroupValues);
constexpr std::size_t kPerGroup = kGroup - 1;
constexpr std::size_t kChunkGroups = 512;
constexpr std::size_t kChunk = kPerGroup * kChunkGroups;

struct Tally {
  std::atomic<std::uint64_t> values{0}, wrong{0}, wrong_in_flagged_group{0}, opinions_differ{0};
};

struct Sweep {
  const Grid& grid;
  std::vector<const HostKernels*> kernels;
  Tally tally;

  void check(const std::vector<std::uint32_t>& raw) {
    const std::size_t groups = (raw.size() + kPerGroup - 1) / kPerGroup;
    std::vector<std::uint32_t> plain(groups * kGroup);
    std::vector<std::uint32_t> flagged(groups * kGroup);
    std::vector<std::uint8_t> expected(plain.size());
    std::vector<std::uint8_t> expected_flagged(plain.size());
    std::uint64_t differ = 0;
    for (std::size_t i = 0, next = 0; i < plain.size(); ++i) {
      const bool anchor = i % kGroup == 0 || next == raw.size();
      const auto value = anchor ? grid.top : std::bit_cast<float>(raw[next]);
      const bool in_range = std::fabs(value) <= grid.top;  // false for NaN
      plain[i] = std::bit_cast<std::uint32_t>(in_range ? value : grid.top);
      flagged[i] = anchor ? 0xffc00001 : raw[next];
      expected[i] = model(grid, in_range ? value : grid.top);
      expected_flagged[i] = anchor ? grid.nan : flagged_model(grid, value);
      if (in_range && second_opinion(grid, value) != expected[i]) ++differ;
      if (!anchor) ++next;
    }
    tally.values += raw.size();
    tally.opinions_differ += differ;
    for (const HostKernels* isa : kernels) {
      tally.wrong += wrong_codes(*isa, plain, expected);
      tally.wrong_in_flagged_group += wrong_codes(*isa, flagged, expected_flagged);
    }
  }

  [[nodiscard]] std::uint64_t wrong_codes(const HostKernels& isa,
                                          std::vector<std::uint32_t>& values,
                                          const std::vector<std::uint8_t>& expected) const {
    const std::uint64_t bytes =
        payload_bytes(grid.codec, Dtype::kFp32, values.size() * sizeof(std::uint32_t));
    struct alignas(16) Line {
      std::uint8_t byte[16];
    };
    std::vector<Line> payload(static_cast<std::size_t>(bytes / sizeof(Line) + 1));
    CodecTensor tensor;
    tensor.plain = values.data();
    tensor.payload = payload.data()->byte;
    tensor.values = values.size();
    const std::uint64_t tiles = (values.size() + kCodecTileValues - 1) / kCodecTileValues;
    isa.find(grid.codec, Dtype::kFp32)->encode(tensor, 0, tiles, false);
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      wrong += tensor.payload[kCodecHeaderBytes + i] != expected[i] ? 1u : 0u;
    return wrong;
  }
};

/// Each border between two codes, and the values next to it, of both signs.
std::vector<std::uint32_t> borders(const Grid& grid) {
  std::vector<std::uint32_t> raw;
  const auto add = [&](double value) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    for (std::uint32_t near = 0; near <= 6; ++near)
      for (const std::uint32_t sign : {0u, 0x80000000u})
        if (bits + near >= 3) raw.push_back((bits + near - 3) | sign);
  };
  double before = 0;
  for (int code = 0; code < 0x7f; ++code) {
    double value = code;
    if (grid.mantissa_bits != 0) {
      const int steps = 1 << grid.mantissa_bits;
      const int exponent = std::max(code / steps, 1);
      value = std::ldexp(code - (exponent - 1) * steps,
                         exponent - 1 + grid.least_exponent - grid.mantissa_bits);
    }
    add(value);
    add((value + before) / 2);
    before = value;
  }
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent)
    for (const std::uint32_t mantissa : {0u, 1u, 0x3fffffu, 0x400000u, 0x7fffffu})
      for (const std::uint32_t sign : {0u, 0x80000000u})
        raw.push_back(sign | exponent << 23 | mantissa);
  return raw;
}

/// SPILLWAY_SWEEP_STRIDE, or a prime near 2^10.
std::uint64_t stride() {
  const char* given = std::getenv("SPILLWAY_SWEEP_STRIDE");
  const long long asked = given != nullptr ? std::atoll(given) : 0;
  return asked > 0 ? static_cast<std::uint64_t>(asked) : 1021;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("int8 and fp8 codes of fp32 values are those of the formats' definition") {
    const std::uint64_t step = stride();
    const std::uint64_t count = ((std::uint64_t{1} << 32) + step - 1) / step;
    for (const Grid& grid : kGrids) {
      CAPTURE(std::string(name_of(grid.codec)));
      Sweep sweep{grid, {}, {}};
      for (int isa = 0; isa < kHostIsaCount; ++isa)
        if (const HostKernels* kernels = host_kernels(static_cast<HostIsa>(isa)))
          sweep.kernels.push_back(kernels);
      sweep.check(borders(grid));
      struct Work {
        Sweep& sweep;
        std::uint64_t step, count;
      } work{sweep, step, count};
      for_each_chunk((count + kChunk - 1) / kChunk, 0, &work, [](void* context, std::uint64_t i) {
        const Work& w = *static_cast<const Work*>(context);
        std::vector<std::uint32_t> raw;
        raw.reserve(kChunk);
        for (std::uint64_t v = i * kChunk; v < std::min((i + 1) * kChunk, w.count); ++v)
          raw.push_back(static_cast<std::uint32_t>(v * w.step));
        w.sweep.check(raw);
      });
      MESSAGE(sweep.tally.values.load() << " values");
      CHECK(sweep.tally.values.load() >= count);
      CHECK(sweep.tally.wrong.load() == 0);
      CHECK(sweep.tally.wrong_in_flagged_group.load() == 0);
      CHECK(sweep.tally.opinions_differ.load() == 0);
    }
  }
}

}  // namespace spillway
