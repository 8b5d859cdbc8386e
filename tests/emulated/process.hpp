// SPDX-License-Identifier: Apache-2.0
// The one simulator behind an emulated libcuda.so.1: made by the first cuInit as the environment
// says, ended when the process exits.
#pragma once

#include "device/driver_types.hpp"
#include "device/kernel_registry.hpp"

namespace spillway::emulated {

/// kDeinitialized once the process is past the library's exit handler, else kSuccess.
cu::Result alive();

/// Makes the simulator if there is none. kInvalidValue when the environment asks for what cannot
/// be (the report file says what).
cu::Result start();

void add_kernel(const KernelSpec& spec);

}  // namespace spillway::emulated
