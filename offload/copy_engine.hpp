// SPDX-License-Identifier: Apache-2.0
// Copies between device and pinned host memory: one queue per direction, each on a stream of its
// own, cut into chunks. Only so many bytes are with the driver at a time, so that an urgent copy
// overtakes the others, a copy can still be called off, and other people's copies get a turn; who
// needs a copy now has all of its chunks issued and its stream wait.
#pragma once

#include "core/condition.hpp"
#include "core/mutex.hpp"
#include "core/status.hpp"
#include "device/context.hpp"
#include "device/event_pool.hpp"
#include "device/stream.hpp"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

namespace spillway {

enum class CopyDirection : std::uint8_t { kOut = 0, kIn = 1 };  // device to host, host to device
inline constexpr int kCopyDirections = 2;

struct CopyEngineOptions {
  /// Bytes of one driver call. 2 MiB cost a tenth of the link's rate at 2.3 us a call, 16 MiB one
  /// in a hundred.
  std::uint64_t chunk_bytes = std::uint64_t{16} << 20;
  /// Bytes of one direction that may be with the driver and unfinished, unless somebody waits for
  /// them: what an urgent copy may have to wait behind. At least one chunk is.
  std::uint64_t window_bytes = std::uint64_t{64} << 20;
  /// Of the two streams; lower is more urgent, clamped by the driver.
  int stream_priority = 0;
};

/// A copy, from submit() on. Never used twice; the default names none.
struct CopyId {
  std::uint64_t value = 0;
  [[nodiscard]] bool valid() const { return value != 0; }
  friend bool operator==(CopyId, CopyId) = default;
};

struct CopyRequest {
  CopyDirection direction = CopyDirection::kOut;
  cu::DevicePtr device = 0;
  void* host = nullptr;  // pinned
  std::uint64_t bytes = 0;
  CopyId after_copy;  // begins after that one's end: the copy out that fills `host`, say
  int priority = 0;   // lower goes first, whatever came earlier
};

struct CopyProgress {
  std::uint64_t issued_bytes = 0;  // with the driver, or done
  std::uint64_t done_bytes = 0;    // as far as poll() has seen
};

struct CopyStats {
  std::uint64_t submitted = 0;
  std::uint64_t chunks = 0;  // driver calls that copy
  std::uint64_t bytes = 0;   // issued
  std::uint64_t cancelled_bytes = 0;
  std::uint64_t window_bytes_peak = 0;  // with the driver at once without anybody waiting
  std::uint64_t urgent_chunks = 0;      // issued because somebody waited
  std::uint64_t host_waits = 0;
};

/// INVARIANTS, executed by check_invariants():
///   issued <= bytes of every copy; one that waits has chunks left to issue
///   the bytes in flight of a direction == the sum over its chunks in flight
///   every event is in flight, the end or the begin of a copy, or back in its pool
/// Threads: any. No lock is held across a driver call; one thread at a time issues in a direction,
/// others that need it wait for it. Not inside a stream capture (kUnsupported).
class CopyEngine {
 public:
  /// kInvalidArgument: no chunk bytes. REQUIRES: `context` is current and outlives the engine.
  static Result<std::unique_ptr<CopyEngine>> create(const Context& context,
                                                    const CopyEngineOptions& options = {});
  CopyEngine(const CopyEngine&) = delete;
  CopyEngine& operator=(const CopyEngine&) = delete;
  CopyEngine(CopyEngine&&) = delete;
  CopyEngine& operator=(CopyEngine&&) = delete;
  /// Chunks that are not issued never will be; waits for those that are.
  ~CopyEngine();

  /// Queues a copy and issues of it what the window allows. It begins after the work that is in
  /// `after` now: what writes the device bytes of a copy out, or what last used those of a copy in.
  /// The device bytes stay the copy's until its end(); see cancel(). kInvalidArgument: null, zero
  /// bytes or a copy to wait for that never was; the driver's errors as they come, the copy is then
  /// not queued.
  Result<CopyId> submit(const CopyRequest& request, StreamRef after);

  /// Sees what is done and issues what the window now allows, without waiting for the device or
  /// for other threads. The first error of a copy; the others go on.
  Status poll();

  /// Issues every chunk that the copy still lacks, and makes `stream` wait for its end; the host
  /// does not wait for the device. Ok at once when it is done. What went wrong with the copy, if
  /// something did, once; kNotFound: never submitted.
  Status make_wait(CopyId copy, StreamRef stream);

  /// As make_wait, for the host. Counted.
  Status wait_on_host(CopyId copy);

  /// Issues every chunk that the copy still lacks. Afterwards its device bytes may be given back on
  /// stream(direction).
  Status finish_issue(CopyId copy);

  /// Calls off what is not issued; how many bytes were: all, if it came too late. From this point
  /// of stream(direction) on the copy uses neither device nor host bytes; so it is also after a
  /// failure. The id is not to be used again.
  Result<std::uint64_t> cancel(CopyId copy);

  /// Whether it has ended, by a look at the device; what went wrong, once; kNotFound as above.
  Result<bool> is_done(CopyId copy);
  /// As of the last look; nothing when the copy is done.
  Result<std::optional<CopyProgress>> progress(CopyId copy);

  /// The stream of a direction's copies: memory that an issued copy uses is given back on it.
  [[nodiscard]] StreamRef stream(CopyDirection direction) const;

  [[nodiscard]] CopyStats stats() const;
  /// kInternal with the first invariant that does not hold. REQUIRES: no other thread is inside.
  [[nodiscard]] Status check_invariants() const;

 private:
  using SharedEvent = std::shared_ptr<RecordedEvent>;

  struct Copy {
    CopyRequest request;
    std::uint64_t issued_bytes = 0;
    std::uint64_t done_bytes = 0;
    SharedEvent begin;       // in `after`; null once the first chunk is issued
    SharedEvent dependency;  // end of after_copy, or null
    SharedEvent end;         // after the last chunk so far
    Status failure;
  };
  struct Chunk {
    std::uint64_t copy = 0;
    std::uint64_t bytes = 0;
    SharedEvent end;
  };
  struct Lane {
    bool issuing = false;         // some thread is
    std::deque<Chunk> in_flight;  // in the order of the stream
    std::uint64_t in_flight_bytes = 0;
    std::set<std::pair<int, std::uint64_t>> waiting;  // (priority, copy) with chunks to issue
  };
  class Issuer;

  CopyEngine(const Context& context, const CopyEngineOptions& options);

  [[nodiscard]] Lane& lane(CopyDirection direction) SPW_REQUIRES(mutex_) {
    return lanes_[static_cast<std::size_t>(direction)];
  }
  /// Null when the copy is done, or failed and somebody knows; kNotFound when it never was.
  Result<Copy*> find(CopyId id) SPW_REQUIRES(mutex_);
  void stop_waiting(std::uint64_t id, const Copy& copy) SPW_REQUIRES(mutex_);
  void forget_if_done(std::uint64_t id) SPW_REQUIRES(mutex_);

  // REQUIRES, for these: this thread is the direction's issuer.
  Status collect(CopyDirection direction);
  Status issue_window(CopyDirection direction);
  Status issue_chunk(CopyDirection direction, std::uint64_t id, bool urgent);

  /// Issues all of the copy and returns its end: null when it is done.
  Result<SharedEvent> end_of(CopyId id);
  Status look(CopyDirection direction, bool wait);

  const Driver& driver_;
  const CopyEngineOptions options_;
  EventPool events_;
  std::array<std::unique_ptr<Stream>, kCopyDirections> streams_;  // constant after create()
  mutable Mutex mutex_;
  Condition issuer_left_;
  std::array<Lane, kCopyDirections> lanes_ SPW_GUARDED_BY(mutex_);
  // Copies that are not done, by id; one that failed stays until somebody has asked for it.
  std::map<std::uint64_t, Copy> copies_ SPW_GUARDED_BY(mutex_);
  std::uint64_t last_id_ SPW_GUARDED_BY(mutex_) = 0;
  CopyStats stats_ SPW_GUARDED_BY(mutex_);
};

}  // namespace spillway
