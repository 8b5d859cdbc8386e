// SPDX-License-Identifier: Apache-2.0
// Final blocks from the placements that live on, history from the trace's events at the run's
// addresses.
#include "integration/replay/run_snapshot.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kBlockBytes = 512;

std::uint64_t held_bytes(std::uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

class Builder {
 public:
  Builder(const AllocationTrace& trace, const AllocatorRun& run) : trace_(trace), run_(run) {}

  SnapshotContents build() {
    out_.expandable_segments = run_.grows_in_place;
    number_stacks();
    add_segments();
    add_events();
    return std::move(out_);
  }

 private:
  void number_stacks() {
    std::map<std::pair<std::string, std::uint64_t>, std::uint32_t> known;
    stack_of_.resize(trace_.blocks.size());
    for (std::size_t i = 0; i < trace_.blocks.size(); ++i) {
      const ReplayBlock& block = trace_.blocks[i];
      const auto [place, fresh] = known.try_emplace({block.name, pack(block.tag)},
                                                    static_cast<std::uint32_t>(out_.stacks.size()));
      if (fresh) out_.stacks.push_back(frames_of(block.tag, block.name));
      stack_of_[i] = place->second;
    }
  }

  void add_segments() {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> live;  // address, block
    for (std::uint32_t i = 0; i < run_.placements.size(); ++i) {
      const Placement& placement = run_.placements[i];
      if (placement.placed && placement.died > run_.events_done)
        live.emplace_back(placement.address, i);
    }
    std::sort(live.begin(), live.end());
    auto next = live.begin();
    for (const ReservedRange& range : run_.final_ranges) {
      SnapshotSegmentOut segment;
      segment.address = range.address;
      segment.bytes = range.bytes;
      segment.expandable = run_.grows_in_place;
      std::uint64_t at = range.address;
      const std::uint64_t end = range.address + range.bytes;
      for (; next != live.end() && next->first < end; ++next) {
        const ReplayBlock& block = trace_.blocks[next->second];
        if (next->first > at) segment.blocks.push_back({next->first - at, 0});
        const std::uint64_t bytes = std::min(held_bytes(block.bytes), end - next->first);
        segment.blocks.push_back(
            {bytes, block.bytes, SnapshotBlockState::kAllocated, stack_of_[next->second]});
        at = next->first + bytes;
      }
      if (end > at) segment.blocks.push_back({end - at, 0});
      out_.segments.push_back(std::move(segment));
    }
  }

  void add_events() {
    std::vector<SnapshotEventOut> events;
    auto change = run_.changes.begin();
    const std::uint32_t done = run_.events_done;
    std::uint64_t time_us = 0;
    for (std::uint32_t i = 0; i < done; ++i) {
      const ReplayEvent& event = trace_.events[i];
      SnapshotEventOut out;
      time_us = std::max(time_us, event.time_ns / 1000);  // traces of several threads may go back
      out.time_us = time_us;
      for (; change != run_.changes.end() && change->event <= i; ++change) {
        out.kind = kind_of(*change);
        out.address = change->range.address;
        out.bytes = change->range.bytes;
        events.push_back(out);
      }
      out.address = run_.placements[event.block].address;
      out.bytes = trace_.blocks[event.block].bytes;
      out.stream = trace_.streams[event.stream];
      out.stack = stack_of_[event.block];
      out.kind = event.is_alloc ? SnapshotEventKind::kAlloc : SnapshotEventKind::kFreeRequested;
      events.push_back(out);
      if (event.is_alloc) continue;
      out.kind = SnapshotEventKind::kFreeCompleted;
      events.push_back(out);
    }
    if (!run_.feasible && done < trace_.events.size()) {
      const ReplayEvent& event = trace_.events[done];
      SnapshotEventOut out;
      out.kind = SnapshotEventKind::kOom;
      out.time_us = std::max(time_us, event.time_ns / 1000);
      out.bytes = trace_.blocks[event.block].bytes;
      out.stream = trace_.streams[event.stream];
      out.stack = stack_of_[event.block];
      events.push_back(out);
    }
    out_.device_events.push_back(std::move(events));
  }

  [[nodiscard]] SnapshotEventKind kind_of(const RangeChange& change) const {
    if (run_.grows_in_place)
      return change.added ? SnapshotEventKind::kSegmentMap : SnapshotEventKind::kSegmentUnmap;
    return change.added ? SnapshotEventKind::kSegmentAlloc : SnapshotEventKind::kSegmentFree;
  }

  const AllocationTrace& trace_;
  const AllocatorRun& run_;
  SnapshotContents out_;
  std::vector<std::uint32_t> stack_of_;
};

}  // namespace

SnapshotContents snapshot_of(const AllocationTrace& trace, const AllocatorRun& run) {
  return Builder(trace, run).build();
}

}  // namespace spillway
