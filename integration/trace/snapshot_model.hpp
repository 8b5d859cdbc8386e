// SPDX-License-Identifier: Apache-2.0
// One device's part of a PyTorch memory snapshot, checked and made compact: events in list order,
// final blocks and segments, annotations. Lifetimes are rebuilt here: which event touches which
// storage, and what was there before the first event.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"
#include "core/tag.hpp"
#include "integration/trace/pickle_parser.hpp"
#include "integration/trace/snapshot_stacks.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace spillway {

enum class SnapshotAction : std::uint8_t {
  kAlloc,
  kFreeRequested,
  kFreeCompleted,
  kFree,
  kMap,
  kUnmap,
  kOom,
  kOther
};

/// A storage by number: preexisting ones and allocated ones are counted separately.
struct SnapshotStorage {
  static constexpr std::uint32_t kNone = 0x7fffffffu;
  std::uint32_t number : 31 = kNone;
  std::uint32_t preexisting : 1 = 0;
  [[nodiscard]] bool valid() const { return number != kNone; }
};

struct SnapshotEvent {
  std::uint64_t address = 0;  // kOom: bytes free
  std::uint64_t bytes = 0;
  std::uint64_t time_us = 0;      // since the first event, never falling
  std::uint32_t stack = 0;        // in SnapshotStacks
  std::uint32_t stream = 0;       // index into SnapshotModel::streams
  StringId metadata;              // the user's text at that moment; none when empty
  SnapshotStorage storage;        // kAlloc and the frees
  std::uint32_t forward_run = 0;  // how many forward passes had begun; 0 before the first
  std::uint16_t layer = kNoLayer;
  SnapshotAction action = SnapshotAction::kOther;
  Phase phase = Phase::kUnknown;
  bool begins_step = false;
  bool request_missing = false;  // kFreeCompleted, kFree: nothing before requested this free
};

struct SnapshotBlock {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;        // as asked for, where the snapshot says so
  std::uint64_t block_bytes = 0;  // as held by the allocator
  std::uint32_t stack = 0;
  std::uint32_t stream = 0;
  bool pending_free = false;
};

struct SnapshotSegment {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t stream = 0;
};

struct SnapshotAnnotation {
  StringId name;               // in the document
  std::uint32_t position = 0;  // index of the event before which it stands
  std::uint32_t number = 0;    // shared by a start and its end
  bool start = false;
  bool optimizer = false;  // an optimizer's step or zero_grad
};

/// A storage that was there before the first event.
struct SnapshotPreexisting {
  static constexpr std::uint32_t kNever = 0xffffffffu;
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t stack = 0;
  std::uint32_t stream = 0;
  std::uint32_t freed_at = kNever;  // event
  bool pending_free = false;        // its free was requested before the first event
};

/// An allocation takes an address whose last storage was not seen to be freed.
struct SnapshotReplaced {
  std::uint32_t event = 0;
  SnapshotStorage storage;
  bool requested = false;
};

struct SnapshotModel {
  std::uint16_t device = 0;
  std::vector<SnapshotEvent> events;
  std::vector<SnapshotBlock> blocks;      // those in use at the end
  std::vector<SnapshotSegment> segments;  // at the end
  std::vector<SnapshotAnnotation> annotations;
  std::vector<std::uint64_t> streams{0};                      // handles; 0 is the default stream
  std::vector<std::pair<std::string, std::string>> settings;  // of the allocator, where not default

  std::vector<SnapshotPreexisting> preexisting;
  std::vector<SnapshotSegment> preexisting_segments;
  std::vector<SnapshotReplaced> replaced;  // in the order of events
  std::uint32_t alloc_count = 0;
  std::vector<std::string> notes;
};

/// Checks and decodes; `device` -1 takes the one with the most events. Errors: kBadInput, kNotFound
/// (no such device).
Result<SnapshotModel> decode_snapshot(const PickleDocument& document,
                                      const std::string& source_name,
                                      int device,
                                      SnapshotStacks& stacks);

/// Fills storages, preexisting, replaced and preexisting_segments, backwards from the final blocks
/// and segments.
void rebuild_lifetimes(SnapshotModel& model);

}  // namespace spillway
