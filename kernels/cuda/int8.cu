// SPDX-License-Identifier: Apache-2.0
// int8 on the device.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(int8_bf16, WarpScaled8<Bf16, Int8Grid>)
SPW_CODEC(int8_fp16, WarpScaled8<Fp16, Int8Grid>)
SPW_CODEC(int8_fp32, WarpScaled8<Fp32, Int8Grid>)
