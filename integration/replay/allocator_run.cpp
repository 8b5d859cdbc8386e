// SPDX-License-Identifier: Apache-2.0
// Drives an allocator through a trace and keeps the books.
#include "integration/replay/allocator_run.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>

namespace spillway {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t ns_between(Clock::time_point begin, Clock::time_point end) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(end - begin).count());
}

std::uint64_t median_of(std::vector<std::uint64_t>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// What reading the clock twice costs here.
std::uint64_t clock_ns() {
  std::vector<std::uint64_t> pairs(1001);
  for (std::uint64_t& pair : pairs) {
    const Clock::time_point begin = Clock::now();
    pair = ns_between(begin, Clock::now());
  }
  return median_of(pairs);
}

class Run {
 public:
  Run(const AllocationTrace& trace,
      AllocatorUnderTest& allocator,
      const AllocatorRunOptions& options)
      : trace_(trace), allocator_(allocator), options_(options), addresses_(trace.blocks.size()) {
    run_.allocator = std::string(allocator.name());
    run_.budget_bytes = options.budget_bytes;
    if (options.pictures) run_.placements.resize(trace.blocks.size());
    if (allocator.is_product()) alloc_ns_.reserve(trace.events.size());
  }

  Result<AllocatorRun> go() {
    const Status served = allocator_.within([this] { return serve(); });
    if (!served.ok() && served.code() != Code::kOutOfMemory) return served;
    run_.feasible = served.ok();
    run_.out_of_memory = served.message();
    run_.events_done = done_;
    run_.counters = allocator_.counters();
    run_.final_ranges = std::move(ranges_);
    run_.grows_in_place = allocator_.grows_in_place();
    add_peaks();
    for (Placement& placement : run_.placements)
      if (placement.placed && placement.died == 0) placement.died = done_ + 1;
    if (run_.reserved_peak_bytes != 0)
      run_.utilization =
          static_cast<double>(run_.live_peak_bytes) / static_cast<double>(run_.reserved_peak_bytes);
    if (!alloc_ns_.empty()) {
      const std::uint64_t clock = clock_ns();
      const std::uint64_t median = median_of(alloc_ns_);
      run_.alloc_ns_median = median > clock ? median - clock : 0;
    }
    return std::move(run_);
  }

 private:
  Status serve() {
    SPW_RETURN_IF_ERROR(allocator_.begin(trace_, &addresses_));
    for (std::uint32_t block = 0; block < trace_.preexisting_count; ++block)
      SPW_RETURN_IF_ERROR(born(block));
    if (options_.pictures) {
      run_.first_ranges = ranges_ = allocator_.reserved_ranges();
      ranges_version_ = allocator_.ranges_version();
    }
    sample();
    const std::size_t step =
        std::max<std::size_t>(1, trace_.events.size() / std::max(1u, options_.sample_count));
    for (const ReplayEvent& event : trace_.events) {
      time_ns_ = event.time_ns;
      SPW_RETURN_IF_ERROR(event.is_alloc ? allocate(event) : release(event));
      follow_ranges();
      ++done_;
      if (done_ % step == 0 || done_ == trace_.events.size()) sample();
    }
    return {};
  }

  Status allocate(const ReplayEvent& event) {
    if (allocator_.is_product()) {
      const Clock::time_point begin = Clock::now();
      Result<std::uint64_t> address = allocator_.allocate(trace_, event.block);
      alloc_ns_.push_back(ns_between(begin, Clock::now()));
      if (!address.ok()) return address.status();
      addresses_[event.block] = address.value();
    } else {
      SPW_ASSIGN_OR_RETURN(addresses_[event.block], allocator_.allocate(trace_, event.block));
    }
    return born(event.block);
  }

  Status born(std::uint32_t block) {
    const std::uint64_t address = addresses_[block];
    const std::uint64_t bytes = trace_.blocks[block].bytes;
    const auto next = live_.lower_bound(address);
    const bool overlaps = (next != live_.end() && next->first < address + bytes) ||
                          (next != live_.begin() && std::prev(next)->second > address);
    if (overlaps)
      return {Code::kInternal,
              std::string(allocator_.name()) + ": block " + std::to_string(block) +
                  " overlaps one that is alive"};
    SPW_RETURN_IF_ERROR(allocator_.placed(trace_, block, address));
    live_.emplace_hint(next, address, address + bytes);
    live_bytes_ += bytes;
    ++run_.alloc_count;
    if (options_.pictures) run_.placements[block] = {address, done_, 0, true};
    const std::uint64_t reserved = allocator_.reserved_bytes();
    const bool live_peak = live_bytes_ > run_.live_peak_bytes;
    const bool reserved_peak = reserved > run_.reserved_peak_bytes;
    if (live_peak) run_.live_peak_bytes = live_bytes_;
    if (reserved_peak) run_.reserved_peak_bytes = reserved;
    if (options_.sample_count != 0 && (live_peak || reserved_peak)) {
      const FragmentationSample now = state(done_ + (block < trace_.preexisting_count ? 0 : 1));
      if (live_peak) live_peak_ = now;
      if (reserved_peak) reserved_peak_ = now;
    }
    return {};
  }

  Status release(const ReplayEvent& event) {
    const std::uint64_t address = addresses_[event.block];
    live_.erase(address);
    live_bytes_ -= trace_.blocks[event.block].bytes;
    ++run_.free_count;
    if (options_.pictures) run_.placements[event.block].died = done_ + 1;
    return allocator_.release(trace_, event.block, address, event.stream);
  }

  void follow_ranges() {
    if (!options_.pictures || allocator_.ranges_version() == ranges_version_) return;
    ranges_version_ = allocator_.ranges_version();
    std::vector<ReservedRange> now = allocator_.reserved_ranges();
    add_differences(ranges_, now, false);
    add_differences(now, ranges_, true);
    ranges_ = std::move(now);
  }

  /// What `of` covers and `without` does not. Both are in address order.
  void add_differences(const std::vector<ReservedRange>& of,
                       const std::vector<ReservedRange>& without,
                       bool added) {
    std::size_t other = 0;
    for (const ReservedRange& range : of) {
      std::uint64_t begin = range.address;
      const std::uint64_t end = range.address + range.bytes;
      while (other < without.size() && without[other].address + without[other].bytes <= begin)
        ++other;
      for (std::size_t i = other; begin < end; ++i) {
        const bool last = i >= without.size() || without[i].address >= end;
        const std::uint64_t stop = last ? end : std::max(begin, without[i].address);
        if (stop > begin) run_.changes.push_back({done_, added, {begin, stop - begin}});
        if (last) break;
        begin = std::max(begin, without[i].address + without[i].bytes);
      }
    }
  }

  [[nodiscard]] FragmentationSample state(std::uint32_t event) const {
    FragmentationSample now;
    now.event = event;
    now.time_ns = time_ns_;
    now.live_bytes = live_bytes_;
    now.reserved_bytes = allocator_.reserved_bytes();
    now.largest_hole_bytes = allocator_.largest_hole_bytes();
    return now;
  }

  void sample() {
    if (options_.sample_count == 0) return;
    run_.samples.push_back(state(done_));
  }

  /// Even distances may miss both peaks.
  void add_peaks() {
    if (options_.sample_count == 0) return;
    for (const FragmentationSample& peak : {live_peak_, reserved_peak_}) {
      const auto place = std::lower_bound(
          run_.samples.begin(), run_.samples.end(), peak.event, [](const auto& s, auto event) {
            return s.event < event;
          });
      if (place == run_.samples.end() || place->event != peak.event)
        run_.samples.insert(place, peak);
    }
  }

  const AllocationTrace& trace_;
  AllocatorUnderTest& allocator_;
  const AllocatorRunOptions& options_;
  AllocatorRun run_;
  std::vector<std::uint64_t> addresses_;
  std::map<std::uint64_t, std::uint64_t> live_;  // begin -> end
  std::vector<std::uint64_t> alloc_ns_;
  std::vector<ReservedRange> ranges_;
  std::uint64_t ranges_version_ = 0;
  std::uint64_t live_bytes_ = 0;
  std::uint64_t time_ns_ = 0;
  std::uint32_t done_ = 0;
  FragmentationSample live_peak_, reserved_peak_;
};

}  // namespace

Result<AllocatorRun> run_allocator(const AllocationTrace& trace,
                                   AllocatorUnderTest& allocator,
                                   const AllocatorRunOptions& options) {
  return Run(trace, allocator, options).go();
}

}  // namespace spillway
