// SPDX-License-Identifier: Apache-2.0
// The codecs' names and sizes, known before any kernel runs: planning needs only these. What they
// compute lives in kernels/. All are fixed-rate: payload bytes follow from source bytes and dtype
// alone.
#pragma once

#include "core/tag.hpp"

#include <cstdint>
#include <string_view>

namespace spillway {

enum class Codec : std::uint8_t {
  kNone = 0,
  kLossless12 = 1,  // bf16: sign and mantissa byte, 4-bit exponent offset per value; groups of 128
  kMask1 = 2,       // 1 bit per value, only for tensors tagged boolean or sign-only
  kInt8 = 3,        // lossy, groups of 128, power-of-two scale byte
  kFp8E4m3 = 4,     // lossy, groups of 128, power-of-two scale byte
  kInt4 = 5,        // lossy, groups of 256, stochastic rounding
};
inline constexpr int kCodecCount = 6;

std::string_view name_of(Codec codec);
/// kNone for an unknown name.
Codec parse_codec(std::string_view text);

/// Exact: the bytes that come back are the bytes that went in.
bool is_lossless(Codec codec);

/// True when `codec` may hold a buffer with this tag: dtype known and supported, kind activation,
/// and lossy ones only with `allow_lossy` and without kExactRequired. Indices, masks and statistics
/// (integer dtypes) never take a lossy codec.
bool codec_applies(Codec codec, const Tag& tag, bool allow_lossy);

/// Bytes of the payload for `source_bytes` of `dtype`, slots for escapes included;
/// kNone takes `source_bytes` itself.
std::uint64_t payload_bytes(Codec codec, Dtype dtype, std::uint64_t source_bytes);

}  // namespace spillway
