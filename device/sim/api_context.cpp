// SPDX-License-Identifier: Apache-2.0
// Initialisation, devices, contexts, errors, look-up.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace spillway::sim {
namespace {

constexpr int kDriverVersion = 13000;

bool valid_device(const Engine& e, cu::Device device) {
  return device >= 0 && device < e.options.devices;
}

/// "name" and "name_v2" ask for the same function.
bool same_symbol(std::string_view asked, std::string_view member, std::string_view symbol) {
  return asked == member || asked == symbol;
}

}  // namespace

namespace api {

cu::Result cuInit(unsigned int flags) {
  const Call call(Api::cuInit);
  if (!call.ok()) return call.result();
  if (flags != 0) return cu::Result::kInvalidValue;
  call.engine().initialized = true;
  return cu::Result::kSuccess;
}

cu::Result cuDriverGetVersion(int* version) {
  if (current_engine() == nullptr && version != nullptr) {  // asked before cuInit made a machine
    *version = kDriverVersion;
    return cu::Result::kSuccess;
  }
  const Call call(Api::cuDriverGetVersion);
  if (!call.ok()) return call.result();
  if (version == nullptr) return cu::Result::kInvalidValue;
  *version = kDriverVersion;
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGet(cu::Device* device, int ordinal) {
  const Call call(Api::cuDeviceGet);
  if (!call.ok()) return call.result();
  if (device == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(call.engine(), ordinal)) return cu::Result::kInvalidDevice;
  *device = ordinal;
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGetCount(int* count) {
  const Call call(Api::cuDeviceGetCount);
  if (!call.ok()) return call.result();
  if (count == nullptr) return cu::Result::kInvalidValue;
  *count = call.engine().options.devices;
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGetName(char* name, int name_bytes, cu::Device device) {
  const Call call(Api::cuDeviceGetName);
  if (!call.ok()) return call.result();
  if (name == nullptr || name_bytes <= 0) return cu::Result::kInvalidValue;
  if (!valid_device(call.engine(), device)) return cu::Result::kInvalidDevice;
  std::snprintf(name, static_cast<std::size_t>(name_bytes), "spillway simulated GPU");
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGetAttribute(int* value, cu::DeviceAttribute attribute, cu::Device device) {
  const Call call(Api::cuDeviceGetAttribute);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (value == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(e, device)) return cu::Result::kInvalidDevice;
  const DeviceTiming* const timing = e.is_timed() ? &e.timed.device() : nullptr;
  using A = cu::DeviceAttribute;
  switch (attribute) {
    case A::kMaxThreadsPerBlock:
      *value = 1024;
      break;
    case A::kWarpSize:
      *value = 32;
      break;
    case A::kClockRate:
      *value = 1980000;
      break;
    case A::kTextureAlignment:
      *value = 512;
      break;
    case A::kMultiprocessorCount:
      *value = timing != nullptr ? static_cast<int>(timing->multiprocessor_count) : 132;
      break;
    case A::kIntegrated:
      *value = 0;
      break;
    case A::kConcurrentKernels:
      *value = 1;
      break;
    case A::kPciBusId:
      *value = device + 1;
      break;
    case A::kMemoryClockRate:
      *value = 3201000;
      break;
    case A::kL2CacheSize:
      *value = 50 << 20;
      break;
    case A::kAsyncEngineCount:
      *value = timing != nullptr ? static_cast<int>(timing->copy_engine_count) : 3;
      break;
    case A::kUnifiedAddressing:
      *value = 1;
      break;
    case A::kTexturePitchAlignment:
      *value = 32;
      break;
    case A::kComputeCapabilityMajor:
      *value = timing != nullptr ? static_cast<int>(timing->compute_capability / 10) : 9;
      break;
    case A::kComputeCapabilityMinor:
      *value = timing != nullptr ? static_cast<int>(timing->compute_capability % 10) : 0;
      break;
    case A::kManagedMemory:
    case A::kConcurrentManagedAccess:
    case A::kCanUseHostPointerForRegisteredMem:
      *value = 1;
      break;
    case A::kMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    case A::kVirtualMemoryManagementSupported:
      *value = e.options.vmm_supported ? 1 : 0;
      break;
    case A::kHandleTypePosixFdSupported:
    case A::kGpuDirectRdmaWithVmmSupported:
      *value = 0;
      break;
    case A::kMemoryPoolsSupported:
      *value = 1;
      break;
    case A::kHostNumaId:
      *value = -1;
      break;
    default:
      return cu::Result::kInvalidValue;
  }
  return cu::Result::kSuccess;
}

cu::Result cuDeviceTotalMem(std::size_t* bytes, cu::Device device) {
  const Call call(Api::cuDeviceTotalMem);
  if (!call.ok()) return call.result();
  if (bytes == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(call.engine(), device)) return cu::Result::kInvalidDevice;
  *bytes = call.engine().options.memory_bytes;
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGetUuid(cu::Uuid* uuid, cu::Device device) {
  const Call call(Api::cuDeviceGetUuid);
  if (!call.ok()) return call.result();
  if (uuid == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(call.engine(), device)) return cu::Result::kInvalidDevice;
  std::memcpy(uuid->bytes, "spillway-sim-000", sizeof(uuid->bytes));
  uuid->bytes[15] = static_cast<char>('0' + device);
  return cu::Result::kSuccess;
}

cu::Result cuDeviceGetPCIBusId(char* id, int id_bytes, cu::Device device) {
  const Call call(Api::cuDeviceGetPCIBusId);
  if (!call.ok()) return call.result();
  if (id == nullptr || id_bytes <= 0) return cu::Result::kInvalidValue;
  if (!valid_device(call.engine(), device)) return cu::Result::kInvalidDevice;
  std::snprintf(id, static_cast<std::size_t>(id_bytes), "0000:%02X:00.0", device + 1);
  return cu::Result::kSuccess;
}

cu::Result cuDeviceCanAccessPeer(int* can_access, cu::Device device, cu::Device peer) {
  const Call call(Api::cuDeviceCanAccessPeer);
  if (!call.ok()) return call.result();
  if (can_access == nullptr) return cu::Result::kInvalidValue;
  const Engine& e = call.engine();
  if (!valid_device(e, device) || !valid_device(e, peer)) return cu::Result::kInvalidDevice;
  *can_access = device != peer ? 1 : 0;
  return cu::Result::kSuccess;
}

cu::Result cuDevicePrimaryCtxRetain(cu::Context* context, cu::Device device) {
  const Call call(Api::cuDevicePrimaryCtxRetain);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (context == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(e, device)) return cu::Result::kInvalidDevice;
  std::uint32_t& index = e.primary_context[static_cast<std::size_t>(device)];
  if (index == Engine::kNone) {
    index = e.contexts.create(true);
    ContextState& made = e.contexts[index];
    made.device = device;
    StreamState& legacy = e.make_stream(index, cu::kStreamDefault, 0, false);
    legacy.legacy = true;
    legacy.handle = cu::stream_legacy();
    made.legacy_stream = legacy.index;
  }
  ++e.contexts[index].retained;
  *context = static_cast<cu::Context>(e.contexts.handle(index));
  return cu::Result::kSuccess;
}

cu::Result cuDevicePrimaryCtxRelease(cu::Device device) {
  const Call call(Api::cuDevicePrimaryCtxRelease);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (!valid_device(e, device)) return cu::Result::kInvalidDevice;
  const std::uint32_t index = e.primary_context[static_cast<std::size_t>(device)];
  if (index == Engine::kNone || e.contexts[index].retained == 0) {
    e.misuse("cuDevicePrimaryCtxRelease", "the primary context is not retained");
    return cu::Result::kInvalidContext;
  }
  // The context itself stays until the end of the run: its memory is judged there.
  if (--e.contexts[index].retained == 0) e.synchronize_all(index, "cuDevicePrimaryCtxRelease");
  return cu::Result::kSuccess;
}

cu::Result cuDevicePrimaryCtxGetState(cu::Device device, unsigned int* flags, int* active) {
  const Call call(Api::cuDevicePrimaryCtxGetState);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (flags == nullptr || active == nullptr) return cu::Result::kInvalidValue;
  if (!valid_device(e, device)) return cu::Result::kInvalidDevice;
  const std::uint32_t index = e.primary_context[static_cast<std::size_t>(device)];
  *flags = 0;
  *active = index != Engine::kNone && e.contexts[index].retained > 0 ? 1 : 0;
  return cu::Result::kSuccess;
}

cu::Result cuDevicePrimaryCtxReset(cu::Device device) {
  const Call call(Api::cuDevicePrimaryCtxReset);
  if (!call.ok()) return call.result();
  if (!valid_device(call.engine(), device)) return cu::Result::kInvalidDevice;
  // Not modelled: what a program sees after a reset differs between drivers.
  return cu::Result::kNotSupported;
}

cu::Result cuCtxGetCurrent(cu::Context* context) {
  const Call call(Api::cuCtxGetCurrent);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (context == nullptr) return cu::Result::kInvalidValue;
  const std::uint32_t index = e.current_context();
  *context = index == Engine::kNone ? nullptr : static_cast<cu::Context>(e.contexts.handle(index));
  return cu::Result::kSuccess;
}

cu::Result cuCtxSetCurrent(cu::Context context) {
  const Call call(Api::cuCtxSetCurrent);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::vector<std::uint32_t>& stack = e.self().contexts;
  if (context == nullptr) {
    if (!stack.empty()) stack.pop_back();
    return cu::Result::kSuccess;
  }
  std::uint32_t index = 0;
  if (e.contexts.find(context, &index) != HandleTable<ContextState>::State::kLive) {
    e.misuse("cuCtxSetCurrent", "not a context of this driver");
    return cu::Result::kInvalidContext;
  }
  if (stack.empty())
    stack.push_back(index);
  else
    stack.back() = index;
  return cu::Result::kSuccess;
}

cu::Result cuCtxPushCurrent(cu::Context context) {
  const Call call(Api::cuCtxPushCurrent);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (context == nullptr ||
      e.contexts.find(context, &index) != HandleTable<ContextState>::State::kLive)
    return cu::Result::kInvalidContext;
  e.self().contexts.push_back(index);
  return cu::Result::kSuccess;
}

cu::Result cuCtxPopCurrent(cu::Context* context) {
  const Call call(Api::cuCtxPopCurrent);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::vector<std::uint32_t>& stack = e.self().contexts;
  if (stack.empty()) return cu::Result::kInvalidContext;
  if (context != nullptr) *context = static_cast<cu::Context>(e.contexts.handle(stack.back()));
  stack.pop_back();
  return cu::Result::kSuccess;
}

cu::Result cuCtxGetDevice(cu::Device* device) {
  const Call call(Api::cuCtxGetDevice);
  if (!call.ok()) return call.result();
  if (device == nullptr) return cu::Result::kInvalidValue;
  Engine& e = call.engine();
  *device = e.contexts[e.current_context()].device;
  return cu::Result::kSuccess;
}

cu::Result cuCtxSynchronize() {
  const Call call(Api::cuCtxSynchronize);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const cu::Result result = e.synchronize_all(e.current_context(), "cuCtxSynchronize");
  e.pools.synchronized(e);
  return result;
}

cu::Result cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  const Call call(Api::cuCtxGetStreamPriorityRange);
  if (!call.ok()) return call.result();
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return cu::Result::kSuccess;
}

cu::Result cuCtxEnablePeerAccess(cu::Context peer, unsigned int flags) {
  const Call call(Api::cuCtxEnablePeerAccess);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (flags != 0) return cu::Result::kInvalidValue;
  if (peer == nullptr || e.contexts.find(peer, &index) != HandleTable<ContextState>::State::kLive)
    return cu::Result::kInvalidContext;
  ContextState& mine = e.contexts[e.current_context()];
  const int device = e.contexts[index].device;
  if (device == mine.device) return cu::Result::kInvalidDevice;
  const auto wanted = static_cast<std::uint32_t>(device);
  if (std::find(mine.peers.begin(), mine.peers.end(), wanted) != mine.peers.end())
    return cu::Result::kPeerAccessAlreadyEnabled;
  mine.peers.push_back(wanted);
  return cu::Result::kSuccess;
}

cu::Result cuCtxDisablePeerAccess(cu::Context peer) {
  const Call call(Api::cuCtxDisablePeerAccess);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (peer == nullptr || e.contexts.find(peer, &index) != HandleTable<ContextState>::State::kLive)
    return cu::Result::kInvalidContext;
  std::vector<std::uint32_t>& peers = e.contexts[e.current_context()].peers;
  const auto it =
      std::find(peers.begin(), peers.end(), static_cast<std::uint32_t>(e.contexts[index].device));
  if (it == peers.end()) return cu::Result::kPeerAccessNotEnabled;
  peers.erase(it);
  return cu::Result::kSuccess;
}

// The error texts need no engine: they are what one asks when nothing else works.
cu::Result cuGetErrorName(cu::Result error, const char** text) {
  if (text == nullptr) return cu::Result::kInvalidValue;
  switch (error) {
#define SPW_SIM_ERROR_NAME(constant, number, name) \
  case cu::Result::constant:                       \
    *text = #name;                                 \
    return cu::Result::kSuccess;
    SPW_CU_RESULTS(SPW_SIM_ERROR_NAME)
#undef SPW_SIM_ERROR_NAME
    default:
      *text = nullptr;
      return cu::Result::kInvalidValue;
  }
}

cu::Result cuGetErrorString(cu::Result error, const char** text) {
  return api::cuGetErrorName(error, text);
}

cu::Result cuGetProcAddress(const char* symbol,
                            void** address,
                            int version,
                            unsigned long long flags,
                            cu::ProcAddressStatus* status) {
  // No Call: programs resolve functions before cuInit and inside look-ups of the loader.
  if (symbol == nullptr || address == nullptr) return cu::Result::kInvalidValue;
  *address = nullptr;
  if (flags > (cu::kProcAddressLegacyStream | cu::kProcAddressPerThreadStream))
    return cu::Result::kInvalidValue;
  const auto answer = [status](cu::ProcAddressStatus value) {
    if (status != nullptr) *status = value;
    return value == cu::ProcAddressStatus::kSuccess ? cu::Result::kSuccess : cu::Result::kNotFound;
  };
#define SPW_SIM_FIND(member, exported, since, parameters)                               \
  if (same_symbol(symbol, #member, #exported)) {                                        \
    if (version < (since)) return answer(cu::ProcAddressStatus::kVersionNotSufficient); \
    *address = reinterpret_cast<void*>(&api::member);                                   \
    return answer(cu::ProcAddressStatus::kSuccess);                                     \
  }
  SPW_DRIVER_FUNCTIONS(SPW_SIM_FIND)
#undef SPW_SIM_FIND
  return answer(cu::ProcAddressStatus::kSymbolNotFound);
}

const Driver& table() {
  static const Driver kTable = [] {
    Driver driver;
#define SPW_SIM_FILL(member, symbol, version, parameters) driver.member = &api::member;
    SPW_DRIVER_FUNCTIONS(SPW_SIM_FILL)
#undef SPW_SIM_FILL
    return driver;
  }();
  return kTable;
}

}  // namespace api
}  // namespace spillway::sim
