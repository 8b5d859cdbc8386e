// SPDX-License-Identifier: Apache-2.0
// How many threads a kernel runs: blocks x threads per block, and shared bytes per block.
#pragma once

#include <cstdint>

namespace spillway {

struct LaunchShape {
  unsigned int grid[3] = {1, 1, 1};
  unsigned int block[3] = {1, 1, 1};
  unsigned int shared_bytes = 0;

  [[nodiscard]] std::uint64_t threads() const {
    std::uint64_t n = 1;
    for (int i = 0; i < 3; ++i) n *= static_cast<std::uint64_t>(grid[i]) * block[i];
    return n;
  }
};

/// One thread per element, `block` threads at a time; at most the 2^31 - 1 blocks that a grid has.
constexpr LaunchShape shape_for(std::uint64_t elements, unsigned int block = 256) {
  const std::uint64_t blocks = elements == 0 ? 1 : (elements - 1) / block + 1;
  LaunchShape shape;
  shape.grid[0] = static_cast<unsigned int>(blocks < 0x7fffffff ? blocks : 0x7fffffff);
  shape.block[0] = block;
  return shape;
}

}  // namespace spillway
