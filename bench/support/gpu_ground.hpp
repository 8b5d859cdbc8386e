// SPDX-License-Identifier: Apache-2.0
// The machine's first CUDA device as ground for the benches.
#pragma once

#include "bench/support/peer.hpp"
#include "core/status.hpp"

#include <cstddef>
#include <string>

namespace spillway::bench {

/// The table of libcuda, the primary context of device 0, current on this thread, and at least 16
/// streams. `driver_text` becomes "CUDA 13.0 on NVIDIA H200". Errors: those of load_cuda_driver,
/// and kNotFound without a device.
Result<Ground> gpu_ground(std::size_t stream_count, std::string* driver_text);

/// Prints why and returns the exit code: 0, or 1 where a GPU was promised (SPILLWAY_NEED_GPU).
int skipped(const Status& why);

/// Destroys the streams and releases the context.
void give_back(const Ground& ground);

}  // namespace spillway::bench
