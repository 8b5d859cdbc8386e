// SPDX-License-Identifier: Apache-2.0
// The compiled CUDA kernels, one fat binary per file of kernels/cuda, as the build put them into
// the library (cmake/SpillwayKernels.cmake).
#pragma once

#include <span>
#include <string_view>

namespace spillway {

struct KernelImage {
  std::string_view name;  // "int8"
  const void* data = nullptr;
};

/// Empty in a build without a CUDA compiler.
std::span<const KernelImage> kernel_images();

}  // namespace spillway
