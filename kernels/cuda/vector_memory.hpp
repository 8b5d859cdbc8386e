// SPDX-License-Identifier: Apache-2.0
// Loads and stores of a lane's bytes at once: 16-byte vectors with streaming hints on a GPU, copies
// on the host. A source is read once and dead afterwards, so it should not push others out of the
// cache; what is written may be read by a copy engine next and stays.
#pragma once

#include "kernels/body/host_device.hpp"

#ifdef __CUDACC__
#define SPW_UNROLL _Pragma("unroll")
#define SPW_NO_UNROLL _Pragma("unroll 1")
// A call instead of more registers in the loop that matters.
#define SPW_HD_RARE __host__ __device__ __noinline__
#else
#define SPW_HD_RARE inline
#define SPW_UNROLL
#define SPW_NO_UNROLL
#endif

namespace spillway::SPW_BODY {

#ifdef __CUDA_ARCH__
template <uint32_t kBytes>
struct VectorOf;
template <>
struct VectorOf<1> {
  using Type = unsigned char;
};
template <>
struct VectorOf<4> {
  using Type = uint32_t;
};
template <>
struct VectorOf<8> {
  using Type = uint2;
};
template <>
struct VectorOf<16> {
  using Type = uint4;
};
#endif

/// kBytes from `at`, which is aligned to them (to 16 when there are more).
template <uint32_t kBytes, typename To>
SPW_HD void load_stream(To* SPW_RESTRICT to, const void* SPW_RESTRICT at) {
#ifdef __CUDA_ARCH__
  constexpr uint32_t kPiece = kBytes > 16 ? 16 : kBytes;
  using Piece = typename VectorOf<kPiece>::Type;
#pragma unroll
  for (uint32_t i = 0; i < kBytes / kPiece; ++i) {
    const Piece piece = __ldcs(static_cast<const Piece*>(at) + i);
    memcpy(reinterpret_cast<uint8_t*>(to) + i * kPiece, &piece, kPiece);
  }
#else
  __builtin_memcpy(to, at, kBytes);
#endif
}

template <uint32_t kBytes, typename From>
SPW_HD void store(void* SPW_RESTRICT at, const From* SPW_RESTRICT from) {
#ifdef __CUDA_ARCH__
  constexpr uint32_t kPiece = kBytes > 16 ? 16 : kBytes;
  using Piece = typename VectorOf<kPiece>::Type;
#pragma unroll
  for (uint32_t i = 0; i < kBytes / kPiece; ++i) {
    Piece piece;
    memcpy(&piece, reinterpret_cast<const uint8_t*>(from) + i * kPiece, kPiece);
    static_cast<Piece*>(at)[i] = piece;
  }
#else
  __builtin_memcpy(at, from, kBytes);
#endif
}

}  // namespace spillway::SPW_BODY
