// SPDX-License-Identifier: Apache-2.0
// Order between streams: marks, waits, and blocks that other streams may still be using. All driver
// calls here are made outside the lock, on events that are shared while somebody uses them.
#include "allocator/pool_section.hpp"
#include "core/thread.hpp"
#include "device/driver_error.hpp"

#include <algorithm>
#include <utility>

namespace spillway {

Result<std::shared_ptr<Event>> DevicePool::take_event() {
  {
    const QuickSection section(*this);
    if (!free_events_.empty()) {
      std::shared_ptr<Event> event = std::move(free_events_.back());
      free_events_.pop_back();
      return event;
    }
  }
  SPW_ASSIGN_OR_RETURN(Event event, Event::create(driver_));
  return std::make_shared<Event>(std::move(event));
}

void DevicePool::return_events(Events events) {
  // Those that somebody else still looks at end with the last look.
  Events kept;
  for (std::shared_ptr<Event>& event : events)
    if (event.use_count() == 1) kept.push_back(std::move(event));
  if (kept.empty()) return;
  const QuickSection section(*this);
  for (std::shared_ptr<Event>& event : kept) free_events_.push_back(std::move(event));
}

StreamPoint DevicePool::point_of(const Block& block) const {
  const StreamIndex owner = streams_.owner_of(block.label.get());
  return {owner, owner == kNoStream ? 0 : block.epoch.get()};
}

// Records an event that covers the point: all that was given back on the stream so far.
Status DevicePool::mark(StreamPoint point) {
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  SPW_ASSIGN_OR_RETURN(std::shared_ptr<Event> event, take_event());
  StreamRef stream{cu::Stream{nullptr}, 0};
  bool retired = false;
  {
    const QuickSection section(*this);
    const StreamState& state = streams_.at(point.stream);
    stream = state.ref();
    retired = state.retired;
    point.epoch = state.epoch;
  }
  Status recorded = retired ? Status(Code::kInvalidArgument, "device pool: the stream is gone")
                            : event->record(stream);
  if (!recorded.ok()) {
    Events unused;
    unused.push_back(std::move(event));
    return_events(std::move(unused));
    return recorded;
  }
  const QuickSection section(*this);
  streams_.add_mark(point, std::move(event));
  return {};
}

// Work that is enqueued on the waiter from now on is ordered after the points.
Status DevicePool::make_wait(StreamIndex waiter, const std::vector<StreamPoint>& points) {
  for (const StreamPoint& point : points) {
    StreamRef stream{cu::Stream{nullptr}, 0};
    bool captured = false;
    Mark found;
    for (int attempt = 0; attempt < 2 && found.event == nullptr; ++attempt) {
      bool done = false;
      {
        const QuickSection section(*this);
        done = streams_.may_use(waiter, point);
        stream = streams_.at(waiter).ref();
        captured = streams_.at(waiter).capture_id != 0;
        if (!done) found = streams_.mark_after(point);
      }
      if (done) break;
      if (found.event == nullptr && attempt == 0 && !mark(point).ok()) break;
    }
    {
      const QuickSection section(*this);
      if (streams_.may_use(waiter, point)) continue;
    }
    Status waited = found.event == nullptr
                        ? Status(Code::kInternal, "device pool: a stream cannot be marked")
                        : found.event->make_wait(stream);
    if (!waited.ok()) {
      // The stream is gone, or the driver has no event for us: the long way round, except inside a
      // capture, where the host may wait for nothing.
      if (captured) return waited;
      SPW_RETURN_IF_ERROR(wait_on_host({point}));
      continue;
    }
    const QuickSection section(*this);
    streams_.note_waited(waiter, {point.stream, found.epoch});
    ++stats_.stream_wait_count;
  }
  return {};
}

Status DevicePool::wait_on_host(const std::vector<StreamPoint>& points) {
  Events over;
  for (const StreamPoint& point : points) {
    if (point.stream == kNoStream) continue;
    Mark found;
    bool done = false;
    {
      const QuickSection section(*this);
      done = point.epoch <= streams_.at(point.stream).done_epoch;
      if (!done) found = streams_.mark_after(point);
    }
    if (done) continue;
    if (found.event == nullptr && mark(point).ok()) {
      const QuickSection section(*this);
      found = streams_.mark_after(point);
    }
    const std::int64_t begin_ns = host_now_ns();
    StreamPoint reached{point.stream, found.epoch};
    if (found.event == nullptr || !found.event->synchronize().ok()) {
      {
        const QuickSection section(*this);
        reached.epoch = streams_.at(point.stream).epoch;
      }
      SPW_CU_TRY(driver_.cuCtxSynchronize());
    }
    const std::int64_t waited_ns = host_now_ns() - begin_ns;
    const QuickSection section(*this);
    streams_.note_done(reached, over);
    ++stats_.host_wait_count;
    stats_.host_wait_ns += static_cast<std::uint64_t>(std::max<std::int64_t>(waited_ns, 0));
  }
  return_events(std::move(over));
  return {};
}

// Asks the driver how far the streams are. What is over becomes anybody's.
Status DevicePool::poll() {
  struct Question {
    StreamPoint point;
    std::shared_ptr<Event> event;
  };
  std::vector<Question> questions;
  {
    const Section section(*this);
    for (StreamIndex i = 0; i < streams_.count(); ++i) {
      const StreamState& state = streams_.at(i);
      if (state.capture_id != 0) continue;  // events of a capture may not be queried
      for (const Mark& mark : state.marks) questions.push_back({{i, mark.epoch}, mark.event});
    }
  }
  Events over;
  StreamIndex busy = kNoStream;
  for (Question& question : questions) {
    if (question.point.stream == busy) continue;  // a later mark cannot be done before
    SPW_ASSIGN_OR_RETURN(const bool done, question.event->is_done());
    question.event.reset();
    if (!done) {
      busy = question.point.stream;
      continue;
    }
    const Section section(*this);
    streams_.note_done(question.point, over);
  }
  questions.clear();
  return_events(std::move(over));
  const Section section(*this);
  if (streams_.active_count() < 2) return {};  // nobody gains from anybody's
  for (StreamIndex i = 0; i < streams_.count(); ++i) {
    const StreamState& state = streams_.at(i);
    if (state.capture_id != 0) continue;
    for (std::size_t group = 0; group < state.labels.size() && group < kFirstCapture; ++group)
      if (streams_.owner_of(state.labels[group]) == i)
        space_.neutralize(state.labels[group], state.done_epoch);
  }
  return {};
}

// Blocks whose other users are done become free; with a waiter, its stream waits for those that are
// not, and the blocks follow it.
Status DevicePool::settle_deferred(const Request* waiter) {
  std::deque<Deferred> mine;
  {
    const Section section(*this);
    if (deferred_.empty()) return {};
    std::deque<Deferred> left;
    for (Deferred& deferred : deferred_) {
      const StreamState& owner = streams_.at(deferred.owner.stream);
      bool over = !owner.retired || deferred.owner.epoch <= owner.done_epoch;
      for (const StreamPoint& point : deferred.points)
        over = over && point.epoch <= streams_.at(point.stream).done_epoch;
      if (over || waiter != nullptr) {
        space_.set_state(deferred.block, BlockState::kClaimed);
        if (over) deferred.points.clear();
        mine.push_back(std::move(deferred));
      } else {
        left.push_back(std::move(deferred));
      }
    }
    deferred_ = std::move(left);
  }
  Status status;
  for (Deferred& deferred : mine) {
    StreamPoint follows = deferred.owner;
    if (!deferred.points.empty()) {
      std::vector<StreamPoint> points = deferred.points;
      points.push_back(deferred.owner);
      if (status.ok()) status = make_wait(waiter->index, points);
      if (!status.ok()) {
        const Section section(*this);
        space_.set_state(deferred.block, BlockState::kDeferred);
        deferred_.push_back(std::move(deferred));
        continue;
      }
      follows = {waiter->index, 0};
    }
    StreamRef stream{cu::Stream{nullptr}, 0};
    cu::DevicePtr pointer = 0;
    bool retired = false;
    {
      const Section section(*this);
      StreamState& state = streams_.at(follows.stream);
      stream = state.ref();
      pointer = pointer_at(space_.at(deferred.block).begin.get());
      retired = state.retired;
    }
    if (observer_ != nullptr) {
      observer_->block_freed(pointer, retired ? own_stream_->handle() : stream.handle());
      if (retired) static_cast<void>(synchronize(driver_, own_stream_->ref()));
    }
    const Section section(*this);
    const GroupIndex group = home_group(deferred.block);
    // A stream that is gone orders nothing any more, and all of its work is over here.
    if (retired)
      space_.give(deferred.block, space_.neutral_of(group), 0);
    else
      // Its end is here, later than where it was given back.
      space_.give(deferred.block,
                  streams_.label_of(space_, follows.stream, group),
                  ++streams_.at(follows.stream).epoch);
  }
  return status;
}

Status DevicePool::record_use(cu::DevicePtr pointer, StreamRef stream) {
  SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
  const QuickSection section(*this);
  SPW_ASSIGN_OR_RETURN(const BlockIndex index, live_block(pointer));
  const StreamIndex user = streams_.intern(stream, capture_id);
  if (user == kNoStream) return {Code::kOutOfMemory, "device pool: too many streams"};
  Block& block = space_.at(index);
  for (std::uint32_t use = block.link_next; use != 0; use = uses_[use].next)
    if (uses_[use].stream == user) return {};
  std::uint32_t added = free_use_;
  if (added != 0) {
    free_use_ = uses_[added].next;
  } else {
    added = static_cast<std::uint32_t>(uses_.size());
    uses_.emplace_back();
  }
  uses_[added] = {user, block.link_next};
  block.link_next = added;
  return {};
}

void DevicePool::drop_uses(BlockIndex index) {
  Block& block = space_.at(index);
  while (block.link_next != 0) {
    const std::uint32_t use = block.link_next;
    block.link_next = uses_[use].next;
    uses_[use].next = free_use_;
    free_use_ = use;
  }
}

Status DevicePool::retire_stream(StreamRef stream) {
  StreamPoint point;
  {
    const Section section(*this);
    const StreamIndex index = streams_.find(stream.id(), 0);
    if (index == kNoStream) return {};  // nothing was ever given back on it
    const StreamState& state = streams_.at(index);
    if (state.retired) return {};
    point = {index, state.epoch};
  }
  bool marked = false;
  {
    const Section section(*this);
    const StreamState& state = streams_.at(point.stream);
    marked = point.epoch <= state.done_epoch || streams_.mark_after(point).event != nullptr;
  }
  if (!marked) SPW_RETURN_IF_ERROR(mark(point));
  const Section section(*this);
  streams_.retire(point.stream);
  return {};
}

}  // namespace spillway
