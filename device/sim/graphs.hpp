// SPDX-License-Identifier: Apache-2.0
// Graphs of the simulated GPU: captured operations with their edges, and the launch that puts them
// into streams of their own. Every operation still goes through Engine::submit, so clocks, guards,
// schedules and timing hold for graphs too.
#pragma once

#include "device/sim/op.hpp"
#include "device/sim/vector_clock.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::sim {

class Engine;
struct StreamState;

struct GraphNode {
  Op op;
  std::uint32_t lane = 0;
  // Nodes that must be done before; sorted, smaller than this node's own index, and never empty for
  // a node that is not the first of its lane: nodes of one lane are a chain.
  std::vector<std::uint32_t> after;
  bool waits_for_event = false;  // op.event is waited for when the graph runs, not recorded
};

/// One captured stream. Nodes of one lane run in order.
struct GraphLane {
  std::uint32_t context = 0;
  int priority = 0;
};

struct GraphState {
  std::vector<std::unique_ptr<GraphNode>> nodes;  // their addresses are the node handles
  std::vector<GraphLane> lanes;
  bool under_capture = false;
};

/// An instantiated graph: a copy, which outlives the graph.
struct GraphExecState {
  std::vector<GraphNode> nodes;
  std::vector<GraphLane> lanes;
  std::vector<bool> feeds_other_lane;       // by node
  std::vector<std::uint32_t> lane_streams;  // by lane, made by the first launch
  StreamPoint last;                         // end of the newest launch; seq 0: never launched
  VectorClock last_clock;
  std::vector<StreamPoint> points;  // by node, of the launch under way
  std::vector<VectorClock> clocks;
};

/// Nodes that no other node comes after.
std::vector<std::uint32_t> leaves_of(const std::vector<GraphNode>& nodes);

GraphExecState instantiate(const GraphState& graph);

/// Enqueues everything behind what is in `stream` and behind the newest launch of `exec`; what
/// `stream` gets later comes after all of it. kIllegalAddress, and the context is lost, when an
/// operation names memory that is gone.
cu::Result launch_graph(Engine& e, GraphExecState& exec, StreamState& stream);

}  // namespace spillway::sim
