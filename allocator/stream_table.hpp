// SPDX-License-Identifier: Apache-2.0
// What the pool knows of each stream's progress. A stream's epoch counts what was given back on it;
// a mark is an event that was recorded when the epoch stood at some value. "Everything up to epoch
// e is over" is known to the host when a mark at or after e was seen done, and to another stream
// when it was made to wait for one.
#pragma once

#include "allocator/block.hpp"
#include "allocator/kept_sizes.hpp"
#include "allocator/space.hpp"
#include "device/event.hpp"
#include "device/stream.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace spillway {

/// Index of a StreamState; kNoStream: none.
using StreamIndex = std::uint16_t;
inline constexpr StreamIndex kNoStream = 0xffff;

/// A stretch of a stream that something waits for.
struct StreamPoint {
  StreamIndex stream = kNoStream;
  std::uint64_t epoch = 0;
};

struct Mark {
  std::uint64_t epoch = 0;
  std::shared_ptr<Event> event;  // shared with whoever queries or waits outside the lock
};

/// INVARIANT: done_epoch <= epoch; marks are sorted, each after done_epoch and at most epoch.
struct StreamState {
  cu::Stream handle = nullptr;
  std::uint64_t id = 0;
  std::uint64_t capture_id = 0;  // not 0: this is the stream inside that capture
  bool retired = false;          // the stream is gone or about to be: nothing is recorded any more
  std::uint64_t epoch = 0;
  std::uint64_t done_epoch = 0;
  std::uint64_t unmarked_bytes = 0;  // given back since the last mark
  KeptSizes kept;                    // blocks of the arena
  StreamIndex index = kNoStream;     // of this
  LabelIndex arena_label = 0xffff;   // in the arena's group; none yet
  std::deque<Mark> marks;
  std::vector<std::uint64_t> waited;  // by stream: up to which of its epochs this one has waited
  std::vector<LabelIndex> labels;     // by group, 0xffff: none yet

  [[nodiscard]] StreamRef ref() const { return {handle, id}; }
  [[nodiscard]] std::uint64_t waited_for(StreamIndex other) const {
    return other < waited.size() ? waited[other] : 0;
  }
};

/// Threads: none; the pool's lock. Makes no driver call, except that events which nobody else holds
/// are handed out to be destroyed by the caller, outside the lock.
class StreamTable {
 public:
  static constexpr std::size_t kStreamsMax = 4096;

  /// The state of (stream, capture), made when new; kNoStream when there are too many.
  StreamIndex intern(StreamRef stream, std::uint64_t capture_id) {
    const Slot& slot = cache_[(stream.id() ^ capture_id * 31) % kCacheSlots];
    if (slot.index != kNoStream && slot.id == stream.id() && slot.capture_id == capture_id)
      return slot.index;
    return intern_slowly(stream, capture_id);
  }
  /// The state of a stream outside captures with a label in the arena; null when that is not known
  /// at once.
  StreamState* find_quickly(std::uint64_t id) {
    StreamState* const state = labelled_[id % kCacheSlots];
    return state != nullptr && state->id == id ? state : nullptr;
  }
  /// kNoStream when it is not known.
  [[nodiscard]] StreamIndex find(std::uint64_t id, std::uint64_t capture_id) const;

  StreamState& at(StreamIndex index) { return *states_[index]; }
  [[nodiscard]] const StreamState& at(StreamIndex index) const { return *states_[index]; }
  [[nodiscard]] StreamIndex count() const { return static_cast<StreamIndex>(states_.size()); }
  /// Streams outside captures that are not retired.
  [[nodiscard]] std::uint32_t active_count() const { return active_count_; }

  /// The label of a stream in a group, made when new.
  LabelIndex label_of(Space& space, StreamIndex index, GroupIndex group) {
    const std::vector<LabelIndex>& labels = states_[index]->labels;
    if (group < labels.size() && labels[group] != kNoLabel) return labels[group];
    return add_label(space, index, group);
  }
  /// The stream that a label belongs to; kNoStream for a neutral one.
  [[nodiscard]] StreamIndex owner_of(LabelIndex label) const {
    return label < owners_.size() ? owners_[label] : kNoStream;
  }

  /// What `stream` may use at once: its own, what the host knows to be over, what it waited for.
  /// kNoStream: what anybody may use.
  [[nodiscard]] bool may_use(StreamIndex stream, StreamPoint point) const {
    if (point.stream == kNoStream || point.stream == stream) return true;
    return point.epoch <= states_[point.stream]->done_epoch ||
           (stream != kNoStream && point.epoch <= states_[stream]->waited_for(point.stream));
  }
  void note_waited(StreamIndex stream, StreamPoint point);

  /// The earliest mark at or after the point; without an event when none was recorded yet.
  [[nodiscard]] Mark mark_after(StreamPoint point) const;
  void add_mark(StreamPoint point, std::shared_ptr<Event> event);
  /// All up to the point is over; marks that say so are taken out into `over`.
  void note_done(StreamPoint point, std::vector<std::shared_ptr<Event>>& over);

  void retire(StreamIndex index);
  /// A capture is forgotten: its states and labels may serve others.
  /// REQUIRES: nothing is free under its labels.
  void forget_capture(std::uint64_t capture_id, std::vector<std::shared_ptr<Event>>& over);

  /// Empty, or what is broken.
  [[nodiscard]] std::string check_invariants() const;

 private:
  static constexpr LabelIndex kNoLabel = 0xffff;
  static constexpr std::size_t kCacheSlots = 64;
  struct Slot {
    std::uint64_t id = 0;
    std::uint64_t capture_id = 0;
    StreamIndex index = kNoStream;
  };

  StreamIndex intern_slowly(StreamRef stream, std::uint64_t capture_id);
  LabelIndex add_label(Space& space, StreamIndex index, GroupIndex group);

  // Outside captures, with a label in the arena; null where none was looked for of late.
  std::array<StreamState*, kCacheSlots> labelled_{};
  std::array<Slot, kCacheSlots> cache_{};
  std::vector<std::unique_ptr<StreamState>> states_;
  std::vector<StreamIndex> owners_;  // by label
  std::vector<StreamIndex> unused_;  // states of forgotten captures
  std::vector<LabelIndex> unused_labels_;
  std::uint32_t active_count_ = 0;
};

}  // namespace spillway
