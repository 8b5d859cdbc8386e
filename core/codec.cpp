// SPDX-License-Identifier: Apache-2.0
// Size arithmetic of the fixed-rate codecs.
#include "core/codec.hpp"

#include <array>

namespace spillway {
namespace {

constexpr std::array<std::string_view, kCodecCount> kNames = {
    "none", "lossless12", "mask1", "int8", "fp8-e4m3", "int4", "sparse", "fp8-e5m2"};

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
  // As files of version 0.1 before the release wrote it.
  return text == "fp8_e4m3" ? Codec::kFp8E4m3 : Codec::kNone;
}

bool is_lossless(Codec codec) {
  return codec == Codec::kNone || codec == Codec::kLossless12 || codec == Codec::kMask1 ||
         codec == Codec::kSparse;
}

bool keeps_values(Codec codec, const Tag& tag) {
  return is_lossless(codec) && (codec != Codec::kMask1 || tag.has(kBoolean));
}

bool codec_supports(Codec codec, Dtype dtype) {
  switch (codec) {
    case Codec::kNone:
      return dtype_bytes(dtype) != 0;
    case Codec::kLossless12:
      // fp16 has 5 exponent bits: 4-bit offsets would save one bit in sixteen, less than it costs.
      return dtype == Dtype::kBf16 || dtype == Dtype::kFp32;
    case Codec::kMask1:
      return is_float16_or_32(dtype) || dtype == Dtype::kBool;
    case Codec::kInt8:
    case Codec::kFp8E4m3:
    case Codec::kFp8E5m2:
    case Codec::kInt4:
    case Codec::kSparse:
      return is_float16_or_32(dtype);
  }
  return false;
}

bool codec_applies(Codec codec, const Tag& tag, bool allow_lossy) {
  if (codec == Codec::kNone || !codec_supports(codec, tag.dtype)) return false;
  if (codec == Codec::kFp8E5m2 && tag.kind == BufferKind::kGradient)
    return allow_lossy && tag.has(kLossyOk) && !tag.has(kExactRequired);
  if (tag.kind != BufferKind::kActivation) return false;
  if (codec == Codec::kMask1) return tag.has(kBoolean) || tag.has(kSignOnly);
  if (codec == Codec::kSparse) return tag.has(kSparseValues);
  if (is_lossless(codec)) return true;
  // E5M2 has two bits of mantissa: gradients take it, activations never.
  return codec != Codec::kFp8E5m2 && allow_lossy && !tag.has(kExactRequired) && !tag.has(kBoolean);
}

std::uint64_t payload_bytes(Codec codec,
                            Dtype dtype,
                            std::uint64_t source_bytes,
                            std::uint8_t sparse_capacity) {
  const std::uint64_t element_bytes = dtype_bytes(dtype) == 0 ? 1 : dtype_bytes(dtype);
  const std::uint64_t values = ceil_div(source_bytes, element_bytes);
  const std::uint64_t groups = ceil_div(values, kCodecGroupValues);
  const std::uint64_t tiles = ceil_div(values, kCodecTileValues);
  constexpr std::uint64_t kGroupsPerTile = kCodecTileValues / kCodecGroupValues;
  const std::uint64_t scales = tiles * kGroupsPerTile;
  switch (codec) {
    case Codec::kNone:
      return source_bytes;
    case Codec::kLossless12: {
      // Per value 8 + 4 bits and, for fp32, its low half; a base byte per group; index and exponent
      // per escape slot.
      const std::uint64_t low = element_bytes == 4 ? 2 * kCodecGroupValues : 0;
      return kCodecHeaderBytes + groups * (kCodecGroupValues + kCodecGroupValues / 2 + low) +
             scales + tiles * kLossless12EscapeSlots * 3;
    }
    case Codec::kMask1:
      return kCodecHeaderBytes + groups * (kCodecGroupValues / 8);
    case Codec::kInt8:
    case Codec::kFp8E4m3:
    case Codec::kFp8E5m2:
      return kCodecHeaderBytes + groups * kCodecGroupValues + scales;
    case Codec::kInt4:
      return kCodecHeaderBytes + groups * (kCodecGroupValues / 2) + 2 * scales;
    case Codec::kSparse:
      return kCodecHeaderBytes + groups * (kCodecGroupValues / 8) +
             tiles * (kCodecTileValues / 16) * sparse_capacity * element_bytes;
  }
  return source_bytes;
}

CodecErrorBound error_bound(Codec codec) {
  switch (codec) {
    case Codec::kInt8:
      return {0, 1.0 / 127, 0x1.0p-127};  // half a step; a step is below 2 max / 127
    case Codec::kFp8E4m3:
      // Half a unit in the last of 4 bits; below the normal ones half of 2^-9 scales.
      return {1.0 / 17, 0x1.0p-10 / 224, 0x1.0p-136};
    case Codec::kFp8E5m2:
      return {1.0 / 9, 0x1.0p-17 / 28672, 0x1.0p-143};
    case Codec::kInt4:
      return {0, 2.0 / 7, 0x1.0p-126};  // a step; a step is below range / 7
    default:
      return {};
  }
}

}  // namespace spillway
