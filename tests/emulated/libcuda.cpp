// SPDX-License-Identifier: Apache-2.0
// The emulated libcuda.so.1: the simulator's table under the names that real programs link, look up
// with dlsym, or ask cuGetProcAddress for. Each exported symbol is a jump through a slot, so that
// the driver's table (device/driver.hpp) is the only list of functions and parameters.
#include "device/sim/api.hpp"
#include "tests/emulated/process.hpp"

#include <string_view>
#include <type_traits>
#include <utility>

#if !defined(__x86_64__)
#error "the emulated libraries jump through their slots with x86-64 instructions"
#endif

namespace spillway::emulated {
namespace {

namespace api = sim::api;

/// A call as exported: nothing after the end of the library.
template <auto kFunction>
struct Legacy;

template <typename... P, cu::Result (*kFunction)(P...)>
struct Legacy<kFunction> {
  static cu::Result call(P... p) {
    if (const cu::Result gone = alive(); gone != cu::Result::kSuccess) return gone;
    return kFunction(p...);
  }
};

// A null stream of a program that was built for per-thread default streams.
template <typename T>
T per_thread(T value) {
  if constexpr (std::is_same_v<T, cu::Stream>)
    return value == nullptr ? cu::stream_per_thread() : value;
  else
    return value;
}

template <auto kFunction>
struct PerThread;

template <typename... P, cu::Result (*kFunction)(P...)>
struct PerThread<kFunction> {
  static cu::Result call(P... p) { return Legacy<kFunction>::call(per_thread(p)...); }
};

template <>
struct PerThread<&api::cuLaunchKernelEx> {
  static cu::Result call(const cu::LaunchConfig* config,
                         cu::Function function,
                         void** parameters,
                         void** extra) {
    if (config == nullptr)
      return Legacy<&api::cuLaunchKernelEx>::call(config, function, parameters, extra);
    cu::LaunchConfig changed = *config;
    changed.stream = per_thread(changed.stream);
    return Legacy<&api::cuLaunchKernelEx>::call(&changed, function, parameters, extra);
  }
};

/// Synchronous calls have no stream to replace: they are the asynchronous ones on the thread's
/// stream, and a wait where the host has a part in them.
template <auto kFunction, auto kAsync, bool kWaits>
struct Synchronous;

template <typename... P, cu::Result (*kFunction)(P...), auto kAsync, bool kWaits>
struct Synchronous<kFunction, kAsync, kWaits> {
  static cu::Result call(P... p) {
    const cu::Result result = Legacy<kAsync>::call(p..., cu::stream_per_thread());
    if (!kWaits || result != cu::Result::kSuccess) return result;
    return Legacy<&api::cuStreamSynchronize>::call(cu::stream_per_thread());
  }
};
template <>
struct PerThread<&api::cuMemcpy> : Synchronous<&api::cuMemcpy, &api::cuMemcpyAsync, true> {};
template <>
struct PerThread<&api::cuMemcpyHtoD>
    : Synchronous<&api::cuMemcpyHtoD, &api::cuMemcpyHtoDAsync, true> {};
template <>
struct PerThread<&api::cuMemcpyDtoH>
    : Synchronous<&api::cuMemcpyDtoH, &api::cuMemcpyDtoHAsync, true> {};
template <>
struct PerThread<&api::cuMemcpyDtoD>
    : Synchronous<&api::cuMemcpyDtoD, &api::cuMemcpyDtoDAsync, false> {};
template <>
struct PerThread<&api::cuMemsetD8> : Synchronous<&api::cuMemsetD8, &api::cuMemsetD8Async, false> {};
template <>
struct PerThread<&api::cuMemsetD32>
    : Synchronous<&api::cuMemsetD32, &api::cuMemsetD32Async, false> {};

template <>
struct Legacy<&api::cuInit> {
  static cu::Result call(unsigned int flags) {
    if (const cu::Result gone = alive(); gone != cu::Result::kSuccess) return gone;
    if (const cu::Result made = start(); made != cu::Result::kSuccess) return made;
    return api::cuInit(flags);
  }
};

// The texts of errors outlive the library, for who has to print one at exit.
template <>
struct Legacy<&api::cuGetErrorName> {
  static cu::Result call(cu::Result error, const char** text) {
    return api::cuGetErrorName(error, text);
  }
};
template <>
struct Legacy<&api::cuGetErrorString> {
  static cu::Result call(cu::Result error, const char** text) {
    return api::cuGetErrorString(error, text);
  }
};

cu::Result look_up(const char* symbol,
                   void** address,
                   int version,
                   unsigned long long flags,
                   cu::ProcAddressStatus* status);

template <>
struct Legacy<&api::cuGetProcAddress> {
  static cu::Result call(const char* symbol,
                         void** address,
                         int version,
                         unsigned long long flags,
                         cu::ProcAddressStatus* status) {
    return look_up(symbol, address, version, flags, status);
  }
};

// ---- what the table does not have: other versions of its functions
// -----------------------------------------------------------------------------------------------

cu::Result get_proc_address_v1(const char* symbol,
                               void** address,
                               int version,
                               unsigned long long flags) {
  return look_up(symbol, address, version, flags, nullptr);
}

template <auto kFlavour>
cu::Result capture_info_v3(cu::Stream stream,
                           cu::StreamCaptureStatus* status,
                           unsigned long long* id,
                           cu::Graph* graph,
                           const cu::GraphNode** dependencies,
                           const void** edges,
                           std::size_t* count) {
  if (edges != nullptr) *edges = nullptr;  // all edges are plain ones
  return kFlavour(stream, status, id, graph, dependencies, count);
}

cu::Result mem_alloc_host(void** pointer, std::size_t bytes) {
  return Legacy<&api::cuMemHostAlloc>::call(pointer, bytes, 0);
}

// X(name for look-ups, exported symbol, slot, first version, function, its per-thread flavour)
#define SPW_MORE_FUNCTIONS(X)                                                                  \
  X("cuGetProcAddress", "cuGetProcAddress", get_proc_v1, 11030, &get_proc_address_v1, nullptr) \
  X("cuEventElapsedTime",                                                                      \
    "cuEventElapsedTime_v2",                                                                   \
    elapsed_v2,                                                                                \
    12080,                                                                                     \
    &Legacy<&api::cuEventElapsedTime>::call,                                                   \
    nullptr)                                                                                   \
  X("cuMemAllocHost", "cuMemAllocHost_v2", alloc_host, 3020, &mem_alloc_host, nullptr)         \
  X("cuStreamGetCaptureInfo",                                                                  \
    "cuStreamGetCaptureInfo_v3",                                                               \
    capture_v3,                                                                                \
    12030,                                                                                     \
    &capture_info_v3<&Legacy<&api::cuStreamGetCaptureInfo>::call>,                             \
    address_of(&capture_info_v3<&PerThread<&api::cuStreamGetCaptureInfo>::call>))

template <typename F>
void* address_of(F* function) {
  return reinterpret_cast<void*>(function);
}

// ---- look-up
// -----------------------------------------------------------------------------------------------

struct Entry {
  std::string_view member;  // the name without a version
  std::string_view symbol;
  int since = 0;
  void* legacy = nullptr;
  void* per_thread = nullptr;
};

cu::Result look_up(const char* symbol,
                   void** address,
                   int version,
                   unsigned long long flags,
                   cu::ProcAddressStatus* status) {
  static const Entry kEntries[] = {
#define SPW_PLAIN_ENTRY(member, exported, since, parameters) \
  {#member, #exported, since, address_of(&Legacy<&api::member>::call), nullptr},
#define SPW_STREAM_ENTRY(member, exported, since, parameters) \
  {#member,                                                   \
   #exported,                                                 \
   since,                                                     \
   address_of(&Legacy<&api::member>::call),                   \
   address_of(&PerThread<&api::member>::call)},
#define SPW_MORE_ENTRY(name, exported, slot, since, function, flavour) \
  {name, exported, since, address_of(function), flavour},
      SPW_DRIVER_PLAIN(SPW_PLAIN_ENTRY) SPW_DRIVER_STREAM(SPW_STREAM_ENTRY)
          SPW_MORE_FUNCTIONS(SPW_MORE_ENTRY)
#undef SPW_PLAIN_ENTRY
#undef SPW_STREAM_ENTRY
#undef SPW_MORE_ENTRY
  };
  if (symbol == nullptr || address == nullptr) return cu::Result::kInvalidValue;
  *address = nullptr;
  if (flags > (cu::kProcAddressLegacyStream | cu::kProcAddressPerThreadStream))
    return cu::Result::kInvalidValue;
  const bool wants_per_thread = (flags & cu::kProcAddressPerThreadStream) != 0;
  const std::string_view wanted = symbol;
  auto answer = cu::ProcAddressStatus::kSymbolNotFound;
  int best = -1;
  for (const Entry& entry : kEntries) {
    if (wanted != entry.member && wanted != entry.symbol) continue;
    if (answer == cu::ProcAddressStatus::kSymbolNotFound)
      answer = cu::ProcAddressStatus::kVersionNotSufficient;
    if (entry.since > version || entry.since < best) continue;
    best = entry.since;
    *address = wants_per_thread && entry.per_thread != nullptr ? entry.per_thread : entry.legacy;
    answer = cu::ProcAddressStatus::kSuccess;
  }
  if (status != nullptr) *status = answer;
  return answer == cu::ProcAddressStatus::kSuccess ? cu::Result::kSuccess : cu::Result::kNotFound;
}

}  // namespace
}  // namespace spillway::emulated

// ---- exported symbols
// -----------------------------------------------------------------------------------------------

#define SPW_SLOT(slot, function)                                              \
  extern "C" {                                                                \
  extern __attribute__((visibility("hidden"))) decltype(function) const slot; \
  __attribute__((used)) decltype(function) const slot = function;             \
  }
#define SPW_EXPORT(symbol, slot)                                                                \
  asm(".pushsection .text\n.p2align 4\n.globl " symbol "\n.type " symbol ", @function\n" symbol \
      ":\n  jmp *" slot "(%rip)\n.size " symbol ", . - " symbol "\n.popsection");

using namespace spillway;            // NOLINT: the table's parameter types
using namespace spillway::emulated;  // NOLINT

#define SPW_EXPORT_LEGACY(member, symbol, since, parameters)              \
  SPW_SLOT(spw_slot_##member, &Legacy<&spillway::sim::api::member>::call) \
  SPW_EXPORT(#symbol, "spw_slot_" #member)
SPW_DRIVER_FUNCTIONS(SPW_EXPORT_LEGACY)
#undef SPW_EXPORT_LEGACY

// The suffix is _ptds for those that have no stream parameter.
#define SPW_SECOND(first, second, ...) second
#define SPW_SUFFIX(...) SPW_SECOND(__VA_ARGS__, "_ptsz", )
#define SPW_SYNC_cuMemcpy , "_ptds"
#define SPW_SYNC_cuMemcpyHtoD , "_ptds"
#define SPW_SYNC_cuMemcpyDtoH , "_ptds"
#define SPW_SYNC_cuMemcpyDtoD , "_ptds"
#define SPW_SYNC_cuMemsetD8 , "_ptds"
#define SPW_SYNC_cuMemsetD32 , "_ptds"
#define SPW_EXPORT_PER_THREAD(member, symbol, since, parameters)                    \
  SPW_SLOT(spw_slot_thread_##member, &PerThread<&spillway::sim::api::member>::call) \
  SPW_EXPORT(#symbol SPW_SUFFIX(SPW_SYNC_##member), "spw_slot_thread_" #member)
SPW_DRIVER_STREAM(SPW_EXPORT_PER_THREAD)
#undef SPW_EXPORT_PER_THREAD

#define SPW_EXPORT_MORE(name, symbol, slot, since, function, flavour) \
  SPW_SLOT(spw_slot_more_##slot, function)                            \
  SPW_EXPORT(symbol, "spw_slot_more_" #slot)
SPW_MORE_FUNCTIONS(SPW_EXPORT_MORE)
#undef SPW_EXPORT_MORE
SPW_SLOT(spw_slot_thread_capture_v3,
         &capture_info_v3<&PerThread<&api::cuStreamGetCaptureInfo>::call>)
SPW_EXPORT("cuStreamGetCaptureInfo_v3_ptsz", "spw_slot_thread_capture_v3")

// First versions whose parameters are still those of the version in the table.
#define SPW_EXPORT_OLD(symbol, member) SPW_EXPORT(symbol, "spw_slot_" #member)
SPW_EXPORT_OLD("cuDeviceGetUuid", cuDeviceGetUuid)
SPW_EXPORT_OLD("cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease)
SPW_EXPORT_OLD("cuDevicePrimaryCtxReset", cuDevicePrimaryCtxReset)
SPW_EXPORT_OLD("cuCtxPushCurrent", cuCtxPushCurrent)
SPW_EXPORT_OLD("cuCtxPopCurrent", cuCtxPopCurrent)
SPW_EXPORT_OLD("cuMemHostRegister", cuMemHostRegister)
SPW_EXPORT_OLD("cuIpcOpenMemHandle", cuIpcOpenMemHandle)
SPW_EXPORT_OLD("cuStreamDestroy", cuStreamDestroy)
SPW_EXPORT_OLD("cuEventDestroy", cuEventDestroy)
SPW_EXPORT_OLD("cuStreamWaitValue32", cuStreamWaitValue32)
SPW_EXPORT_OLD("cuStreamWriteValue32", cuStreamWriteValue32)

/// Kernels have no code here: a program says what its kernels do before it launches them. The
/// spec's names and functions must stay for good.
extern "C" __attribute__((visibility("default"))) int spw_emulated_register_kernel(
    const KernelSpec* spec) {
  if (spec == nullptr || spec->name == nullptr || spec->body == nullptr ||
      spec->accesses == nullptr || spec->cost == nullptr)
    return static_cast<int>(cu::Result::kInvalidValue);
  add_kernel(*spec);
  return 0;
}
