// SPDX-License-Identifier: Apache-2.0
// Device, managed and host memory, pointer attributes, handles for other processes.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <cstring>
#include <limits>

namespace spillway::sim {
namespace {

constexpr std::uint64_t kPitchBytes = 512;
constexpr std::byte kFresh{0xff};

std::uint32_t current_device(Engine& e) {
  return static_cast<std::uint32_t>(e.contexts[e.current_context()].device);
}

/// New memory belongs to nobody before: its history ends, and it is garbage.
void begin_life(Engine& e, std::uint64_t address, std::uint64_t bytes, const char* call) {
  const AddressInfo info = e.memory->find(address);
  e.clocks.forget({info.flat, info.flat + bytes});
  e.host_lifetime(address, bytes, AccessKind::kAllocate, call);
  if (e.has(Semantic::kPoison)) e.memory->fill(address, bytes, kFresh);
}

cu::Result allocate(Engine& e, cu::DevicePtr* pointer, std::uint64_t bytes, const char* call) {
  std::uint64_t address = 0;
  const MemoryError error = e.memory->allocate(current_device(e), bytes, 0, &address);
  if (error != MemoryError::kOk) return e.refuse(error, call);
  begin_life(e, address, bytes, call);
  *pointer = address;
  return cu::Result::kSuccess;
}

const void* as_pointer(std::uint64_t address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver's type for any address
  return reinterpret_cast<const void*>(address);
}

// One attribute of one address; `info` is what is there. False: the attribute does not exist for
// it.
bool attribute_of(Engine& e,
                  const AddressInfo& info,
                  std::uint64_t address,
                  cu::PointerAttribute attribute,
                  void* data) {
  using A = cu::PointerAttribute;
  const bool known = info.kind != MemoryKind::kNone &&
                     (info.kind != MemoryKind::kReserved || info.mapping.bytes != 0);
  const bool host = info.kind == MemoryKind::kPinned || info.kind == MemoryKind::kRegistered;
  const bool managed = info.kind == MemoryKind::kManaged;
  // NOLINTNEXTLINE(bugprone-sizeof-expression): a pointer is what some attributes are
  const auto put = [data](auto value) { std::memcpy(data, &value, sizeof(value)); };
  const ByteRange range = info.kind == MemoryKind::kReserved ? info.mapping : info.range;
  switch (attribute) {
    case A::kContext: {
      if (!known) return false;
      const std::uint32_t context = e.primary_context[host ? 0 : info.device];
      put(context == Engine::kNone ? nullptr : e.contexts.handle(context));
      return true;
    }
    case A::kMemoryType:
      if (!known) return false;
      put(host ? cu::MemoryType::kHost : cu::MemoryType::kDevice);
      return true;
    case A::kDevicePointer:
      if (!known) return false;
      put(address);
      return true;
    case A::kHostPointer:
      if (!host && !managed) return false;
      put(as_pointer(address));
      return true;
    case A::kSyncMemops:
      if (!known) return false;
      put(0u);
      return true;
    case A::kBufferId:
      if (!known) return false;
      put(info.serial);
      return true;
    case A::kIsManaged:
      put(static_cast<unsigned int>(managed ? 1 : 0));
      return true;
    case A::kDeviceOrdinal:
      if (!known) return false;
      put(static_cast<int>(host ? 0 : info.device));
      return true;
    case A::kIsLegacyIpcCapable:
      put(static_cast<unsigned int>(info.kind == MemoryKind::kPlain && info.flags == 0 ? 1 : 0));
      return true;
    case A::kRangeStartAddr:
      if (!known) return false;
      put(range.begin);
      return true;
    case A::kRangeSize:
      if (!known) return false;
      put(static_cast<std::size_t>(range.bytes));
      return true;
    case A::kMapped:
      put(static_cast<unsigned int>(known ? 1 : 0));
      return true;
    case A::kMempoolHandle:
      put(e.pools.pool_of(info) == Pools::kNone ? nullptr
                                                : e.pools.handle_of(e.pools.pool_of(info)));
      return true;
  }
  return false;
}

struct IpcContent {
  char magic[8];
  std::uint64_t serial;
};

}  // namespace

namespace api {

cu::Result cuMemAlloc(cu::DevicePtr* pointer, std::size_t bytes) {
  const Call call(Api::cuMemAlloc, bytes);
  if (!call.ok()) return call.result();
  if (pointer == nullptr || bytes == 0) return cu::Result::kInvalidValue;
  return allocate(call.engine(), pointer, bytes, "cuMemAlloc");
}

cu::Result cuMemFree(cu::DevicePtr pointer) {
  const Call call(Api::cuMemFree);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (pointer == 0) return cu::Result::kSuccess;
  const AddressInfo info = e.memory->find(pointer);
  if (e.pools.pool_of(info) != Pools::kNone) return e.pools.free_from_host(e, info, pointer);
  const bool managed = info.kind == MemoryKind::kManaged;
  if ((info.kind == MemoryKind::kPlain || managed) && info.range.begin == pointer) {
    e.observed_synchronization("cuMemFree");
    e.host_lifetime(pointer, info.range.bytes, AccessKind::kFree, "cuMemFree");
  }
  return e.refuse(managed ? e.memory->free_managed(pointer) : e.memory->free(pointer), "cuMemFree");
}

cu::Result cuMemAllocPitch(cu::DevicePtr* pointer,
                           std::size_t* pitch_bytes,
                           std::size_t width_bytes,
                           std::size_t height,
                           unsigned int element_bytes) {
  const Call call(Api::cuMemAllocPitch, width_bytes * height);
  if (!call.ok()) return call.result();
  if (pointer == nullptr || pitch_bytes == nullptr || width_bytes == 0 || height == 0 ||
      (element_bytes != 4 && element_bytes != 8 && element_bytes != 16))
    return cu::Result::kInvalidValue;
  if (width_bytes > std::numeric_limits<std::size_t>::max() - kPitchBytes)
    return cu::Result::kOutOfMemory;
  const std::uint64_t pitch = round_up(width_bytes, kPitchBytes);
  if (height > std::numeric_limits<std::uint64_t>::max() / pitch) return cu::Result::kOutOfMemory;
  const cu::Result result = allocate(call.engine(), pointer, pitch * height, "cuMemAllocPitch");
  if (result == cu::Result::kSuccess) *pitch_bytes = pitch;
  return result;
}

cu::Result cuMemAllocManaged(cu::DevicePtr* pointer, std::size_t bytes, unsigned int flags) {
  const Call call(Api::cuMemAllocManaged, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (pointer == nullptr || bytes == 0 || (flags != cu::kAttachGlobal && flags != cu::kAttachHost))
    return cu::Result::kInvalidValue;
  std::uint64_t address = 0;
  const MemoryError error = e.memory->allocate_managed(bytes, flags, &address);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemAllocManaged");
  begin_life(e, address, bytes, "cuMemAllocManaged");
  *pointer = address;
  return cu::Result::kSuccess;
}

cu::Result cuMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  const Call call(Api::cuMemGetInfo);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (free_bytes == nullptr || total_bytes == nullptr) return cu::Result::kInvalidValue;
  *free_bytes = e.memory->physical().free_bytes(current_device(e));
  *total_bytes = e.options.memory_bytes;
  return cu::Result::kSuccess;
}

cu::Result cuMemGetAddressRange(cu::DevicePtr* base, std::size_t* bytes, cu::DevicePtr pointer) {
  const Call call(Api::cuMemGetAddressRange);
  if (!call.ok()) return call.result();
  const Engine& e = call.engine();
  const AddressInfo info = e.pools.as_seen(e.memory->find(pointer), pointer);
  // Of a reservation, only the mapping there: one handle's segment.
  const ByteRange range = info.kind == MemoryKind::kReserved ? info.mapping : info.range;
  if (info.kind == MemoryKind::kNone || range.bytes == 0) return cu::Result::kNotFound;
  if (base != nullptr) *base = range.begin;
  if (bytes != nullptr) *bytes = range.bytes;
  return cu::Result::kSuccess;
}

cu::Result cuPointerGetAttribute(void* data,
                                 cu::PointerAttribute attribute,
                                 cu::DevicePtr pointer) {
  const Call call(Api::cuPointerGetAttribute);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (data == nullptr) return cu::Result::kInvalidValue;
  const AddressInfo info = e.pools.as_seen(e.memory->find(pointer), pointer);
  if (info.kind == MemoryKind::kNone) return cu::Result::kInvalidValue;
  return attribute_of(e, info, pointer, attribute, data) ? cu::Result::kSuccess
                                                         : cu::Result::kInvalidValue;
}

cu::Result cuPointerGetAttributes(unsigned int count,
                                  cu::PointerAttribute* attributes,
                                  void** data,
                                  cu::DevicePtr pointer) {
  const Call call(Api::cuPointerGetAttributes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (attributes == nullptr || data == nullptr || count == 0) return cu::Result::kInvalidValue;
  const AddressInfo info = e.pools.as_seen(e.memory->find(pointer), pointer);
  for (unsigned int i = 0; i < count; ++i) {
    if (data[i] == nullptr) return cu::Result::kInvalidValue;
    if (attribute_of(e, info, pointer, attributes[i], data[i])) continue;
    // Unlike the single form, an unknown pointer is an answer: null, and -2 for the device.
    switch (attributes[i]) {
      case cu::PointerAttribute::kDeviceOrdinal: {
        const int none = -2;
        std::memcpy(data[i], &none, sizeof(none));
        break;
      }
      case cu::PointerAttribute::kMemoryType:
      case cu::PointerAttribute::kSyncMemops:
        std::memset(data[i], 0, sizeof(unsigned int));
        break;
      default:
        std::memset(data[i], 0, sizeof(void*));
        break;
    }
  }
  return cu::Result::kSuccess;
}

cu::Result cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned int flags) {
  const Call call(Api::cuMemHostAlloc, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  constexpr unsigned int kAll =
      cu::kHostAllocPortable | cu::kHostAllocDeviceMap | cu::kHostAllocWriteCombined;
  if (pointer == nullptr || bytes == 0 || (flags & ~kAll) != 0) return cu::Result::kInvalidValue;
  std::uint64_t address = 0;
  const MemoryError error = e.memory->allocate_pinned(bytes, flags, &address);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemHostAlloc");
  begin_life(e, address, bytes, "cuMemHostAlloc");
  *pointer = const_cast<void*>(as_pointer(address));
  return cu::Result::kSuccess;
}

cu::Result cuMemFreeHost(void* pointer) {
  const Call call(Api::cuMemFreeHost);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
  const AddressInfo info = e.memory->find(address);
  if (info.kind == MemoryKind::kPinned && info.range.begin == address) {
    if (e.is_timed()) e.timed.charge_bytes(e, Api::cuMemFreeHost, info.range.bytes);
    e.observed_synchronization("cuMemFreeHost");
    e.host_lifetime(address, info.range.bytes, AccessKind::kFree, "cuMemFreeHost");
    e.forget_guards(info.range);
  }
  return e.refuse(e.memory->free_pinned(address), "cuMemFreeHost");
}

cu::Result cuMemHostRegister(void* pointer, std::size_t bytes, unsigned int flags) {
  const Call call(Api::cuMemHostRegister, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  constexpr unsigned int kAll = cu::kHostRegisterPortable | cu::kHostRegisterDeviceMap |
                                cu::kHostRegisterIoMemory | cu::kHostRegisterReadOnly;
  if (pointer == nullptr || bytes == 0 || (flags & ~kAll) != 0) return cu::Result::kInvalidValue;
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
  return e.refuse(e.memory->register_host(address, bytes, flags), "cuMemHostRegister");
}

cu::Result cuMemHostUnregister(void* pointer) {
  const Call call(Api::cuMemHostUnregister);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
  const AddressInfo info = e.memory->find(address);
  if (info.kind == MemoryKind::kRegistered && info.range.begin == address) {
    if (e.is_timed()) e.timed.charge_bytes(e, Api::cuMemHostUnregister, info.range.bytes);
    e.observed_synchronization("cuMemHostUnregister");
    e.host_lifetime(address, info.range.bytes, AccessKind::kUnmap, "cuMemHostUnregister");
  }
  return e.refuse(e.memory->unregister_host(address), "cuMemHostUnregister");
}

cu::Result cuMemHostGetDevicePointer(cu::DevicePtr* device_pointer,
                                     void* pointer,
                                     unsigned int flags) {
  const Call call(Api::cuMemHostGetDevicePointer);
  if (!call.ok()) return call.result();
  if (device_pointer == nullptr || flags != 0) return cu::Result::kInvalidValue;
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
  const MemoryKind kind = call.engine().memory->find(address).kind;
  if (kind != MemoryKind::kPinned && kind != MemoryKind::kRegistered)
    return cu::Result::kInvalidValue;
  *device_pointer = address;  // unified addressing
  return cu::Result::kSuccess;
}

cu::Result cuMemHostGetFlags(unsigned int* flags, void* pointer) {
  const Call call(Api::cuMemHostGetFlags);
  if (!call.ok()) return call.result();
  if (flags == nullptr) return cu::Result::kInvalidValue;
  const AddressInfo info = call.engine().memory->find(
      static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)));
  if (info.kind != MemoryKind::kPinned) return cu::Result::kInvalidValue;
  // Under unified addressing all of it is mapped.
  *flags = info.flags | cu::kHostAllocDeviceMap;
  return cu::Result::kSuccess;
}

cu::Result cuIpcGetMemHandle(cu::IpcMemHandle* handle, cu::DevicePtr pointer) {
  const Call call(Api::cuIpcGetMemHandle);
  if (!call.ok()) return call.result();
  if (handle == nullptr) return cu::Result::kInvalidValue;
  const AddressInfo info = call.engine().memory->find(pointer);
  // Plain allocations only: not mapped, managed or stream-ordered memory.
  if (info.kind != MemoryKind::kPlain || info.flags != 0) return cu::Result::kInvalidValue;
  const IpcContent content{{'s', 'p', 'w', '-', 'i', 'p', 'c', 0}, info.serial};
  *handle = {};
  std::memcpy(handle->reserved, &content, sizeof(content));
  return cu::Result::kSuccess;
}

cu::Result cuIpcOpenMemHandle(cu::DevicePtr* pointer, cu::IpcMemHandle handle, unsigned int flags) {
  const Call call(Api::cuIpcOpenMemHandle);
  if (!call.ok()) return call.result();
  if (pointer == nullptr || flags != cu::kIpcLazyEnablePeerAccess) return cu::Result::kInvalidValue;
  IpcContent content{};
  std::memcpy(&content, handle.reserved, sizeof(content));
  if (std::memcmp(content.magic, "spw-ipc", 8) != 0) return cu::Result::kInvalidValue;
  // There is one process only, and a process may not open its own handle.
  return cu::Result::kInvalidContext;
}

cu::Result cuIpcCloseMemHandle(cu::DevicePtr /*pointer*/) {
  const Call call(Api::cuIpcCloseMemHandle);
  if (!call.ok()) return call.result();
  return cu::Result::kInvalidValue;  // nothing can have been opened
}

}  // namespace api
}  // namespace spillway::sim
