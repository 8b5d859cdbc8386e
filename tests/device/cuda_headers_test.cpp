// SPDX-License-Identifier: Apache-2.0
// With a CUDA toolkit, its driver header compiles under our flags and is as new as the build
// promises. Only the header: nothing links libcuda.
#ifdef SPW_HAVE_CUDA_HEADERS

#include <cuda.h>

#include <doctest/doctest.h>

TEST_SUITE("unit") {
  TEST_CASE("the CUDA toolkit that was found is 12.4 or newer") {
    CHECK(CUDA_VERSION >= 12040);
    CHECK(sizeof(CUdeviceptr) == 8);
  }
}

#endif  // SPW_HAVE_CUDA_HEADERS
