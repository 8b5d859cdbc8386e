// SPDX-License-Identifier: Apache-2.0
// How a device pool is set up, and what it asks when it runs out.
#pragma once

#include "device/mapping.hpp"
#include "device/memory_observer.hpp"
#include "device/stream.hpp"

#include <cstddef>
#include <cstdint>

namespace spillway {

/// What the pool asks for before it says "out of memory".
struct PressureRequest {
  std::uint64_t wanted_bytes = 0;    // of the allocation that does not fit
  std::uint64_t reserved_bytes = 0;  // held from the driver
  std::uint64_t budget_bytes = 0;
  StreamRef stream{cu::Stream{nullptr}, 0};  // the allocation's
  std::uint32_t attempt = 0;                 // 0 for the first call about this allocation
};

/// Frees memory of the pool (offload, compress, drop) through its ordinary functions, and says
/// whether it did. Called on the allocating thread under no lock; it may allocate, but such an
/// allocation asks nobody. Must not throw.
using PressureCallback = bool (*)(void* user, const PressureRequest& request);

/// What to do when all that fits was given back on another stream that may still be using it.
enum class CrossStream : std::uint8_t {
  kGrowFirst,  // take more memory while the budget allows, and wait only then
  kWaitFirst,  // the allocating stream waits for the other one; least memory
};

struct DevicePoolOptions {
  /// Bytes that the pool may hold from the driver; 0: all memory of the device.
  std::uint64_t budget_bytes = 0;
  /// Address range of the arena; 0: four times the smaller of budget and device memory, since
  /// remapping leaves holes behind.
  std::uint64_t address_bytes = 0;
  /// Mapped at create, in handles of handle_bytes_max.
  std::uint64_t map_ahead_bytes = 0;
  /// A growth takes handles of about 1/16 of the request, between the device's granularity (2 MiB)
  /// and this.
  std::uint64_t handle_bytes_max = std::uint64_t{32} << 20;
  /// Remap wholly free handles instead of growing when more than this part of the memory held
  /// would be free after growing; the host waits for the streams that used them. Up to 96 times in
  /// a row; more is earned by a rising peak and by allocations, so that a program that never
  /// settles gets memory instead of stalls. 1: only when the budget is reached.
  double defragment_slack = 0.01;
  CrossStream cross_stream = CrossStream::kGrowFirst;
  /// Ask the driver at every call whether the stream is capturing. False only for a caller who
  /// never captures.
  bool detect_capture = true;
  /// Chunks of the comm pool: one cuMemAlloc each, never remapped.
  std::uint64_t comm_chunk_bytes = std::uint64_t{32} << 20;
  /// How many bytes are given back on a stream between two events recorded there, while there are
  /// several streams or memory is short.
  std::uint64_t mark_interval_bytes = std::uint64_t{32} << 20;
  PhysicalOptions physical;

  MemoryObserver* observer = nullptr;  // outlives the pool
  PressureCallback on_pressure = nullptr;
  void* user = nullptr;
};

}  // namespace spillway
