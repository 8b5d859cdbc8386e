// SPDX-License-Identifier: Apache-2.0
// Segments by address, blocks as they follow each other, one stack per tag.
#include "integration/trace/pool_snapshot.hpp"

#include <algorithm>
#include <utility>

namespace spillway {

SnapshotContents snapshot_of(const PoolSnapshot& pool, std::uint16_t device) {
  SnapshotContents out;
  out.expandable_segments = true;
  for (const TagEntry& entry : pool.tags) out.stacks.push_back(frames_of(entry.tag, entry.name));
  for (const PoolSnapshot::Segment& segment : pool.segments) {
    SnapshotSegmentOut copy;
    copy.address = segment.pointer;
    copy.bytes = segment.bytes;
    copy.device = device;
    copy.expandable = !segment.comm;
    for (const PoolSnapshot::SnapshotBlock& block : segment.blocks) {
      SnapshotBlockOut piece;
      piece.bytes = block.bytes;
      if (block.state == BlockState::kLive) {
        piece.state = SnapshotBlockState::kAllocated;
        piece.requested_bytes = block.requested_bytes;
        piece.stack = block.tag_id.value < pool.tags.size() ? block.tag_id.value + 1 : 0;
      } else if (block.state == BlockState::kDeferred) {
        piece.state = SnapshotBlockState::kPendingFree;
      }
      copy.blocks.push_back(piece);
    }
    out.segments.push_back(std::move(copy));
  }
  std::sort(out.segments.begin(), out.segments.end(), [](const auto& a, const auto& b) {
    return a.address < b.address;
  });
  out.device_events.resize(std::size_t{device} + 1);
  return out;
}

}  // namespace spillway
