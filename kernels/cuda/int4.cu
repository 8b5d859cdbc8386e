// SPDX-License-Identifier: Apache-2.0
// int4 on the device.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(int4_bf16, WarpInt4<Bf16>)
SPW_CODEC(int4_fp16, WarpInt4<Fp16>)
SPW_CODEC(int4_fp32, WarpInt4<Fp32>)
