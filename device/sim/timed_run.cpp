// SPDX-License-Identifier: Apache-2.0
#include "device/sim/timed_run.hpp"

#include "device/sim/engine.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace spillway::sim {

Status TimedRun::reset(const Options& options) {
  if (options.calibration != nullptr) {
    calibration_ = *options.calibration;
  } else if (!calibration_ || calibration_->name != "h200") {
    SPW_ASSIGN_OR_RETURN(calibration_, load_calibration("h200"));
  }
  TimedOptions timed;
  timed.device_count = static_cast<std::uint32_t>(options.devices);
  timed.devices_per_root = static_cast<std::uint32_t>(options.devices_per_root);
  SPW_ASSIGN_OR_RETURN(model_, TimedModel::make(*calibration_, timed));
  return Status();
}

void TimedRun::abandon() {
  if (model_) model_->reset();
}

std::uint64_t TimedRun::cost_ns(Api api, std::uint64_t bytes) const {
  const DeviceTiming& t = *calibration_->timing;
  const HostCallCosts& h = t.host;
  std::uint64_t cost = h.other_ns;
  switch (api) {
    case Api::cuLaunchKernel:
    case Api::cuLaunchKernelEx:
    case Api::cuGraphLaunch:
      cost = h.launch_ns;
      break;
    case Api::cuMemcpyAsync:
    case Api::cuMemcpyHtoDAsync:
    case Api::cuMemcpyDtoHAsync:
    case Api::cuMemcpyDtoDAsync:
    case Api::cuMemcpyPeerAsync:
    case Api::cuMemcpy:
    case Api::cuMemcpyHtoD:
    case Api::cuMemcpyDtoH:
    case Api::cuMemcpyDtoD:
      cost = h.memcpy_async_ns;
      break;
    case Api::cuMemsetD8:
    case Api::cuMemsetD32:
    case Api::cuMemsetD8Async:
    case Api::cuMemsetD16Async:
    case Api::cuMemsetD32Async:
    case Api::cuStreamWriteValue32:
    case Api::cuStreamWaitValue32:
      cost = h.memset_async_ns;
      break;
    case Api::cuEventRecord:
    case Api::cuEventRecordWithFlags:
      cost = h.event_record_ns;
      break;
    case Api::cuStreamWaitEvent:
      cost = h.stream_wait_event_ns;
      break;
    case Api::cuEventQuery:
    case Api::cuStreamQuery:
      cost = h.event_query_ns;
      break;
    case Api::cuEventCreate:
      cost = h.event_create_ns;
      break;
    case Api::cuEventDestroy:
      cost = h.event_destroy_ns;
      break;
    case Api::cuLaunchHostFunc:
      cost = h.host_func_ns;
      break;
    case Api::cuStreamSynchronize:
    case Api::cuEventSynchronize:
    case Api::cuCtxSynchronize:
      cost = h.synchronize_ns;
      break;
    case Api::cuStreamCreate:
    case Api::cuStreamCreateWithPriority:
      cost = h.stream_create_ns;
      break;
    case Api::cuMemAllocAsync:
    case Api::cuMemAllocFromPoolAsync:
      cost = h.mem_alloc_async_ns;
      break;
    case Api::cuMemFreeAsync:
      cost = h.mem_free_async_ns;
      break;
    case Api::cuMemGetInfo:
      cost = h.mem_get_info_ns;
      break;
    case Api::cuMemAlloc:
    case Api::cuMemAllocPitch:
    case Api::cuMemAllocManaged:
      cost = t.memory.alloc.ns(bytes);
      break;
    case Api::cuMemFree:
      cost = t.memory.free.ns(bytes);
      break;
    case Api::cuMemHostAlloc:
      cost = t.memory.host_alloc.ns(bytes);
      break;
    case Api::cuMemFreeHost:
      cost = t.memory.host_free.ns(bytes);
      break;
    case Api::cuMemHostRegister:
      cost = t.memory.host_register.ns(bytes);
      break;
    case Api::cuMemHostUnregister:
      cost = t.memory.host_unregister.ns(bytes);
      break;
    case Api::cuMemAddressReserve:
      cost = t.vmm.reserve.ns(bytes);
      break;
    case Api::cuMemAddressFree:
      cost = t.vmm.address_free.ns(bytes);
      break;
    case Api::cuMemCreate:
      cost = t.vmm.create.ns(bytes);
      break;
    case Api::cuMemMap:
      cost = t.vmm.map.ns(bytes);
      break;
    case Api::cuMemSetAccess:
      cost = t.vmm.set_access.ns(bytes);
      break;
    case Api::cuMemUnmap:
      cost = t.vmm.unmap.ns(bytes);
      break;
    case Api::cuMemRelease:
      cost = t.vmm.release.ns(bytes);
      break;
    default:
      break;
  }
  return cost;
}

void TimedRun::charge(Engine& e, Api api, std::uint64_t bytes) {
  last_ns_ = e.self().now_ns += static_cast<std::int64_t>(cost_ns(api, bytes));
}

void TimedRun::charge_bytes(Engine& e, Api api, std::uint64_t bytes) {
  last_ns_ = e.self().now_ns += static_cast<std::int64_t>(cost_ns(api, bytes) - cost_ns(api, 0));
}

Work TimedRun::work_of(Engine& e, const StreamState& stream, const Op& op) const {
  Work work;
  work.device = static_cast<std::uint32_t>(e.device_of(stream));
  work.slowdown =
      std::max<std::uint32_t>(1, static_cast<std::uint32_t>(std::lround(op.slow_factor)));
  const auto on_host = [](const Operand& o) { return o.place != Place::kDevice; };
  switch (op.kind) {
    case OpKind::kCopy:
      work.bytes = op.bytes;
      work.pinned = op.target.place != Place::kPageable && op.source.place != Place::kPageable &&
                    op.source.place != Place::kStaged;
      if (op.is_peer)
        work.kind = Work::Kind::kPeer;
      else if (on_host(op.source) && on_host(op.target))
        work.kind = Work::Kind::kInstant;
      else if (on_host(op.source))
        work.kind = Work::Kind::kH2D;
      else
        work.kind = on_host(op.target) ? Work::Kind::kD2H : Work::Kind::kD2D;
      break;
    case OpKind::kFill:
      work.kind = Work::Kind::kMemset;
      work.bytes = op.bytes;
      break;
    case OpKind::kKernel:
      work.kind = Work::Kind::kKernel;
      work.issued_ns = op.issued_ns;
      work.flops = op.cost.flops * op.slow_factor;
      work.math = op.cost.math;
      work.memory_bytes = op.cost.memory_bytes * work.slowdown;
      work.fixed_ns = op.cost.fixed_ns * static_cast<std::int64_t>(work.slowdown);
      for (const KernelAccess& access : op.accesses) {
        if (e.place_of(access.pointer) != Place::kPinned) continue;
        if (access.mode != AccessMode::kWrite) work.host_read_bytes += access.bytes;
        if (access.mode != AccessMode::kRead) work.host_written_bytes += access.bytes;
      }
      break;
    case OpKind::kMarker:
    case OpKind::kHostFunc:
    case OpKind::kWaitValue:
    case OpKind::kWriteValue:
    case OpKind::kPoison:
      work.kind = Work::Kind::kInstant;
      break;
  }
  return work;
}

void TimedRun::submit_head(Engine& e, StreamState& stream, std::int64_t now_ns) {
  if (stream.idle()) return;
  Op& op = stream.queue[stream.head];
  if (op.submitted || op.stuck) return;
  StreamPoint missing;
  if (e.first_missing(op, &missing)) {
    std::vector<std::uint32_t>& waiters = e.streams[missing.stream]->waiters;
    if (std::find(waiters.begin(), waiters.end(), stream.index) == waiters.end())
      waiters.push_back(stream.index);
    return;
  }
  if (op.kind == OpKind::kWaitValue && !e.eligible(stream)) return;  // looked at again on writes
  op.submitted = true;
  const std::int64_t ready = std::max({now_ns, op.issued_ns, model_->now_ns()});
  model_->submit(op.number, stream.index, stream.priority, work_of(e, stream, op), ready);
}

void TimedRun::enqueued(Engine& e, StreamState& stream) {
  if (stream.completed + 1 == stream.enqueued) submit_head(e, stream, e.self().now_ns);
  advance_device(e, e.self().now_ns);
}

void TimedRun::finish_events(Engine& e) {
  for (std::size_t i = 0; i < done_.size(); ++i) {
    const Completion done = done_[i];
    StreamState& stream = *e.streams[done.stream];
    if (stream.idle()) continue;  // the context was lost
    Op& op = stream.queue[stream.head];
    if (op.fail_late != 0) {
      e.fail_sticky(static_cast<cu::Result>(op.fail_late));
      break;
    }
    if (op.kind == OpKind::kHostFunc) {
      op.started = true;
      e.start_callback(stream);  // completes when the callback thread has run it
      continue;
    }
    const bool wakes_values = op.kind == OpKind::kWriteValue;
    e.execute(stream, op);
    if (e.sticky != cu::Result::kSuccess) break;
    e.complete_head(stream, done.end_ns);
    after_completion(e, stream, done.end_ns, wakes_values);
  }
  done_.clear();
}

void TimedRun::after_completion(Engine& e,
                                StreamState& stream,
                                std::int64_t now_ns,
                                bool wakes_values) {
  submit_head(e, stream, now_ns);
  if (!stream.waiters.empty()) {
    waiters_.swap(stream.waiters);
    stream.waiters.clear();
    for (const std::uint32_t waiter : waiters_) submit_head(e, *e.streams[waiter], now_ns);
    waiters_.clear();
  }
  if (wakes_values)
    for (std::size_t i = 0; i < e.stream_count; ++i) submit_head(e, *e.streams[i], now_ns);
}

bool TimedRun::run_device(Engine& e) {
  const std::optional<std::int64_t> next = model_->next_event_ns();
  if (!next) return false;
  model_->advance_to(*next, &done_);
  finish_events(e);
  return true;
}

void TimedRun::advance_device(Engine& e, std::int64_t until_ns) {
  for (;;) {
    const std::optional<std::int64_t> next = model_->next_event_ns();
    if (!next || *next > until_ns) return;
    model_->advance_to(*next, &done_);
    finish_events(e);
  }
}

std::uint32_t TimedRun::next_thread(Engine& e) {
  std::uint32_t best = Engine::kNone;
  const std::uint32_t me = e.threads.current();
  const std::uint32_t count = e.threads.count();
  for (std::uint32_t t = 0; t < count; ++t) {
    if (t == me || !e.threads.runnable(t)) continue;
    if (best == Engine::kNone || e.thread(t).now_ns < e.thread(best).now_ns) best = t;
  }
  return best;
}

void TimedRun::catch_up(Engine& e, std::int64_t now_ns) {
  e.self().now_ns = std::max(e.self().now_ns, now_ns);
}

void TimedRun::completed(Engine& e, StreamState& stream) {
  after_completion(e, stream, e.self().now_ns, false);
}

void TimedRun::point(Engine& e) {
  last_ns_ = e.self().now_ns;
  if (e.threads.count() > 1) {
    // Whoever is behind goes first; then nobody acts in another's past.
    const std::uint32_t next = next_thread(e);
    if (next != Engine::kNone && e.thread(next).now_ns < e.self().now_ns) {
      e.threads.switch_to(next);
    }
  }
  advance_device(e, e.self().now_ns);
}

void TimedRun::yielded(Engine& e) {
  constexpr std::int64_t kYieldNs = 500;  // about one sched_yield
  catch_up(e, e.self().now_ns + kYieldNs);
  point(e);
}

bool TimedRun::run_other(Engine& e) {
  last_ns_ = e.self().now_ns;
  const std::uint32_t next = next_thread(e);
  const std::optional<std::int64_t> event = model_->next_event_ns();
  if (next != Engine::kNone && (!event || e.thread(next).now_ns <= *event)) {
    const std::int64_t before = e.thread(next).now_ns;
    e.threads.switch_to(next);
    // What made this thread runnable happened no earlier than the other thread's time then.
    catch_up(e, std::max(before, last_ns_));
    return true;
  }
  if (!event) return false;
  return run_device(e);
}

bool TimedRun::wait(Engine& e, StreamPoint target) {
  // What is complete already was so at this thread's time: the device is never ahead of a thread
  // that can run.
  if (e.is_complete(target)) return true;
  while (!e.is_complete(target)) {
    if (e.threads.abandoned() || e.sticky != cu::Result::kSuccess) return false;
    if (!run_other(e)) return false;
  }
  arrived(e, target);
  return true;
}

void TimedRun::arrived(Engine& e, StreamPoint target) {
  const StreamState& stream = *e.streams[target.stream];
  // The stream may have gone on while other threads ran; then the device's present is as near as is
  // known.
  catch_up(e,
           stream.completed == target.seq ? stream.completed_ns
                                          : std::min(stream.completed_ns, model_->now_ns()));
}

void TimedRun::set_now(Engine& e, std::int64_t now_ns) { catch_up(e, now_ns); }

}  // namespace spillway::sim
