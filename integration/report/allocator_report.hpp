// SPDX-License-Identifier: Apache-2.0
// What allocators did with a trace, for machines and for a terminal.
#pragma once

#include "integration/replay/allocation_trace.hpp"
#include "integration/replay/allocator_run.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace spillway {

/// Adds `allocator, live_peak_bytes, reserved_peak_bytes, utilization, recorded_reserved_bytes,
/// alloc_ns_median, allocations, frees, streams, counters, out_of_memory` to an object of
/// result_json(). What is not known is null.
void add_allocator_fields(const AllocationTrace& trace,
                          const AllocatorRun& run,
                          nlohmann::ordered_json* object);

/// One row per run under a head of two lines, at most 100 columns, with a final line feed; what ran
/// out of memory is told below.
std::string render_allocators(const std::string& trace_name,
                              const AllocationTrace& trace,
                              const std::vector<AllocatorRun>& runs);

}  // namespace spillway
