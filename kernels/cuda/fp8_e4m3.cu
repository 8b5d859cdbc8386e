// SPDX-License-Identifier: Apache-2.0
// fp8-e4m3 on the device.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(fp8_e4m3_bf16, WarpScaled8<Bf16, E4m3Grid>)
SPW_CODEC(fp8_e4m3_fp16, WarpScaled8<Fp16, E4m3Grid>)
SPW_CODEC(fp8_e4m3_fp32, WarpScaled8<Fp32, E4m3Grid>)
