// SPDX-License-Identifier: Apache-2.0
// Events are recorded thousands of times a step, so they are kept. Events recorded in a stream
// capture belong to that capture: they stand for nodes of its graph, may be neither queried nor
// waited for by the host, and so go back to a pool of their own until the capture is forgotten.
#pragma once

#include "core/mutex.hpp"
#include "core/status.hpp"
#include "device/event.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace spillway {

class EventPool;

/// One record of a pooled event. Returns the event to its pool when it ends, which waits for
/// nothing: streams that were made to wait keep waiting for this record.
class RecordedEvent {
 public:
  RecordedEvent() = default;
  RecordedEvent(const RecordedEvent&) = delete;
  RecordedEvent& operator=(const RecordedEvent&) = delete;
  RecordedEvent(RecordedEvent&& other) noexcept;
  RecordedEvent& operator=(RecordedEvent&& other) noexcept;
  ~RecordedEvent();

  [[nodiscard]] bool empty() const { return pool_ == nullptr; }
  /// REQUIRES: !empty().
  [[nodiscard]] const Event& event() const { return *event_; }
  /// Id of the capture in which it was recorded; 0: recorded for real.
  [[nodiscard]] std::uint64_t capture_id() const { return capture_id_; }

  // REQUIRES for all below: !empty().

  /// Work enqueued in `stream` from now on starts after the record.
  Status make_wait(StreamRef stream) const { return event_->make_wait(stream); }
  /// kInvalidArgument when it was recorded in a capture: nothing has happened yet, and the driver
  /// would be asked something that invalidates the capture.
  [[nodiscard]] Result<bool> is_done() const;
  /// The host waits; kInvalidArgument as above.
  Status synchronize() const;

 private:
  friend class EventPool;
  RecordedEvent(EventPool& pool, std::unique_ptr<Event> event, std::uint64_t capture_id)
      : pool_(&pool), event_(std::move(event)), capture_id_(capture_id) {}

  EventPool* pool_ = nullptr;
  std::unique_ptr<Event> event_;
  std::uint64_t capture_id_ = 0;
};

/// Invariant: created_count == leased_count + free_count, captures included.
/// Threads: any, at once. Its lock is never held across a driver call, so that an owner who may not
/// hold one either can record without guarding the pool. Must outlive what it hands out.
class EventPool {
 public:
  explicit EventPool(const Driver& driver) : driver_(&driver), mutex_("event pool") {}
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;
  EventPool(EventPool&&) = delete;
  EventPool& operator=(EventPool&&) = delete;
  ~EventPool();

  /// An event recorded in `stream` now, in the stream's capture if it is in one.
  Result<RecordedEvent> record(StreamRef stream);

  /// The graph of this capture is gone, or the capture failed: its events may be recorded anywhere
  /// again. Those still leased follow when they come back.
  void forget_capture(std::uint64_t capture_id);

  [[nodiscard]] std::size_t created_count() const;
  [[nodiscard]] std::size_t leased_count() const;
  /// Free for ordinary use; free for the capture with this id.
  [[nodiscard]] std::size_t free_count() const;
  [[nodiscard]] std::size_t free_count(std::uint64_t capture_id) const;

 private:
  friend class RecordedEvent;
  /// A free event for this capture (0: for none), now leased; null when one must be created.
  std::unique_ptr<Event> take(std::uint64_t capture_id);
  void take_back(std::unique_ptr<Event> event, std::uint64_t capture_id);

  using FreeList = std::vector<std::unique_ptr<Event>>;

  const Driver* driver_;
  mutable Mutex mutex_;
  FreeList free_ SPW_GUARDED_BY(mutex_);
  // One entry per capture that is not yet forgotten.
  std::map<std::uint64_t, FreeList> captures_ SPW_GUARDED_BY(mutex_);
  std::size_t created_count_ SPW_GUARDED_BY(mutex_) = 0;
  std::size_t leased_count_ SPW_GUARDED_BY(mutex_) = 0;
};

}  // namespace spillway
