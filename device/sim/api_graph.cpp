// SPDX-License-Identifier: Apache-2.0
// Stream capture and graphs.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <algorithm>
#include <utility>

namespace spillway::sim {
namespace {

constexpr unsigned long long kAutoFreeOnLaunch = 1;
constexpr unsigned long long kUseNodePriority = 8;
constexpr unsigned long long kKnownInstantiateFlags = 15;

cu::Result find_graph(Engine& e, cu::Graph handle, const char* call, std::uint32_t* index) {
  using State = HandleTable<GraphState>::State;
  const State state = handle == nullptr ? State::kUnknown : e.captures.graphs.find(handle, index);
  if (state == State::kLive) return cu::Result::kSuccess;
  e.misuse(call, state == State::kDestroyed ? "the graph was destroyed" : "not a graph");
  return cu::Result::kInvalidValue;
}

cu::Result find_exec(Engine& e, cu::GraphExec handle, const char* call, std::uint32_t* index) {
  using State = HandleTable<GraphExecState>::State;
  const State state = handle == nullptr ? State::kUnknown : e.captures.execs.find(handle, index);
  if (state == State::kLive) return cu::Result::kSuccess;
  e.misuse(call,
           state == State::kDestroyed ? "the instantiated graph was destroyed"
                                      : "not an instantiated graph");
  return cu::Result::kInvalidValue;
}

}  // namespace

namespace api {

cu::Result cuStreamIsCapturing(cu::Stream handle, cu::StreamCaptureStatus* status) {
  const Call call(Api::cuStreamIsCapturing);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (status == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuStreamIsCapturing", &stream);
      r != cu::Result::kSuccess)
    return r;
  Captures::Info info;
  if (const cu::Result r = e.captures.info(e, *stream, &info); r != cu::Result::kSuccess) return r;
  *status = info.status;
  return cu::Result::kSuccess;
}

cu::Result cuStreamGetCaptureInfo(cu::Stream handle,
                                  cu::StreamCaptureStatus* status,
                                  unsigned long long* id,
                                  cu::Graph* graph,
                                  const cu::GraphNode** dependencies,
                                  std::size_t* dependency_count) {
  const Call call(Api::cuStreamGetCaptureInfo);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (status == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuStreamGetCaptureInfo", &stream);
      r != cu::Result::kSuccess)
    return r;
  Captures::Info info;
  if (const cu::Result r = e.captures.info(e, *stream, &info); r != cu::Result::kSuccess) return r;
  *status = info.status;
  if (info.status != cu::StreamCaptureStatus::kActive) return cu::Result::kSuccess;
  if (id != nullptr) *id = info.id;
  if (graph != nullptr) *graph = static_cast<cu::Graph>(e.captures.graphs.handle(info.graph));
  if (dependencies != nullptr) *dependencies = info.dependencies->data();
  if (dependency_count != nullptr) *dependency_count = info.dependencies->size();
  return cu::Result::kSuccess;
}

cu::Result cuThreadExchangeStreamCaptureMode(cu::StreamCaptureMode* mode) {
  const Call call(Api::cuThreadExchangeStreamCaptureMode);
  if (!call.ok()) return call.result();
  if (mode == nullptr || *mode < cu::StreamCaptureMode::kGlobal ||
      *mode > cu::StreamCaptureMode::kRelaxed)
    return cu::Result::kInvalidValue;
  std::swap(*mode, call.engine().self().capture_mode);
  return cu::Result::kSuccess;
}

cu::Result cuStreamBeginCapture(cu::Stream handle, cu::StreamCaptureMode mode) {
  const Call call(Api::cuStreamBeginCapture);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (mode < cu::StreamCaptureMode::kGlobal || mode > cu::StreamCaptureMode::kRelaxed)
    return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, "cuStreamBeginCapture", &stream);
      r != cu::Result::kSuccess)
    return r;
  return e.captures.begin(e, *stream, mode);
}

cu::Result cuStreamEndCapture(cu::Stream handle, cu::Graph* graph) {
  const Call call(Api::cuStreamEndCapture);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (graph == nullptr) return cu::Result::kInvalidValue;
  *graph = nullptr;
  if (const cu::Result r = e.find_stream(handle, "cuStreamEndCapture", &stream);
      r != cu::Result::kSuccess)
    return r;
  std::uint32_t index = 0;
  if (const cu::Result r = e.captures.end(e, *stream, &index); r != cu::Result::kSuccess) return r;
  *graph = static_cast<cu::Graph>(e.captures.graphs.handle(index));
  return cu::Result::kSuccess;
}

cu::Result cuGraphInstantiate(cu::GraphExec* exec, cu::Graph handle, unsigned long long flags) {
  const Call call(Api::cuGraphInstantiate);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t graph = 0;
  if (exec == nullptr || flags > kKnownInstantiateFlags) return cu::Result::kInvalidValue;
  if ((flags & ~(kAutoFreeOnLaunch | kUseNodePriority)) != 0) return cu::Result::kNotSupported;
  if (const cu::Result r = find_graph(e, handle, "cuGraphInstantiate", &graph);
      r != cu::Result::kSuccess)
    return r;
  if (e.captures.graphs[graph].under_capture) {
    e.misuse("cuGraphInstantiate", "the graph is still being captured");
    return cu::Result::kInvalidValue;
  }
  const std::uint32_t index = e.captures.execs.create(e.reuse_now());
  e.captures.execs[index] = instantiate(e.captures.graphs[graph]);
  *exec = static_cast<cu::GraphExec>(e.captures.execs.handle(index));
  return cu::Result::kSuccess;
}

cu::Result cuGraphLaunch(cu::GraphExec handle, cu::Stream stream_handle) {
  const Call call(Api::cuGraphLaunch);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  std::uint32_t index = 0;
  if (const cu::Result r = find_exec(e, handle, "cuGraphLaunch", &index); r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.find_stream(stream_handle, "cuGraphLaunch", &stream);
      r != cu::Result::kSuccess)
    return r;
  GraphExecState& exec = e.captures.execs[index];
  cu::Result captured = cu::Result::kSuccess;
  if (e.captures.take_launch(exec, *stream, &captured)) return captured;
  return launch_graph(e, exec, *stream);
}

cu::Result cuGraphDestroy(cu::Graph handle) {
  const Call call(Api::cuGraphDestroy);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (const cu::Result r = find_graph(e, handle, "cuGraphDestroy", &index);
      r != cu::Result::kSuccess)
    return r;
  if (e.captures.graphs[index].under_capture) {
    e.misuse("cuGraphDestroy", "the graph is still being captured");
    return cu::Result::kInvalidValue;
  }
  e.captures.graphs.destroy(index);
  return cu::Result::kSuccess;
}

cu::Result cuGraphExecDestroy(cu::GraphExec handle) {
  const Call call(Api::cuGraphExecDestroy);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (const cu::Result r = find_exec(e, handle, "cuGraphExecDestroy", &index);
      r != cu::Result::kSuccess)
    return r;
  // What is launched still runs.
  e.captures.execs.destroy(index);
  return cu::Result::kSuccess;
}

cu::Result cuGraphGetNodes(cu::Graph handle, cu::GraphNode* nodes, std::size_t* count) {
  const Call call(Api::cuGraphGetNodes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  if (count == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = find_graph(e, handle, "cuGraphGetNodes", &index);
      r != cu::Result::kSuccess)
    return r;
  const GraphState& graph = e.captures.graphs[index];
  if (nodes == nullptr) {
    *count = graph.nodes.size();
    return cu::Result::kSuccess;
  }
  // Room for more than there are is filled with null.
  for (std::size_t i = 0; i < *count; ++i)
    nodes[i] =
        i < graph.nodes.size() ? reinterpret_cast<cu::GraphNode>(graph.nodes[i].get()) : nullptr;
  *count = std::min(*count, graph.nodes.size());
  return cu::Result::kSuccess;
}

}  // namespace api
}  // namespace spillway::sim
