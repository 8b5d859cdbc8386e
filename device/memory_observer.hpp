// SPDX-License-Identifier: Apache-2.0
// What a pool tells about its own sub-allocations, which never cross the driver table. The
// simulated GPU poisons, bounds and race-checks the blocks like driver allocations; on hardware the
// observer names them to compute-sanitizer.
#pragma once

#include "device/driver_types.hpp"

#include <cstddef>

namespace spillway {

/// All calls follow program order of the calling thread and are ordered on `stream` like an
/// asynchronous operation enqueued there at the time of the call. They never fail and never touch
/// memory themselves. Threads: as the driver's calls; hold no lock across them.
class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;

  /// [pointer, pointer + bytes) of memory that the caller holds from the driver is subdivided from
  /// now on: only inside blocks may it be accessed. Ends with arena_end.
  virtual void arena_begin(cu::DevicePtr pointer, std::size_t bytes) = 0;
  virtual void arena_end(cu::DevicePtr pointer, std::size_t bytes) = 0;

  /// A block becomes live for work ordered after this point of `stream`.
  /// REQUIRES: inside one arena, overlapping no live block.
  virtual void block_allocated(cu::DevicePtr pointer, std::size_t bytes, cu::Stream stream) = 0;

  /// The block ends at this point of `stream`: every use of it, on whatever stream, must be ordered
  /// before this point by then.
  virtual void block_freed(cu::DevicePtr pointer, cu::Stream stream) = 0;

  /// The host is about to read or write pinned memory: byte-exact, where page protection sees
  /// pages.
  virtual void host_reads(const void* pointer, std::size_t bytes) = 0;
  virtual void host_writes(void* pointer, std::size_t bytes) = 0;
};

}  // namespace spillway
