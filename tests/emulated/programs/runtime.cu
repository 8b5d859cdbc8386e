// SPDX-License-Identifier: Apache-2.0
// Scenarios of a program that nvcc built with `-cudart shared`; argv[1] names one.
#include "device/kernel_registry.hpp"
#include "tests/emulated/programs/must.hpp"

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace spillway;

// Its name is the same on host and device: registered by it below.
extern "C" __global__ void scale(float* data, float by, std::uint64_t count) {
  const std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) data[i] *= by;
}

extern "C" __global__ void unknown(float* data) { data[0] = 1; }

namespace {

void scale_body(const LaunchShape& shape, float* data, float by, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count && i < shape.threads(); ++i) data[i] *= by;
}
void scale_accesses(AccessList& list, const LaunchShape&, float* data, float, std::uint64_t count) {
  list.updates(data, count * sizeof *data);
}
KernelCost scale_cost(const LaunchShape&, float*, float, std::uint64_t) { return {}; }

void register_kernels() {
  using Register = int (*)(const KernelSpec*);
  void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  MUST(library != nullptr);
  const auto add = reinterpret_cast<Register>(dlsym(library, "spw_emulated_register_kernel"));
  MUST(add != nullptr);
  const KernelSpec spec = make_kernel<scale_body, scale_accesses, scale_cost>("scale");
  MUST(add(&spec) == 0);
}

void kernel_on(cudaStream_t stream, float by) {
  constexpr std::uint64_t kCount = 1000;
  constexpr std::size_t kBytes = kCount * sizeof(float);
  std::vector<float> values(kCount, 2.0f);
  float* data = nullptr;
  GIVES(cudaSuccess, cudaMalloc(&data, kBytes));
  GIVES(cudaSuccess, cudaMemcpyAsync(data, values.data(), kBytes, cudaMemcpyHostToDevice, stream));
  scale<<<4, 256, 0, stream>>>(data, by, kCount);
  GIVES(cudaSuccess, cudaGetLastError());
  GIVES(cudaSuccess, cudaMemcpyAsync(values.data(), data, kBytes, cudaMemcpyDefault, stream));
  GIVES(cudaSuccess, cudaStreamSynchronize(stream));
  for (const float value : values) MUST(value == 2.0f * by);
  GIVES(cudaSuccess, cudaFree(data));
}

void kernel() {
  register_kernels();
  kernel_on(nullptr, 3);
}

void threads() {
  register_kernels();
  std::vector<std::thread> all;
  for (int t = 0; t < 8; ++t)
    all.emplace_back([t] {
      cudaStream_t stream = nullptr;
      GIVES(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
      for (int i = 0; i < 5; ++i) kernel_on(stream, static_cast<float>(t));
      GIVES(cudaSuccess, cudaStreamDestroy(stream));
    });
  for (std::thread& thread : all) thread.join();
}

void not_registered() {
  float* data = nullptr;
  GIVES(cudaSuccess, cudaMalloc(&data, 4));
  unknown<<<1, 1>>>(data);
  GIVES(cudaErrorInvalidDeviceFunction, cudaPeekAtLastError());
  std::thread([] { GIVES(cudaSuccess, cudaGetLastError()); }).join();  // each thread has its own
  GIVES(cudaErrorInvalidDeviceFunction, cudaGetLastError());
  GIVES(cudaSuccess, cudaGetLastError());
  GIVES(cudaSuccess, cudaFree(data));
}

void errors() {
  void* memory = nullptr;
  GIVES(cudaErrorMemoryAllocation, cudaMalloc(&memory, std::size_t{1} << 50));
  MUST(memory == nullptr);
  GIVES(cudaErrorMemoryAllocation, cudaGetLastError());
  GIVES(cudaErrorInvalidDevice, cudaSetDevice(99));
  GIVES(cudaErrorInvalidDevice, cudaGetLastError());
  GIVES(cudaSuccess, cudaMalloc(&memory, 0));
  MUST(memory == nullptr);
  GIVES(cudaSuccess, cudaFree(nullptr));
  MUST(std::string_view(cudaGetErrorName(cudaErrorNotReady)) == "cudaErrorNotReady");
  cudaDeviceProp properties;
  GIVES(cudaSuccess, cudaGetDeviceProperties(&properties, 0));
  MUST(properties.major == 9 && properties.totalGlobalMem == std::size_t{1} << 30);
  MUST(properties.warpSize == 32 && properties.memoryPoolsSupported == 1);
  GIVES(cudaSuccess, cudaDeviceReset());
  GIVES(cudaSuccess, cudaMalloc(&memory, 16));
  GIVES(cudaSuccess, cudaFree(memory));
}

// With a fault rule that loses the context.
void lost() {
  void* memory = nullptr;
  GIVES(cudaSuccess, cudaMalloc(&memory, 16));
  const cudaError_t set = cudaMemsetAsync(memory, 0, 16, nullptr);
  const cudaError_t synchronized = cudaDeviceSynchronize();
  MUST(set == cudaErrorIllegalAddress || synchronized == cudaErrorIllegalAddress);
  for (int i = 0; i < 3; ++i) {
    GIVES(cudaErrorIllegalAddress, cudaGetLastError());
    GIVES(cudaErrorIllegalAddress, cudaMalloc(&memory, 16));
  }
}

void memory_kinds() {
  constexpr std::size_t kBytes = 4096;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void* pinned = nullptr;
  void* managed = nullptr;
  void* ordered = nullptr;
  void* pitched = nullptr;
  std::size_t pitch = 0;
  GIVES(cudaSuccess, cudaStreamCreate(&stream));
  GIVES(cudaSuccess, cudaEventCreate(&event));
  GIVES(cudaSuccess, cudaMallocHost(&pinned, kBytes));
  GIVES(cudaSuccess, cudaMallocManaged(&managed, kBytes));
  GIVES(cudaSuccess, cudaMallocAsync(&ordered, kBytes, stream));
  GIVES(cudaSuccess, cudaMallocPitch(&pitched, &pitch, 100, 10));
  MUST(pitch >= 100);
  const auto type = [](const void* pointer) {
    cudaPointerAttributes attributes;
    GIVES(cudaSuccess, cudaPointerGetAttributes(&attributes, pointer));
    return attributes.type;
  };
  int local = 0;
  MUST(type(pinned) == cudaMemoryTypeHost);
  MUST(type(managed) == cudaMemoryTypeManaged);
  MUST(type(pitched) == cudaMemoryTypeDevice);
  MUST(type(&local) == cudaMemoryTypeUnregistered);
  std::memset(pinned, 6, kBytes);
  GIVES(cudaSuccess, cudaMemcpyAsync(ordered, pinned, kBytes, cudaMemcpyHostToDevice, stream));
  GIVES(cudaSuccess, cudaFreeAsync(ordered, stream));
  GIVES(cudaSuccess, cudaEventRecord(event, stream));
  GIVES(cudaSuccess, cudaEventSynchronize(event));
  void* registered = aligned_alloc(4096, kBytes);
  GIVES(cudaSuccess, cudaHostRegister(registered, kBytes, cudaHostRegisterDefault));
  MUST(type(registered) == cudaMemoryTypeHost);
  GIVES(cudaSuccess, cudaHostUnregister(registered));
  free(registered);
  GIVES(cudaSuccess, cudaFree(pitched));
  GIVES(cudaSuccess, cudaFree(managed));
  GIVES(cudaSuccess, cudaFreeHost(pinned));
  GIVES(cudaSuccess, cudaEventDestroy(event));
  GIVES(cudaSuccess, cudaStreamDestroy(stream));
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  GIVES(cudaSuccess, cudaGetDriverEntryPointByVersion("cuMemCreate", &function, 13000, 0, &found));
  MUST(function != nullptr && found == cudaDriverEntryPointSuccess);
  GIVES(cudaSuccess, cudaGetDriverEntryPointByVersion("cuNothing", &function, 13000, 0, &found));
  MUST(function == nullptr && found == cudaDriverEntryPointSymbolNotFound);
}

void forks() {
  void* memory = nullptr;
  GIVES(cudaSuccess, cudaMalloc(&memory, 16));
  const pid_t child = fork();
  if (child == 0) {
    GIVES(cudaErrorInitializationError, cudaMalloc(&memory, 16));
    GIVES(cudaErrorInitializationError, cudaDeviceSynchronize());
    std::exit(0);
  }
  int status = 0;
  MUST(waitpid(child, &status, 0) == child);
  MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  GIVES(cudaSuccess, cudaFree(memory));
}

/// A global object of a program: what it frees is gone with the driver by then.
struct Holder {
  void* memory = nullptr;
  ~Holder() {
    if (memory != nullptr) GIVES(cudaErrorCudartUnloading, cudaFree(memory));
  }
};
Holder holder;

void destructor() { GIVES(cudaSuccess, cudaMalloc(&holder.memory, 16)); }

struct Scenario {
  std::string_view name;
  void (*run)();
};
constexpr Scenario kScenarios[] = {{"kernel", &kernel},
                                   {"threads", &threads},
                                   {"not-registered", &not_registered},
                                   {"errors", &errors},
                                   {"lost", &lost},
                                   {"memory-kinds", &memory_kinds},
                                   {"forks", &forks},
                                   {"destructor", &destructor}};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "";
  for (const Scenario& scenario : kScenarios) {
    if (scenario.name != wanted) continue;
    scenario.run();
    return 0;
  }
  return 2;
}
