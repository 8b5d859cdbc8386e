// SPDX-License-Identifier: Apache-2.0
// Stream capture: which streams record instead of run, what they have recorded, and which calls the
// driver forbids meanwhile (Semantic::kCaptureRules). An invalid call during a capture fails and
// makes the capture invalid, as the CUDA programming guide says.
#pragma once

#include "device/sim/graphs.hpp"
#include "device/sim/handles.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::sim {

enum class Api : std::uint16_t;
struct EventState;

class Captures {
 public:
  HandleTable<GraphState> graphs;  // those under capture included
  HandleTable<GraphExecState> execs;

  void reset();
  [[nodiscard]] bool active() const { return !open_.empty(); }
  [[nodiscard]] std::size_t open_count() const { return open_.size(); }

  /// Whether a call may go on, as far as that does not depend on its arguments.
  cu::Result admit(Engine& e, Api api);
  /// Before a wait for, or a query of, a stream.
  cu::Result check_stream(Engine& e, const StreamState& stream, Api api);
  /// Before a wait for, or a query of, an event; reading its time.
  cu::Result check_event(Engine& e, const EventState& event, Api api);
  /// Before an allocation or a free in stream order: graph memory nodes are not modelled.
  cu::Result check_stream_memory(Engine& e, const StreamState& stream, const char* call);

  /// True: `op` was dealt with and *result is the answer. False: it is to be enqueued.
  bool take(Engine& e, StreamState& stream, Op& op, cu::Result* result);
  bool take_record(
      Engine& e, StreamState& stream, std::uint32_t event, unsigned int flags, cu::Result* result);
  bool take_wait(
      Engine& e, StreamState& stream, std::uint32_t event, unsigned int flags, cu::Result* result);
  bool take_launch(const GraphExecState& exec, StreamState& stream, cu::Result* result);
  /// The stream's handle ends.
  void stream_destroyed(Engine& e, StreamState& stream);

  cu::Result begin(Engine& e, StreamState& stream, cu::StreamCaptureMode mode);
  /// *graph is the slot of the finished graph.
  cu::Result end(Engine& e, StreamState& stream, std::uint32_t* graph);

  struct Info {
    cu::StreamCaptureStatus status = cu::StreamCaptureStatus::kNone;
    std::uint64_t id = 0;
    std::uint32_t graph = 0;
    const std::vector<cu::GraphNode>* dependencies = nullptr;  // until the stream's next call
  };
  /// kStreamCaptureImplicit for the legacy stream while a blocking one captures; invalidates
  /// nothing.
  cu::Result info(Engine& e, const StreamState& stream, Info* out);

 private:
  struct Lane {
    std::uint32_t stream = 0;
    std::uint32_t graph_lane = 0;      // launches inside a capture bring lanes without a stream
    std::vector<std::uint32_t> after;  // what the stream's next node comes after; sorted
    std::vector<cu::GraphNode> handed_out;
  };
  struct Capture {
    std::uint64_t id = 0;
    cu::StreamCaptureMode mode = cu::StreamCaptureMode::kGlobal;
    std::uint32_t thread = 0;  // that began it
    std::uint32_t origin = 0;  // stream
    std::uint32_t graph = 0;   // slot
    bool invalid = false;
    std::vector<Lane> lanes;  // the origin first
  };

  Capture* find(std::uint64_t id);
  Lane& lane_of(Capture& capture, const StreamState& stream);
  Lane& add_lane(Capture& capture, StreamState& stream);
  GraphNode& add_node(Capture& capture, const StreamState& stream);
  GraphNode& event_node(Engine& e,
                        Capture& capture,
                        const StreamState& stream,
                        std::uint32_t event);
  void close(Engine& e, Capture& capture);
  cu::Result refuse(Engine& e, Capture& capture, cu::Result code, const std::string& what);
  Capture* blocking_one(const Engine& e, std::uint32_t context);
  cu::Result refuse_implicit(Engine& e, const StreamState& legacy, const char* call);
  cu::Result refuse_unsafe(Engine& e, const char* call);
  cu::Result join(Engine& e, StreamState& stream, const EventState& event);

  std::vector<Capture> open_;
  std::uint64_t next_id_ = 0;
};

}  // namespace spillway::sim
