// SPDX-License-Identifier: Apache-2.0
// The codecs' names, sizes and error bounds, known before any kernel runs: planning needs only
// these. What they compute lives in kernels/, the byte layouts in docs/codecs.md. All are
// fixed-rate: payload bytes follow from source bytes, dtype and capacity alone.
#pragma once

#include "core/tag.hpp"

#include <cstdint>
#include <string_view>

namespace spillway {

enum class Codec : std::uint8_t {
  kNone = 0,        // "copy" where data is moved: the bytes themselves
  kLossless12 = 1,  // bf16, fp32: sign and mantissa plane, 4-bit exponent offset per value
  kMask1 = 2,       // 1 bit per value, only for tensors tagged boolean or sign-only
  kInt8 = 3,        // lossy, groups of 128, power-of-two scale byte
  kFp8E4m3 = 4,     // lossy, groups of 128, power-of-two scale byte
  kInt4 = 5,        // lossy, groups of 128, stochastic rounding
  kSparse = 6,      // bit mask and the non-zero values, up to a capacity
  kFp8E5m2 = 7,     // lossy, groups of 128, power-of-two scale byte; for gradients
};
inline constexpr int kCodecCount = 8;

/// Values that share a scale or a base exponent.
inline constexpr std::uint64_t kCodecGroupValues = 128;
/// Values that one warp works on; escapes and sparse capacity are counted per tile.
inline constexpr std::uint64_t kCodecTileValues = 2048;
/// Payloads begin with a header of so many bytes.
inline constexpr std::uint64_t kCodecHeaderBytes = 64;
/// Exponents outside the window that lossless12 can hold per tile.
inline constexpr std::uint64_t kLossless12EscapeSlots = 8;
/// Sixteenths of a tile that may be non-zero for `sparse`, unless said otherwise: half zeros, with
/// room for more than five standard deviations.
inline constexpr std::uint8_t kDefaultSparseCapacity = 10;

std::string_view name_of(Codec codec);
/// kNone for an unknown name.
Codec parse_codec(std::string_view text);

/// Exact: the bytes that come back are the bytes that went in, or the encoder says that they do not
/// fit. mask1 keeps what a tag of boolean or sign-only lets backward read.
bool is_lossless(Codec codec);

/// True when what comes back has the same values, so that a forward op may read it: lossless, and
/// not mask1 on a tensor of which only the sign is wanted.
bool keeps_values(Codec codec, const Tag& tag);

/// True when kernels exist for values of `dtype`.
bool codec_supports(Codec codec, Dtype dtype);

/// True when `codec` may hold a buffer with this tag: dtype supported, kind activation (e5m2:
/// gradient too), and lossy ones only with `allow_lossy`, on kLossyOk or activations without
/// kExactRequired. Indices, masks and statistics never take a lossy codec; sparse needs the tag
/// kSparseValues, mask1 kBoolean or kSignOnly.
bool codec_applies(Codec codec, const Tag& tag, bool allow_lossy);

/// Bytes of the payload for `source_bytes` of `dtype`: header, planes and slots for escapes;
/// kNone takes `source_bytes` itself. `sparse_capacity` counts sixteenths, 1 to 16.
std::uint64_t payload_bytes(Codec codec,
                            Dtype dtype,
                            std::uint64_t source_bytes,
                            std::uint8_t sparse_capacity = kDefaultSparseCapacity);

/// |x - decode(encode(x))| <= max(relative * |x|, of_group_max * (largest |x| of its group of 128),
/// absolute) for every x of a group without NaN and Inf; int4 keeps strictly below. All 0: exact.
/// Proofs in docs/codecs.md.
struct CodecErrorBound {
  double relative = 0;
  double of_group_max = 0;
  double absolute = 0;  // matters for groups of values below 2^-118 alone
};
CodecErrorBound error_bound(Codec codec);

}  // namespace spillway
