// SPDX-License-Identifier: Apache-2.0
#include "device/sim/captures.hpp"

#include "device/sim/api.hpp"
#include "device/sim/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace spillway::sim {
namespace {

/// Calls that take effect outside every stream, or wait: what the driver calls potentially unsafe
/// during a capture. It gives no complete list; where it says nothing, the call counts as unsafe.
bool is_unsafe(Api api) {
  switch (api) {
    case Api::cuMemAlloc:
    case Api::cuMemAllocPitch:
    case Api::cuMemAllocManaged:
    case Api::cuMemFree:
    case Api::cuMemHostAlloc:
    case Api::cuMemFreeHost:
    case Api::cuMemHostRegister:
    case Api::cuMemHostUnregister:
    case Api::cuMemAddressFree:
    case Api::cuMemCreate:
    case Api::cuMemRelease:
    case Api::cuMemMap:
    case Api::cuMemUnmap:
    case Api::cuMemSetAccess:
    case Api::cuMemPoolTrimTo:
    case Api::cuMemPoolDestroy:
    case Api::cuMemcpy:
    case Api::cuMemcpyHtoD:
    case Api::cuMemcpyDtoH:
    case Api::cuMemcpyDtoD:
    case Api::cuMemsetD8:
    case Api::cuMemsetD32:
    case Api::cuModuleLoadData:
    case Api::cuModuleUnload:
    case Api::cuLibraryUnload:
      return true;
    default:
      return false;
  }
}

/// Calls without a stream that work on the legacy default stream.
bool uses_legacy_stream(Api api) {
  switch (api) {
    case Api::cuMemcpy:
    case Api::cuMemcpyHtoD:
    case Api::cuMemcpyDtoH:
    case Api::cuMemcpyDtoD:
    case Api::cuMemsetD8:
    case Api::cuMemsetD32:
      return true;
    default:
      return false;
  }
}

void merge(std::vector<std::uint32_t>& into, const std::vector<std::uint32_t>& from) {
  std::vector<std::uint32_t> both;
  std::set_union(into.begin(), into.end(), from.begin(), from.end(), std::back_inserter(both));
  into = std::move(both);
}

/// Whether every node comes before the ones in `last`, or is one of them.
bool all_joined(const GraphState& graph, const std::vector<std::uint32_t>& last) {
  std::vector<bool> covered(graph.nodes.size(), false);
  for (const std::uint32_t node : last) covered[node] = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (!covered[i]) return false;  // nodes after i have passed on to it by now
    for (const std::uint32_t before : graph.nodes[i]->after) covered[before] = true;
  }
  return true;
}

}  // namespace

void Captures::reset() {
  graphs.reset();
  execs.reset();
  open_.clear();
  next_id_ = 0;
}

// ---- bookkeeping
// ----------------------------------------------------------------------------------

Captures::Capture* Captures::find(std::uint64_t id) {
  for (Capture& capture : open_)
    if (capture.id == id) return &capture;
  return nullptr;
}

Captures::Lane& Captures::lane_of(Capture& capture, const StreamState& stream) {
  for (Lane& lane : capture.lanes)
    if (lane.stream == stream.index) return lane;
  return capture.lanes.front();  // not reached: StreamState::capture says that it is one of them
}

Captures::Lane& Captures::add_lane(Capture& capture, StreamState& stream) {
  stream.capture = capture.id;
  graphs[capture.graph].lanes.push_back({stream.context, stream.priority});
  Lane& lane = capture.lanes.emplace_back();
  lane.stream = stream.index;
  lane.graph_lane = static_cast<std::uint32_t>(graphs[capture.graph].lanes.size() - 1);
  return lane;
}

GraphNode& Captures::add_node(Capture& capture, const StreamState& stream) {
  GraphState& graph = graphs[capture.graph];
  Lane& lane = lane_of(capture, stream);
  GraphNode& node = *graph.nodes.emplace_back(std::make_unique<GraphNode>());
  node.lane = lane.graph_lane;
  node.after = std::move(lane.after);
  lane.after.assign(1, static_cast<std::uint32_t>(graph.nodes.size() - 1));
  return node;
}

GraphNode& Captures::event_node(Engine& e,
                                Capture& capture,
                                const StreamState& stream,
                                std::uint32_t event) {
  GraphNode& node = add_node(capture, stream);
  node.op.event = event;
  node.op.event_serial = e.events[event].serial;
  return node;
}

void Captures::close(Engine& e, Capture& capture) {
  for (const Lane& lane : capture.lanes) e.streams[lane.stream]->capture = 0;
  graphs[capture.graph].under_capture = false;
  open_.erase(open_.begin() + (&capture - open_.data()));
}

cu::Result Captures::refuse(Engine& e, Capture& capture, cu::Result code, const std::string& what) {
  const char* name = "";
  static_cast<void>(api::cuGetErrorName(code, &name));
  e.report(ReportKind::kCapture,
           fmt::format("{}: {}; the capture that began on {} is invalid from here on",
                       what,
                       name,
                       e.describe(*e.streams[capture.origin])));
  capture.invalid = true;
  return code;
}

// ---- calls that are forbidden meanwhile
// -----------------------------------------------------------

Captures::Capture* Captures::blocking_one(const Engine& e, std::uint32_t context) {
  if (!e.has(Semantic::kLegacyStreamJoins)) return nullptr;
  for (Capture& capture : open_) {
    if (capture.invalid) continue;
    for (const Lane& lane : capture.lanes) {
      const StreamState& stream = *e.streams[lane.stream];
      if (stream.blocking && !stream.legacy && stream.context == context) return &capture;
    }
  }
  return nullptr;
}

cu::Result Captures::refuse_implicit(Engine& e, const StreamState& legacy, const char* call) {
  Capture* capture = blocking_one(e, legacy.context);
  if (capture == nullptr) return cu::Result::kSuccess;
  return refuse(e,
                *capture,
                cu::Result::kStreamCaptureImplicit,
                fmt::format("{} uses the legacy default stream, which would have to wait for a "
                            "blocking stream that is capturing",
                            call));
}

cu::Result Captures::refuse_unsafe(Engine& e, const char* call) {
  const cu::StreamCaptureMode mine = e.self().capture_mode;
  if (mine == cu::StreamCaptureMode::kRelaxed) return cu::Result::kSuccess;
  cu::Result result = cu::Result::kSuccess;
  for (Capture& capture : open_) {
    if (capture.invalid) continue;
    const bool own = capture.thread == e.current_thread();
    const bool forbids = own ? capture.mode != cu::StreamCaptureMode::kRelaxed
                             : capture.mode == cu::StreamCaptureMode::kGlobal &&
                                   mine == cu::StreamCaptureMode::kGlobal;
    if (!forbids) continue;
    result = refuse(
        e,
        capture,
        cu::Result::kStreamCaptureUnsupported,
        fmt::format("{} on host thread {} is not safe during {} of {} capture",
                    call,
                    e.current_thread(),
                    own ? "its own" : "another thread's",
                    capture.mode == cu::StreamCaptureMode::kGlobal ? "global" : "thread-local"));
  }
  return result;
}

cu::Result Captures::admit(Engine& e, Api api) {
  if (!e.has(Semantic::kCaptureRules)) return cu::Result::kSuccess;
  if (api == Api::cuCtxSynchronize) {
    cu::Result result = cu::Result::kSuccess;
    const std::uint32_t context = e.current_context();
    for (Capture& capture : open_) {
      const bool here =
          std::any_of(capture.lanes.begin(), capture.lanes.end(), [&](const Lane& lane) {
            return e.streams[lane.stream]->context == context;
          });
      if (!here || capture.invalid) continue;
      result = refuse(e,
                      capture,
                      cu::Result::kStreamCaptureUnsupported,
                      "cuCtxSynchronize waits for a stream that is capturing");
    }
    return result == cu::Result::kSuccess ? refuse_unsafe(e, name_of(api)) : result;
  }
  if (uses_legacy_stream(api)) {
    const StreamState& legacy = *e.streams[e.contexts[e.current_context()].legacy_stream];
    if (const cu::Result r = refuse_implicit(e, legacy, name_of(api)); r != cu::Result::kSuccess)
      return r;
  }
  return is_unsafe(api) ? refuse_unsafe(e, name_of(api)) : cu::Result::kSuccess;
}

cu::Result Captures::check_stream(Engine& e, const StreamState& stream, Api api) {
  if (!active() || !e.has(Semantic::kCaptureRules)) return cu::Result::kSuccess;
  if (Capture* capture = find(stream.capture)) {
    if (capture->invalid) return cu::Result::kStreamCaptureInvalidated;
    return refuse(e,
                  *capture,
                  cu::Result::kStreamCaptureUnsupported,
                  fmt::format("{} on {}, which is capturing: nothing of it is running",
                              name_of(api),
                              e.describe(stream)));
  }
  if (stream.legacy)
    if (const cu::Result r = refuse_implicit(e, stream, name_of(api)); r != cu::Result::kSuccess)
      return r;
  return refuse_unsafe(e, name_of(api));
}

cu::Result Captures::check_event(Engine& e, const EventState& event, Api api) {
  if (!e.has(Semantic::kCaptureRules)) return cu::Result::kSuccess;
  if (event.captured_in != 0) {
    const std::string what =
        fmt::format("{} on an event that was last recorded in a capture", name_of(api));
    if (Capture* capture = find(event.captured_in); capture != nullptr && !capture->invalid)
      return refuse(e, *capture, cu::Result::kCapturedEvent, what);
    e.report(ReportKind::kCapture, what);
    return cu::Result::kCapturedEvent;
  }
  if (!active() || api == Api::cuEventElapsedTime) return cu::Result::kSuccess;
  return refuse_unsafe(e, name_of(api));
}

cu::Result Captures::check_stream_memory(Engine& e, const StreamState& stream, const char* call) {
  if (!active()) return cu::Result::kSuccess;
  Capture* capture = find(stream.capture);
  if (capture == nullptr) {
    if (!stream.legacy || !e.has(Semantic::kCaptureRules)) return cu::Result::kSuccess;
    return refuse_implicit(e, stream, call);
  }
  if (capture->invalid) return cu::Result::kStreamCaptureInvalidated;
  return refuse(
      e,
      *capture,
      cu::Result::kStreamCaptureUnsupported,
      fmt::format("{} on a capturing stream: graphs that own memory are not modelled", call));
}

// ---- what a capturing stream takes instead of running it
// ------------------------------------------

bool Captures::take(Engine& e, StreamState& stream, Op& op, cu::Result* result) {
  if (stream.internal) return false;
  Capture* capture = find(stream.capture);
  if (capture == nullptr) {
    if (!stream.legacy || !e.has(Semantic::kCaptureRules)) return false;
    *result = refuse_implicit(e, stream, op.call);
    return *result != cu::Result::kSuccess;
  }
  *result = cu::Result::kSuccess;
  if (capture->invalid) {
    *result = cu::Result::kStreamCaptureInvalidated;
    return true;
  }
  // A pool's note about one of its blocks is no driver call: it holds now, not at every launch.
  if (op.kind == OpKind::kPoison) return true;
  add_node(*capture, stream).op = std::move(op);
  return true;
}

bool Captures::take_record(
    Engine& e, StreamState& stream, std::uint32_t index, unsigned int flags, cu::Result* result) {
  EventState& event = e.events[index];
  Capture* capture = find(stream.capture);
  *result = cu::Result::kSuccess;
  if (capture == nullptr) {
    if (flags == 0 || !e.has(Semantic::kCaptureRules)) return false;
    e.misuse("cuEventRecordWithFlags", "the external flag is for captures only");
    *result = cu::Result::kInvalidValue;
    return true;
  }
  if (capture->invalid) {
    *result = cu::Result::kStreamCaptureInvalidated;
  } else if (flags == cu::kEventRecordExternal) {
    event_node(e, *capture, stream, index).op.call = "cuEventRecord";
  } else {
    event.captured_in = capture->id;
    event.captured_after = lane_of(*capture, stream).after;
  }
  return true;
}

cu::Result Captures::join(Engine& e, StreamState& stream, const EventState& event) {
  Capture* capture = find(event.captured_in);
  if (capture == nullptr) {
    if (!e.has(Semantic::kCaptureRules)) return cu::Result::kSuccess;
    e.report(ReportKind::kCapture,
             fmt::format("cuStreamWaitEvent: {} waits for an event that was last recorded in a "
                         "capture, which has ended: that record is no work",
                         e.describe(stream)));
    return cu::Result::kCapturedEvent;
  }
  if (capture->invalid) return cu::Result::kInvalidValue;
  if (stream.legacy && e.has(Semantic::kCaptureRules))
    return refuse(e,
                  *capture,
                  cu::Result::kStreamCaptureUnsupported,
                  "cuStreamWaitEvent: the legacy default stream cannot join a capture");
  add_lane(*capture, stream).after = event.captured_after;
  return cu::Result::kSuccess;
}

bool Captures::take_wait(
    Engine& e, StreamState& stream, std::uint32_t index, unsigned int flags, cu::Result* result) {
  const EventState& event = e.events[index];
  *result = cu::Result::kSuccess;
  if (stream.capture == 0) {
    if (event.captured_in == 0) {
      if (flags == 0 || !e.has(Semantic::kCaptureRules)) return false;
      e.misuse("cuStreamWaitEvent", "the external flag is for captures only");
      *result = cu::Result::kInvalidValue;
      return true;
    }
    *result = join(e, stream, event);
    return true;
  }
  Capture& capture = *find(stream.capture);
  if (capture.invalid) {
    *result = cu::Result::kStreamCaptureInvalidated;
    return true;
  }
  if (event.captured_in == capture.id) {
    merge(lane_of(capture, stream).after, event.captured_after);
    return true;
  }
  if (event.captured_in == 0 && flags == cu::kEventWaitExternal) {
    GraphNode& node = event_node(e, capture, stream, index);
    node.op.call = "cuStreamWaitEvent";
    node.waits_for_event = true;
    return true;
  }
  if (!e.has(Semantic::kCaptureRules)) return true;
  if (event.captured_in == 0) {
    if (event.records == 0) return true;  // never recorded: nothing to wait for
    *result = refuse(e,
                     capture,
                     cu::Result::kStreamCaptureIsolation,
                     fmt::format("cuStreamWaitEvent: {}, which is capturing, waits for an event "
                                 "that was recorded outside of the capture",
                                 e.describe(stream)));
  } else if (Capture* other = find(event.captured_in)) {
    if (!other->invalid)
      refuse(e,
             *other,
             cu::Result::kStreamCaptureMerge,
             "cuStreamWaitEvent: another capture waits for an event of this one");
    *result = refuse(e,
                     capture,
                     cu::Result::kStreamCaptureMerge,
                     "cuStreamWaitEvent: this capture waits for an event of another one");
  } else {
    *result = refuse(e,
                     capture,
                     cu::Result::kCapturedEvent,
                     "cuStreamWaitEvent: the event was last recorded in a capture that has ended");
  }
  return true;
}

bool Captures::take_launch(const GraphExecState& exec, StreamState& stream, cu::Result* result) {
  Capture* capture = find(stream.capture);
  if (capture == nullptr) return false;
  *result = cu::Result::kSuccess;
  if (capture->invalid) {
    *result = cu::Result::kStreamCaptureInvalidated;
    return true;
  }
  // The driver makes one child node; here its nodes become nodes of this graph.
  GraphState& graph = graphs[capture->graph];
  Lane& lane = lane_of(*capture, stream);
  const auto first = static_cast<std::uint32_t>(graph.nodes.size());
  const auto first_lane = static_cast<std::uint32_t>(graph.lanes.size());
  graph.lanes.insert(graph.lanes.end(), exec.lanes.begin(), exec.lanes.end());
  for (const GraphNode& from : exec.nodes) {
    GraphNode& node = *graph.nodes.emplace_back(std::make_unique<GraphNode>(from));
    node.lane += first_lane;
    for (std::uint32_t& before : node.after) before += first;
    if (from.after.empty()) node.after = lane.after;
  }
  if (exec.nodes.empty()) return true;
  lane.after = leaves_of(exec.nodes);
  for (std::uint32_t& node : lane.after) node += first;
  return true;
}

void Captures::stream_destroyed(Engine& e, StreamState& stream) {
  Capture* capture = find(stream.capture);
  // A stream that joined leaves what it recorded behind.
  if (capture == nullptr || capture->origin != stream.index) return;
  if (e.has(Semantic::kCaptureRules) && !capture->invalid)
    refuse(e,
           *capture,
           cu::Result::kStreamCaptureInvalidated,
           "cuStreamDestroy: nobody can end the capture any more");
  const std::uint32_t graph = capture->graph;
  close(e, *capture);
  graphs.destroy(graph);
}

// ---- begin and end
// --------------------------------------------------------------------------------

cu::Result Captures::begin(Engine& e, StreamState& stream, cu::StreamCaptureMode mode) {
  if (stream.capture != 0) return cu::Result::kIllegalState;
  if (stream.legacy && e.has(Semantic::kCaptureRules)) {
    e.report(ReportKind::kCapture,
             "cuStreamBeginCapture: the legacy default stream cannot capture");
    return cu::Result::kStreamCaptureUnsupported;
  }
  Capture& capture = open_.emplace_back();
  capture.id = ++next_id_;
  capture.mode = mode;
  capture.thread = e.current_thread();
  capture.origin = stream.index;
  capture.graph = graphs.create(e.reuse_now());
  graphs[capture.graph].under_capture = true;
  add_lane(capture, stream);
  return cu::Result::kSuccess;
}

cu::Result Captures::end(Engine& e, StreamState& stream, std::uint32_t* graph) {
  Capture* capture = find(stream.capture);
  if (capture == nullptr) return cu::Result::kIllegalState;
  const bool rules = e.has(Semantic::kCaptureRules);
  if (rules && capture->origin != stream.index) {
    if (capture->invalid) return cu::Result::kStreamCaptureUnmatched;
    return refuse(e,
                  *capture,
                  cu::Result::kStreamCaptureUnmatched,
                  fmt::format("cuStreamEndCapture on {}, which joined the capture and did not "
                              "begin it",
                              e.describe(stream)));
  }
  if (rules && capture->mode != cu::StreamCaptureMode::kRelaxed &&
      capture->thread != e.current_thread()) {
    if (capture->invalid) return cu::Result::kStreamCaptureWrongThread;
    return refuse(e,
                  *capture,
                  cu::Result::kStreamCaptureWrongThread,
                  fmt::format("cuStreamEndCapture on host thread {}: host thread {} began the "
                              "capture, and it is not relaxed",
                              e.current_thread(),
                              capture->thread));
  }
  cu::Result result = cu::Result::kSuccess;
  if (capture->invalid) {
    result = cu::Result::kStreamCaptureInvalidated;
  } else if (rules && !all_joined(graphs[capture->graph], capture->lanes.front().after)) {
    result = refuse(e,
                    *capture,
                    cu::Result::kStreamCaptureUnjoined,
                    "cuStreamEndCapture: a stream that joined the capture has work that the origin "
                    "does not wait for");
  }
  *graph = capture->graph;
  close(e, *capture);
  if (result != cu::Result::kSuccess) graphs.destroy(*graph);
  return result;
}

cu::Result Captures::info(Engine& e, const StreamState& stream, Info* out) {
  Capture* capture = find(stream.capture);
  if (capture == nullptr) {
    if (stream.legacy && e.has(Semantic::kCaptureRules) &&
        blocking_one(e, stream.context) != nullptr)
      return cu::Result::kStreamCaptureImplicit;
    *out = Info();
    return cu::Result::kSuccess;
  }
  if (capture->invalid) {
    *out = Info();
    out->status = cu::StreamCaptureStatus::kInvalidated;
    return cu::Result::kSuccess;
  }
  Lane& lane = lane_of(*capture, stream);
  lane.handed_out.clear();
  for (const std::uint32_t node : lane.after)
    lane.handed_out.push_back(
        reinterpret_cast<cu::GraphNode>(graphs[capture->graph].nodes[node].get()));
  *out = {cu::StreamCaptureStatus::kActive, capture->id, capture->graph, &lane.handed_out};
  return cu::Result::kSuccess;
}

}  // namespace spillway::sim
