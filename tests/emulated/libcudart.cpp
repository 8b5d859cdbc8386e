// SPDX-License-Identifier: Apache-2.0
// The emulated libcudart.so.13: the runtime API over whatever libcuda.so.1 the loader finds, which
// it opens and asks through cuGetProcAddress as the real one does. Names, parameters and layouts
// come from the toolkit's headers.
#include "device/cuda/load_driver.hpp"
#include "device/driver.hpp"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#define SPW_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace spillway;  // NOLINT(google-build-using-namespace): a library of its own

static_assert(CUDART_VERSION >= 13000 && CUDART_VERSION < 14000, "the soname says 13");

// ---- the driver and the calling thread's context
// -----------------------------------------------------------------------------------------------

/// Errors share their numbers; what differs is named here.
cudaError_t of(cu::Result result) { return static_cast<cudaError_t>(result); }

struct Runtime {
  std::mutex mutex;
  bool loaded = false;
  cudaError_t load_error = cudaErrorInsufficientDriver;
  Driver driver;
  std::vector<cu::Context> contexts;  // by device; null: not retained
};

// Never destroyed: exit handlers of programs come here late.
Runtime& runtime() {
  static auto* const kRuntime = new Runtime;
  return *kRuntime;
}

thread_local int t_device = 0;
thread_local cudaError_t t_last_error = cudaSuccess;

cudaError_t done(cudaError_t error) {
  if (error != cudaSuccess) t_last_error = error;
  return error;
}

void unload_libraries();

/// The driver, initialised. What fails is asked anew each time: a child of a fork, or a process at
/// its end, gets the driver's own answer from every later call.
cudaError_t load(const Driver** driver) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (!r.loaded) {
    const Result<Driver> found = load_cuda_driver();
    if (!found.ok()) return cudaErrorInsufficientDriver;
    r.driver = found.value();
    if (const cu::Result result = r.driver.cuInit(0); result != cu::Result::kSuccess)
      return of(result);
    int count = 0;
    if (const cu::Result result = r.driver.cuDeviceGetCount(&count); result != cu::Result::kSuccess)
      return of(result);
    if (count == 0) return cudaErrorNoDevice;
    r.contexts.assign(static_cast<std::size_t>(count), nullptr);
    r.loaded = true;
    // After cuInit, so that it runs before the driver ends.
    static_cast<void>(std::atexit(&unload_libraries));
  }
  *driver = &r.driver;
  return cudaSuccess;
}

/// Makes the primary context of `device` current.
cudaError_t use_device(const Driver& driver, int device) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (device < 0 || device >= static_cast<int>(r.contexts.size())) return cudaErrorInvalidDevice;
  cu::Context& context = r.contexts[static_cast<std::size_t>(device)];
  if (context == nullptr) {
    cu::Context retained = nullptr;
    const cu::Result result = driver.cuDevicePrimaryCtxRetain(&retained, device);
    if (result != cu::Result::kSuccess) return of(result);
    context = retained;
  }
  return of(driver.cuCtxSetCurrent(context));
}

/// Everything that needs a context begins here. A context that the program made current itself is
/// taken as it is.
cudaError_t begin(const Driver** driver) {
  if (const cudaError_t error = load(driver); error != cudaSuccess) return error;
  cu::Context current = nullptr;
  const cu::Result result = (*driver)->cuCtxGetCurrent(&current);
  if (result != cu::Result::kSuccess) return of(result);
  return current != nullptr ? cudaSuccess : use_device(**driver, t_device);
}

/// body(driver) with a context; its result, remembered as the last error.
template <typename Body>
cudaError_t run(Body&& body) {
  const Driver* driver = nullptr;
  if (const cudaError_t error = begin(&driver); error != cudaSuccess) return done(error);
  return done(of(body(*driver)));
}

/// The same without one.
template <typename Body>
cudaError_t ask(Body&& body) {
  const Driver* driver = nullptr;
  if (const cudaError_t error = load(&driver); error != cudaSuccess) return done(error);
  return done(of(body(*driver)));
}

constexpr auto kInvalidValue = cu::Result::kInvalidValue;

cu::DevicePtr address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }
void* pointer(cu::DevicePtr value) {
  return reinterpret_cast<void*>(value);  // NOLINT(performance-no-int-to-ptr): the driver's type
}

template <bool kPerThread>
cu::Stream stream_of(cudaStream_t stream) {
  return kPerThread && stream == nullptr ? cu::stream_per_thread() : stream;
}

// ---- memory
// -----------------------------------------------------------------------------------------------

template <typename Allocate>
cudaError_t allocate(void** out, std::size_t bytes, Allocate&& body) {
  if (out == nullptr) return done(cudaErrorInvalidValue);
  return run([&](const Driver& d) {
    *out = nullptr;
    if (bytes == 0) return cu::Result::kSuccess;
    cu::DevicePtr made = 0;
    const cu::Result result = body(d, &made);
    if (result == cu::Result::kSuccess) *out = pointer(made);
    return result;
  });
}

cu::Result copy(const Driver& d,
                void* to,
                const void* from,
                std::size_t bytes,
                cudaMemcpyKind kind,
                cu::Stream stream) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return d.cuMemcpyHtoDAsync(address(to), from, bytes, stream);
    case cudaMemcpyDeviceToHost:
      return d.cuMemcpyDtoHAsync(to, address(from), bytes, stream);
    case cudaMemcpyDeviceToDevice:
      return d.cuMemcpyDtoDAsync(address(to), address(from), bytes, stream);
    default:
      return d.cuMemcpyAsync(address(to), address(from), bytes, stream);
  }
}

cu::Result copy_and_wait(
    const Driver& d, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return d.cuMemcpyHtoD(address(to), from, bytes);
    case cudaMemcpyDeviceToHost:
      return d.cuMemcpyDtoH(to, address(from), bytes);
    case cudaMemcpyDeviceToDevice:
      return d.cuMemcpyDtoD(address(to), address(from), bytes);
    default:
      return d.cuMemcpy(address(to), address(from), bytes);
  }
}

bool known(cudaMemcpyKind kind) {
  return kind >= cudaMemcpyHostToHost && kind <= cudaMemcpyDefault;
}

template <bool kPerThread>
cudaError_t memory_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (!known(kind)) return done(cudaErrorInvalidMemcpyDirection);
  return run([&](const Driver& d) {
    if (bytes == 0) return cu::Result::kSuccess;
    if (!kPerThread) return copy_and_wait(d, to, from, bytes, kind);
    const cu::Result result = copy(d, to, from, bytes, kind, cu::stream_per_thread());
    return result == cu::Result::kSuccess ? d.cuStreamSynchronize(cu::stream_per_thread()) : result;
  });
}

template <bool kPerThread>
cudaError_t memory_set(void* to, int value, std::size_t bytes) {
  const auto byte = static_cast<unsigned char>(value);
  return run([&](const Driver& d) {
    if (bytes == 0) return cu::Result::kSuccess;
    return kPerThread ? d.cuMemsetD8Async(address(to), byte, bytes, cu::stream_per_thread())
                      : d.cuMemsetD8(address(to), byte, bytes);
  });
}

// ---- kernels
// -----------------------------------------------------------------------------------------------

struct FatBinary {
  const void* image = nullptr;
  cu::Library library = nullptr;  // loaded by the first launch
  bool live = true;
};

struct KernelEntry {
  const void* host = nullptr;
  std::string name;
  FatBinary* binary = nullptr;
  cu::Function function = nullptr;
};

struct Registry {
  std::mutex mutex;
  std::deque<FatBinary> binaries;  // handles are addresses: nothing is ever removed
  std::deque<KernelEntry> kernels;
};

Registry& registry() {
  static auto* const kRegistry = new Registry;
  return *kRegistry;
}

KernelEntry* find(const void* host) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  for (KernelEntry& kernel : r.kernels)
    if (kernel.host == host && kernel.binary->live) return &kernel;
  return nullptr;
}

cu::Result resolve(const Driver& d, KernelEntry& kernel) {
  const std::lock_guard lock(registry().mutex);
  if (kernel.function != nullptr) return cu::Result::kSuccess;
  if (kernel.binary->library == nullptr) {
    const cu::Result loaded = d.cuLibraryLoadData(
        &kernel.binary->library, kernel.binary->image, nullptr, nullptr, 0, nullptr, nullptr, 0);
    if (loaded != cu::Result::kSuccess) return loaded;
  }
  cu::Kernel found = nullptr;
  const cu::Result result =
      d.cuLibraryGetKernel(&found, kernel.binary->library, kernel.name.c_str());
  return result == cu::Result::kSuccess ? d.cuKernelGetFunction(&kernel.function, found) : result;
}

cudaError_t launch(KernelEntry* kernel,
                   dim3 grid,
                   dim3 block,
                   void** arguments,
                   std::size_t shared_bytes,
                   cu::Stream stream) {
  if (kernel == nullptr) return done(cudaErrorInvalidDeviceFunction);
  const Driver* driver = nullptr;
  if (const cudaError_t error = begin(&driver); error != cudaSuccess) return done(error);
  const cu::Result found = resolve(*driver, *kernel);
  if (found == cu::Result::kNotFound) return done(cudaErrorInvalidDeviceFunction);
  if (found != cu::Result::kSuccess) return done(of(found));
  if (shared_bytes > std::numeric_limits<unsigned int>::max()) return done(cudaErrorInvalidValue);
  const cu::Result result = driver->cuLaunchKernel(kernel->function,
                                                   grid.x,
                                                   grid.y,
                                                   grid.z,
                                                   block.x,
                                                   block.y,
                                                   block.z,
                                                   static_cast<unsigned int>(shared_bytes),
                                                   stream,
                                                   arguments,
                                                   nullptr);
  // A shape that no device takes has a name of its own here.
  return done(result == kInvalidValue ? cudaErrorInvalidConfiguration : of(result));
}

// What the runtime loaded by itself is no leak of the program. A launch in a later exit handler
// would load it again.
void unload_libraries() {
  const Driver& d = runtime().driver;
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  for (FatBinary& binary : r.binaries) {
    if (binary.library != nullptr) static_cast<void>(d.cuLibraryUnload(binary.library));
    binary.library = nullptr;
  }
  for (KernelEntry& kernel : r.kernels) kernel.function = nullptr;
}

struct CallConfiguration {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};
thread_local std::vector<CallConfiguration> t_configurations;

// ---- devices
// -----------------------------------------------------------------------------------------------

int attribute(const Driver& d, cudaDeviceAttr which, int device) {
  int value = 0;
  const auto number = static_cast<cu::DeviceAttribute>(which);
  return d.cuDeviceGetAttribute(&value, number, device) == cu::Result::kSuccess ? value : 0;
}

cu::Result properties(const Driver& d, cudaDeviceProp* out, int device) {
  *out = cudaDeviceProp();
  std::size_t bytes = 0;
  if (const cu::Result r = d.cuDeviceTotalMem(&bytes, device); r != cu::Result::kSuccess) return r;
  if (const cu::Result r = d.cuDeviceGetName(out->name, sizeof out->name, device);
      r != cu::Result::kSuccess)
    return r;
  cu::Uuid uuid;
  if (const cu::Result r = d.cuDeviceGetUuid(&uuid, device); r != cu::Result::kSuccess) return r;
  std::memcpy(out->uuid.bytes, uuid.bytes, sizeof uuid.bytes);
  const auto get = [&](cudaDeviceAttr which) { return attribute(d, which, device); };
  out->totalGlobalMem = bytes;
  out->warpSize = get(cudaDevAttrWarpSize);
  out->maxThreadsPerBlock = get(cudaDevAttrMaxThreadsPerBlock);
  out->maxThreadsDim[0] = out->maxThreadsDim[1] = out->maxThreadsPerBlock;
  out->maxThreadsDim[2] = 64;
  out->maxGridSize[0] = std::numeric_limits<int>::max();
  out->maxGridSize[1] = out->maxGridSize[2] = 65535;
  out->major = get(cudaDevAttrComputeCapabilityMajor);
  out->minor = get(cudaDevAttrComputeCapabilityMinor);
  out->textureAlignment = static_cast<std::size_t>(get(cudaDevAttrTextureAlignment));
  out->texturePitchAlignment = static_cast<std::size_t>(get(cudaDevAttrTexturePitchAlignment));
  out->multiProcessorCount = get(cudaDevAttrMultiProcessorCount);
  out->integrated = get(cudaDevAttrIntegrated);
  out->canMapHostMemory = 1;
  out->concurrentKernels = get(cudaDevAttrConcurrentKernels);
  out->pciBusID = get(cudaDevAttrPciBusId);
  out->asyncEngineCount = get(cudaDevAttrAsyncEngineCount);
  out->unifiedAddressing = get(cudaDevAttrUnifiedAddressing);
  out->l2CacheSize = get(cudaDevAttrL2CacheSize);
  out->streamPrioritiesSupported = 1;
  out->managedMemory = get(cudaDevAttrManagedMemory);
  out->concurrentManagedAccess = get(cudaDevAttrConcurrentManagedAccess);
  out->canUseHostPointerForRegisteredMem = get(cudaDevAttrCanUseHostPointerForRegisteredMem);
  out->sharedMemPerBlock = std::size_t{48} << 10;
  out->sharedMemPerBlockOptin =
      static_cast<std::size_t>(get(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  out->hostRegisterSupported = 1;
  out->memoryPoolsSupported = get(cudaDevAttrMemoryPoolsSupported);
  return cu::Result::kSuccess;
}

}  // namespace

// ---- versions, errors, devices
// -----------------------------------------------------------------------------------------------

SPW_API cudaError_t cudaRuntimeGetVersion(int* version) {
  if (version == nullptr) return done(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

SPW_API cudaError_t cudaDriverGetVersion(int* version) {
  if (version == nullptr) return done(cudaErrorInvalidValue);
  const Driver* driver = nullptr;
  *version = 0;  // as without a driver
  return load(&driver) != cudaSuccess ? cudaSuccess : done(of(driver->cuDriverGetVersion(version)));
}

SPW_API cudaError_t cudaPeekAtLastError() { return t_last_error; }

SPW_API cudaError_t cudaGetLastError() {
  const cudaError_t error = t_last_error;
  // A lost context stays lost.
  if (!cu::is_sticky(static_cast<cu::Result>(error))) t_last_error = cudaSuccess;
  return error;
}

SPW_API const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define SPW_ERROR_NAME(code) \
  case code:                 \
    return #code
    SPW_ERROR_NAME(cudaSuccess);
    SPW_ERROR_NAME(cudaErrorInvalidValue);
    SPW_ERROR_NAME(cudaErrorMemoryAllocation);
    SPW_ERROR_NAME(cudaErrorInitializationError);
    SPW_ERROR_NAME(cudaErrorCudartUnloading);
    SPW_ERROR_NAME(cudaErrorInvalidConfiguration);
    SPW_ERROR_NAME(cudaErrorInvalidMemcpyDirection);
    SPW_ERROR_NAME(cudaErrorInsufficientDriver);
    SPW_ERROR_NAME(cudaErrorInvalidDeviceFunction);
    SPW_ERROR_NAME(cudaErrorNoDevice);
    SPW_ERROR_NAME(cudaErrorInvalidDevice);
    SPW_ERROR_NAME(cudaErrorInvalidKernelImage);
    SPW_ERROR_NAME(cudaErrorDeviceUninitialized);
    SPW_ERROR_NAME(cudaErrorMapBufferObjectFailed);
    SPW_ERROR_NAME(cudaErrorECCUncorrectable);
    SPW_ERROR_NAME(cudaErrorInvalidPtx);
    SPW_ERROR_NAME(cudaErrorNvlinkUncorrectable);
    SPW_ERROR_NAME(cudaErrorContained);
    SPW_ERROR_NAME(cudaErrorOperatingSystem);
    SPW_ERROR_NAME(cudaErrorInvalidResourceHandle);
    SPW_ERROR_NAME(cudaErrorIllegalState);
    SPW_ERROR_NAME(cudaErrorSymbolNotFound);
    SPW_ERROR_NAME(cudaErrorNotReady);
    SPW_ERROR_NAME(cudaErrorIllegalAddress);
    SPW_ERROR_NAME(cudaErrorLaunchOutOfResources);
    SPW_ERROR_NAME(cudaErrorLaunchTimeout);
    SPW_ERROR_NAME(cudaErrorAssert);
    SPW_ERROR_NAME(cudaErrorHostMemoryAlreadyRegistered);
    SPW_ERROR_NAME(cudaErrorHostMemoryNotRegistered);
    SPW_ERROR_NAME(cudaErrorHardwareStackError);
    SPW_ERROR_NAME(cudaErrorLaunchFailure);
    SPW_ERROR_NAME(cudaErrorNotPermitted);
    SPW_ERROR_NAME(cudaErrorNotSupported);
    SPW_ERROR_NAME(cudaErrorSystemNotReady);
    SPW_ERROR_NAME(cudaErrorStreamCaptureUnsupported);
    SPW_ERROR_NAME(cudaErrorStreamCaptureInvalidated);
    SPW_ERROR_NAME(cudaErrorUnknown);
#undef SPW_ERROR_NAME
    default:
      return "unrecognized error code";
  }
}

SPW_API const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

SPW_API cudaError_t cudaGetDeviceCount(int* count) {
  if (count == nullptr) return done(cudaErrorInvalidValue);
  *count = 0;
  return ask([&](const Driver& d) { return d.cuDeviceGetCount(count); });
}

SPW_API cudaError_t cudaGetDevice(int* device) {
  if (device == nullptr) return done(cudaErrorInvalidValue);
  return ask([&](const Driver& d) {
    cu::Context current = nullptr;
    const cu::Result result = d.cuCtxGetCurrent(&current);
    if (result != cu::Result::kSuccess) return result;
    *device = t_device;
    return current == nullptr ? result : d.cuCtxGetDevice(device);
  });
}

SPW_API cudaError_t cudaSetDevice(int device) {
  const Driver* driver = nullptr;
  if (const cudaError_t error = load(&driver); error != cudaSuccess) return done(error);
  const cudaError_t error = use_device(*driver, device);
  if (error == cudaSuccess) t_device = device;
  return done(error);
}

SPW_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  if (out == nullptr) return done(cudaErrorInvalidValue);
  return ask([&](const Driver& d) { return properties(d, out, device); });
}

SPW_API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  if (value == nullptr) return done(cudaErrorInvalidValue);
  return ask([&](const Driver& d) {
    return d.cuDeviceGetAttribute(value, static_cast<cu::DeviceAttribute>(which), device);
  });
}

SPW_API cudaError_t cudaDeviceSynchronize() {
  return run([](const Driver& d) { return d.cuCtxSynchronize(); });
}

// The context goes when nobody retains it: here that ends the work, and keeps the memory.
SPW_API cudaError_t cudaDeviceReset() {
  const cudaError_t finished = cudaDeviceSynchronize();
  if (finished != cudaSuccess) return finished;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  return ask([&](const Driver& d) {
    Runtime& r = runtime();
    const std::lock_guard lock(r.mutex);
    cu::Context& context = r.contexts[static_cast<std::size_t>(device)];
    if (context == nullptr) return cu::Result::kSuccess;  // the program's own
    const cu::Result result = d.cuDevicePrimaryCtxRelease(device);
    if (result == cu::Result::kSuccess) context = nullptr;
    return result == cu::Result::kSuccess ? d.cuCtxSetCurrent(nullptr) : result;
  });
}

SPW_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return run([&](const Driver& d) { return d.cuCtxGetStreamPriorityRange(least, greatest); });
}

template <typename Ask>
static cudaError_t entry_point(void** function,
                               cudaDriverEntryPointQueryResult* status,
                               Ask&& body) {
  if (function == nullptr) return done(cudaErrorInvalidValue);
  return ask([&](const Driver& d) {
    cu::ProcAddressStatus found = cu::ProcAddressStatus::kSymbolNotFound;
    *function = nullptr;
    const cu::Result result = body(d, &found);
    if (status != nullptr) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
    // That there is none is an answer, and not a failure, to who asks for the status.
    return result == cu::Result::kNotFound && status != nullptr ? cu::Result::kSuccess : result;
  });
}

template <bool kPerThread>
static cudaError_t entry_point_of(const char* symbol,
                                  void** function,
                                  unsigned int version,
                                  unsigned long long flags,
                                  cudaDriverEntryPointQueryResult* status) {
  if (symbol == nullptr) return done(cudaErrorInvalidValue);
  const unsigned long long wanted =
      kPerThread && flags == cu::kProcAddressDefault ? cu::kProcAddressPerThreadStream : flags;
  return entry_point(function, status, [&](const Driver& d, cu::ProcAddressStatus* found) {
    return d.cuGetProcAddress(symbol, function, static_cast<int>(version), wanted, found);
  });
}

// ---- functions with a flavour for per-thread default streams: kPerThread in the body
// -----------------------------------------------------------------------------------------------

#define SPW_FLAVOURS(name, suffix, parameters, ...) \
  SPW_API cudaError_t name##suffix parameters;      \
  SPW_API cudaError_t name parameters {             \
    constexpr bool kPerThread = false;              \
    __VA_ARGS__                                     \
  }                                                 \
  SPW_API cudaError_t name##suffix parameters {     \
    constexpr bool kPerThread = true;               \
    __VA_ARGS__                                     \
  }
// One driver call on a stream.
#define SPW_ON_STREAM(name, parameters, call) \
  SPW_FLAVOURS(name, _ptsz, parameters, return run([&](const Driver& d) { return call; });)
#define SPW_STREAM stream_of<kPerThread>(stream)

SPW_FLAVOURS(cudaGetDriverEntryPoint,
             _ptsz,
             (const char* symbol,
              void** function,
              unsigned long long flags,
              cudaDriverEntryPointQueryResult* status),
             return entry_point_of<kPerThread>(symbol, function, CUDART_VERSION, flags, status);)
SPW_FLAVOURS(cudaGetDriverEntryPointByVersion,
             _ptsz,
             (const char* symbol,
              void** function,
              unsigned int version,
              unsigned long long flags,
              cudaDriverEntryPointQueryResult* status),
             return entry_point_of<kPerThread>(symbol, function, version, flags, status);)

SPW_FLAVOURS(cudaMemcpy,
             _ptds,
             (void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind),
             return memory_copy<kPerThread>(to, from, bytes, kind);)
SPW_FLAVOURS(cudaMemset,
             _ptds,
             (void* to, int value, std::size_t bytes),
             return memory_set<kPerThread>(to, value, bytes);)
SPW_FLAVOURS(
    cudaMemcpyAsync,
    _ptsz,
    (void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream),
    if (!known(kind)) return done(cudaErrorInvalidMemcpyDirection);
    return run([&](const Driver& d) {
      return bytes == 0 ? cu::Result::kSuccess : copy(d, to, from, bytes, kind, SPW_STREAM);
    });)
SPW_FLAVOURS(cudaMemsetAsync,
             _ptsz,
             (void* to, int value, std::size_t bytes, cudaStream_t stream),
             return run([&](const Driver& d) {
               const auto byte = static_cast<unsigned char>(value);
               return bytes == 0 ? cu::Result::kSuccess
                                 : d.cuMemsetD8Async(address(to), byte, bytes, SPW_STREAM);
             });)
SPW_FLAVOURS(cudaMallocAsync,
             _ptsz,
             (void** out, std::size_t bytes, cudaStream_t stream),
             return allocate(out, bytes, [&](const Driver& d, cu::DevicePtr* made) {
               return d.cuMemAllocAsync(made, bytes, SPW_STREAM);
             });)
SPW_FLAVOURS(cudaMallocFromPoolAsync,
             _ptsz,
             (void** out, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream),
             return allocate(out, bytes, [&](const Driver& d, cu::DevicePtr* made) {
               return d.cuMemAllocFromPoolAsync(made, bytes, pool, SPW_STREAM);
             });)
SPW_ON_STREAM(cudaFreeAsync,
              (void* freed, cudaStream_t stream),
              d.cuMemFreeAsync(address(freed), SPW_STREAM))
SPW_ON_STREAM(cudaStreamSynchronize, (cudaStream_t stream), d.cuStreamSynchronize(SPW_STREAM))
SPW_ON_STREAM(cudaStreamQuery, (cudaStream_t stream), d.cuStreamQuery(SPW_STREAM))
SPW_ON_STREAM(cudaStreamWaitEvent,
              (cudaStream_t stream, cudaEvent_t event, unsigned int flags),
              d.cuStreamWaitEvent(SPW_STREAM, event, flags))
SPW_ON_STREAM(cudaStreamGetFlags,
              (cudaStream_t stream, unsigned int* flags),
              d.cuStreamGetFlags(SPW_STREAM, flags))
SPW_ON_STREAM(cudaStreamGetPriority,
              (cudaStream_t stream, int* priority),
              d.cuStreamGetPriority(SPW_STREAM, priority))
SPW_ON_STREAM(cudaStreamGetId,
              (cudaStream_t stream, unsigned long long* id),
              d.cuStreamGetId(SPW_STREAM, id))
SPW_ON_STREAM(cudaStreamIsCapturing,
              (cudaStream_t stream, cudaStreamCaptureStatus* status),
              d.cuStreamIsCapturing(SPW_STREAM, reinterpret_cast<cu::StreamCaptureStatus*>(status)))
SPW_ON_STREAM(cudaEventRecord,
              (cudaEvent_t event, cudaStream_t stream),
              d.cuEventRecord(event, SPW_STREAM))
SPW_ON_STREAM(cudaEventRecordWithFlags,
              (cudaEvent_t event, cudaStream_t stream, unsigned int flags),
              d.cuEventRecordWithFlags(event, SPW_STREAM, flags))
SPW_ON_STREAM(cudaLaunchHostFunc,
              (cudaStream_t stream, cudaHostFn_t function, void* user),
              d.cuLaunchHostFunc(SPW_STREAM, function, user))
SPW_FLAVOURS(cudaLaunchKernel,
             _ptsz,
             (const void* function,
              dim3 grid,
              dim3 block,
              void** arguments,
              std::size_t shared_bytes,
              cudaStream_t stream),
             return launch(find(function), grid, block, arguments, shared_bytes, SPW_STREAM);)
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): names of nvcc
SPW_API cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t);
SPW_FLAVOURS(__cudaLaunchKernel,
             _ptsz,
             (cudaKernel_t kernel,
              dim3 grid,
              dim3 block,
              void** arguments,
              std::size_t shared_bytes,
              cudaStream_t stream),
             return launch(reinterpret_cast<KernelEntry*>(kernel),
                           grid,
                           block,
                           arguments,
                           shared_bytes,
                           SPW_STREAM);)
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

// ---- memory
// -----------------------------------------------------------------------------------------------

SPW_API cudaError_t cudaMalloc(void** out, std::size_t bytes) {
  return allocate(
      out, bytes, [&](const Driver& d, cu::DevicePtr* made) { return d.cuMemAlloc(made, bytes); });
}

SPW_API cudaError_t cudaMallocManaged(void** out, std::size_t bytes, unsigned int flags) {
  if (bytes == 0) return done(cudaErrorInvalidValue);
  return allocate(out, bytes, [&](const Driver& d, cu::DevicePtr* made) {
    return d.cuMemAllocManaged(made, bytes, flags);
  });
}

SPW_API cudaError_t cudaMallocPitch(void** out,
                                    std::size_t* pitch,
                                    std::size_t width,
                                    std::size_t height) {
  if (pitch == nullptr) return done(cudaErrorInvalidValue);
  *pitch = 0;
  return allocate(out, width == 0 ? 0 : height, [&](const Driver& d, cu::DevicePtr* made) {
    return d.cuMemAllocPitch(made, pitch, width, height, 16);
  });
}

SPW_API cudaError_t cudaFree(void* freed) {
  return run([&](const Driver& d) { return d.cuMemFree(address(freed)); });
}

SPW_API cudaError_t cudaHostAlloc(void** out, std::size_t bytes, unsigned int flags) {
  if (out == nullptr) return done(cudaErrorInvalidValue);
  return run([&](const Driver& d) {
    *out = nullptr;
    return bytes == 0 ? cu::Result::kSuccess : d.cuMemHostAlloc(out, bytes, flags);
  });
}

SPW_API cudaError_t cudaMallocHost(void** out, std::size_t bytes) {
  return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}

SPW_API cudaError_t cudaFreeHost(void* freed) {
  return run([&](const Driver& d) {
    return freed == nullptr ? cu::Result::kSuccess : d.cuMemFreeHost(freed);
  });
}

SPW_API cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned int flags) {
  return run([&](const Driver& d) { return d.cuMemHostRegister(memory, bytes, flags); });
}

SPW_API cudaError_t cudaHostUnregister(void* memory) {
  return run([&](const Driver& d) { return d.cuMemHostUnregister(memory); });
}

SPW_API cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int flags) {
  if (device == nullptr) return done(cudaErrorInvalidValue);
  return run([&](const Driver& d) {
    cu::DevicePtr found = 0;
    const cu::Result result = d.cuMemHostGetDevicePointer(&found, host, flags);
    *device = pointer(found);
    return result;
  });
}

SPW_API cudaError_t cudaHostGetFlags(unsigned int* flags, void* host) {
  return run([&](const Driver& d) { return d.cuMemHostGetFlags(flags, host); });
}

SPW_API cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  return run([&](const Driver& d) { return d.cuMemGetInfo(free_bytes, total_bytes); });
}

SPW_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* asked) {
  if (out == nullptr) return done(cudaErrorInvalidValue);
  return run([&](const Driver& d) {
    using A = cu::PointerAttribute;
    unsigned int type = 0;
    unsigned int managed = 0;
    *out = cudaPointerAttributes();
    A attributes[] = {
        A::kMemoryType, A::kIsManaged, A::kDeviceOrdinal, A::kDevicePointer, A::kHostPointer};
    void* data[] = {&type, &managed, &out->device, &out->devicePointer, &out->hostPointer};
    const cu::Result result = d.cuPointerGetAttributes(5, attributes, data, address(asked));
    if (managed != 0)
      out->type = cudaMemoryTypeManaged;
    else if (type == static_cast<unsigned int>(cu::MemoryType::kHost))
      out->type = cudaMemoryTypeHost;
    else if (type == static_cast<unsigned int>(cu::MemoryType::kDevice))
      out->type = cudaMemoryTypeDevice;
    else
      out->type = cudaMemoryTypeUnregistered;
    // Host memory that nobody registered is its own host pointer.
    if (out->type == cudaMemoryTypeUnregistered) out->hostPointer = const_cast<void*>(asked);
    return result;
  });
}

SPW_API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return ask([&](const Driver& d) { return d.cuDeviceGetDefaultMemPool(pool, device); });
}

SPW_API cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t bytes) {
  return ask([&](const Driver& d) { return d.cuMemPoolTrimTo(pool, bytes); });
}

SPW_API cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool,
                                            cudaMemPoolAttr which,
                                            void* value) {
  const auto number = static_cast<cu::MemPoolAttribute>(which);
  return ask([&](const Driver& d) { return d.cuMemPoolSetAttribute(pool, number, value); });
}

SPW_API cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool,
                                            cudaMemPoolAttr which,
                                            void* value) {
  const auto number = static_cast<cu::MemPoolAttribute>(which);
  return ask([&](const Driver& d) { return d.cuMemPoolGetAttribute(pool, number, value); });
}

// ---- streams and events
// -----------------------------------------------------------------------------------------------

SPW_API cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return run([&](const Driver& d) { return d.cuStreamCreate(stream, cu::kStreamDefault); });
}

SPW_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return run([&](const Driver& d) { return d.cuStreamCreate(stream, flags); });
}

SPW_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream,
                                                 unsigned int flags,
                                                 int priority) {
  return run(
      [&](const Driver& d) { return d.cuStreamCreateWithPriority(stream, flags, priority); });
}

SPW_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return run([&](const Driver& d) { return d.cuStreamDestroy(stream); });
}

SPW_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  if (mode == nullptr) return done(cudaErrorInvalidValue);
  return run([&](const Driver& d) {
    return d.cuThreadExchangeStreamCaptureMode(reinterpret_cast<cu::StreamCaptureMode*>(mode));
  });
}

SPW_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  return run([&](const Driver& d) { return d.cuEventCreate(event, flags); });
}

SPW_API cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

SPW_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return run([&](const Driver& d) { return d.cuEventDestroy(event); });
}

SPW_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  return run([&](const Driver& d) { return d.cuEventQuery(event); });
}

SPW_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return run([&](const Driver& d) { return d.cuEventSynchronize(event); });
}

SPW_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return run([&](const Driver& d) { return d.cuEventElapsedTime(milliseconds, start, end); });
}

// ---- what nvcc puts into programs
// -----------------------------------------------------------------------------------------------

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): names of nvcc
SPW_API void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic;
    int version;
    const void* image;
    const void* more;
  };
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  r.binaries.push_back({static_cast<const Wrapper*>(wrapper)->image, nullptr, true});
  return reinterpret_cast<void**>(&r.binaries.back());
}

SPW_API void __cudaRegisterFatBinaryEnd(void** /*handle*/) {}

// Runs in an exit handler, after the driver's: what is loaded stays.
SPW_API void __cudaUnregisterFatBinary(void** handle) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  reinterpret_cast<FatBinary*>(handle)->live = false;
}

SPW_API char __cudaInitModule(void** /*handle*/) { return 1; }

SPW_API void __cudaRegisterFunction(void** handle,
                                    const char* host,
                                    char* /*device*/,
                                    const char* name,
                                    int /*thread_limit*/,
                                    uint3* /*tid*/,
                                    uint3* /*bid*/,
                                    dim3* /*block*/,
                                    dim3* /*grid*/,
                                    int* /*warp_size*/) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  r.kernels.push_back({host, name, reinterpret_cast<FatBinary*>(handle), nullptr});
}

// Variables of device code have no code that could use them.
SPW_API void __cudaRegisterVar(void** /*handle*/,
                               char* /*host*/,
                               char* /*device*/,
                               const char* /*name*/,
                               int /*is_extern*/,
                               std::size_t /*bytes*/,
                               int /*is_constant*/,
                               int /*is_global*/) {}

SPW_API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  KernelEntry* const found = find(host);
  if (kernel == nullptr) return done(cudaErrorInvalidValue);
  *kernel = reinterpret_cast<cudaKernel_t>(found);
  return found == nullptr ? done(cudaErrorInvalidDeviceFunction) : cudaSuccess;
}

SPW_API unsigned __cudaPushCallConfiguration(dim3 grid,
                                             dim3 block,
                                             std::size_t shared_bytes,
                                             CUstream_st* stream) {
  t_configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}

SPW_API cudaError_t __cudaPopCallConfiguration(dim3* grid,
                                               dim3* block,
                                               std::size_t* shared_bytes,
                                               void* stream) {
  if (t_configurations.empty()) return done(cudaErrorMissingConfiguration);
  const CallConfiguration& top = t_configurations.back();
  *grid = top.grid;
  *block = top.block;
  *shared_bytes = top.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = top.stream;
  t_configurations.pop_back();
  return cudaSuccess;
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
