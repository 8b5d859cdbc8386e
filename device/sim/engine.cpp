// SPDX-License-Identifier: Apache-2.0
// Queues, clocks and the loop that decides who goes next.
#include "device/sim/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace spillway::sim {
namespace {

// Virtual time in the adversarial modes counts steps, not work.
constexpr std::int64_t kStepNs = 1000;

// How often a foreign thread looks, a millisecond apart, whether what it waits for has come before
// it counts as lost.
constexpr int kForeignLooksMax = 60'000;

}  // namespace

// ---- streams

StreamState& Engine::make_stream(std::uint32_t context,
                                 unsigned int flags,
                                 int priority,
                                 bool internal) {
  if (stream_count == streams.size()) streams.push_back(std::make_unique<StreamState>());
  StreamState& stream = *streams[stream_count];
  std::vector<Op> queue = std::move(stream.queue);
  queue.clear();
  stream = StreamState();
  stream.queue = std::move(queue);  // its memory
  stream.index = static_cast<std::uint32_t>(stream_count++);
  stream.id = ++next_stream_id;
  stream.context = context;
  stream.priority = priority;
  stream.blocking = (flags & cu::kStreamNonBlocking) == 0;
  stream.internal = internal;
  stream.agent = clocks.add_stream(stream.id);
  return stream;
}

cu::Result Engine::find_stream(cu::Stream handle, const char* call, StreamState** out) {
  if (handle == nullptr || handle == cu::stream_legacy() || handle == cu::stream_per_thread()) {
    const std::uint32_t current = current_context();
    if (current == kNone) return cu::Result::kInvalidContext;
    if (handle == cu::stream_per_thread()) {
      std::uint32_t& mine = self().per_thread_stream;
      if (mine == kNone) {
        const std::uint32_t index = make_stream(current, cu::kStreamDefault, 0, false).index;
        self().per_thread_stream = index;
        streams[index]->handle = handle;
        *out = streams[index].get();
        return cu::Result::kSuccess;
      }
      *out = streams[mine].get();
      return cu::Result::kSuccess;
    }
    *out = streams[contexts[current].legacy_stream].get();
    return cu::Result::kSuccess;
  }
  std::uint32_t slot = 0;
  switch (stream_handles.find(handle, &slot)) {
    case HandleTable<std::uint32_t>::State::kLive:
      *out = streams[stream_handles[slot]].get();
      return cu::Result::kSuccess;
    case HandleTable<std::uint32_t>::State::kDestroyed:
      misuse(call, "the stream was destroyed");
      return cu::Result::kInvalidHandle;
    default:
      misuse(call, "not a stream of this driver");
      return cu::Result::kInvalidHandle;
  }
}

cu::Result Engine::find_event(cu::Event handle,
                              const char* call,
                              EventState** out,
                              std::uint32_t* index) {
  switch (events.find(handle, index)) {
    case HandleTable<EventState>::State::kLive:
      *out = &events[*index];
      return cu::Result::kSuccess;
    case HandleTable<EventState>::State::kDestroyed:
      misuse(call, "the event was destroyed");
      return cu::Result::kInvalidHandle;
    default:
      misuse(call, "not an event of this driver");
      return cu::Result::kInvalidHandle;
  }
}

// ---- enqueue

cu::Result Engine::submit(StreamState& stream, Op&& op) {
  if (captures.active()) {
    cu::Result answer = cu::Result::kSuccess;
    if (captures.take(*this, stream, op, &answer)) return answer;
  }
  op.number = ++op_count;
  if (has(Semantic::kLegacyStreamJoins) && !stream.internal) {
    if (stream.legacy) {
      for (std::size_t i = 0; i < stream_count; ++i) {
        StreamState& other = *streams[i];
        if (!other.blocking || other.legacy || other.internal || other.context != stream.context)
          continue;
        if (!is_complete(other.tail())) op.wait_for(other.tail());
        clocks.join(stream.agent, other.agent);
      }
    } else if (stream.blocking) {
      StreamState& legacy = *streams[contexts[stream.context].legacy_stream];
      if (!is_complete(legacy.tail())) op.wait_for(legacy.tail());
      clocks.join(stream.agent, legacy.agent);
    }
  }
  if (op.kind == OpKind::kWaitValue)
    if (const auto written = value_clocks.find(op.target.address); written != value_clocks.end())
      clocks.join(stream.agent, written->second);
  op.epoch = clocks.issue(stream.agent, self_agent());
  if (op.kind == OpKind::kWriteValue)
    value_clocks[op.target.address].join(clocks.clock(stream.agent));
  if (op.kind == OpKind::kHostFunc) op.agent = clocks.add_host_function(stream.agent);
  if (!check_accesses(op, stream)) return cu::Result::kInvalidValue;
  guard_operands(op);
  op.seq = ++stream.enqueued;
  op.issued_ns = now_ns();
  if (op.event != Op::kNoEvent) {
    EventState& event = events[op.event];
    event.point = stream.tail();
    clocks.record(stream.agent, self_agent(), event.clock);
  }
  if (sticky != cu::Result::kSuccess) {  // the context is lost: nothing runs any more
    stream.completed = stream.enqueued;
    return cu::Result::kSuccess;
  }
  if (faults.any()) Faults::attach(self().injected, &op);
  if (!is_timed() && op.kind == OpKind::kCopy && has(Semantic::kPiecewiseSource))
    op.pieces = std::max(1u, options.copy_pieces);
  if (op.kind == OpKind::kKernel && has(Semantic::kGarbageInFlight) && !is_timed()) op.pieces = 2;
  stream.queue.push_back(std::move(op));
  if (is_timed()) timed.enqueued(*this, stream);
  if (!enqueue_whole) let_run(stream);
  return cu::Result::kSuccess;
}

void Engine::let_run(StreamState& stream) {
  if (is_timed()) {
    // The device goes on with virtual time.
  } else if (!has(Semantic::kLateStart)) {
    wait_for(stream.tail(), "enqueue");
  } else if (options.mode == Mode::kEager) {
    point("enqueue");
  }
  if (stream.enqueued - stream.completed > options.launch_queue) {
    // The hardware queue is full: the call blocks until there is room.
    wait_for({stream.index, stream.enqueued - options.launch_queue}, "full launch queue");
  }
}

// ---- who goes next

bool Engine::eligible(const StreamState& stream) {
  if (stream.idle()) return false;
  const Op& op = stream.queue[stream.head];
  StreamPoint missing;
  if (op.stuck || first_missing(op, &missing)) return false;
  if (op.kind == OpKind::kHostFunc && op.started) return false;  // the callback thread has it
  if (op.kind == OpKind::kWaitValue) return value_arrived(op);
  return true;
}

void Engine::gather(bool with_self) {
  entities_.clear();
  const std::uint32_t me = threads.current();
  if (with_self) entities_.push_back(me);
  const std::uint32_t count = threads.count();
  for (std::uint32_t t = 0; t < count; ++t)
    if (t != me && threads.runnable(t)) entities_.push_back(t);
  for (std::uint32_t s = 0; s < stream_count; ++s)
    if (eligible(*streams[s])) entities_.push_back(kDeviceEntity + s);
}

void Engine::point(const char* /*what*/) {
  if (threads.abandoned()) return;
  if (is_timed()) {
    timed.point(*this);
    return;
  }
  for (;;) {
    gather(true);
    const std::uint32_t next = entities_[schedule.pick(entities_)];
    if (next == threads.current()) return;
    if (next < kDeviceEntity) {
      threads.switch_to(next);
      return;
    }
    step(*streams[next - kDeviceEntity]);
  }
}

void Engine::yielded() {
  if (is_timed()) {
    timed.yielded(*this);
    return;
  }
  static_cast<void>(take_turn());
}

// Schedules that prefer somebody would let a polling thread poll for ever: here they take turns.
bool Engine::take_turn() {
  gather(false);
  if (entities_.empty()) return false;
  const bool draws = options.mode == Mode::kRandom || options.mode == Mode::kReplay;
  const std::size_t at = draws ? schedule.pick(entities_) : yields_++ % entities_.size();
  const std::uint32_t next = entities_[at];
  if (next < kDeviceEntity)
    threads.switch_to(next);
  else
    step(*streams[next - kDeviceEntity]);
  return true;
}

bool Engine::run_one_other() {
  gather(false);
  if (entities_.empty()) return false;
  const std::uint32_t next = entities_[schedule.pick(entities_)];
  if (next < kDeviceEntity)
    threads.switch_to(next);
  else
    step(*streams[next - kDeviceEntity]);
  return true;
}

bool Engine::force(StreamPoint target) {
  std::vector<StreamPoint>& stack = force_stack_;
  const std::size_t base = stack.size();
  stack.push_back(target);
  while (stack.size() > base) {
    const StreamPoint top = stack.back();
    if (is_complete(top)) {
      stack.pop_back();
      continue;
    }
    StreamState& stream = *streams[top.stream];
    const Op& op = stream.queue[stream.head];
    StreamPoint missing;
    if (first_missing(op, &missing)) {
      stack.push_back(missing);
    } else if (eligible(stream)) {
      step(stream);
    } else if (!run_one_other()) {
      stack.resize(base);
      return false;
    }
  }
  return true;
}

bool Engine::first_missing(const Op& op, StreamPoint* missing) const {
  for (std::uint32_t i = 0; i < op.wait_count; ++i) {
    if (is_complete(op.waits[i])) continue;
    *missing = op.waits[i];
    return true;
  }
  for (const StreamPoint point : op.more_waits) {
    if (is_complete(point)) continue;
    *missing = point;
    return true;
  }
  return false;
}

bool Engine::wait_for(StreamPoint target, const char* call) {
  if (is_complete(target)) return true;
  if (threads.count() > 1) {
    // The thread is marked as waiting, so that others see who waits for what.
    struct Arrival {
      Engine* engine = nullptr;
      StreamPoint target;
    };
    Arrival arrival{this, target};
    const auto arrived = [](void* argument) {
      const Arrival& a = *static_cast<Arrival*>(argument);
      return a.engine->is_complete(a.target) || a.engine->sticky != cu::Result::kSuccess;
    };
    if (!threads.wait(arrived, &arrival, call)) return false;
    if (is_timed() && sticky == cu::Result::kSuccess) timed.arrived(*this, target);
    return sticky == cu::Result::kSuccess;
  }
  bool done = run_towards(target);
  if (foreign_threads()) {
    for (int looks = 0; !done && others_may_help() && looks < kForeignLooksMax; ++looks) {
      foreign.let_others_call(*this);
      done = run_towards(target);
    }
  }
  if (!done && sticky == cu::Result::kSuccess) give_up_streams();
  return sticky == cu::Result::kSuccess;
}

bool Engine::run_towards(StreamPoint target) {
  if (is_complete(target)) return true;
  if (is_timed()) return timed.wait(*this, target);
  if (options.mode == Mode::kLazy) return force(target);
  while (!is_complete(target))
    if (!run_one_other()) return false;
  return true;
}

bool Engine::others_may_help() const {
  if (sticky != cu::Result::kSuccess) return false;
  for (std::size_t i = 0; i < stream_count; ++i) {
    const StreamState& stream = *streams[i];
    if (stream.idle()) continue;
    const Op& op = stream.queue[stream.head];
    if (op.kind == OpKind::kWaitValue || (op.kind == OpKind::kHostFunc && op.started)) return true;
  }
  return false;
}

bool Engine::give_up_streams() {
  if (sticky != cu::Result::kSuccess) return false;
  std::string text;
  for (std::size_t i = 0; i < stream_count; ++i) {
    const StreamState& stream = *streams[i];
    if (stream.idle()) continue;
    const Op& op = stream.queue[stream.head];
    text += fmt::format("{}{} (op {}) at the head of {}",
                        text.empty() ? "" : ", ",
                        op.call,
                        op.number,
                        describe(stream));
  }
  if (text.empty()) return false;
  // A copy that a fault rule has stuck is the rule's doing, not the program's.
  if (!Faults::any_stuck(*this))
    report(ReportKind::kDeadlock, "the device waits for something that nobody will do: " + text);
  fail_sticky(cu::Result::kLaunchTimeout);
  return true;
}

cu::Result Engine::synchronize_stream(StreamState& stream, const char* call) {
  // A blocking call learns of what was enqueued before it began.
  VectorClock known = clocks.clock(stream.agent);
  StreamPoint target = stream.tail();
  if (stream.legacy && has(Semantic::kLegacyStreamJoins)) {
    // The legacy stream is idle when the blocking streams are.
    for (std::size_t i = 0; i < stream_count; ++i) {
      const StreamState& other = *streams[i];
      if (!other.blocking || other.internal || other.context != stream.context) continue;
      known.join(clocks.clock(other.agent));
    }
    for (std::size_t i = 0; i < stream_count; ++i) {
      const StreamState& other = *streams[i];
      if (!other.blocking || other.internal || other.context != stream.context) continue;
      if (!wait_for(other.tail(), call)) return lost();
    }
  }
  if (!wait_for(target, call)) return lost();
  host_join(known);
  return sticky;
}

cu::Result Engine::synchronize_all(std::uint32_t context, const char* call) {
  VectorClock known;
  std::vector<StreamPoint> targets;
  for (std::size_t i = 0; i < stream_count; ++i) {
    const StreamState& stream = *streams[i];
    if (context != kNone && stream.context != context) continue;
    known.join(clocks.clock(stream.agent));
    targets.push_back(stream.tail());
  }
  for (const StreamPoint target : targets)
    if (!wait_for(target, call)) return lost();
  host_join(known);
  return sticky;
}

void Engine::host_join(const VectorClock& from) {
  clocks.join(self_agent(), from);
  lift_guards();
}

bool Engine::host_knows(Epoch epoch) { return clocks.clock(self_agent()).covers(epoch); }

void Engine::nudge(StreamPoint target) {
  if (is_complete(target)) return;
  if (is_timed()) {
    // Time goes on by what the query costs.
  } else if (options.mode == Mode::kLazy) {
    force(target);
  } else {
    // Two threads that ask would hand to each other by priority, before any stream.
    const bool turns = options.mode == Mode::kPct && threads.count() > 1;
    while (!is_complete(target) && (turns ? take_turn() : run_one_other())) {
    }
  }
  if (faults.any() && !is_complete(target)) faults.polled(*this);
}

// ---- steps

void Engine::step(StreamState& stream) {
  ++steps;
  mix(stream.index);
  virtual_ns_ += kStepNs;
  Op& op = stream.queue[stream.head];
  if (op.fail_late != 0) {
    fail_sticky(static_cast<cu::Result>(op.fail_late));
    return;
  }
  if (op.kind == OpKind::kHostFunc && has(Semantic::kCallbackThread)) {
    op.started = true;
    start_callback(stream);
    return;
  }
  execute(stream, op);
  if (sticky != cu::Result::kSuccess) return;  // the queue is gone
  op.started = true;
  if (++op.pieces_done == op.pieces) complete_head(stream, virtual_ns_);
}

void Engine::complete_head(StreamState& stream, std::int64_t at_ns) {
  Op& op = stream.queue[stream.head];
  if (op.event != Op::kNoEvent && events.live(op.event)) {
    EventState& event = events[op.event];
    if (event.serial == op.event_serial && event.records == op.record) event.completed_ns = at_ns;
  }
  op.staged = {};
  ++stream.completed;
  stream.completed_ns = at_ns;
  ++stream.head;
  if (stream.head == stream.queue.size()) {
    stream.queue.clear();
    stream.head = 0;
  } else if (stream.head >= 64 && stream.head * 2 > stream.queue.size()) {
    stream.queue.erase(stream.queue.begin(),
                       stream.queue.begin() + static_cast<std::ptrdiff_t>(stream.head));
    stream.head = 0;
  }
}

void Engine::fail_sticky(cu::Result result) {
  if (sticky == cu::Result::kSuccess) sticky = result;
  for (std::size_t i = 0; i < stream_count; ++i) {
    StreamState& stream = *streams[i];
    stream.completed = stream.enqueued;
    stream.queue.clear();
    stream.head = 0;
  }
  timed.abandon();
}

}  // namespace spillway::sim
