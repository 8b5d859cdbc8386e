// SPDX-License-Identifier: Apache-2.0
// One operation in a stream of the simulated GPU: what it waits for, what it does, how far it is.
// Plain data; engine.cpp queues it, execute.cpp carries it out.
#pragma once

#include "device/driver_types.hpp"
#include "device/kernel_registry.hpp"
#include "device/sim/access.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway::sim {

/// A point in a stream: satisfied when the stream has completed operation `seq`. Seq counts from 1
/// per stream; stream indices are never reused within a run.
struct StreamPoint {
  std::uint32_t stream = 0;
  std::uint64_t seq = 0;
};

enum class OpKind : std::uint8_t {
  kMarker,      // event record, event wait, graph begin and end: order only
  kCopy,        // bytes from `source` to `target`
  kFill,        // `value` in units of `width` bytes to `target`
  kKernel,      // `kernel` with `parameters`
  kHostFunc,    // `host_fn(user)` on the callback thread
  kWaitValue,   // until the word at `target` is `value` (or at least)
  kWriteValue,  // `value` to the word at `target`
  kPoison,      // `value` over `target`: a block or pool allocation begins or ends here
};

/// One side of a copy. Pageable source memory is staged at enqueue, so `staged` has the bytes.
enum class Place : std::uint8_t { kDevice, kPinned, kStaged, kPageable };

struct Operand {
  std::uint64_t address = 0;
  Place place = Place::kDevice;
};

/// What a kernel's parameter of `bytes` takes in Op::parameters: all lie on multiples of 8.
constexpr std::size_t parameter_slot_bytes(std::uint32_t bytes) {
  return (std::size_t{bytes} + 7) / 8 * 8;
}

struct Op {
  OpKind kind = OpKind::kMarker;
  AccessKind lifetime = AccessKind::kWrite;  // kPoison: kAllocate or kFree
  bool wait_geq = false;                     // kWaitValue: at least, rather than equal
  bool is_peer = false;
  bool started = false;
  bool submitted = false;    // handed to the timed model
  bool stuck = false;        // injected: never completes
  const char* call = "";     // static: the API call, or the kernel's name
  std::uint64_t number = 0;  // of the run, for reports
  std::uint64_t seq = 0;     // in its stream
  Epoch epoch;               // in the clocks

  // Waits for all of these besides its stream. `wait_count` are used; more go to more_waits.
  std::array<StreamPoint, 2> waits{};
  std::uint32_t wait_count = 0;
  int fail_late = 0;  // injected: CUresult that shows when it executes
  std::vector<StreamPoint> more_waits;

  Operand target;
  Operand source;
  std::uint64_t bytes = 0;
  std::uint32_t value = 0;
  std::uint32_t width = 1;
  std::vector<std::byte> staged;

  const KernelSpec* kernel = nullptr;
  LaunchShape shape;
  std::vector<std::byte> parameters;   // copied at launch, in order, each at its own offset
  std::vector<KernelAccess> accesses;  // declared at launch
  KernelCost cost;

  cu::HostFn host_fn = nullptr;
  void* user = nullptr;
  AgentId agent = 0;               // kHostFunc: whose steps its accesses are
  std::uint32_t event = kNoEvent;  // kMarker of a record: index of the event
  std::uint64_t event_serial = 0;  // of that event: handles are recycled
  std::uint64_t record = 0;        // which record of that event

  // Progress.
  std::uint32_t pieces = 1;
  std::uint32_t pieces_done = 0;
  std::int64_t issued_ns = 0;  // virtual host time of the call

  double slow_factor = 1;  // injected; timed mode

  static constexpr std::uint32_t kNoEvent = 0xffffffffu;

  void wait_for(StreamPoint point) {
    if (wait_count < waits.size())
      waits[wait_count++] = point;
    else
      more_waits.push_back(point);
  }
};

}  // namespace spillway::sim
