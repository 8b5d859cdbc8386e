// SPDX-License-Identifier: Apache-2.0
// Events: a point in a stream that other streams, or the host, wait for. A wait binds to the record
// that is the latest when the wait is enqueued; recording again moves no earlier wait, so an event
// may go back to its pool while others still wait for its last record.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/owned_handle.hpp"
#include "device/stream.hpp"

#include <cstddef>

namespace spillway {

class Event {
 public:
  /// Without timing unless asked: such an event is cheaper to record and to wait for.
  static Result<Event> create(const Driver& driver, unsigned int flags = cu::kEventDisableTiming);
  /// Takes an event that somebody else created; it is destroyed with this object.
  static Event adopt(const Driver& driver, cu::Event handle) { return Event({driver, handle}); }
  static Event adopt(const Driver& driver, int handle) = delete;
  static Event adopt(const Driver& driver, std::nullptr_t handle) = delete;

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::Event handle() const { return owned_.get(); }
  /// Gives the event up; the caller destroys it.
  [[nodiscard]] cu::Event release() { return owned_.release(); }

  // REQUIRES for all below: !empty().

  /// Marks all work that is in `stream` now.
  Status record(StreamRef stream);
  /// Work enqueued in `stream` from now on starts after the latest record; nothing is waited for
  /// when there is none. The host does not wait.
  Status make_wait(StreamRef stream) const;
  /// The host waits for the latest record.
  Status synchronize() const;
  /// Whether the work of the latest record is done.
  [[nodiscard]] Result<bool> is_done() const;

 private:
  struct End {
    using Handle = cu::Event;
    static constexpr const char* kCall = "cuEventDestroy(event)";
    // Returns at once, also when waits for the event are still queued.
    static cu::Result end(const Driver& driver, Handle handle) {
      return driver.cuEventDestroy(handle);
    }
  };

  explicit Event(OwnedHandle<End> owned) : owned_(std::move(owned)) {}

  OwnedHandle<End> owned_;
};

}  // namespace spillway
