// SPDX-License-Identifier: Apache-2.0
// The device pool on a simulated device: one stream per stream of the trace, and every block
// written on its stream when it is allocated, so that the simulator sees whether its memory was
// free of other work by then. With a layout: the same pool serving the step from offline packing.
#pragma once

#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <memory>

namespace spillway {

enum class PoolService : std::uint8_t {
  kOnline,   // knows nothing ahead
  kPlanned,  // the trace's own lifetimes, packed before the first call
};

/// kUnsupported for a trace larger than any device; kOutOfMemory when this machine cannot simulate
/// one. `budget_bytes` 0: none. `trace` must outlive the allocator.
Result<std::unique_ptr<AllocatorUnderTest>> make_pool_under_test(const AllocationTrace& trace,
                                                                 std::uint64_t budget_bytes,
                                                                 PoolService service);

}  // namespace spillway
