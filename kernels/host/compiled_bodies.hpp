// SPDX-License-Identifier: Apache-2.0
// Fills a HostKernels from the bodies, in the instruction set that the including file is compiled
// for. No standard templates here: a copy of one with wider instructions could be the one that the
// linker keeps for everybody.
#pragma once

#include "kernels/body/host_tiles.hpp"
#include "kernels/host/host_kernels.hpp"

namespace spillway::SPW_BODY {

template <typename Tiles, bool kEncode>
CodecOutcome run_tiles(const CodecTensor& tensor, uint64_t first, uint64_t end, bool fingerprint) {
  // A local copy: stores through the tensor's bytes cannot change it.
  const CodecTensor t = tensor;
  using Word = typename Tiles::Word;
  constexpr uint64_t kTileBytes = kTileValues * sizeof(Word);
  CodecOutcome outcome;
  for (uint64_t tile = first; tile < end; ++tile) {
    const bool fits = kEncode ? Tiles::encode(t, tile) : Tiles::decode(t, tile);
    if (!fits) ++outcome.misfits;
    if (!fingerprint) continue;
    const uint64_t bytes = smaller((t.values - tile * kTileValues) * sizeof(Word), kTileBytes);
    outcome.fingerprint_sum += fingerprint_sum(
        static_cast<const uint8_t*>(t.plain) + tile * kTileBytes, bytes, tile * (kTileBytes / 8));
  }
  return outcome;
}

inline uint64_t sum_words(const void* data, uint64_t bytes, uint64_t first_word) {
  return fingerprint_sum(data, bytes, first_word);
}

template <typename Tiles>
constexpr HostKernel host_kernel(Codec codec, Dtype dtype) {
  return {codec, dtype, &run_tiles<Tiles, true>, &run_tiles<Tiles, false>};
}

inline constexpr HostKernel kCompiled[] = {
    host_kernel<Lossless12Tiles<uint16_t>>(Codec::kLossless12, Dtype::kBf16),
    host_kernel<Lossless12Tiles<uint32_t>>(Codec::kLossless12, Dtype::kFp32),
    host_kernel<MaskTiles<Boolean>>(Codec::kMask1, Dtype::kBool),
    host_kernel<MaskTiles<Positive<Bf16>>>(Codec::kMask1, Dtype::kBf16),
    host_kernel<MaskTiles<Positive<Fp16>>>(Codec::kMask1, Dtype::kFp16),
    host_kernel<MaskTiles<Positive<Fp32>>>(Codec::kMask1, Dtype::kFp32),
    host_kernel<Scaled8Tiles<Bf16, Int8Grid>>(Codec::kInt8, Dtype::kBf16),
    host_kernel<Scaled8Tiles<Fp16, Int8Grid>>(Codec::kInt8, Dtype::kFp16),
    host_kernel<Scaled8Tiles<Fp32, Int8Grid>>(Codec::kInt8, Dtype::kFp32),
    host_kernel<Scaled8Tiles<Bf16, E4m3Grid>>(Codec::kFp8E4m3, Dtype::kBf16),
    host_kernel<Scaled8Tiles<Fp16, E4m3Grid>>(Codec::kFp8E4m3, Dtype::kFp16),
    host_kernel<Scaled8Tiles<Fp32, E4m3Grid>>(Codec::kFp8E4m3, Dtype::kFp32),
    host_kernel<Scaled8Tiles<Bf16, E5m2Grid>>(Codec::kFp8E5m2, Dtype::kBf16),
    host_kernel<Scaled8Tiles<Fp16, E5m2Grid>>(Codec::kFp8E5m2, Dtype::kFp16),
    host_kernel<Scaled8Tiles<Fp32, E5m2Grid>>(Codec::kFp8E5m2, Dtype::kFp32),
    host_kernel<Int4Tiles<Bf16>>(Codec::kInt4, Dtype::kBf16),
    host_kernel<Int4Tiles<Fp16>>(Codec::kInt4, Dtype::kFp16),
    host_kernel<Int4Tiles<Fp32>>(Codec::kInt4, Dtype::kFp32),
    host_kernel<SparseTiles<uint16_t>>(Codec::kSparse, Dtype::kBf16),
    host_kernel<SparseTiles<uint16_t>>(Codec::kSparse, Dtype::kFp16),
    host_kernel<SparseTiles<uint32_t>>(Codec::kSparse, Dtype::kFp32),
};

inline const HostKernels& compiled_kernels() {
  static constexpr HostKernels kKernels{{kCompiled, sizeof(kCompiled) / sizeof(kCompiled[0])},
                                        &sum_words};
  return kKernels;
}

}  // namespace spillway::SPW_BODY
