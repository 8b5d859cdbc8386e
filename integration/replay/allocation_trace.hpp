// SPDX-License-Identifier: Apache-2.0
// The allocation events of a trace, and nothing else: what an allocator is asked to do when the
// trace is replayed over it. Made from any format whose reader emits alloc and free records.
#pragma once

#include "core/status.hpp"
#include "core/tag.hpp"
#include "core/trace.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

/// A block that the trace's program asked for.
struct ReplayBlock {
  std::uint64_t bytes = 0;             // as asked for; > 0
  std::uint64_t recorded_address = 0;  // 0: the trace names none
  std::uint32_t stream = 0;            // index into AllocationTrace::streams
  Tag tag;                             // as the trace gives it at the allocation
  /// For pictures: the tag's kind or, where the trace gives none, one concluded from the phases in
  /// which the block is allocated and freed. An allocator must not see it.
  BufferKind shown_kind = BufferKind::kUnknown;
  std::string name;  // "" where the trace gives none
};

/// Order is the order of the list. `stream` is where the call was made.
struct ReplayEvent {
  std::uint64_t time_ns = 0;
  std::uint32_t block = 0;  // index into AllocationTrace::blocks
  std::uint32_t stream = 0;
  bool is_alloc = false;  // else its bytes become reusable
};

/// Memory that the recorded allocator held from the driver before the first event.
struct ReplaySegment {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t stream = 0;
};

struct AllocationTrace {
  std::vector<ReplayBlock> blocks;           // the first `preexisting_count` were there before
  std::size_t preexisting_count = 0;         // in address order where addresses are known
  std::vector<ReplayEvent> events;           // each block is allocated once and freed at most once
  std::vector<ReplaySegment> segments;       // in address order; empty when the trace names none
  std::vector<std::uint32_t> streams;        // as the trace numbers them
  std::vector<std::string> inferred, notes;  // what the reader and this file concluded or left out
  std::string format;
  std::uint64_t live_peak_bytes = 0;          // most bytes alive at any instant, as asked for
  std::uint64_t recorded_reserved_bytes = 0;  // most that the recorded allocator held; 0: unknown
  std::uint32_t oom_count = 0;                // out-of-memory errors in the trace
  bool recorded_expandable_segments = false;  // the recorded allocator grew segments in place
};

/// Reads `path`; `device` -1 takes the one with the most allocations. Errors: those of read_trace;
/// kUnsupported when the trace has no allocation events.
Result<AllocationTrace> read_allocation_trace(const std::string& path, int device);

/// The same from records: a sink to read into, then take().
class AllocationTraceSink final : public TraceSink {
 public:
  AllocationTraceSink();
  ~AllocationTraceSink() override;
  AllocationTraceSink(const AllocationTraceSink&) = delete;
  AllocationTraceSink& operator=(const AllocationTraceSink&) = delete;
  AllocationTraceSink(AllocationTraceSink&&) = delete;
  AllocationTraceSink& operator=(AllocationTraceSink&&) = delete;

  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  /// Allocations per device seen so far: the busiest device, or -1 when there is at most one.
  [[nodiscard]] int busiest_of_several() const;
  /// What was collected; call once, after the last record.
  AllocationTrace take();

 private:
  struct State;
  State* state_;  // owned
};

}  // namespace spillway
