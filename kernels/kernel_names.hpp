// SPDX-License-Identifier: Apache-2.0
// The names of the codec kernels, in one order for launcher and simulator. Each exists for both
// table sizes, as NAME_small and NAME_large.
#pragma once

#include "core/codec.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace spillway {

enum class CodecWork : std::uint8_t { kEncode, kDecode, kCopy, kFingerprint, kFingerprintBlocks };

struct CodecKernelName {
  const char* small = "";
  const char* large = "";
  CodecWork work = CodecWork::kCopy;
};

std::span<const CodecKernelName> codec_kernel_names();

/// Index into codec_kernel_names(); nothing when there is no such kernel. Codec and dtype count for
/// encode and decode alone.
std::optional<std::size_t> codec_kernel_index(CodecWork work, Codec codec, Dtype dtype);

}  // namespace spillway
