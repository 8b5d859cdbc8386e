// SPDX-License-Identifier: Apache-2.0
// The device pool on a simulated device: one stream per stream of the trace, and every block
// written on its stream when it is allocated, so that the simulator sees whether its memory was
// free of other work by then. With a layout: the same pool serving the step from offline packing.
#pragma once

#include "allocator/layout_cursor.hpp"
#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway {

enum class PoolService : std::uint8_t {
  kOnline,   // knows nothing ahead
  kPlanned,  // the trace's own lifetimes, packed before the first call
};

/// kUnsupported for a trace larger than any device; kOutOfMemory when this machine cannot simulate
/// one. `budget_bytes` 0: none. `planned_from` is the trace whose lifetimes are packed, null:
/// `trace` itself; packing takes seconds and happens in within(). Both must outlive the allocator.
Result<std::unique_ptr<AllocatorUnderTest>> make_pool_under_test(
    const AllocationTrace& trace,
    std::uint64_t budget_bytes,
    PoolService service,
    const AllocationTrace* planned_from = nullptr);

/// The places of a trace's blocks, in the order in which they are allocated, and the height of all.
struct PlannedStep {
  std::vector<LayoutItem> items;
  std::uint64_t height_bytes = 0;
};
Result<PlannedStep> plan_step(const AllocationTrace& trace);

}  // namespace spillway
