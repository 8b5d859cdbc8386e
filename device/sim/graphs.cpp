// SPDX-License-Identifier: Apache-2.0
#include "device/sim/graphs.hpp"

#include "device/sim/engine.hpp"

#include <utility>

namespace spillway::sim {
namespace {

/// An event node of a captured cuEventRecordWithFlags or cuStreamWaitEvent with the external flag.
void bind_event(Engine& e, const GraphNode& node, StreamState& lane, Op& op) {
  if (op.event == Op::kNoEvent) return;
  if (!e.events.live(op.event) || e.events[op.event].serial != op.event_serial) {
    e.misuse("cuGraphLaunch", "the graph names an event that was destroyed");
    op.event = Op::kNoEvent;
    return;
  }
  EventState& event = e.events[op.event];
  if (node.waits_for_event) {
    op.event = Op::kNoEvent;
    if (event.records == 0) return;
    op.wait_for(event.point);
    e.clocks.join(lane.agent, event.clock);
    return;
  }
  op.record = ++event.records;
  event.completed_ns = -1;
  event.captured_in = 0;
}

cu::Result enqueue_nodes(Engine& e,
                         GraphExecState& exec,
                         StreamPoint begin,
                         const VectorClock& start) {
  for (std::size_t i = 0; i < exec.nodes.size(); ++i) {
    const GraphNode& node = exec.nodes[i];
    StreamState& lane = *e.streams[exec.lane_streams[node.lane]];
    Op op = node.op;
    if (node.after.empty()) {
      op.wait_for(begin);
      e.clocks.join(lane.agent, start);
    }
    for (const std::uint32_t before : node.after) {
      if (exec.nodes[before].lane == node.lane) continue;
      op.wait_for(exec.points[before]);
      e.clocks.join(lane.agent, exec.clocks[before]);
    }
    bind_event(e, node, lane, op);
    if (const cu::Result r = e.submit(lane, std::move(op)); r != cu::Result::kSuccess) {
      // The driver finds out when the operation runs; it has been reported.
      e.fail_sticky(cu::Result::kIllegalAddress);
      return e.sticky;
    }
    exec.points[i] = lane.tail();
    if (exec.feeds_other_lane[i]) exec.clocks[i] = e.clocks.clock(lane.agent);
  }
  return cu::Result::kSuccess;
}

}  // namespace

std::vector<std::uint32_t> leaves_of(const std::vector<GraphNode>& nodes) {
  std::vector<bool> inner(nodes.size(), false);
  for (const GraphNode& node : nodes)
    for (const std::uint32_t before : node.after) inner[before] = true;
  std::vector<std::uint32_t> leaves;
  for (std::uint32_t i = 0; i < nodes.size(); ++i)
    if (!inner[i]) leaves.push_back(i);
  return leaves;
}

GraphExecState instantiate(const GraphState& graph) {
  GraphExecState exec;
  exec.nodes.reserve(graph.nodes.size());
  for (const std::unique_ptr<GraphNode>& node : graph.nodes) exec.nodes.push_back(*node);
  exec.lanes = graph.lanes;
  exec.feeds_other_lane.assign(exec.nodes.size(), false);
  for (const GraphNode& node : exec.nodes)
    for (const std::uint32_t before : node.after)
      if (exec.nodes[before].lane != node.lane) exec.feeds_other_lane[before] = true;
  exec.points.resize(exec.nodes.size());
  exec.clocks.resize(exec.nodes.size());
  return exec;
}

cu::Result launch_graph(Engine& e, GraphExecState& exec, StreamState& stream) {
  for (std::size_t i = exec.lane_streams.size(); i < exec.lanes.size(); ++i) {
    const GraphLane& lane = exec.lanes[i];
    exec.lane_streams.push_back(
        e.make_stream(lane.context, cu::kStreamNonBlocking, lane.priority, true).index);
  }
  Op begin;
  begin.call = "cuGraphLaunch";
  if (exec.last.seq != 0) {
    begin.wait_for(exec.last);
    e.clocks.join(stream.agent, exec.last_clock);
  }
  // As one: no other host thread gets to enqueue between the parts of a launch.
  e.enqueue_whole = true;
  cu::Result result = e.submit(stream, std::move(begin));
  if (result == cu::Result::kSuccess)
    result = enqueue_nodes(e, exec, stream.tail(), VectorClock(e.clocks.clock(stream.agent)));
  if (result == cu::Result::kSuccess) {
    Op end;
    end.call = "end of cuGraphLaunch";
    for (const std::uint32_t index : exec.lane_streams) {
      const StreamState& lane = *e.streams[index];
      if (!e.is_complete(lane.tail())) end.wait_for(lane.tail());
      e.clocks.join(stream.agent, lane.agent);
    }
    result = e.submit(stream, std::move(end));
    exec.last = stream.tail();
    exec.last_clock = e.clocks.clock(stream.agent);
  }
  e.enqueue_whole = false;
  if (result == cu::Result::kSuccess && e.sticky == cu::Result::kSuccess) e.let_run(stream);
  return result;
}

}  // namespace spillway::sim
