// SPDX-License-Identifier: Apache-2.0
// Issues chunks under a role instead of a lock: the thread that holds a direction's role calls the
// driver, so that the list of chunks in flight has the order of the stream; all else is looked up
// and noted in short sections.
#include "offload/copy_engine.hpp"

#include <algorithm>
#include <string>

namespace spillway {

/// The role: taken for a scope.
class CopyEngine::Issuer {
 public:
  /// Waits for another thread's turn to end, if `wait`; else is not the issuer then.
  Issuer(CopyEngine& engine, CopyDirection direction, bool wait)
      : engine_(engine), direction_(direction) {
    UniqueLock lock(engine.mutex_);
    if (wait)
      engine.issuer_left_.wait(
          lock, [&]() SPW_NO_THREAD_SAFETY { return !engine.lane(direction).issuing; });
    if (engine.lane(direction).issuing) return;
    engine.lane(direction).issuing = true;
    entered_ = true;
  }
  Issuer(const Issuer&) = delete;
  Issuer& operator=(const Issuer&) = delete;
  Issuer(Issuer&&) = delete;
  Issuer& operator=(Issuer&&) = delete;
  ~Issuer() {
    if (!entered_) return;
    {
      const LockGuard lock(engine_.mutex_);
      engine_.lane(direction_).issuing = false;
    }
    engine_.issuer_left_.notify_all();
  }

  [[nodiscard]] bool entered() const { return entered_; }

 private:
  CopyEngine& engine_;
  CopyDirection direction_;
  bool entered_ = false;
};

CopyEngine::CopyEngine(const Context& context, const CopyEngineOptions& options)
    : driver_(context.driver()),
      options_(options),
      events_(context.driver()),
      mutex_("copy engine") {}

Result<std::unique_ptr<CopyEngine>> CopyEngine::create(const Context& context,
                                                       const CopyEngineOptions& options) {
  if (options.chunk_bytes == 0)
    return Status(Code::kInvalidArgument, "copy engine: chunks of zero bytes");
  std::unique_ptr<CopyEngine> engine(new CopyEngine(context, options));
  StreamOptions stream_options;
  stream_options.priority = options.stream_priority;
  for (std::unique_ptr<Stream>& stream : engine->streams_) {
    SPW_ASSIGN_OR_RETURN(Stream made, Stream::create(context.driver(), stream_options));
    stream = std::make_unique<Stream>(std::move(made));
  }
  return engine;
}

CopyEngine::~CopyEngine() {
  for (int i = 0; i < kCopyDirections; ++i) {
    SharedEvent last;
    {
      const LockGuard lock(mutex_);
      const Lane& of = lane(static_cast<CopyDirection>(i));
      if (!of.in_flight.empty()) last = of.in_flight.back().end;
    }
    // A context that is gone has nothing in flight.
    if (last != nullptr) static_cast<void>(last->synchronize());
  }
}

StreamRef CopyEngine::stream(CopyDirection direction) const {
  return streams_[static_cast<std::size_t>(direction)]->ref();
}

Result<CopyEngine::Copy*> CopyEngine::find(CopyId id) {
  if (!id.valid() || id.value > last_id_)
    return Status(Code::kNotFound, "copy engine: no copy " + std::to_string(id.value));
  const auto at = copies_.find(id.value);
  return at == copies_.end() ? nullptr : &at->second;
}

void CopyEngine::stop_waiting(std::uint64_t id, const Copy& copy) {
  lane(copy.request.direction).waiting.erase({copy.request.priority, id});
}

void CopyEngine::forget_if_done(std::uint64_t id) {
  const auto at = copies_.find(id);
  if (at == copies_.end()) return;
  const Copy& copy = at->second;
  if (copy.failure.ok() && copy.done_bytes == copy.request.bytes) copies_.erase(at);
}

Result<CopyId> CopyEngine::submit(const CopyRequest& request, StreamRef after) {
  if (request.device == 0 || request.host == nullptr || request.bytes == 0)
    return Status(Code::kInvalidArgument, "copy engine: a copy of nothing");
  Copy copy;
  copy.request = request;
  if (request.after_copy.valid()) {
    SPW_ASSIGN_OR_RETURN(copy.dependency, end_of(request.after_copy));
  }
  SPW_ASSIGN_OR_RETURN(RecordedEvent begin, events_.record(after));
  if (begin.capture_id() != 0)
    return Status(Code::kUnsupported, "copy engine: the stream is being captured");
  copy.begin = std::make_shared<RecordedEvent>(std::move(begin));
  CopyId id;
  {
    const LockGuard lock(mutex_);
    id.value = ++last_id_;
    lane(request.direction).waiting.insert({request.priority, id.value});
    copies_.emplace(id.value, std::move(copy));
    ++stats_.submitted;
  }
  // What goes wrong from here on is the copy's own, told to who asks for it.
  static_cast<void>(look(request.direction, false));
  return id;
}

Status CopyEngine::issue_chunk(CopyDirection direction, std::uint64_t id, bool urgent) {
  CopyRequest request;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  SharedEvent begin;
  SharedEvent dependency;
  {
    const LockGuard lock(mutex_);
    const auto at = copies_.find(id);
    if (at == copies_.end()) return {};  // called off
    const Copy& copy = at->second;
    request = copy.request;
    offset = copy.issued_bytes;
    bytes = std::min(options_.chunk_bytes, request.bytes - offset);
    begin = copy.begin;
    dependency = copy.dependency;
  }
  const StreamRef to = stream(direction);
  bool copied = false;
  const auto issue = [&]() -> Result<RecordedEvent> {
    if (begin != nullptr) SPW_RETURN_IF_ERROR(begin->make_wait(to));
    if (dependency != nullptr) SPW_RETURN_IF_ERROR(dependency->make_wait(to));
    const cu::DevicePtr device = request.device + offset;
    void* host = static_cast<char*>(request.host) + offset;
    if (direction == CopyDirection::kOut)
      SPW_CU_TRY(driver_.cuMemcpyDtoHAsync(host, device, bytes, to.handle()));
    else
      SPW_CU_TRY(driver_.cuMemcpyHtoDAsync(device, host, bytes, to.handle()));
    copied = true;
    return events_.record(to);
  };
  Result<RecordedEvent> end = issue();
  const LockGuard lock(mutex_);
  const auto at = copies_.find(id);
  if (!end.ok()) {
    // A chunk without an event stays in the order of the stream, which is all that the caller has
    // been promised of a copy that failed.
    if (at != copies_.end()) {
      stop_waiting(id, at->second);
      at->second.failure = end.status();
    }
    if (copied) stats_.bytes += bytes;
    return end.status();
  }
  Lane& of = lane(direction);
  auto shared = std::make_shared<RecordedEvent>(std::move(end).value());
  of.in_flight.push_back({id, bytes, shared});
  of.in_flight_bytes += bytes;
  ++stats_.chunks;
  stats_.bytes += bytes;
  if (urgent)
    ++stats_.urgent_chunks;
  else
    stats_.window_bytes_peak = std::max(stats_.window_bytes_peak, of.in_flight_bytes);
  if (at == copies_.end()) return {};  // called off meanwhile: what is issued is in the stream
  Copy& copy = at->second;
  copy.begin.reset();
  copy.dependency.reset();
  copy.issued_bytes += bytes;
  copy.end = std::move(shared);
  if (copy.issued_bytes == copy.request.bytes) stop_waiting(id, copy);
  return {};
}

Status CopyEngine::collect(CopyDirection direction) {
  for (;;) {
    SharedEvent end;
    {
      const LockGuard lock(mutex_);
      const Lane& of = lane(direction);
      if (of.in_flight.empty()) return {};
      end = of.in_flight.front().end;
    }
    SPW_ASSIGN_OR_RETURN(const bool done, end->is_done());
    if (!done) return {};
    const LockGuard lock(mutex_);
    Lane& of = lane(direction);
    const Chunk chunk = std::move(of.in_flight.front());
    of.in_flight.pop_front();
    of.in_flight_bytes -= chunk.bytes;
    const auto at = copies_.find(chunk.copy);
    if (at != copies_.end()) at->second.done_bytes += chunk.bytes;
    forget_if_done(chunk.copy);
  }
}

Status CopyEngine::issue_window(CopyDirection direction) {
  Status first;
  for (;;) {
    std::uint64_t id = 0;
    {
      const LockGuard lock(mutex_);
      const Lane& of = lane(direction);
      if (of.waiting.empty()) return first;
      id = of.waiting.begin()->second;
      const Copy& copy = copies_.at(id);
      const std::uint64_t bytes =
          std::min(options_.chunk_bytes, copy.request.bytes - copy.issued_bytes);
      if (of.in_flight_bytes != 0 && of.in_flight_bytes + bytes > options_.window_bytes)
        return first;
    }
    const Status issued = issue_chunk(direction, id, false);
    if (first.ok()) first = issued;
  }
}

Status CopyEngine::look(CopyDirection direction, bool wait) {
  const Issuer issuer(*this, direction, wait);
  if (!issuer.entered()) return {};
  const Status collected = collect(direction);
  const Status issued = issue_window(direction);
  return collected.ok() ? issued : collected;
}

Status CopyEngine::poll() {
  const Status out = look(CopyDirection::kOut, false);
  const Status in = look(CopyDirection::kIn, false);
  return out.ok() ? in : out;
}

Result<CopyEngine::SharedEvent> CopyEngine::end_of(CopyId id) {
  CopyDirection direction{};
  {
    const LockGuard lock(mutex_);
    SPW_ASSIGN_OR_RETURN(const Copy* copy, find(id));
    if (copy == nullptr) return SharedEvent();
    direction = copy->request.direction;
  }
  const Issuer issuer(*this, direction, true);
  for (;;) {
    {
      const LockGuard lock(mutex_);
      SPW_ASSIGN_OR_RETURN(Copy * copy, find(id));
      if (copy == nullptr) return SharedEvent();
      if (!copy->failure.ok()) {
        const Status failure = copy->failure;
        copies_.erase(id.value);
        return failure;
      }
      if (copy->issued_bytes == copy->request.bytes) return copy->end;
    }
    static_cast<void>(issue_chunk(direction, id.value, true));
  }
}

Status CopyEngine::finish_issue(CopyId copy) { return end_of(copy).status(); }

Status CopyEngine::make_wait(CopyId copy, StreamRef stream) {
  SPW_ASSIGN_OR_RETURN(const SharedEvent end, end_of(copy));
  return end == nullptr ? Status() : end->make_wait(stream);
}

Status CopyEngine::wait_on_host(CopyId copy) {
  SPW_ASSIGN_OR_RETURN(const SharedEvent end, end_of(copy));
  if (end == nullptr) return {};
  {
    const LockGuard lock(mutex_);
    ++stats_.host_waits;
  }
  return end->synchronize();
}

Result<std::uint64_t> CopyEngine::cancel(CopyId id) {
  CopyDirection direction{};
  std::uint64_t bytes = 0;
  {
    const LockGuard lock(mutex_);
    SPW_ASSIGN_OR_RETURN(const Copy* copy, find(id));
    if (copy == nullptr) return bytes;
    direction = copy->request.direction;
  }
  // Not while another thread is between the look and the call.
  const Issuer issuer(*this, direction, true);
  const LockGuard lock(mutex_);
  SPW_ASSIGN_OR_RETURN(Copy * copy, find(id));
  if (copy == nullptr) return bytes;
  bytes = copy->issued_bytes;
  stats_.cancelled_bytes += copy->request.bytes - bytes;
  stop_waiting(id.value, *copy);
  copies_.erase(id.value);
  return bytes;
}

Result<bool> CopyEngine::is_done(CopyId id) {
  CopyDirection direction{};
  {
    const LockGuard lock(mutex_);
    SPW_ASSIGN_OR_RETURN(const Copy* copy, find(id));
    if (copy == nullptr) return true;
    direction = copy->request.direction;
  }
  SPW_RETURN_IF_ERROR(look(direction, true));
  const LockGuard lock(mutex_);
  SPW_ASSIGN_OR_RETURN(Copy * copy, find(id));
  if (copy == nullptr) return true;
  if (copy->failure.ok()) return false;
  const Status failure = copy->failure;
  copies_.erase(id.value);
  return failure;
}

Result<std::optional<CopyProgress>> CopyEngine::progress(CopyId id) {
  const LockGuard lock(mutex_);
  SPW_ASSIGN_OR_RETURN(const Copy* copy, find(id));
  if (copy == nullptr) return std::optional<CopyProgress>();
  return std::optional(CopyProgress{copy->issued_bytes, copy->done_bytes});
}

CopyStats CopyEngine::stats() const {
  const LockGuard lock(mutex_);
  return stats_;
}

Status CopyEngine::check_invariants() const {
  const LockGuard lock(mutex_);
  const auto broken = [](const std::string& what) {
    return Status(Code::kInternal, "copy engine: " + what);
  };
  std::size_t waiting = 0;
  for (const Lane& of : lanes_) {
    if (of.issuing) return broken("somebody is issuing");
    std::uint64_t bytes = 0;
    for (const Chunk& chunk : of.in_flight) bytes += chunk.bytes;
    if (bytes != of.in_flight_bytes) return broken("bytes in flight do not add up");
    waiting += of.waiting.size();
    for (const auto& [priority, id] : of.waiting) {
      const auto at = copies_.find(id);
      if (at == copies_.end()) return broken("a copy waits that is gone");
      if (at->second.request.priority != priority)
        return broken("a copy waits under another priority");
    }
  }
  for (const auto& [id, copy] : copies_) {
    if (copy.done_bytes > copy.issued_bytes || copy.issued_bytes > copy.request.bytes)
      return broken("copy " + std::to_string(id) + " has more done than there is");
    const bool waits = copy.failure.ok() && copy.issued_bytes < copy.request.bytes;
    if (waits && waiting-- == 0) return broken("a copy with chunks left does not wait");
  }
  if (waiting != 0) return broken("a copy waits that has no chunk left");
  std::set<const RecordedEvent*> leased;
  for (const Lane& of : lanes_)
    for (const Chunk& chunk : of.in_flight) leased.insert(chunk.end.get());
  for (const auto& [id, copy] : copies_)
    for (const SharedEvent& event : {copy.begin, copy.dependency, copy.end})
      if (event != nullptr) leased.insert(event.get());
  // A dependency's end may have left its own copy: it is still held by the copy that waits for it.
  if (leased.size() != events_.leased_count()) return broken("an event is lost");
  return {};
}

}  // namespace spillway
