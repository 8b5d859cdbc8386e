// SPDX-License-Identifier: Apache-2.0
// A CUDA runtime that costs nothing, as null_driver.hpp is a driver: the functions that CUB's and
// PyTorch's caching allocators call, as a shared library under the real one's name, linked by the
// one program that compares host costs. Only cudaMalloc gives something: addresses that rise.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#define SPW_API extern "C" __attribute__((visibility("default")))

namespace {

constexpr std::size_t kMemoryBytes = std::size_t{141} << 30;

thread_local int t_device = 0;
alignas(64) std::atomic<std::uint64_t> g_memory{0};
alignas(64) std::atomic<std::uint64_t> g_handles{0};

template <typename Handle>
Handle next_handle() {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a handle, never followed
  return reinterpret_cast<Handle>(0x1000 + 16 * g_handles.fetch_add(1, std::memory_order_relaxed));
}

cudaError_t give_address(void** pointer, std::size_t bytes) {
  // 2 MiB aligned, as segments from a real device are. Never twice, however long a bench allocates:
  // beyond the 47 bits of real addresses, which nobody looks at.
  constexpr std::uint64_t kPage = std::uint64_t{2} << 20;
  const std::uint64_t room = (bytes + kPage - 1) & ~(kPage - 1);
  const std::uint64_t at = g_memory.fetch_add(room, std::memory_order_relaxed);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a device address
  *pointer = reinterpret_cast<void*>(static_cast<std::uintptr_t>(0x1000'0000'0000 + at));
  return cudaSuccess;
}

}  // namespace

/// Only this library has it: a program that needs it does not start on the real runtime.
SPW_API int spillway_null_cudart() { return 1; }

SPW_API cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return give_address(pointer, bytes);
}
SPW_API cudaError_t cudaFree(void*) { return cudaSuccess; }
SPW_API cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t) {
  return give_address(pointer, bytes);
}
SPW_API cudaError_t cudaFreeAsync(void*, cudaStream_t) { return cudaSuccess; }
SPW_API cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *free_bytes = kMemoryBytes;
  *total_bytes = kMemoryBytes;
  return cudaSuccess;
}

SPW_API cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
SPW_API cudaError_t cudaGetDevice(int* device) {
  *device = t_device;
  return cudaSuccess;
}
SPW_API cudaError_t cudaSetDevice(int device) {
  t_device = device;
  return cudaSuccess;
}
SPW_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int) {
  *out = cudaDeviceProp();
  out->name[0] = '0';
  out->totalGlobalMem = kMemoryBytes;
  out->major = 9;
  out->multiProcessorCount = 132;
  out->warpSize = 32;
  return cudaSuccess;
}
SPW_API cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
SPW_API cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
SPW_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = 0;
  return cudaSuccess;
}
SPW_API cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
SPW_API cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int) {
  return cudaErrorPeerAccessUnsupported;
}

SPW_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = next_handle<cudaEvent_t>();
  return cudaSuccess;
}
SPW_API cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
SPW_API cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
SPW_API cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
SPW_API cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
SPW_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

SPW_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  *stream = next_handle<cudaStream_t>();
  return cudaSuccess;
}
SPW_API cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
SPW_API cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
SPW_API cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned int) {
  return cudaSuccess;
}
SPW_API cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
SPW_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}
SPW_API cudaError_t cudaMemcpy(void*, const void*, std::size_t, cudaMemcpyKind) {
  return cudaSuccess;
}
SPW_API cudaError_t cudaMemcpyAsync(void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t) {
  return cudaSuccess;
}
SPW_API cudaError_t cudaMemcpyPeerAsync(void*, int, const void*, int, std::size_t, cudaStream_t) {
  return cudaSuccess;
}

SPW_API cudaError_t cudaGetLastError() { return cudaSuccess; }
SPW_API cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
SPW_API const char* cudaGetErrorName(cudaError_t) { return "error"; }
SPW_API const char* cudaGetErrorString(cudaError_t) { return "error"; }

// Looked up when PyTorch's library is loaded, never called by the benches.
SPW_API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t*, int) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, std::size_t) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaErrorNotSupported; }
SPW_API cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t*, void*) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaIpcOpenMemHandle(void**, cudaIpcMemHandle_t, unsigned int) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaIpcCloseMemHandle(void*) { return cudaErrorNotSupported; }
#if CUDART_VERSION >= 13000  // their signatures changed there
SPW_API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t,
                                             cudaStreamCaptureStatus* status,
                                             unsigned long long* id,
                                             cudaGraph_t*,
                                             const cudaGraphNode_t**,
                                             const cudaGraphEdgeData**,
                                             std::size_t*) {
  *status = cudaStreamCaptureStatusNone;
  if (id != nullptr) *id = 0;
  return cudaSuccess;
}
SPW_API cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t,
                                                 cudaGraphNode_t*,
                                                 cudaGraphEdgeData*,
                                                 std::size_t*) {
  return cudaErrorNotSupported;
}
SPW_API cudaError_t cudaGetDriverEntryPointByVersion(
    const char*, void**, unsigned int, unsigned long long, cudaDriverEntryPointQueryResult*) {
  return cudaErrorNotSupported;
}
#endif
