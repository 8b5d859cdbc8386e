// SPDX-License-Identifier: Apache-2.0
// The bodies for the default target; kernels/CMakeLists.txt has the flags.
#define SPW_BODY body_baseline
#include "kernels/host/compiled_bodies.hpp"

namespace spillway {

const HostKernels& host_kernels_baseline();
const HostKernels& host_kernels_baseline() { return SPW_BODY::compiled_kernels(); }

}  // namespace spillway
