// SPDX-License-Identifier: Apache-2.0
// Size arithmetic of the fixed-rate codecs.
#include "core/codec.hpp"

#include <array>

namespace spillway {
namespace {

constexpr std::array<std::string_view, kCodecCount> kNames = {
    "none", "lossless12", "mask1", "int8", "fp8_e4m3", "int4"};

constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

bool is_float16_or_32(Dtype dtype) {
  return dtype == Dtype::kFp32 || dtype == Dtype::kBf16 || dtype == Dtype::kFp16;
}

}  // namespace

std::string_view name_of(Codec codec) {
  const auto i = static_cast<std::size_t>(codec);
  return i < kNames.size() ? kNames[i] : kNames[0];
}

Codec parse_codec(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == text) return static_cast<Codec>(i);
  return Codec::kNone;
}

bool is_lossless(Codec codec) {
  return codec == Codec::kNone || codec == Codec::kLossless12 || codec == Codec::kMask1;
}

bool codec_applies(Codec codec, const Tag& tag, bool allow_lossy) {
  if (codec == Codec::kNone || tag.kind != BufferKind::kActivation) return false;
  if (codec == Codec::kMask1) return tag.has(kBoolean) || tag.has(kSignOnly);
  if (codec == Codec::kLossless12) return tag.dtype == Dtype::kBf16;
  if (!is_lossless(codec) && (!allow_lossy || tag.has(kExactRequired))) return false;
  return is_float16_or_32(tag.dtype);
}

std::uint64_t payload_bytes(Codec codec, Dtype dtype, std::uint64_t source_bytes) {
  const std::uint64_t element_bytes = dtype_bytes(dtype) == 0 ? 1 : dtype_bytes(dtype);
  const std::uint64_t values = ceil_div(source_bytes, element_bytes);
  switch (codec) {
    case Codec::kNone:
      return source_bytes;
    case Codec::kLossless12:
      // Per value 8 + 4 bits, per 128 values one base exponent, and one 6-byte escape slot per
      // 1,024 values.
      return values + ceil_div(values, 2) + ceil_div(values, 128) + 6 * ceil_div(values, 1024);
    case Codec::kMask1:
      return ceil_div(values, 8);
    case Codec::kInt8:
    case Codec::kFp8E4m3:
      return values + ceil_div(values, 128);
    case Codec::kInt4:
      return ceil_div(values, 2) + 2 * ceil_div(values, 256);  // scale and offset byte per group
  }
  return source_bytes;
}

}  // namespace spillway
