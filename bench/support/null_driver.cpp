// SPDX-License-Identifier: Apache-2.0
// See null_driver.hpp. Each function exists twice, with counting and without, so that the one that
// is timed has nothing in it. Entry points without a definition below answer kNotSupported.
#include "bench/support/null_driver.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace spillway::bench {
namespace {

// Number of each entry point, for the counters.
enum CallNumber : std::size_t {
#define SPW_NULL_NUMBER(member, symbol, version, parameters) kCall_##member,
  SPW_DRIVER_FUNCTIONS(SPW_NULL_NUMBER)
#undef SPW_NULL_NUMBER
      kCallCount
};
constexpr std::array<std::string_view, kCallCount> kCallNames = {
#define SPW_NULL_NAME(member, symbol, version, parameters) #member,
    SPW_DRIVER_FUNCTIONS(SPW_NULL_NAME)
#undef SPW_NULL_NAME
};

// Both rise for ever. Addresses of cuMemAlloc leave the 47 bits of real ones soon in a bench of a
// driver without reuse; nobody looks at them.
constexpr std::uint64_t kReserveBase = std::uint64_t{1} << 44;
constexpr std::uint64_t kMemoryBase = std::uint64_t{1} << 48;
constexpr std::uint64_t kQuantum = 512;
constexpr std::uint64_t kDefaultStreamId = 1;

struct State {
  alignas(64) std::atomic<std::uint64_t> memory{0};
  alignas(64) std::atomic<std::uint64_t> reserved{0};
  alignas(64) std::atomic<std::uint64_t> handles{0};
  alignas(64) std::atomic<std::int64_t> physical{0};
  NullDriverOptions options;
  std::array<std::atomic<std::uint64_t>, kCallCount> calls{};
};
State g_state;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) & ~(unit - 1);
}

template <typename Handle>
Handle next_handle() {
  // From 0x1000, so that no handle is one of the driver's special ones.
  const std::uint64_t number = g_state.handles.fetch_add(1, std::memory_order_relaxed);
  return reinterpret_cast<Handle>(0x1000 + 16 * number);  // NOLINT(performance-no-int-to-ptr)
}
template <typename Handle>
Handle only_handle() {
  return reinterpret_cast<Handle>(std::uintptr_t{0x100});  // NOLINT(performance-no-int-to-ptr)
}

constexpr cu::Result kDone = cu::Result::kSuccess;

int attribute_value(cu::DeviceAttribute attribute) {
  switch (attribute) {
    case cu::DeviceAttribute::kMaxThreadsPerBlock:
      return 1024;
    case cu::DeviceAttribute::kWarpSize:
      return 32;
    case cu::DeviceAttribute::kTextureAlignment:
      return 512;
    case cu::DeviceAttribute::kTexturePitchAlignment:
      return 32;
    case cu::DeviceAttribute::kMultiprocessorCount:
      return 132;
    case cu::DeviceAttribute::kAsyncEngineCount:
      return 3;
    case cu::DeviceAttribute::kComputeCapabilityMajor:
      return 9;
    case cu::DeviceAttribute::kIntegrated:
    case cu::DeviceAttribute::kComputeCapabilityMinor:
    case cu::DeviceAttribute::kPciBusId:
      return 0;
    case cu::DeviceAttribute::kHostNumaId:
      return -1;
    default:
      return 1;
  }
}

void write_text(char* to, int room, const char* text) {
  if (room <= 0) return;
  const std::size_t bytes = std::min(static_cast<std::size_t>(room) - 1, std::strlen(text));
  std::memcpy(to, text, bytes);
  to[bytes] = '\0';
}

template <typename Function>
struct Refuses;
template <typename... Arguments>
struct Refuses<cu::Result (*)(Arguments...)> {
  static cu::Result call(Arguments...) { return cu::Result::kNotSupported; }
};

template <bool kCounting>
struct Calls {
  static void count(CallNumber number) {
    if constexpr (kCounting) g_state.calls[number].fetch_add(1, std::memory_order_relaxed);
  }
  // Sets `member` to a function that counts and then runs `Body`, a captureless callable.
  template <typename Body, CallNumber kNumber>
  struct Entry {
    template <typename... Arguments>
    static cu::Result call(Arguments... arguments) {
      count(kNumber);
      return Body()(arguments...);
    }
    template <typename... Arguments>
    static void bind(cu::Result (**member)(Arguments...)) {
      *member = &call<Arguments...>;
    }
  };

  static void fill(Driver& table);
  static void fill_device(Driver& table);
  static void fill_memory(Driver& table);
  static void fill_vmm(Driver& table);
  static void fill_streams(Driver& table);
  static void fill_transfers(Driver& table);
};

// SPW_NULL(member, (parameters) { body }): sets table.member.
#define SPW_NULL(member, ...)                                   \
  {                                                             \
    [[maybe_unused]] const auto body = [] __VA_ARGS__;          \
    Entry<decltype(body), kCall_##member>::bind(&table.member); \
  }                                                             \
  static_assert(true, "")

template <bool kCounting>
void Calls<kCounting>::fill_device(Driver& table) {
  SPW_NULL(
      cuInit, (unsigned int) { return kDone; });
  SPW_NULL(
      cuDriverGetVersion, (int* version) { return *version = 13000, kDone; });
  SPW_NULL(
      cuDeviceGet, (cu::Device * device, int) { return *device = 0, kDone; });
  SPW_NULL(
      cuDeviceGetCount, (int* count) { return *count = 1, kDone; });
  SPW_NULL(
      cuDeviceGetName, (char* name, int bytes, cu::Device) {
        return write_text(name, bytes, "zero-cost driver"), kDone;
      });
  SPW_NULL(
      cuDeviceGetAttribute, (int* value, cu::DeviceAttribute attribute, cu::Device) {
        return *value = attribute_value(attribute), kDone;
      });
  SPW_NULL(
      cuDeviceTotalMem,
      (std::size_t * bytes, cu::Device) { return *bytes = g_state.options.memory_bytes, kDone; });
  SPW_NULL(
      cuDeviceGetUuid, (cu::Uuid * uuid, cu::Device) { return *uuid = {}, kDone; });
  SPW_NULL(
      cuDeviceGetPCIBusId,
      (char* id, int bytes, cu::Device) { return write_text(id, bytes, "0000:00:00.0"), kDone; });
  SPW_NULL(
      cuDeviceCanAccessPeer, (int* can, cu::Device, cu::Device) { return *can = 0, kDone; });
  SPW_NULL(
      cuDevicePrimaryCtxRetain,
      (cu::Context * context, cu::Device) { return *context = only_handle<cu::Context>(), kDone; });
  SPW_NULL(
      cuDevicePrimaryCtxRelease, (cu::Device) { return kDone; });
  SPW_NULL(
      cuDevicePrimaryCtxGetState,
      (cu::Device, unsigned int* flags, int* active) { return *flags = 0, *active = 1, kDone; });
  SPW_NULL(
      cuCtxGetCurrent,
      (cu::Context * context) { return *context = only_handle<cu::Context>(), kDone; });
  SPW_NULL(
      cuCtxSetCurrent, (cu::Context) { return kDone; });
  SPW_NULL(
      cuCtxPushCurrent, (cu::Context) { return kDone; });
  SPW_NULL(
      cuCtxPopCurrent,
      (cu::Context * context) { return *context = only_handle<cu::Context>(), kDone; });
  SPW_NULL(
      cuCtxGetDevice, (cu::Device * device) { return *device = 0, kDone; });
  SPW_NULL(
      cuCtxSynchronize, () { return kDone; });
  SPW_NULL(
      cuCtxGetStreamPriorityRange,
      (int* least, int* greatest) { return *least = 0, *greatest = 0, kDone; });
  SPW_NULL(
      cuGetErrorName, (cu::Result, const char** text) { return *text = "error", kDone; });
  SPW_NULL(
      cuGetErrorString, (cu::Result, const char** text) { return *text = "error", kDone; });
}

template <bool kCounting>
void Calls<kCounting>::fill_memory(Driver& table) {
  SPW_NULL(
      cuMemAlloc, (cu::DevicePtr * pointer, std::size_t bytes) {
        return *pointer = null_device_address(bytes), kDone;
      });
  SPW_NULL(
      cuMemFree, (cu::DevicePtr) { return kDone; });
  SPW_NULL(
      cuMemAllocAsync, (cu::DevicePtr * pointer, std::size_t bytes, cu::Stream) {
        return *pointer = null_device_address(bytes), kDone;
      });
  SPW_NULL(
      cuMemAllocFromPoolAsync,
      (cu::DevicePtr * pointer, std::size_t bytes, cu::MemoryPool, cu::Stream) {
        return *pointer = null_device_address(bytes), kDone;
      });
  SPW_NULL(
      cuMemFreeAsync, (cu::DevicePtr, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemGetInfo, (std::size_t * free_bytes, std::size_t * total_bytes) {
        *total_bytes = g_state.options.memory_bytes;
        const std::int64_t held = null_physical_bytes();
        *free_bytes = *total_bytes - std::min(*total_bytes, static_cast<std::size_t>(held));
        return kDone;
      });
  SPW_NULL(
      cuDeviceGetDefaultMemPool,
      (cu::MemoryPool * pool, cu::Device) { return *pool = only_handle<cu::MemoryPool>(), kDone; });
  SPW_NULL(
      cuMemPoolCreate, (cu::MemoryPool * pool, const cu::MemPoolProps*) {
        return *pool = next_handle<cu::MemoryPool>(), kDone;
      });
  SPW_NULL(
      cuMemPoolDestroy, (cu::MemoryPool) { return kDone; });
  SPW_NULL(
      cuMemPoolSetAttribute, (cu::MemoryPool, cu::MemPoolAttribute, void*) { return kDone; });
  SPW_NULL(
      cuMemPoolTrimTo, (cu::MemoryPool, std::size_t) { return kDone; });
  SPW_NULL(
      cuMemHostAlloc, (void** pointer, std::size_t bytes, unsigned int) {
        *pointer = std::aligned_alloc(4096, round_up(bytes, 4096));
        return *pointer == nullptr ? cu::Result::kOutOfMemory : kDone;
      });
  SPW_NULL(
      cuMemFreeHost, (void* pointer) { return std::free(pointer), kDone; });
  SPW_NULL(
      cuMemHostRegister, (void*, std::size_t, unsigned int) { return kDone; });
  SPW_NULL(
      cuMemHostUnregister, (void*) { return kDone; });
  SPW_NULL(
      cuMemHostGetDevicePointer, (cu::DevicePtr * device, void* pointer, unsigned int) {
        return *device = reinterpret_cast<std::uintptr_t>(pointer), kDone;
      });
}

template <bool kCounting>
void Calls<kCounting>::fill_vmm(Driver& table) {
  SPW_NULL(
      cuMemGetAllocationGranularity,
      (std::size_t * bytes, const cu::AllocationProp*, cu::Granularity) {
        return *bytes = g_state.options.granularity_bytes, kDone;
      });
  SPW_NULL(
      cuMemAddressReserve,
      (cu::DevicePtr * pointer,
       std::size_t bytes,
       std::size_t alignment,
       cu::DevicePtr,
       unsigned long long) {
        const std::uint64_t unit =
            std::max<std::uint64_t>(alignment, g_state.options.granularity_bytes);
        const std::uint64_t room = round_up(bytes, unit) + unit;
        const std::uint64_t at =
            kReserveBase + g_state.reserved.fetch_add(room, std::memory_order_relaxed);
        return *pointer = round_up(at, unit), kDone;
      });
  SPW_NULL(
      cuMemAddressFree, (cu::DevicePtr, std::size_t) { return kDone; });
  // A handle carries its size, so that release knows what it gives back without a table.
  SPW_NULL(
      cuMemCreate,
      (cu::AllocationHandle * handle,
       std::size_t bytes,
       const cu::AllocationProp*,
       unsigned long long) {
        const std::uint64_t pages = bytes / g_state.options.granularity_bytes;
        const std::uint64_t number = 1 + g_state.handles.fetch_add(1, std::memory_order_relaxed);
        g_state.physical.fetch_add(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
        return *handle = number << 24 | (pages & 0xffffff), kDone;
      });
  SPW_NULL(
      cuMemRelease, (cu::AllocationHandle handle) {
        const std::uint64_t bytes = (handle & 0xffffff) * g_state.options.granularity_bytes;
        g_state.physical.fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
        return kDone;
      });
  SPW_NULL(
      cuMemMap,
      (cu::DevicePtr, std::size_t, std::size_t, cu::AllocationHandle, unsigned long long) {
        return kDone;
      });
  SPW_NULL(
      cuMemUnmap, (cu::DevicePtr, std::size_t) { return kDone; });
  SPW_NULL(
      cuMemSetAccess,
      (cu::DevicePtr, std::size_t, const cu::AccessDesc*, std::size_t) { return kDone; });
  SPW_NULL(
      cuMemGetAccess, (unsigned long long* flags, const cu::Location*, cu::DevicePtr) {
        return *flags = static_cast<unsigned long long>(cu::AccessFlags::kReadWrite), kDone;
      });
}

template <bool kCounting>
void Calls<kCounting>::fill_streams(Driver& table) {
  SPW_NULL(
      cuStreamCreate,
      (cu::Stream * stream, unsigned int) { return *stream = next_handle<cu::Stream>(), kDone; });
  SPW_NULL(
      cuStreamCreateWithPriority, (cu::Stream * stream, unsigned int, int) {
        return *stream = next_handle<cu::Stream>(), kDone;
      });
  SPW_NULL(
      cuStreamDestroy, (cu::Stream) { return kDone; });
  SPW_NULL(
      cuStreamQuery, (cu::Stream) { return kDone; });
  SPW_NULL(
      cuStreamSynchronize, (cu::Stream) { return kDone; });
  SPW_NULL(
      cuStreamWaitEvent, (cu::Stream, cu::Event, unsigned int) { return kDone; });
  SPW_NULL(
      cuStreamGetCtx,
      (cu::Stream, cu::Context * context) { return *context = only_handle<cu::Context>(), kDone; });
  SPW_NULL(
      cuStreamGetFlags,
      (cu::Stream, unsigned int* flags) { return *flags = cu::kStreamNonBlocking, kDone; });
  SPW_NULL(
      cuStreamGetPriority, (cu::Stream, int* priority) { return *priority = 0, kDone; });
  // Handles are never given twice here, so a handle is its own id.
  SPW_NULL(
      cuStreamGetId, (cu::Stream stream, unsigned long long* id) {
        const auto number = reinterpret_cast<std::uintptr_t>(stream);
        return *id = number == 0 ? kDefaultStreamId : number, kDone;
      });
  SPW_NULL(
      cuThreadExchangeStreamCaptureMode, (cu::StreamCaptureMode*) { return kDone; });
  SPW_NULL(
      cuStreamIsCapturing, (cu::Stream, cu::StreamCaptureStatus * status) {
        return *status = cu::StreamCaptureStatus::kNone, kDone;
      });
  SPW_NULL(
      cuStreamGetCaptureInfo,
      (cu::Stream,
       cu::StreamCaptureStatus * status,
       unsigned long long* id,
       cu::Graph* graph,
       const cu::GraphNode** dependencies,
       std::size_t* count) {
        *status = cu::StreamCaptureStatus::kNone;
        if (id != nullptr) *id = 0;
        if (graph != nullptr) *graph = nullptr;
        if (dependencies != nullptr) *dependencies = nullptr;
        if (count != nullptr) *count = 0;
        return kDone;
      });
  SPW_NULL(
      cuEventCreate,
      (cu::Event * event, unsigned int) { return *event = next_handle<cu::Event>(), kDone; });
  SPW_NULL(
      cuEventDestroy, (cu::Event) { return kDone; });
  SPW_NULL(
      cuEventQuery, (cu::Event) { return kDone; });
  SPW_NULL(
      cuEventSynchronize, (cu::Event) { return kDone; });
  SPW_NULL(
      cuEventElapsedTime,
      (float* milliseconds, cu::Event, cu::Event) { return *milliseconds = 0, kDone; });
  SPW_NULL(
      cuEventRecord, (cu::Event, cu::Stream) { return kDone; });
  SPW_NULL(
      cuEventRecordWithFlags, (cu::Event, cu::Stream, unsigned int) { return kDone; });
}

template <bool kCounting>
void Calls<kCounting>::fill_transfers(Driver& table) {
  SPW_NULL(
      cuMemcpyAsync, (cu::DevicePtr, cu::DevicePtr, std::size_t, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemcpyHtoDAsync, (cu::DevicePtr, const void*, std::size_t, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemcpyDtoHAsync, (void*, cu::DevicePtr, std::size_t, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemcpyDtoDAsync, (cu::DevicePtr, cu::DevicePtr, std::size_t, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemsetD8Async, (cu::DevicePtr, unsigned char, std::size_t, cu::Stream) { return kDone; });
  SPW_NULL(
      cuMemsetD32Async, (cu::DevicePtr, unsigned int, std::size_t, cu::Stream) { return kDone; });
}
#undef SPW_NULL

template <bool kCounting>
void Calls<kCounting>::fill(Driver& table) {
#define SPW_NULL_REFUSE(member, symbol, version, parameters) \
  table.member = &Refuses<decltype(table.member)>::call;
  SPW_DRIVER_FUNCTIONS(SPW_NULL_REFUSE)
#undef SPW_NULL_REFUSE
  fill_device(table);
  fill_memory(table);
  fill_vmm(table);
  fill_streams(table);
  fill_transfers(table);
}

}  // namespace

cu::DevicePtr null_device_address(std::size_t bytes) {
  const std::uint64_t room = round_up(bytes, kQuantum);
  const std::uint64_t at = g_state.memory.fetch_add(room, std::memory_order_relaxed);
  return kMemoryBase + at;
}

std::int64_t null_physical_bytes() { return g_state.physical.load(std::memory_order_relaxed); }

Driver null_driver(const NullDriverOptions& options) {
  g_state.options = options;
  g_state.memory = 0;
  g_state.reserved = 0;
  g_state.handles = 0;
  g_state.physical = 0;
  for (auto& calls : g_state.calls) calls = 0;
  Driver table;
  if (options.count_calls) {
    Calls<true>::fill(table);
  } else {
    Calls<false>::fill(table);
  }
  return table;
}

std::uint64_t null_driver_calls(std::string_view name) {
  for (std::size_t i = 0; i < kCallCount; ++i) {
    if (kCallNames[i] == name) return g_state.calls[i].load(std::memory_order_relaxed);
  }
  return 0;
}

std::uint64_t null_driver_calls() {
  std::uint64_t sum = 0;
  for (const auto& calls : g_state.calls) sum += calls.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace spillway::bench
