// SPDX-License-Identifier: Apache-2.0
// The four kernels that measuring needs, as PTX text for a GPU and as registered bodies for the
// simulated one: nothing, a wait, a copy, and arithmetic without memory.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/kernel.hpp"

#include <cstdint>
#include <string>

namespace spillway::measure {

/// Flops of one round of the arithmetic kernel, per thread.
inline constexpr std::uint64_t kFlopsPerRound = 64;
inline constexpr unsigned int kBlockThreads = 256;

struct MeasureKernels {
  /// Registers the bodies for the simulator (harmless on a GPU) and loads the PTX into the current
  /// context.
  static Result<MeasureKernels> load(const Driver& driver);

  Module module;
  Kernel<> nothing;
  Kernel<std::uint64_t> wait;                                // (ns): one thread waits so long
  Kernel<cu::DevicePtr, cu::DevicePtr, std::uint64_t> copy;  // (to, from, 16-byte pieces)
  Kernel<cu::DevicePtr, std::uint32_t> arithmetic;           // (one float a thread, rounds)
};

/// The PTX text that load() gives to the driver.
std::string measure_ptx();

/// Shape of a copy of `bytes` (a multiple of 16), one piece a thread.
LaunchShape copy_shape(std::uint64_t bytes);

}  // namespace spillway::measure
