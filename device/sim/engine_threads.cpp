// SPDX-License-Identifier: Apache-2.0
// Host threads of a run: what the engine knows of each, how they wait for each other and for the
// device, the thread that runs host functions.
#include "device/sim/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace spillway::sim {

// ---- threads and contexts

ThreadState& Engine::thread(std::uint32_t number) {
  if (number >= thread_states.size()) thread_states.resize(number + 1);
  ThreadState& state = thread_states[number];
  if (!state.known) {
    state.known = true;
    state.agent = clocks.add_host_thread(number);
  }
  return state;
}

std::uint32_t Engine::current_thread() {
  if (!foreign_threads()) return threads.current();
  bool fresh = false;
  const std::uint32_t number = foreign.current(&fresh);
  if (fresh) {
    // The thread that had this number before has ended; its agent goes on.
    ThreadState& state = thread(number);
    const AgentId agent = state.agent;
    state = ThreadState();
    state.known = true;
    state.agent = agent;
  }
  return number;
}

std::uint32_t Engine::current_context() {
  const ThreadState& me = self();
  return me.contexts.empty() ? kNone : me.contexts.back();
}

// ---- HostEnvironment

void Engine::let_time_pass() {
  const std::int64_t deadline = threads.earliest_deadline_ns();
  if (deadline != kNoDeadlineNs) {
    set_now(deadline);
    return;
  }
  if (give_up_streams()) return;
  report(ReportKind::kDeadlock, "nobody can go on:\n" + threads.describe_waits());
  threads.abandon();
}

void Engine::wait_until(bool (*ready)(void*), void* argument, const char* /*what*/) {
  while (!threads.abandoned()) {
    if (is_timed()) {
      if (ready(argument)) return;
      if (timed.run_other(*this)) continue;
    } else {
      const bool now = ready(argument);
      gather(now);
      if (!entities_.empty()) {
        const std::uint32_t next = entities_[schedule.pick(entities_)];
        if (next == threads.current()) return;
        if (next >= kDeviceEntity) {
          step(*streams[next - kDeviceEntity]);
        } else {
          threads.switch_to(next);
          if (ready(argument)) return;  // this thread was chosen
        }
        continue;
      }
    }
    let_time_pass();
  }
}

std::uint32_t Engine::thread_ended(std::uint32_t /*thread*/) {
  while (!threads.abandoned()) {
    if (is_timed()) {
      const std::uint32_t next = timed.next_thread(*this);
      if (next != kNone) return next;
      if (timed.run_device(*this)) continue;
    } else {
      gather(false);
      if (!entities_.empty()) {
        const std::uint32_t next = entities_[schedule.pick(entities_)];
        if (next < kDeviceEntity) return next;
        step(*streams[next - kDeviceEntity]);
        continue;
      }
    }
    let_time_pass();
  }
  return 0;
}

void Engine::thread_born(std::uint32_t number, std::uint32_t parent) {
  const std::int64_t now = thread(parent).now_ns;
  thread(number).now_ns = now;
}

void Engine::thread_entered(std::uint32_t /*thread*/) { set_current_engine(this); }

std::int64_t Engine::now_ns() { return is_timed() ? self().now_ns : virtual_ns_; }

void Engine::set_now(std::int64_t now_ns) {
  if (is_timed())
    timed.set_now(*this, now_ns);
  else
    virtual_ns_ = std::max(virtual_ns_, now_ns);
}

void Engine::acquire(std::uint32_t number, const VectorClock& from) {
  clocks.join(thread(number).agent, from);
  lift_guards();
}

void Engine::release(std::uint32_t number, VectorClock& into) {
  clocks.release(thread(number).agent, into);
}

void Engine::misuse(const char* what, const char* name) {
  report(ReportKind::kMisuse, fmt::format("{} ({})", what, name));
}

// ---- host callbacks

void Engine::start_callback(StreamState& stream) {
  callbacks_.push_back(stream.index);
  if (foreign_threads()) {
    if (!foreign.wake_callbacks(*this)) fail_sticky(cu::Result::kOperatingSystem);
    return;
  }
  if (callback_host_thread_ != kNone) return;
  Result<std::uint32_t> made = threads.create_service("cuda callbacks", &callback_thread, this);
  if (made.ok())
    callback_host_thread_ = made.value();
  else
    fail_sticky(cu::Result::kOperatingSystem);
}

void Engine::callback_thread(void* engine) {
  Engine& e = *static_cast<Engine*>(engine);
  for (;;) {
    const auto waiting = [](void* self) { return !static_cast<Engine*>(self)->callbacks_.empty(); };
    if (!e.threads.wait(waiting, &e, "work for the callback thread")) return;
    e.serve_callback();
  }
}

void Engine::serve_foreign_callbacks() {
  const std::unique_lock lock(foreign_mutex);
  set_current_engine(this);
  for (;;) {
    while (callbacks_.empty()) foreign.wait_for_callbacks(*this);
    serve_callback();
    foreign.callback_ended();
  }
}

void Engine::serve_callback() {
  StreamState& stream = *streams[callbacks_.front()];
  callbacks_.erase(callbacks_.begin());
  if (stream.idle()) return;  // the context was lost meanwhile
  const Op& op = stream.queue[stream.head];
  const cu::HostFn fn = op.host_fn;
  void* user = op.user;
  // The callback is the stream's operation: its accesses are ordered as that is, before whatever
  // was enqueued behind it. So the pages of what came before it, and of what waits for it, are
  // open to it for that while.
  ThreadState& me = self();
  const AgentId own = me.agent;
  const AgentId agent = op.agent;
  me.agent = agent;
  me.in_callback = true;
  struct Opened {
    Guard guard;
    std::uint64_t serial;  // of the block, which another thread may free meanwhile
  };
  std::vector<Opened> opened;
  std::erase_if(guards_, [&](const Guard& guard) {
    if (!clocks.clock(agent).covers(guard.epoch) &&
        !clocks.comes_after_function(guard.epoch, agent))
      return false;
    static_cast<void>(memory->unguard(guard.range.begin, guard.range.bytes, guard.kind));
    opened.push_back({guard, memory->find(guard.range.begin).serial});
    return true;
  });
  if (foreign_threads()) foreign_mutex.unlock();
  fn(user);
  if (foreign_threads()) foreign_mutex.lock();
  if (memory->any_faults()) collect_host_faults(nullptr, nullptr);
  for (const Opened& o : opened) {
    if (memory->find(o.guard.range.begin).serial != o.serial) continue;
    if (memory->guard(o.guard.range.begin, o.guard.range.bytes, o.guard.kind) == MemoryError::kOk)
      guards_.push_back(o.guard);
  }
  clocks.end_host_function(agent);
  ThreadState& again = self();
  again.in_callback = false;
  again.agent = own;
  if (stream.idle()) return;
  clocks.join(stream.agent, agent);  // what it acquired
  if (foreign_threads()) again.now_ns = std::max(again.now_ns, foreign_now_ns);
  complete_head(stream, now_ns());
  if (is_timed()) timed.completed(*this, stream);
}

}  // namespace spillway::sim
