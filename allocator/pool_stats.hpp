// SPDX-License-Identifier: Apache-2.0
// What a device pool tells about itself: counters, one block, everything.
#pragma once

#include "allocator/block.hpp"
#include "allocator/tag_table.hpp"
#include "core/tag.hpp"
#include "device/driver_types.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

/// INVARIANTS: requested <= allocated; allocated + free + deferred == mapped (+ comm chunks);
/// mapped + spare + comm == reserved <= budget; reserved <= reserved_peak.
struct PoolStats {
  std::uint64_t requested_bytes = 0;  // asked for by live blocks
  std::uint64_t requested_bytes_peak = 0;
  std::uint64_t allocated_bytes = 0;  // held by live blocks: requested, rounded up to 512
  std::uint64_t allocated_bytes_peak = 0;
  std::uint64_t free_bytes = 0;      // mapped, in no block
  std::uint64_t deferred_bytes = 0;  // given back, and perhaps still used by another stream
  std::uint64_t reserved_bytes = 0;  // held from the driver
  std::uint64_t reserved_bytes_peak = 0;
  std::uint64_t mapped_bytes = 0;  // in the arena
  std::uint64_t spare_bytes = 0;   // handles kept without a place
  std::uint64_t comm_bytes = 0;    // chunks of the comm pool
  std::uint64_t budget_bytes = 0;
  std::uint64_t largest_free_bytes = 0;

  std::uint64_t live_count = 0;
  std::uint64_t allocation_count = 0;
  std::uint64_t free_count = 0;
  std::uint64_t stream_wait_count = 0;  // a stream was made to wait for another's last use
  std::uint64_t host_wait_count = 0;    // the host waited: stall "remap"
  std::uint64_t host_wait_ns = 0;
  std::uint64_t grow_count = 0;  // times that memory was taken from the driver
  std::uint64_t handle_create_count = 0;
  std::uint64_t remap_count = 0;     // handles that moved to another place
  std::uint64_t trim_count = 0;      // handles and chunks given back to the driver
  std::uint64_t pressure_count = 0;  // calls of the pressure callback
  std::uint64_t out_of_memory_count = 0;
  std::uint64_t planned_count = 0;   // served at the place that a layout gave
  std::uint64_t deviated_count = 0;  // not served so although a layout was loaded

  std::uint64_t metadata_bytes = 0;       // host memory that grows with the number of blocks
  std::uint64_t address_table_bytes = 0;  // host memory that grows with the address range
};

/// One live block.
struct BlockInfo {
  cu::DevicePtr pointer = 0;
  std::uint64_t requested_bytes = 0;
  std::uint64_t held_bytes = 0;
  std::uint64_t number = 0;  // of the allocation, from 1
  TagId tag_id = kUntagged;
  Tag tag;
};

/// Everything, as of one moment: memory by address.
struct PoolSnapshot {
  struct SnapshotBlock {
    cu::DevicePtr pointer = 0;
    std::uint64_t bytes = 0;
    std::uint64_t requested_bytes = 0;  // live blocks
    BlockState state = BlockState::kFree;
    std::uint64_t stream_id = 0;  // live: the allocation's; free: whose order it follows
    bool neutral = false;         // free, and anybody's
    TagId tag_id = kUntagged;
    std::uint64_t number = 0;
  };
  /// Adjacent mapped memory of the arena, or a chunk of the comm pool.
  struct Segment {
    cu::DevicePtr pointer = 0;
    std::uint64_t bytes = 0;
    bool comm = false;
    std::vector<SnapshotBlock> blocks;
  };
  std::vector<Segment> segments;
  std::vector<TagEntry> tags;  // by TagId
  PoolStats stats;
};

}  // namespace spillway
