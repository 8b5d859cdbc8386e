// SPDX-License-Identifier: Apache-2.0
// What a replay needs of an allocator: place blocks, free them, say what is held. The real pool and
// the models stand behind it, so that each sees the same calls in the same order. One thread.
#pragma once

#include "core/status.hpp"
#include "integration/replay/allocation_trace.hpp"

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace spillway {

/// What an allocator counts about itself: a name with its unit, as JSON shows it, and a number.
struct AllocatorCounter {
  std::string_view name;  // static
  std::uint64_t value = 0;
};

/// A run of addresses that is held from the driver.
struct ReservedRange {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

class AllocatorUnderTest {
 public:
  AllocatorUnderTest() = default;
  AllocatorUnderTest(const AllocatorUnderTest&) = delete;
  AllocatorUnderTest& operator=(const AllocatorUnderTest&) = delete;
  AllocatorUnderTest(AllocatorUnderTest&&) = delete;
  AllocatorUnderTest& operator=(AllocatorUnderTest&&) = delete;
  virtual ~AllocatorUnderTest() = default;

  /// "pool", "pytorch": as on the command line.
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Runs `program`, which makes all further calls, where this allocator can run. Call once.
  virtual Status within(const std::function<Status()>& program) { return program(); }

  /// Places the blocks that were there before the first event and writes their addresses to
  /// `addresses[0 .. trace.preexisting_count)`. Default: allocates them in their order.
  /// Errors: as allocate().
  virtual Status begin(const AllocationTrace& trace, std::vector<std::uint64_t>* addresses);

  /// The address of `block` (an index into the trace's blocks). kOutOfMemory when the budget does
  /// not allow it: one line of text.
  virtual Result<std::uint64_t> allocate(const AllocationTrace& trace, std::uint32_t block) = 0;
  /// Called after the address of a block is known and before the next call; not part of its cost.
  virtual Status placed(const AllocationTrace& /*trace*/,
                        std::uint32_t /*block*/,
                        std::uint64_t /*address*/) {
    return {};
  }
  /// REQUIRES: `block` is live and lies at `address`. `stream` is where the free was called.
  virtual Status release(const AllocationTrace& trace,
                         std::uint32_t block,
                         std::uint64_t address,
                         std::uint32_t stream) = 0;

  /// Bytes held from the driver now.
  [[nodiscard]] virtual std::uint64_t reserved_bytes() const = 0;
  /// The largest request that would need no more from the driver.
  [[nodiscard]] virtual std::uint64_t largest_hole_bytes() const = 0;
  /// What is held, in address order; runs do not overlap.
  [[nodiscard]] virtual std::vector<ReservedRange> reserved_ranges() const = 0;
  /// Changes whenever reserved_ranges() does.
  [[nodiscard]] virtual std::uint64_t ranges_version() const { return reserved_bytes(); }
  /// Whether ranges grow and shrink in place, rather than being taken and given back whole.
  [[nodiscard]] virtual bool grows_in_place() const { return true; }
  /// After within() has ended: what it counted. Models count nothing.
  [[nodiscard]] virtual std::vector<AllocatorCounter> counters() const { return {}; }
  /// Whether the host time of allocate() says something about a product (a model's does not).
  [[nodiscard]] virtual bool is_product() const { return false; }
};

}  // namespace spillway
