// SPDX-License-Identifier: Apache-2.0
#include "device/capabilities.hpp"

#include "device/driver_error.hpp"

#include <array>
#include <cstring>

namespace spillway {
namespace {

/// The text in a buffer that a driver filled, whether or not it ended it.
template <std::size_t N>
std::string text_of(const std::array<char, N>& buffer) {
  return {buffer.data(), ::strnlen(buffer.data(), N)};
}

}  // namespace

Result<int> init_driver(const Driver& driver) {
  const cu::Result started = driver.cuInit(0);
  if (started == cu::Result::kNoDevice)
    return Status(Code::kNotFound, "the CUDA driver finds no device");
  if (started != cu::Result::kSuccess)
    return Status(Code::kUnsupported,
                  std::string("the CUDA driver does not start: ") + result_name(started) + " (" +
                      std::to_string(static_cast<int>(started)) + ")");
  int count = 0;
  SPW_CU_TRY(driver.cuDeviceGetCount(&count));
  if (count <= 0) return Status(Code::kNotFound, "the CUDA driver finds no device");
  return count;
}

Result<DeviceCapabilities> query_device(const Driver& driver, int ordinal) {
  int count = 0;
  SPW_CU_TRY(driver.cuDeviceGetCount(&count));
  if (ordinal < 0 || ordinal >= count)
    return Status(
        Code::kInvalidArgument,
        "device " + std::to_string(ordinal) + ": expected 0 to " + std::to_string(count - 1));
  DeviceCapabilities found;
  found.ordinal = ordinal;
  SPW_CU_TRY(driver.cuDeviceGet(&found.device, ordinal));
  std::array<char, 256> text{};
  SPW_CU_TRY(driver.cuDeviceGetName(text.data(), static_cast<int>(text.size()), found.device));
  found.name = text_of(text);
  text.fill('\0');
  SPW_CU_TRY(driver.cuDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), found.device));
  found.pci_bus_id = text_of(text);
  SPW_CU_TRY(driver.cuDeviceGetUuid(&found.uuid, found.device));
  SPW_CU_TRY(driver.cuDeviceTotalMem(&found.memory_bytes, found.device));

  const struct {
    cu::DeviceAttribute attribute;
    int* number;
    bool* answer;
  } wanted[] = {
      {cu::DeviceAttribute::kComputeCapabilityMajor, &found.compute_major, nullptr},
      {cu::DeviceAttribute::kComputeCapabilityMinor, &found.compute_minor, nullptr},
      {cu::DeviceAttribute::kMultiprocessorCount, &found.multiprocessors, nullptr},
      {cu::DeviceAttribute::kAsyncEngineCount, &found.copy_engines, nullptr},
      {cu::DeviceAttribute::kVirtualMemoryManagementSupported, nullptr, &found.virtual_memory},
      {cu::DeviceAttribute::kMemoryPoolsSupported, nullptr, &found.memory_pools},
      {cu::DeviceAttribute::kIntegrated, nullptr, &found.integrated},
      {cu::DeviceAttribute::kHandleTypePosixFdSupported, nullptr, &found.posix_fd_handles},
      {cu::DeviceAttribute::kGpuDirectRdmaWithVmmSupported,
       nullptr,
       &found.rdma_with_virtual_memory},
      {cu::DeviceAttribute::kManagedMemory, nullptr, &found.managed_memory},
      {cu::DeviceAttribute::kConcurrentManagedAccess, nullptr, &found.concurrent_managed_access},
      {cu::DeviceAttribute::kCanUseHostPointerForRegisteredMem,
       nullptr,
       &found.host_pointer_is_device_pointer},
  };
  for (const auto& entry : wanted) {
    int value = 0;
    SPW_CU_TRY(driver.cuDeviceGetAttribute(&value, entry.attribute, found.device));
    if (entry.number != nullptr)
      *entry.number = value;
    else
      *entry.answer = value != 0;
  }
  // Younger than the oldest driver we take: a driver that does not know it leaves the node unknown.
  int node = -1;
  if (driver.cuDeviceGetAttribute(&node, cu::DeviceAttribute::kHostNumaId, found.device) ==
      cu::Result::kSuccess)
    found.host_numa_node = node;
  return found;
}

Status require_virtual_memory(const DeviceCapabilities& device) {
  if (device.virtual_memory) return {};
  return {Code::kUnsupported,
          "device " + std::to_string(device.ordinal) + " (" + device.name + ", compute " +
              std::to_string(device.compute_major) + "." + std::to_string(device.compute_minor) +
              "): expected virtual memory management (cuMemMap), which this GPU or its driver mode "
              "lacks"};
}

}  // namespace spillway
