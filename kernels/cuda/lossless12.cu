// SPDX-License-Identifier: Apache-2.0
// lossless12 on the device; and copies and fingerprints of plain bytes.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(lossless12_bf16, WarpLossless12<uint16_t>)
SPW_CODEC(lossless12_fp32, WarpLossless12<uint32_t>)
SPW_BOTH_TABLES(spw_copy, run_bytes<ByteWork::kCopy>)
SPW_BOTH_TABLES(spw_fingerprint, run_bytes<ByteWork::kSum>)
SPW_BOTH_TABLES(spw_fingerprint_blocks, run_bytes<ByteWork::kBlocks>)
