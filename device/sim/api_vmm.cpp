// SPDX-License-Identifier: Apache-2.0
// Virtual memory management: reservations, physical handles, mappings, access rights.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <cstddef>

namespace spillway::sim {
namespace {

constexpr std::byte kFresh{0xff};

/// What cuMemCreate and the granularity query accept here: pinned memory of one of our devices.
cu::Result check_prop(const Engine& e, const cu::AllocationProp* prop) {
  if (prop == nullptr || prop->type != cu::AllocationType::kPinned)
    return cu::Result::kInvalidValue;
  switch (prop->location.type) {
    case cu::LocationType::kDevice:
      break;
    case cu::LocationType::kHost:
    case cu::LocationType::kHostNuma:
      return cu::Result::kNotSupported;
    default:
      return cu::Result::kInvalidValue;
  }
  if (prop->location.id < 0 || prop->location.id >= e.options.devices)
    return cu::Result::kInvalidDevice;
  if (prop->requested_handle_types != cu::HandleType::kNone) return cu::Result::kNotSupported;
  return cu::Result::kSuccess;
}

/// A device without virtual memory management answers every call like this.
bool unsupported(const Engine& e) { return !e.options.vmm_supported; }

}  // namespace

namespace api {

cu::Result cuMemGetAllocationGranularity(std::size_t* bytes,
                                         const cu::AllocationProp* prop,
                                         cu::Granularity option) {
  const Call call(Api::cuMemGetAllocationGranularity);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (bytes == nullptr ||
      (option != cu::Granularity::kMinimum && option != cu::Granularity::kRecommended))
    return cu::Result::kInvalidValue;
  if (const cu::Result r = check_prop(e, prop); r != cu::Result::kSuccess) return r;
  *bytes = e.options.granularity_bytes;
  return cu::Result::kSuccess;
}

cu::Result cuMemAddressReserve(cu::DevicePtr* pointer,
                               std::size_t bytes,
                               std::size_t alignment_bytes,
                               cu::DevicePtr hint,
                               unsigned long long flags) {
  const Call call(Api::cuMemAddressReserve, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (pointer == nullptr || bytes == 0 || flags != 0) return cu::Result::kInvalidValue;
  std::uint64_t address = 0;
  const MemoryError error = e.memory->reserve(bytes, alignment_bytes, hint, &address);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemAddressReserve");
  *pointer = address;
  return cu::Result::kSuccess;
}

cu::Result cuMemAddressFree(cu::DevicePtr pointer, std::size_t bytes) {
  const Call call(Api::cuMemAddressFree, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  return e.refuse(e.memory->free_reservation(pointer, bytes), "cuMemAddressFree");
}

cu::Result cuMemCreate(cu::AllocationHandle* handle,
                       std::size_t bytes,
                       const cu::AllocationProp* prop,
                       unsigned long long flags) {
  const Call call(Api::cuMemCreate, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (handle == nullptr || bytes == 0 || flags != 0) return cu::Result::kInvalidValue;
  if (const cu::Result r = check_prop(e, prop); r != cu::Result::kSuccess) return r;
  PhysicalId id;
  const MemoryError error =
      e.memory->create_physical(static_cast<std::uint32_t>(prop->location.id), bytes, &id);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemCreate");
  const PhysicalBlock* block = e.memory->find_physical(id);
  e.clocks.forget({block->flat.begin, block->flat.end()});
  if (e.has(Semantic::kPoison)) e.memory->fill_flat(block->flat.begin, block->flat.bytes, kFresh);
  *handle = id.value;
  return cu::Result::kSuccess;
}

cu::Result cuMemRelease(cu::AllocationHandle handle) {
  const Call call(Api::cuMemRelease);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  return e.refuse(e.memory->release_physical({handle}), "cuMemRelease");
}

cu::Result cuMemMap(cu::DevicePtr pointer,
                    std::size_t bytes,
                    std::size_t offset_bytes,
                    cu::AllocationHandle handle,
                    unsigned long long flags) {
  const Call call(Api::cuMemMap, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (flags != 0) return cu::Result::kInvalidValue;
  const MemoryError error = e.memory->map(pointer, bytes, {handle}, offset_bytes);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemMap");
  e.address_lifetime(pointer, bytes, AccessKind::kMap, "cuMemMap");
  return cu::Result::kSuccess;
}

cu::Result cuMemUnmap(cu::DevicePtr pointer, std::size_t bytes) {
  const Call call(Api::cuMemUnmap, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  // The driver's text promises no wait for the device, and in practice there is none.
  e.observed_synchronization("cuMemUnmap");
  const MemoryError error = e.memory->unmap(pointer, bytes);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemUnmap");
  e.address_lifetime(pointer, bytes, AccessKind::kUnmap, "cuMemUnmap");
  return cu::Result::kSuccess;
}

cu::Result cuMemSetAccess(cu::DevicePtr pointer,
                          std::size_t bytes,
                          const cu::AccessDesc* descriptions,
                          std::size_t count) {
  const Call call(Api::cuMemSetAccess, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (descriptions == nullptr || count == 0) return cu::Result::kInvalidValue;
  for (std::size_t i = 0; i < count; ++i) {
    const cu::AccessDesc& d = descriptions[i];
    if (d.location.type != cu::LocationType::kDevice) return cu::Result::kNotSupported;
    if (d.location.id < 0 || d.location.id >= e.options.devices) return cu::Result::kInvalidDevice;
    Access access = Access::kNone;
    if (d.flags == cu::AccessFlags::kRead)
      access = Access::kRead;
    else if (d.flags == cu::AccessFlags::kReadWrite)
      access = Access::kReadWrite;
    else if (d.flags != cu::AccessFlags::kNone)
      return cu::Result::kInvalidValue;
    const MemoryError error =
        e.memory->set_access(pointer, bytes, static_cast<std::uint32_t>(d.location.id), access);
    if (error != MemoryError::kOk) return e.refuse(error, "cuMemSetAccess");
  }
  return cu::Result::kSuccess;
}

cu::Result cuMemGetAccess(unsigned long long* flags,
                          const cu::Location* location,
                          cu::DevicePtr pointer) {
  const Call call(Api::cuMemGetAccess);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (flags == nullptr || location == nullptr || location->type != cu::LocationType::kDevice)
    return cu::Result::kInvalidValue;
  if (location->id < 0 || location->id >= e.options.devices) return cu::Result::kInvalidDevice;
  Access access = Access::kNone;
  const MemoryError error =
      e.memory->get_access(pointer, static_cast<std::uint32_t>(location->id), &access);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemGetAccess");
  *flags = static_cast<unsigned long long>(access);
  return cu::Result::kSuccess;
}

cu::Result cuMemRetainAllocationHandle(cu::AllocationHandle* handle, void* address) {
  const Call call(Api::cuMemRetainAllocationHandle);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (handle == nullptr) return cu::Result::kInvalidValue;
  const AddressInfo info =
      e.memory->find(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(address)));
  if (info.kind != MemoryKind::kReserved || info.mapping.bytes == 0)
    return cu::Result::kInvalidValue;
  const MemoryError error = e.memory->retain_physical(info.physical);
  if (error != MemoryError::kOk) return e.refuse(error, "cuMemRetainAllocationHandle");
  *handle = info.physical.value;
  return cu::Result::kSuccess;
}

cu::Result cuMemGetAllocationPropertiesFromHandle(cu::AllocationProp* prop,
                                                  cu::AllocationHandle handle) {
  const Call call(Api::cuMemGetAllocationPropertiesFromHandle);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (unsupported(e)) return cu::Result::kNotSupported;
  if (prop == nullptr) return cu::Result::kInvalidValue;
  const PhysicalBlock* block = e.memory->find_physical({handle});
  if (block == nullptr)
    return e.refuse(MemoryError::kUnknownHandle, "cuMemGetAllocationPropertiesFromHandle");
  *prop = {};
  prop->type = cu::AllocationType::kPinned;
  prop->location = {cu::LocationType::kDevice, static_cast<int>(block->device)};
  return cu::Result::kSuccess;
}

// Nothing is shared between processes; the device's attributes say so.
cu::Result cuMemExportToShareableHandle(void* /*shareable*/,
                                        cu::AllocationHandle /*handle*/,
                                        cu::HandleType /*type*/,
                                        unsigned long long /*flags*/) {
  const Call call(Api::cuMemExportToShareableHandle);
  return call.ok() ? cu::Result::kNotSupported : call.result();
}

cu::Result cuMemImportFromShareableHandle(cu::AllocationHandle* /*handle*/,
                                          void* /*shareable*/,
                                          cu::HandleType /*type*/) {
  const Call call(Api::cuMemImportFromShareableHandle);
  return call.ok() ? cu::Result::kNotSupported : call.result();
}

}  // namespace api
}  // namespace spillway::sim
