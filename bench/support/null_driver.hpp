// SPDX-License-Identifier: Apache-2.0
// A driver that costs nothing: every call succeeds at once, device memory is a rising counter that
// is never touched, mappings are not recorded, events are always done. What an allocator spends
// over it is the allocator's own time. It simulates nothing (device/sim does) and refuses nothing.
#pragma once

#include "device/driver.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace spillway::bench {

struct NullDriverOptions {
  /// What cuMemGetInfo and cuDeviceTotalMem say; nothing is ever refused for want of it.
  std::size_t memory_bytes = std::size_t{141} << 30;
  /// Page of virtual memory, a power of two.
  std::size_t granularity_bytes = std::size_t{2} << 20;
  /// Count calls by name. Costs one shared atomic per call, so not while timing threads.
  bool count_calls = false;
};

/// The table, complete. Members are plain functions, so there is one state per process, and another
/// call of this starts it afresh. Thread-safe apart from that. Entry points that no allocator needs
/// (IPC, graphs, exporting) answer kNotSupported.
Driver null_driver(const NullDriverOptions& options = {});

/// The next device address, 512-byte aligned: what cuMemAlloc gives. Never twice.
cu::DevicePtr null_device_address(std::size_t bytes);

/// Bytes of cuMemCreate that were not given to cuMemRelease (which forgets them even while mapped).
std::int64_t null_physical_bytes();

/// Calls of that name ("cuMemCreate") since null_driver(); 0 when they are not counted.
std::uint64_t null_driver_calls(std::string_view name);
/// Of all names.
std::uint64_t null_driver_calls();

}  // namespace spillway::bench
