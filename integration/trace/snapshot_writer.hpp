// SPDX-License-Identifier: Apache-2.0
// Writes a CUDA memory snapshot in the form of torch.cuda.memory._dump_snapshot, so that viewers of
// that form (pytorch.org/memory_viz and others) show what a pool did: segments and blocks at the
// end, and the history of calls that led there. The input is plain; whoever has a pool fills it.
#pragma once

#include "core/status.hpp"
#include "core/tag.hpp"
#include "integration/trace/byte_sink.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// One line of a call stack.
struct SnapshotFrameText {
  std::string file;
  std::uint32_t line = 0;
  std::string name;
};

enum class SnapshotBlockState : std::uint8_t { kAllocated, kPendingFree, kFree };

struct SnapshotBlockOut {
  std::uint64_t bytes = 0;            // as held
  std::uint64_t requested_bytes = 0;  // as asked for; 0 for a free one
  SnapshotBlockState state = SnapshotBlockState::kFree;
  std::uint32_t stack = 0;  // index into SnapshotContents::stacks
};

/// A run of addresses that the pool holds. Invariant: the blocks follow each other from `address`
/// and fill `bytes`.
struct SnapshotSegmentOut {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stream = 0;  // handle; 0 is the default stream
  std::uint16_t device = 0;
  bool small = false;
  bool expandable = false;  // grows and shrinks in place
  std::uint32_t stack = 0;
  std::vector<SnapshotBlockOut> blocks;
};

enum class SnapshotEventKind : std::uint8_t {
  kAlloc,
  kFreeRequested,
  kFreeCompleted,
  kSegmentAlloc,
  kSegmentFree,
  kSegmentMap,
  kSegmentUnmap,
  kOom,
};

struct SnapshotEventOut {
  SnapshotEventKind kind = SnapshotEventKind::kAlloc;
  std::uint64_t address = 0;  // kOom: bytes free on the device
  std::uint64_t bytes = 0;
  std::uint64_t stream = 0;
  std::uint64_t time_us = 0;
  std::uint32_t stack = 0;
};

struct SnapshotContents {
  /// Innermost frame first. Number 0 must be there; by custom it is the empty stack.
  std::vector<std::vector<SnapshotFrameText>> stacks{{}};
  std::vector<SnapshotSegmentOut> segments;
  std::vector<std::vector<SnapshotEventOut>> device_events;  // per device, in order
  bool expandable_segments = false;                          // in the allocator's settings
};

/// What a block is, as frames: its name, and its kind, layer and phase. Empty when nothing is
/// known.
std::vector<SnapshotFrameText> frames_of(const Tag& tag, std::string_view name);

/// kInvalidArgument when blocks do not fill their segment or a stack is unknown; else the sink's
/// errors. Text that is not UTF-8 is written as U+FFFD.
Status write_snapshot(const SnapshotContents& contents, ByteSink& out);

}  // namespace spillway
