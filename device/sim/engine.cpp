// SPDX-License-Identifier: Apache-2.0
// Queues, clocks and the loop that decides who goes next.
#include "device/sim/engine.hpp"

#include "device/sim/race_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <pthread.h>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::size_t kReportsMax = 1000;
// Virtual time in the adversarial modes counts steps, not work.
constexpr std::int64_t kStepNs = 1000;

thread_local Engine* tls_engine = nullptr;
std::atomic<Engine*> process_engine{nullptr};

}  // namespace

namespace {

/// By name, so that a longer table does not change the fingerprints of old programs.
std::uint32_t hash_of(Api api) {
  static const std::vector<std::uint32_t> kHashes = [] {
    std::vector<std::uint32_t> all;
    for (std::uint16_t i = 0; i < static_cast<std::uint16_t>(Api::kCount); ++i) {
      std::uint32_t hash = 0x811c9dc5u;
      for (const char* c = name_of(static_cast<Api>(i)); *c != 0; ++c)
        hash = (hash ^ static_cast<unsigned char>(*c)) * 0x01000193u;
      all.push_back(hash);
    }
    return all;
  }();
  return kHashes[static_cast<std::size_t>(api)];
}

}  // namespace

Engine* current_engine() {
  return tls_engine != nullptr ? tls_engine : process_engine.load(std::memory_order_acquire);
}

Engine* set_current_engine(Engine* engine) { return std::exchange(tls_engine, engine); }

void set_process_engine(Engine* engine) { process_engine.store(engine, std::memory_order_release); }

const char* name_of(Api api) {
  static constexpr const char* kNames[] = {
#define SPW_SIM_API_NAME(member, symbol, version, parameters) #member,
      SPW_DRIVER_FUNCTIONS(SPW_SIM_API_NAME)
#undef SPW_SIM_API_NAME
  };
  return api < Api::kCount ? kNames[static_cast<std::size_t>(api)] : "?";
}

// ---- threads and contexts
// -------------------------------------------------------------------------

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

// ---- entry
// ----------------------------------------------------------------------------------------

namespace {

// Set in the child of a fork, where the driver's threads and mappings are gone.
std::atomic<bool> g_forked{false};

void watch_forks() {
  static const int kInstalled = pthread_atfork(nullptr, nullptr, [] { g_forked = true; });
  static_cast<void>(kInstalled);
}

bool needs_no_context(Api api) {
  switch (api) {
    case Api::cuInit:
    case Api::cuDriverGetVersion:
    case Api::cuDeviceGet:
    case Api::cuDeviceGetCount:
    case Api::cuDeviceGetName:
    case Api::cuDeviceGetAttribute:
    case Api::cuDeviceTotalMem:
    case Api::cuDeviceGetUuid:
    case Api::cuDeviceGetPCIBusId:
    case Api::cuDeviceCanAccessPeer:
    case Api::cuDevicePrimaryCtxRetain:
    case Api::cuDevicePrimaryCtxRelease:
    case Api::cuDevicePrimaryCtxGetState:
    case Api::cuDevicePrimaryCtxReset:
    case Api::cuDeviceGetDefaultMemPool:
    case Api::cuCtxGetCurrent:
    case Api::cuCtxSetCurrent:
    case Api::cuCtxPushCurrent:
    case Api::cuCtxPopCurrent:
    case Api::cuThreadExchangeStreamCaptureMode:
    // The driver takes these with or without a current context.
    case Api::cuMemAddressReserve:
    case Api::cuMemAddressFree:
    case Api::cuMemCreate:
    case Api::cuMemRelease:
    case Api::cuMemMap:
    case Api::cuMemUnmap:
    case Api::cuMemSetAccess:
    case Api::cuMemGetAccess:
    case Api::cuMemGetAllocationGranularity:
    case Api::cuMemGetAllocationPropertiesFromHandle:
    case Api::cuMemRetainAllocationHandle:
    case Api::cuMemPoolCreate:
    case Api::cuMemPoolDestroy:
    case Api::cuMemPoolSetAttribute:
    case Api::cuMemPoolGetAttribute:
    case Api::cuMemPoolTrimTo:
    case Api::cuPointerGetAttributes:
    case Api::cuLibraryLoadData:
    case Api::cuLibraryUnload:
    case Api::cuLibraryGetKernel:
      return true;
    default:
      return false;
  }
}

// How often a foreign thread looks, a millisecond apart, whether what it waits for has come before
// it counts as lost.
constexpr int kForeignLooksMax = 60'000;

bool needs_no_init(Api api) { return api == Api::cuInit || api == Api::cuDriverGetVersion; }

}  // namespace

bool in_forked_child() { return g_forked.load(std::memory_order_relaxed); }

Engine::Engine() : threads(*this) { watch_forks(); }
Engine::~Engine() = default;

Status Engine::reset(const Options& wanted) {
  threads.reset();
  const bool same_memory = memory != nullptr && wanted.devices == options.devices &&
                           wanted.memory_bytes == options.memory_bytes &&
                           wanted.granularity_bytes == options.granularity_bytes &&
                           wanted.contents == options.contents;
  options = wanted;
  if (same_memory) {
    if (memory->any_faults()) static_cast<void>(memory->take_faults(&host_faults_));
    memory->reset();
  } else {
    MemoryOptions sizes;
    sizes.device_count = static_cast<std::uint32_t>(options.devices);
    sizes.memory_bytes = options.memory_bytes;
    sizes.granularity_bytes = options.granularity_bytes;
    sizes.contents = options.contents;
    SPW_ASSIGN_OR_RETURN(memory, Memory::create(sizes));
  }
  memory->pinned().set_limit_bytes(options.pinned_limit_bytes);
  memory->set_immediate_reuse(has(Semantic::kImmediateReuse));
  if (is_timed()) SPW_RETURN_IF_ERROR(timed.reset(options));
  Options choosing = options;
  if (!has(Semantic::kAnyOrder) && !is_timed()) choosing.mode = options.mode = Mode::kLazy;
  schedule.reset(choosing);
  clocks.reset();
  blocks.reset();
  pools.reset(options.devices);
  faults.reset(options);
  reports.clear();
  for (std::size_t i = 0; i < stream_count; ++i) streams[i]->queue.clear();
  stream_count = 0;
  stream_handles.reset();
  events.reset();
  contexts.reset();
  modules.reset();
  captures.reset();
  enqueue_whole = false;
  primary_context.assign(static_cast<std::size_t>(options.devices), kNone);
  thread_states.clear();
  foreign.reset();
  foreign_clock.clear();
  foreign_now_ns = 0;
  initialized = false;
  sticky = cu::Result::kSuccess;
  op_count = call_count = steps = 0;
  next_stream_id = next_event_serial = 0;
  fingerprint = 0xcbf29ce484222325ull;
  guards_.clear();
  conflicts_.clear();
  host_faults_.clear();
  force_stack_.clear();
  callbacks_.clear();
  callback_host_thread_ = kNone;
  virtual_ns_ = 0;
  yields_ = 0;
  return Status();
}

cu::Result Engine::enter(Api api, std::uint64_t bytes) {
  if (in_forked_child() && has(Semantic::kForkCheck)) return cu::Result::kNotInitialized;
  ++call_count;
  mix(hash_of(api));
  ThreadState& me = self();
  if (me.in_callback && has(Semantic::kCallbackThread)) {
    report(ReportKind::kCallback,
           fmt::format("{} was called inside a host function: the driver forbids all of its calls "
                       "there",
                       name_of(api)));
    return cu::Result::kNotPermitted;
  }
  if (foreign_threads()) {
    clocks.join(me.agent, foreign_clock);
    me.now_ns = std::max(me.now_ns, foreign_now_ns);
  }
  if (!initialized && !needs_no_init(api)) return cu::Result::kNotInitialized;
  if (sticky != cu::Result::kSuccess) return sticky;
  if (me.contexts.empty() && !needs_no_context(api)) return cu::Result::kInvalidContext;
  if (has(Semantic::kLockAcrossCall) && held_lock_count() > 0) {
    report(ReportKind::kLockHeld,
           fmt::format("{} was called while host thread {} holds {} lock{}: any driver call may "
                       "block until work is done that needs the lock",
                       name_of(api),
                       current_thread(),
                       held_lock_count(),
                       held_lock_count() == 1 ? "" : "s"));
  }
  if (is_timed()) timed.charge(*this, api, bytes);
  if (memory->any_faults()) collect_host_faults(nullptr, nullptr);
  point(name_of(api));
  if (sticky != cu::Result::kSuccess) return sticky;
  if (captures.active())
    if (const cu::Result r = captures.admit(*this, api); r != cu::Result::kSuccess) return r;
  if (faults.any()) return faults.apply(*this, api, bytes, &self().injected);
  return cu::Result::kSuccess;
}

void Engine::leave() {
  const ThreadState& me = self();
  if (me.in_callback) return;
  clocks.release(me.agent, foreign_clock);
  foreign_now_ns = std::max(foreign_now_ns, me.now_ns);
}

// ---- streams
// --------------------------------------------------------------------------------------

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
// --------------------------------------------------------------------------------------

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
  op.epoch = clocks.issue(stream.agent, self_agent());
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
// --------------------------------------------------------------------------------

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
  gather(false);
  if (entities_.empty()) return;
  // Schedules that prefer somebody would let a polling thread poll for ever: here they take turns.
  const bool draws = options.mode == Mode::kRandom || options.mode == Mode::kReplay;
  const std::size_t at = draws ? schedule.pick(entities_) : yields_++ % entities_.size();
  const std::uint32_t next = entities_[at];
  if (next < kDeviceEntity)
    threads.switch_to(next);
  else
    step(*streams[next - kDeviceEntity]);
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
      Engine* engine;
      StreamPoint target;
    } arrival{this, target};
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
      if (!wait_for(other.tail(), call)) return sticky;
    }
  }
  if (!wait_for(target, call)) return sticky;
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
    if (!wait_for(target, call)) return sticky;
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
    while (!is_complete(target) && run_one_other()) {
    }
  }
  if (faults.any() && !is_complete(target)) faults.polled(*this);
}

// ---- steps
// ----------------------------------------------------------------------------------------

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

// ---- HostEnvironment
// ------------------------------------------------------------------------------

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
    // Nobody is left but time.
    const std::int64_t deadline = threads.earliest_deadline_ns();
    if (deadline != kNoDeadlineNs) {
      set_now(deadline);
      continue;
    }
    if (give_up_streams()) continue;
    report(ReportKind::kDeadlock, "nobody can go on:\n" + threads.describe_waits());
    threads.abandon();
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
    const std::int64_t deadline = threads.earliest_deadline_ns();
    if (deadline != kNoDeadlineNs) {
      set_now(deadline);
      continue;
    }
    if (give_up_streams()) continue;
    report(ReportKind::kDeadlock, "nobody can go on:\n" + threads.describe_waits());
    threads.abandon();
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
// -------------------------------------------------------------------------------

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

// ---- reports
// --------------------------------------------------------------------------------------

void Engine::report_conflicts() {
  std::uint64_t last_op = 0;
  for (const Conflict& conflict : conflicts_) {
    if (conflict.earlier.op == last_op && last_op != 0) continue;  // one report per pair
    last_op = conflict.earlier.op;
    const bool lifetime = is_lifetime(conflict.later.kind) || is_lifetime(conflict.earlier.kind);
    report(lifetime ? ReportKind::kLifetime : ReportKind::kRace,
           race_text(conflict, clocks, flat_text(conflict.range)));
  }
  conflicts_.clear();
}

std::string Engine::describe(const StreamState& stream) const {
  if (stream.legacy) return "the legacy default stream";
  if (stream.internal) return fmt::format("stream {} (of a graph launch)", stream.id);
  return fmt::format("stream {}", stream.id);
}

void Engine::report(ReportKind kind, std::string text) {
  if (reports.size() >= kReportsMax) return;
  text += fmt::format("\n  schedule: {}, seed {}", name_of(options.mode), options.seed);
  if (!options.repeat_command.empty()) {
    std::string command = options.repeat_command;
    if (const std::size_t at = command.find("%s"); at != std::string::npos)
      command.replace(at, 2, std::to_string(options.seed));
    text += "\n  repeat: " + command;
  }
  reports.push_back({kind, std::move(text), steps});
}

void Engine::misuse(const char* call, const std::string& text) {
  if (has(Semantic::kStrictPreconditions))
    report(ReportKind::kMisuse, fmt::format("{}: {}", call, text));
}

}  // namespace spillway::sim
