// SPDX-License-Identifier: Apache-2.0
// The bodies compiled for the host, once per instruction set: the same source and the same bits,
// chosen by what the processor has. Pure functions of their tensor; any thread, any order of tiles.
#pragma once

#include "core/codec.hpp"
#include "kernels/codec_tensor.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace spillway {

/// Ascending: each can do what the one before can.
enum class HostIsa : std::uint8_t { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };
inline constexpr int kHostIsaCount = 3;
std::string_view name_of(HostIsa isa);

/// One codec on one dtype. Tiles are [first, end); `fingerprint`: sum the plain bytes on the way.
struct HostKernel {
  using Tiles = CodecOutcome (*)(const CodecTensor& tensor,
                                 std::uint64_t first,
                                 std::uint64_t end,
                                 bool fingerprint);
  Codec codec = Codec::kNone;
  Dtype dtype = Dtype::kUnknown;
  Tiles encode = nullptr;
  Tiles decode = nullptr;
};

struct HostKernels {
  std::span<const HostKernel> kernels;
  /// Sum over the words of `bytes` bytes that begin with word `first_word` of the tensor.
  std::uint64_t (*fingerprint_sum)(const void* data,
                                   std::uint64_t bytes,
                                   std::uint64_t first_word) = nullptr;

  /// Null when there is none for the pair; Codec::kNone copies any dtype.
  [[nodiscard]] const HostKernel* find(Codec codec, Dtype dtype) const;
};

/// Null when this processor or this build lacks the instruction set; kBaseline always exists.
const HostKernels* host_kernels(HostIsa isa);
/// The widest that this processor has.
const HostKernels& best_host_kernels();
HostIsa best_host_isa();

}  // namespace spillway
