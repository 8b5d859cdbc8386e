// SPDX-License-Identifier: Apache-2.0
#include "device/mapping.hpp"

namespace spillway {

cu::AllocationProp device_allocation_prop(cu::Device device, const PhysicalOptions& options) {
  cu::AllocationProp prop;
  prop.type = cu::AllocationType::kPinned;
  prop.requested_handle_types = options.handle_type;
  prop.location.type = cu::LocationType::kDevice;
  prop.location.id = device;
  prop.alloc_flags.gpu_direct_rdma_capable = options.gpu_direct_rdma ? 1 : 0;
  return prop;
}

Result<std::size_t> allocation_granularity(const Driver& driver,
                                           const cu::AllocationProp& prop,
                                           cu::Granularity which) {
  std::size_t bytes = 0;
  SPW_CU_TRY(driver.cuMemGetAllocationGranularity(&bytes, &prop, which));
  if (bytes == 0 || (bytes & (bytes - 1)) != 0)
    return Status(
        Code::kUnsupported,
        "cuMemGetAllocationGranularity: expected a power of two, found " + std::to_string(bytes));
  return bytes;
}

Result<Reservation> Reservation::create(const Driver& driver,
                                        std::size_t bytes,
                                        std::size_t alignment_bytes) {
  cu::DevicePtr pointer = 0;
  SPW_CU_TRY(driver.cuMemAddressReserve(&pointer, bytes, alignment_bytes, 0, 0));
  return Reservation(OwnedHandle<End>(driver, Range{pointer, bytes}));
}

Result<PhysicalHandle> PhysicalHandle::create(const Driver& driver,
                                              std::size_t bytes,
                                              const cu::AllocationProp& prop) {
  cu::AllocationHandle handle = 0;
  SPW_CU_TRY(driver.cuMemCreate(&handle, bytes, &prop, 0));
  return adopt(driver, handle, bytes);
}

Result<Mapping> Mapping::create(const Driver& driver,
                                cu::DevicePtr pointer,
                                std::shared_ptr<const PhysicalHandle> handle) {
  if (handle == nullptr || handle->empty())
    return Status(Code::kInvalidArgument, "Mapping::create: there is no handle to map");
  SPW_CU_TRY(driver.cuMemMap(pointer, handle->bytes(), 0, handle->handle(), 0));
  OwnedHandle<End> owned(driver, Range{pointer, handle->bytes()});
  return Mapping(std::move(owned), std::move(handle));
}

Status allow_access(const Driver& driver,
                    cu::DevicePtr pointer,
                    std::size_t bytes,
                    cu::Device device) {
  cu::AccessDesc access;
  access.location.type = cu::LocationType::kDevice;
  access.location.id = device;
  access.flags = cu::AccessFlags::kReadWrite;
  SPW_CU_TRY(driver.cuMemSetAccess(pointer, bytes, &access, 1));
  return {};
}

}  // namespace spillway
