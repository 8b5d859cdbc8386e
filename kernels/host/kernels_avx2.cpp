// SPDX-License-Identifier: Apache-2.0
// The bodies for AVX2 (x86-64-v3); kernels/CMakeLists.txt has the flags.
#define SPW_BODY body_avx2
#include "kernels/host/compiled_bodies.hpp"

namespace spillway {

const HostKernels& host_kernels_avx2();
const HostKernels& host_kernels_avx2() { return SPW_BODY::compiled_kernels(); }

}  // namespace spillway
