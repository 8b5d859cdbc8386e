// SPDX-License-Identifier: Apache-2.0
// What the codec tests share: aligned buffers, values of a dtype as doubles, round trips.
#pragma once

#include "kernels/host_codec.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace spillway::codec_lab {

/// Bytes at a 16-byte boundary, exactly as many as asked for, so that a sanitizer sees one more.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes, unsigned char fill = 0xa5)
      : bytes_(bytes), data_(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(16)))) {
    std::memset(data_.get(), fill, bytes);
  }
  [[nodiscard]] std::span<std::byte> span() const { return {data_.get(), bytes_}; }
  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  template <typename T>
  [[nodiscard]] T at(std::size_t index) const {
    T value;
    std::memcpy(&value, data_.get() + index * sizeof(T), sizeof(T));
    return value;
  }
  template <typename T>
  void set(std::size_t index, T value) {
    std::memcpy(data_.get() + index * sizeof(T), &value, sizeof(T));
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t(16)); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

/// The value behind raw bits, by the definition of the format (sign, exponent, mantissa).
inline double value_of(Dtype dtype, std::uint32_t raw) {
  int exponent_bits = 8;
  int mantissa_bits = 23;
  if (dtype == Dtype::kBf16) mantissa_bits = 7;
  if (dtype == Dtype::kFp16) {
    exponent_bits = 5;
    mantissa_bits = 10;
  }
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>(raw >> mantissa_bits & ((1u << exponent_bits) - 1));
  const auto mantissa = static_cast<double>(raw & ((1u << mantissa_bits) - 1));
  const double sign = (raw >> (exponent_bits + mantissa_bits) & 1) != 0 ? -1.0 : 1.0;
  const double unit = std::ldexp(1.0, -mantissa_bits);
  if (exponent == (1 << exponent_bits) - 1)
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa * unit, 1 - bias);
  return sign * std::ldexp(1 + mantissa * unit, exponent - bias);
}

inline double max_finite(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBf16:
      return value_of(dtype, 0x7f7f);
    case Dtype::kFp16:
      return 65504;
    default:
      return static_cast<double>(std::numeric_limits<float>::max());
  }
}

/// Values of a dtype as raw bits, in a buffer of their size.
inline Buffer buffer_of(Dtype dtype, std::span<const std::uint32_t> raw) {
  Buffer out(raw.size() * dtype_bytes(dtype));
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (dtype_bytes(dtype) == 4)
      out.set<std::uint32_t>(i, raw[i]);
    else if (dtype_bytes(dtype) == 2)
      out.set<std::uint16_t>(i, static_cast<std::uint16_t>(raw[i]));
    else
      out.set<std::uint8_t>(i, static_cast<std::uint8_t>(raw[i]));
  }
  return out;
}

inline std::uint32_t raw_at(const Buffer& buffer, Dtype dtype, std::size_t index) {
  switch (dtype_bytes(dtype)) {
    case 4:
      return buffer.at<std::uint32_t>(index);
    case 2:
      return buffer.at<std::uint16_t>(index);
    default:
      return buffer.at<std::uint8_t>(index);
  }
}

struct RoundTrip {
  Buffer payload;
  Buffer back;
  std::uint64_t misfits = 0;
};

/// Encodes and decodes; REQUIREs that both succeed.
inline RoundTrip round_trip(const CodecFormat& format,
                            const Buffer& source,
                            const HostCodecOptions& options = {}) {
  const std::uint64_t values = source.size() / dtype_bytes(format.dtype);
  RoundTrip trip{Buffer(format.payload_bytes_for(values)), Buffer(source.size(), 0x5a)};
  const Result<EncodeResult> encoded = encode(format, source.span(), trip.payload.span(), options);
  REQUIRE_MESSAGE(encoded.ok(), encoded.status().message());
  trip.misfits = encoded.value().misfit_tiles;
  const Status decoded = decode(trip.payload.span(), trip.back.span(), options);
  if (trip.misfits == 0) REQUIRE_MESSAGE(decoded.ok(), decoded.message());
  return trip;
}

inline bool same_bytes(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace spillway::codec_lab
