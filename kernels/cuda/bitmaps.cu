// SPDX-License-Identifier: Apache-2.0
// mask1 and sparse on the device. sparse knows words, not dtypes.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(mask1_bool, WarpMask<Boolean>)
SPW_CODEC(mask1_bf16, WarpMask<Positive<Bf16>>)
SPW_CODEC(mask1_fp16, WarpMask<Positive<Fp16>>)
SPW_CODEC(mask1_fp32, WarpMask<Positive<Fp32>>)
SPW_CODEC(sparse_16, WarpSparse<uint16_t>)
SPW_CODEC(sparse_32, WarpSparse<uint32_t>)
