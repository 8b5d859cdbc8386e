// SPDX-License-Identifier: Apache-2.0
// See kernel_names.hpp; kernels/cuda/*.cu define what is named here.
#include "kernels/kernel_names.hpp"

#include <array>

namespace spillway {
namespace {

// NOLINTBEGIN(cppcoreguidelines-macro-usage): names are made of pieces.
#define SPW_NAME(name, work) \
  { "spw_" name "_small", "spw_" name "_large", CodecWork::work }
#define SPW_PAIR(name) SPW_NAME(name "_encode", kEncode), SPW_NAME(name "_decode", kDecode)
// NOLINTEND(cppcoreguidelines-macro-usage)

// Pairs of encode and decode first, in the order of kFormats.
constexpr std::array kNames = std::to_array<CodecKernelName>({
    SPW_PAIR("int8_bf16"),
    SPW_PAIR("int8_fp16"),
    SPW_PAIR("int8_fp32"),
    SPW_PAIR("fp8_e4m3_bf16"),
    SPW_PAIR("fp8_e4m3_fp16"),
    SPW_PAIR("fp8_e4m3_fp32"),
    SPW_PAIR("fp8_e5m2_bf16"),
    SPW_PAIR("fp8_e5m2_fp16"),
    SPW_PAIR("fp8_e5m2_fp32"),
    SPW_PAIR("int4_bf16"),
    SPW_PAIR("int4_fp16"),
    SPW_PAIR("int4_fp32"),
    SPW_PAIR("lossless12_bf16"),
    SPW_PAIR("lossless12_fp32"),
    SPW_PAIR("mask1_bool"),
    SPW_PAIR("mask1_bf16"),
    SPW_PAIR("mask1_fp16"),
    SPW_PAIR("mask1_fp32"),
    SPW_PAIR("sparse_16"),
    SPW_PAIR("sparse_32"),
    SPW_NAME("copy", kCopy),
    SPW_NAME("fingerprint", kFingerprint),
    SPW_NAME("fingerprint_blocks", kFingerprintBlocks),
});
#undef SPW_PAIR
#undef SPW_NAME

struct Format {
  Codec codec;
  Dtype dtype;
  std::size_t pair;
};
constexpr std::array kFormats = std::to_array<Format>({
    {Codec::kInt8, Dtype::kBf16, 0},        {Codec::kInt8, Dtype::kFp16, 1},
    {Codec::kInt8, Dtype::kFp32, 2},        {Codec::kFp8E4m3, Dtype::kBf16, 3},
    {Codec::kFp8E4m3, Dtype::kFp16, 4},     {Codec::kFp8E4m3, Dtype::kFp32, 5},
    {Codec::kFp8E5m2, Dtype::kBf16, 6},     {Codec::kFp8E5m2, Dtype::kFp16, 7},
    {Codec::kFp8E5m2, Dtype::kFp32, 8},     {Codec::kInt4, Dtype::kBf16, 9},
    {Codec::kInt4, Dtype::kFp16, 10},       {Codec::kInt4, Dtype::kFp32, 11},
    {Codec::kLossless12, Dtype::kBf16, 12}, {Codec::kLossless12, Dtype::kFp32, 13},
    {Codec::kMask1, Dtype::kBool, 14},      {Codec::kMask1, Dtype::kBf16, 15},
    {Codec::kMask1, Dtype::kFp16, 16},      {Codec::kMask1, Dtype::kFp32, 17},
    {Codec::kSparse, Dtype::kBf16, 18},     {Codec::kSparse, Dtype::kFp16, 18},
    {Codec::kSparse, Dtype::kFp32, 19},
});

}  // namespace

std::span<const CodecKernelName> codec_kernel_names() { return kNames; }

std::optional<std::size_t> codec_kernel_index(CodecWork work, Codec codec, Dtype dtype) {
  if (work == CodecWork::kEncode || work == CodecWork::kDecode) {
    for (const Format& format : kFormats)
      if (format.codec == codec && format.dtype == dtype)
        return 2 * format.pair + (work == CodecWork::kDecode ? 1 : 0);
    return std::nullopt;
  }
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i].work == work) return i;
  return std::nullopt;
}

}  // namespace spillway
