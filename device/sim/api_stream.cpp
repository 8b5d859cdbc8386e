// SPDX-License-Identifier: Apache-2.0
// Streams, events, host functions, waiting for values.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <utility>

namespace spillway::sim {
namespace {

/// How often a query says "not ready" although the work may be done. Fixed schedules lie twice, so
/// that they too show a program that takes the first answer for the last.
std::uint32_t draw_lies(Engine& e) {
  if (!e.has(Semantic::kLateQuery) || e.is_timed()) return 0;
  if (e.options.mode == Mode::kEager || e.options.mode == Mode::kLazy) return 2;
  return e.schedule.choose(e.options.mode == Mode::kReplay ? 2 : 4);
}

}  // namespace

namespace api {

cu::Result cuStreamCreate(cu::Stream* stream, unsigned int flags) {
  return api::cuStreamCreateWithPriority(stream, flags, 0);
}

cu::Result cuStreamCreateWithPriority(cu::Stream* stream, unsigned int flags, int priority) {
  const Call call(Api::cuStreamCreateWithPriority);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (stream == nullptr || (flags & ~cu::kStreamNonBlocking) != 0) return cu::Result::kInvalidValue;
  StreamState& made = e.make_stream(e.current_context(), flags, priority, false);
  const std::uint32_t slot = e.stream_handles.create(e.reuse_now());
  e.stream_handles[slot] = made.index;
  made.handle = static_cast<cu::Stream>(e.stream_handles.handle(slot));
  made.priority = priority < -5 ? -5 : (priority > 0 ? 0 : priority);
  *stream = made.handle;
  return cu::Result::kSuccess;
}

cu::Result cuStreamDestroy(cu::Stream handle) {
  const Call call(Api::cuStreamDestroy);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t slot = 0;
  StreamState* stream = nullptr;
  if (handle == nullptr ||
      e.find_stream(handle, "cuStreamDestroy", &stream) != cu::Result::kSuccess ||
      e.stream_handles.find(handle, &slot) != HandleTable<std::uint32_t>::State::kLive)
    return cu::Result::kInvalidHandle;
  if (stream->capture != 0) e.captures.stream_destroyed(e, *stream);
  // What is queued still runs; only the handle ends.
  stream->live = false;
  e.stream_handles.destroy(slot);
  return cu::Result::kSuccess;
}

cu::Result cuStreamQuery(cu::Stream handle) {
  const Call call(Api::cuStreamQuery);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, "cuStreamQuery", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_stream(e, *stream, Api::cuStreamQuery);
      r != cu::Result::kSuccess)
    return r;
  const VectorClock known = e.clocks.clock(stream->agent);
  if (e.host_knows({stream->agent, known.get(stream->agent)})) return cu::Result::kSuccess;
  if (stream->lied_about != stream->enqueued) {
    stream->lied_about = stream->enqueued;
    stream->lies_left = draw_lies(e);
  }
  if (stream->lies_left > 0) {
    --stream->lies_left;
    return cu::Result::kNotReady;
  }
  const StreamPoint target = stream->tail();
  e.nudge(target);
  if (e.sticky != cu::Result::kSuccess) return e.sticky;
  if (!e.is_complete(target)) return cu::Result::kNotReady;
  e.host_join(known);
  return cu::Result::kSuccess;
}

cu::Result cuStreamSynchronize(cu::Stream handle) {
  const Call call(Api::cuStreamSynchronize);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, "cuStreamSynchronize", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_stream(e, *stream, Api::cuStreamSynchronize);
      r != cu::Result::kSuccess)
    return r;
  const cu::Result result = e.synchronize_stream(*stream, "cuStreamSynchronize");
  e.pools.synchronized(e);
  return result;
}

cu::Result cuStreamWaitEvent(cu::Stream handle, cu::Event event_handle, unsigned int flags) {
  const Call call(Api::cuStreamWaitEvent);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  EventState* event = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = e.find_stream(handle, "cuStreamWaitEvent", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.find_event(event_handle, "cuStreamWaitEvent", &event, &index);
      r != cu::Result::kSuccess)
    return r;
  if (flags > cu::kEventWaitExternal) return cu::Result::kInvalidValue;
  cu::Result captured = cu::Result::kSuccess;
  if (e.captures.take_wait(e, *stream, index, flags, &captured)) return captured;
  if (event->records == 0) return cu::Result::kSuccess;  // never recorded: nothing to wait for
  Op op;
  op.kind = OpKind::kMarker;
  op.call = "cuStreamWaitEvent";
  if (e.has(Semantic::kWaitBindsAtCall)) {
    op.wait_for(event->point);
    e.clocks.wait(stream->agent, e.self_agent(), event->clock);
  } else {
    // Switched off: the mistake of taking the recording stream as it is now.
    const StreamState& recorded = *e.streams[event->point.stream];
    op.wait_for(recorded.tail());
    e.clocks.wait(stream->agent, e.self_agent(), VectorClock(e.clocks.clock(recorded.agent)));
  }
  return e.submit(*stream, std::move(op));
}

cu::Result cuStreamGetCtx(cu::Stream handle, cu::Context* context) {
  const Call call(Api::cuStreamGetCtx);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (context == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuStreamGetCtx", &stream);
      r != cu::Result::kSuccess)
    return r;
  *context = static_cast<cu::Context>(e.contexts.handle(stream->context));
  return cu::Result::kSuccess;
}

cu::Result cuStreamGetFlags(cu::Stream handle, unsigned int* flags) {
  const Call call(Api::cuStreamGetFlags);
  if (!call.ok()) return call.result();
  StreamState* stream = nullptr;
  if (flags == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = call.engine().find_stream(handle, "cuStreamGetFlags", &stream);
      r != cu::Result::kSuccess)
    return r;
  *flags = stream->blocking ? cu::kStreamDefault : cu::kStreamNonBlocking;
  return cu::Result::kSuccess;
}

cu::Result cuStreamGetPriority(cu::Stream handle, int* priority) {
  const Call call(Api::cuStreamGetPriority);
  if (!call.ok()) return call.result();
  StreamState* stream = nullptr;
  if (priority == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = call.engine().find_stream(handle, "cuStreamGetPriority", &stream);
      r != cu::Result::kSuccess)
    return r;
  *priority = stream->priority;
  return cu::Result::kSuccess;
}

cu::Result cuStreamGetId(cu::Stream handle, unsigned long long* id) {
  const Call call(Api::cuStreamGetId);
  if (!call.ok()) return call.result();
  StreamState* stream = nullptr;
  if (id == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = call.engine().find_stream(handle, "cuStreamGetId", &stream);
      r != cu::Result::kSuccess)
    return r;
  *id = stream->id;
  return cu::Result::kSuccess;
}

cu::Result cuEventCreate(cu::Event* event, unsigned int flags) {
  const Call call(Api::cuEventCreate);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  constexpr unsigned int kAll =
      cu::kEventBlockingSync | cu::kEventDisableTiming | cu::kEventInterprocess;
  if (event == nullptr || (flags & ~kAll) != 0) return cu::Result::kInvalidValue;
  if ((flags & cu::kEventInterprocess) != 0 && (flags & cu::kEventDisableTiming) == 0)
    return cu::Result::kInvalidValue;
  const std::uint32_t index = e.events.create(e.reuse_now());
  EventState& made = e.events[index];
  made.serial = ++e.next_event_serial;
  made.context = e.current_context();
  made.flags = flags;
  *event = static_cast<cu::Event>(e.events.handle(index));
  return cu::Result::kSuccess;
}

cu::Result cuEventDestroy(cu::Event handle) {
  const Call call(Api::cuEventDestroy);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  EventState* event = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = e.find_event(handle, "cuEventDestroy", &event, &index);
      r != cu::Result::kSuccess)
    return r;
  e.events.destroy(index);
  return cu::Result::kSuccess;
}

cu::Result cuEventRecord(cu::Event event, cu::Stream stream) {
  return api::cuEventRecordWithFlags(event, stream, 0);
}

cu::Result cuEventRecordWithFlags(cu::Event handle, cu::Stream stream_handle, unsigned int flags) {
  const Call call(Api::cuEventRecordWithFlags);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  EventState* event = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = e.find_stream(stream_handle, "cuEventRecord", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.find_event(handle, "cuEventRecord", &event, &index);
      r != cu::Result::kSuccess)
    return r;
  if (flags > cu::kEventRecordExternal) return cu::Result::kInvalidValue;
  if (event->context != stream->context) {
    e.misuse("cuEventRecord", "event and stream belong to different contexts");
    return cu::Result::kInvalidHandle;
  }
  cu::Result captured = cu::Result::kSuccess;
  if (e.captures.take_record(e, *stream, index, flags, &captured)) return captured;
  event->captured_in = 0;
  Op op;
  op.kind = OpKind::kMarker;
  op.call = "cuEventRecord";
  op.event = index;
  op.event_serial = event->serial;
  op.record = ++event->records;
  event->completed_ns = -1;
  event->lies_left = draw_lies(e);
  event->point = {stream->index, stream->enqueued + 1};
  return e.submit(*stream, std::move(op));  // takes the snapshot; others may run before it returns
}

cu::Result cuEventQuery(cu::Event handle) {
  const Call call(Api::cuEventQuery);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  EventState* event = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = e.find_event(handle, "cuEventQuery", &event, &index);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_event(e, *event, Api::cuEventQuery);
      r != cu::Result::kSuccess)
    return r;
  if (event->records == 0) return cu::Result::kSuccess;
  const AgentId recorded_on = e.streams[event->point.stream]->agent;
  if (e.host_knows({recorded_on, event->clock.get(recorded_on)})) return cu::Result::kSuccess;
  if (event->lies_left > 0) {
    --event->lies_left;
    return cu::Result::kNotReady;
  }
  const VectorClock known = event->clock;
  const StreamPoint target = event->point;
  e.nudge(target);
  if (e.sticky != cu::Result::kSuccess) return e.sticky;
  if (!e.is_complete(target)) return cu::Result::kNotReady;
  e.host_join(known);
  return cu::Result::kSuccess;
}

cu::Result cuEventSynchronize(cu::Event handle) {
  const Call call(Api::cuEventSynchronize);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  EventState* event = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = e.find_event(handle, "cuEventSynchronize", &event, &index);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_event(e, *event, Api::cuEventSynchronize);
      r != cu::Result::kSuccess)
    return r;
  if (event->records == 0) return cu::Result::kSuccess;
  const VectorClock known = event->clock;
  if (!e.wait_for(event->point, "cuEventSynchronize")) return e.lost();
  e.host_join(known);
  e.pools.synchronized(e);
  return e.sticky;
}

cu::Result cuEventElapsedTime(float* milliseconds, cu::Event start, cu::Event end) {
  const Call call(Api::cuEventElapsedTime);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  EventState* first = nullptr;
  EventState* second = nullptr;
  std::uint32_t index = 0;
  if (milliseconds == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_event(start, "cuEventElapsedTime", &first, &index);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.find_event(end, "cuEventElapsedTime", &second, &index);
      r != cu::Result::kSuccess)
    return r;
  for (const EventState* event : {first, second})
    if (const cu::Result r = e.captures.check_event(e, *event, Api::cuEventElapsedTime);
        r != cu::Result::kSuccess)
      return r;
  if (((first->flags | second->flags) & cu::kEventDisableTiming) != 0 || first->records == 0 ||
      second->records == 0)
    return cu::Result::kInvalidHandle;
  if (!e.is_complete(first->point) || !e.is_complete(second->point)) return cu::Result::kNotReady;
  *milliseconds = static_cast<float>(second->completed_ns - first->completed_ns) * 1e-6f;
  return cu::Result::kSuccess;
}

cu::Result cuLaunchHostFunc(cu::Stream handle, cu::HostFn fn, void* user) {
  const Call call(Api::cuLaunchHostFunc);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (fn == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuLaunchHostFunc", &stream);
      r != cu::Result::kSuccess)
    return r;
  Op op;
  op.kind = OpKind::kHostFunc;
  op.call = "cuLaunchHostFunc";
  op.host_fn = fn;
  op.user = user;
  return e.submit(*stream, std::move(op));
}

cu::Result cuStreamWaitValue32(cu::Stream handle,
                               cu::DevicePtr address,
                               std::uint32_t value,
                               unsigned int flags) {
  const Call call(Api::cuStreamWaitValue32);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (flags > cu::kWaitValueEq || address % 4 != 0) return cu::Result::kInvalidValue;
  if (!e.has_contents()) return cu::Result::kNotSupported;  // nothing could ever arrive
  if (const cu::Result r = e.find_stream(handle, "cuStreamWaitValue32", &stream);
      r != cu::Result::kSuccess)
    return r;
  Op op;
  op.kind = OpKind::kWaitValue;
  op.call = "cuStreamWaitValue32";
  op.target = {address, e.place_of(address)};
  op.bytes = 4;
  op.value = value;
  op.wait_geq = flags == cu::kWaitValueGeq;
  return e.submit(*stream, std::move(op));
}

cu::Result cuStreamWriteValue32(cu::Stream handle,
                                cu::DevicePtr address,
                                std::uint32_t value,
                                unsigned int flags) {
  const Call call(Api::cuStreamWriteValue32);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (flags > 1 || address % 4 != 0) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuStreamWriteValue32", &stream);
      r != cu::Result::kSuccess)
    return r;
  Op op;
  op.kind = OpKind::kWriteValue;
  op.call = "cuStreamWriteValue32";
  op.target = {address, e.place_of(address)};
  op.bytes = 4;
  op.value = value;
  return e.submit(*stream, std::move(op));
}

}  // namespace api
}  // namespace spillway::sim
