// SPDX-License-Identifier: Apache-2.0
// What a device is and can do, asked through the driver table once, so that a GPU that lacks
// something we need is refused with one line before anything is built on it.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"

#include <cstddef>
#include <string>

namespace spillway {

struct DeviceCapabilities {
  int ordinal = 0;
  cu::Device device = 0;
  std::string name;
  std::string pci_bus_id;  // "0000:17:00.0"
  cu::Uuid uuid;
  int compute_major = 0;
  int compute_minor = 0;
  std::size_t memory_bytes = 0;
  int multiprocessors = 0;
  int copy_engines = 0;           // concurrent copies, both directions together
  int host_numa_node = -1;        // nearest node; -1: unknown
  bool virtual_memory = false;    // cuMemAddressReserve and the rest of VMM
  bool memory_pools = false;      // cuMemAllocAsync and the rest
  bool integrated = false;        // shares its memory with the host: offload gains nothing
  bool posix_fd_handles = false;  // VMM handles can be exported as file descriptors
  bool rdma_with_virtual_memory = false;
  bool managed_memory = false;
  bool concurrent_managed_access = false;
  bool host_pointer_is_device_pointer = false;  // of memory registered by cuMemHostRegister
};

/// cuInit and the number of devices. kNotFound when the driver knows none, kUnsupported when it
/// does not start.
Result<int> init_driver(const Driver& driver);

/// REQUIRES: init_driver() succeeded. kInvalidArgument for an ordinal that does not exist.
Result<DeviceCapabilities> query_device(const Driver& driver, int ordinal);

/// Ok when the pool and the offload machinery can run on the device; else kUnsupported and one line
/// with the device's name.
Status require_virtual_memory(const DeviceCapabilities& device);

}  // namespace spillway
