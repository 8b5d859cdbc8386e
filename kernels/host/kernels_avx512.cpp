// SPDX-License-Identifier: Apache-2.0
// The bodies for AVX-512 (x86-64-v4); kernels/CMakeLists.txt has the flags.
#define SPW_BODY body_avx512
#include "kernels/host/compiled_bodies.hpp"

namespace spillway {

const HostKernels& host_kernels_avx512();
const HostKernels& host_kernels_avx512() { return SPW_BODY::compiled_kernels(); }

}  // namespace spillway
