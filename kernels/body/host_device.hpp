// SPDX-License-Identifier: Apache-2.0
// One source for both sides: what the bodies need from the compiler, and nothing of the standard
// library. Bodies are compiled several times into one program (per instruction set of the host), so
// each copy lives in a namespace of its own, SPW_BODY, and every function is inlined.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define SPW_HD __host__ __device__ __forceinline__
#else
#define SPW_HD inline __attribute__((always_inline))
#endif

#ifndef SPW_BODY
#define SPW_BODY body
#endif

#define SPW_RESTRICT __restrict__

namespace spillway::SPW_BODY {

using std::int16_t;
using std::int32_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

SPW_HD uint32_t bits_of(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  return __builtin_bit_cast(uint32_t, value);
#endif
}

SPW_HD float float_of(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

SPW_HD uint32_t count_ones(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return static_cast<uint32_t>(__popc(bits));
#else
  return static_cast<uint32_t>(__builtin_popcount(bits));
#endif
}

template <typename T>
SPW_HD T larger(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
SPW_HD T smaller(T a, T b) {
  return a < b ? a : b;
}

/// 2^(exponent - 127) for 1 <= exponent <= 254; 0 for 0, Inf for 255.
SPW_HD float power_of_two(uint32_t biased_exponent) { return float_of(biased_exponent << 23); }

}  // namespace spillway::SPW_BODY
