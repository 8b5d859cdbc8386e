// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime functions that CUB's CachingDeviceAllocator calls, at no cost, over the
// addresses of null_driver.hpp. Linked in place of libcudart into the one bench that compares host
// costs: a peer over a driver that costs nothing.
#include "bench/support/null_driver.hpp"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace {
thread_local int t_device = 0;
cudaEvent_t next_event() {
  static std::atomic<std::uintptr_t> next{0x1000};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a handle, never followed
  return reinterpret_cast<cudaEvent_t>(next.fetch_add(16, std::memory_order_relaxed));
}
}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a device address
  *pointer = reinterpret_cast<void*>(
      static_cast<std::uintptr_t>(spillway::bench::null_device_address(bytes)));
  return cudaSuccess;
}
cudaError_t cudaFree(void*) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = t_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  t_device = device;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = next_event();
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "error"; }
const char* cudaGetErrorName(cudaError_t) { return "error"; }

}  // extern "C"
