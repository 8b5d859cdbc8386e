// SPDX-License-Identifier: Apache-2.0
// fp8-e5m2 on the device.
#include "kernels/cuda/entry.cuh"

SPW_CODEC(fp8_e5m2_bf16, WarpScaled8<Bf16, E5m2Grid>)
SPW_CODEC(fp8_e5m2_fp16, WarpScaled8<Fp16, E5m2Grid>)
SPW_CODEC(fp8_e5m2_fp32, WarpScaled8<Fp32, E5m2Grid>)
