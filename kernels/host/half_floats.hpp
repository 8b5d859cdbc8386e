// SPDX-License-Identifier: Apache-2.0
// fp16 to fp32 and back by the processor's own instructions, where the target has them; compilers
// do not find these in the bodies' integers. Exact where it is used, so the bodies judge it: the
// same bits come out without (tests/kernels/same_bits).
#pragma once

#include "kernels/body/host_device.hpp"

#if defined(__F16C__) && !defined(__CUDACC__)
#define SPW_HALF_FLOATS 1
#include <immintrin.h>

namespace spillway::SPW_BODY {

#ifdef __AVX512F__
/// g++ 12 warns of what the intrinsics without a mask leave undefined.
inline constexpr __mmask16 kAllLanes = 0xffff;
#endif

/// 128 values, exact; a NaN may become another NaN.
SPW_HD void half_to_float(const uint16_t* SPW_RESTRICT in, uint32_t* SPW_RESTRICT out) {
#ifdef __AVX512F__
  for (uint32_t i = 0; i < 128; i += 16)
    _mm512_storeu_ps(out + i,
                     _mm512_maskz_cvtph_ps(
                         kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i))));
#else
  for (uint32_t i = 0; i < 128; i += 8)
    _mm256_storeu_ps(reinterpret_cast<float*>(out + i),
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#endif
}

/// Nearest, ties to even, of 128 values; too large ones become Inf.
SPW_HD void float_to_half(const uint32_t* SPW_RESTRICT in, uint16_t* SPW_RESTRICT out) {
#ifdef __AVX512F__
  for (uint32_t i = 0; i < 128; i += 16)
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(out + i),
        _mm512_maskz_cvtps_ph(
            kAllLanes, _mm512_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  for (uint32_t i = 0; i < 128; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(reinterpret_cast<const float*>(in + i)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
}

}  // namespace spillway::SPW_BODY
#endif
