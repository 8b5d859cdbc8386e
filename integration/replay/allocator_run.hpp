// SPDX-License-Identifier: Apache-2.0
// One allocator driven through one trace: what it held at most, how full that was, and where every
// block lay. The judge keeps its own books: live bytes come from the trace, never from the
// allocator, and blocks that overlap end the run as an internal error.
#pragma once

#include "core/status.hpp"
#include "integration/replay/allocation_trace.hpp"
#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

/// The state right after an event (or, for event 0, before the first).
struct FragmentationSample {
  std::uint32_t event = 0;  // events done
  std::uint64_t time_ns = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t reserved_bytes = 0;
  std::uint64_t largest_hole_bytes = 0;
};

/// Where a block lay and when: from event `born` until event `died` (both count events done).
struct Placement {
  std::uint64_t address = 0;
  std::uint32_t born = 0;
  std::uint32_t died = 0;  // one past the last event when it lived on
  bool placed = false;
};

/// Addresses that came to what is held, or left it, during the event that follows `event` done
/// ones.
struct RangeChange {
  std::uint32_t event = 0;
  bool added = false;
  ReservedRange range;
};

struct AllocatorRun {
  std::string allocator;
  bool feasible = false;      // it served the whole trace
  std::string out_of_memory;  // one line or a table, when not
  std::uint64_t budget_bytes = 0;
  std::uint64_t live_peak_bytes = 0;  // as asked for, over what was served
  std::uint64_t reserved_peak_bytes = 0;
  double utilization = 0;  // live_peak_bytes / reserved_peak_bytes; 0 when nothing was held
  /// Median host time of one allocation, the clock's own cost taken off; products only. Measured on
  /// this machine's processor over the simulated device.
  std::optional<std::uint64_t> alloc_ns_median;
  std::uint64_t alloc_count = 0;  // those that were there before the first event included
  std::uint64_t free_count = 0;
  std::uint32_t events_done = 0;  // of the trace's events
  std::vector<AllocatorCounter> counters;
  std::vector<FragmentationSample> samples;  // at even distances, and at both peaks
  std::vector<Placement> placements;         // per block of the trace; only where asked for
  std::vector<RangeChange> changes;          // from the first event on; only where asked for
  std::vector<ReservedRange> first_ranges, final_ranges;  // before the first event, at the end
  bool grows_in_place = false;
};

struct AllocatorRunOptions {
  std::uint64_t budget_bytes = 0;  // 0: none; only echoed, the allocator keeps it
  std::uint32_t sample_count = 0;  // about how many samples; 0: none
  bool pictures = false;           // also placements and ranges
};

/// Errors: kInternal when the allocator hands out overlapping blocks. Out of memory is a result.
Result<AllocatorRun> run_allocator(const AllocationTrace& trace,
                                   AllocatorUnderTest& allocator,
                                   const AllocatorRunOptions& options);

}  // namespace spillway
