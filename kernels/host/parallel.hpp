// SPDX-License-Identifier: Apache-2.0
// Work on numbered chunks, on threads of oneTBB through Thrust.
#pragma once

#include <cstdint>

namespace spillway {

/// Calls run(context, i) once for every i below `count`, from up to `threads` threads (0: one per
/// processor); returns when all are done. `run` must not throw and starts in the default
/// floating-point environment, whatever the caller's is.
void for_each_chunk(std::uint64_t count,
                    int threads,
                    void* context,
                    void (*run)(void* context, std::uint64_t chunk));

}  // namespace spillway
