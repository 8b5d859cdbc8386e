// SPDX-License-Identifier: Apache-2.0
// The unit of the arena: 512 bytes, the alignment that real devices and PyTorch's blocks give.
// Places and sizes inside an arena are counted in quanta and fit 32 bits (2 TiB).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace spillway {

using Quanta = std::uint32_t;

inline constexpr std::uint32_t kQuantumShift = 9;
inline constexpr std::size_t kQuantumBytes = std::size_t{1} << kQuantumShift;
inline constexpr std::uint64_t kArenaBytesMax = std::uint64_t{std::numeric_limits<Quanta>::max()}
                                                << kQuantumShift;

/// Quanta that hold `bytes`, rounded up without wrapping; the largest Quanta when there is no such
/// number, which no arena has.
constexpr Quanta quanta_for(std::uint64_t bytes) {
  const std::uint64_t quanta = (bytes >> kQuantumShift) + ((bytes & (kQuantumBytes - 1)) != 0);
  return quanta < std::numeric_limits<Quanta>::max() ? static_cast<Quanta>(quanta)
                                                     : std::numeric_limits<Quanta>::max();
}
constexpr std::uint64_t bytes_of(Quanta quanta) { return std::uint64_t{quanta} << kQuantumShift; }

}  // namespace spillway
