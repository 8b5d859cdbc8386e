// SPDX-License-Identifier: Apache-2.0
// Stream capture and graph replay: what is recorded, how streams join a capture, and what breaks
// one. Source: CUDA driver API, cuStreamBeginCapture and cuThreadExchangeStreamCaptureMode, and the
// programming guide's chapter on graphs. Which invalid call invalidates a capture is not documented
// call by call; where it is not, cases accept a capture that survives.
#include "tests/device/conformance/cases.hpp"

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;
constexpr auto kGlobal = cu::StreamCaptureMode::kGlobal;
constexpr auto kThreadLocal = cu::StreamCaptureMode::kThreadLocal;
constexpr auto kRelaxed = cu::StreamCaptureMode::kRelaxed;

/// Owner of a graph and, once made, of the program for it.
class CapturedGraph {
 public:
  explicit CapturedGraph(ConformanceEnv& env) : env_(env) {}
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  CapturedGraph(CapturedGraph&&) = delete;
  CapturedGraph& operator=(CapturedGraph&&) = delete;
  ~CapturedGraph() {
    if (exec_ != nullptr) SPW_OK(env_.d.cuGraphExecDestroy(exec_));
    if (graph_ != nullptr) SPW_OK(env_.d.cuGraphDestroy(graph_));
  }

  Result end(const Stream& s) { return env_.d.cuStreamEndCapture(s.handle(), &graph_); }
  void instantiate() { SPW_MUST(env_.d.cuGraphInstantiate(&exec_, graph_, 0)); }
  void launch(const Stream& s) { SPW_OK(env_.d.cuGraphLaunch(exec_, s.handle())); }
  void drop_graph() {
    SPW_OK(env_.d.cuGraphDestroy(graph_));
    graph_ = nullptr;
  }
  [[nodiscard]] cu::Graph get() const { return graph_; }
  [[nodiscard]] std::size_t node_count() const {
    std::size_t count = 999;
    SPW_OK(env_.d.cuGraphGetNodes(graph_, nullptr, &count));
    return count;
  }

 private:
  ConformanceEnv& env_;
  cu::Graph graph_ = nullptr;
  cu::GraphExec exec_ = nullptr;
};

Result begin(ConformanceEnv& env, const Stream& s, cu::StreamCaptureMode mode = kGlobal) {
  return env.d.cuStreamBeginCapture(s.handle(), mode);
}

cu::StreamCaptureStatus status_of(ConformanceEnv& env, const Stream& s) {
  auto status = cu::StreamCaptureStatus::kNone;
  SPW_OK(env.d.cuStreamIsCapturing(s.handle(), &status));
  return status;
}

/// Ends a capture that was broken: error 901 and no graph.
void end_invalidated(ConformanceEnv& env, const Stream& s) {
  CapturedGraph graph(env);
  SPW_EXPECT(kStreamCaptureInvalidated, graph.end(s));
  CHECK(graph.get() == nullptr);
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kNone);
}

/// Ends a capture of which it is open whether it was broken.
void end_whatever(ConformanceEnv& env, const Stream& s) {
  CapturedGraph graph(env);
  SPW_EXPECT_ONE_OF(graph.end(s), {Result::kSuccess, Result::kStreamCaptureInvalidated});
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kNone);
}

/// The stream works as before.
void check_usable(ConformanceEnv& env, const Stream& s, const Memory& a) {
  SPW_OK(env.launch_fill(s.handle(), a, 77, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 77);
}

// --- Recording and replay ------------------------------------------------------------------------

SPW_CONFORMANCE("capture",
                nothing_runs_until_launch,
                "captured work runs when its graph is launched, and each time it is") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kActive);
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_MUST(graph.end(s));
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kNone);
  SPW_OK(env.d.cuCtxSynchronize());
  env.check_words(a, kN, 0);
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 1);
  graph.launch(s);
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 3);
}

SPW_CONFORMANCE("capture", nodes, "each captured kernel, copy and set is a node of the graph") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.d.cuMemsetD32Async(a, 5, kN, s.handle()));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuMemcpyDtoDAsync(b, a, kBytes, s.handle()));
  SPW_MUST(graph.end(s));
  CHECK(graph.node_count() == 3);
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 6);
}

SPW_CONFORMANCE("capture", empty, "a capture of nothing is a graph without nodes that runs") {
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_MUST(graph.end(s));
  CHECK(graph.node_count() == 0);
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("capture",
                arguments_are_copied,
                "a captured kernel keeps the arguments it was launched with") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  for (std::uint32_t value = 1; value <= 3; ++value)
    SPW_OK(env.launch_fill(s.handle(), a + (value - 1) * std::uint64_t{64}, value, 16));
  SPW_MUST(graph.end(s));
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  for (std::uint32_t value = 1; value <= 3; ++value)
    env.check_words(a + (value - 1) * std::uint64_t{64}, 16, value);
}

SPW_CONFORMANCE("capture",
                program_outlives_graph,
                "an instantiated graph runs after the graph was destroyed") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 8, kN));
  SPW_MUST(graph.end(s));
  graph.instantiate();
  graph.drop_graph();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 8);
}

SPW_CONFORMANCE("capture",
                launches_are_ordered,
                "a graph's launch is ordered in its stream, and an event after it comes after it") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_MUST(graph.end(s));
  graph.instantiate();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 10, kN));
  graph.launch(s);
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 11);
}

SPW_CONFORMANCE("capture", host_function, "a captured host function runs at each launch") {
  const Stream s = env.non_blocking_stream();
  int calls = 0;
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.d.cuLaunchHostFunc(
      s.handle(), [](void* user) { ++*static_cast<int*>(user); }, &calls));
  SPW_MUST(graph.end(s));
  CHECK(calls == 0);
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(calls == 1);
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(calls == 2);
}

SPW_CONFORMANCE("capture", info, "each capture has an id of its own and tells where it stands") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  auto status = cu::StreamCaptureStatus::kActive;
  unsigned long long first = 0;
  unsigned long long second = 0;
  SPW_OK(env.d.cuStreamGetCaptureInfo(s.handle(), &status, &first, nullptr, nullptr, nullptr));
  CHECK(status == cu::StreamCaptureStatus::kNone);
  for (unsigned long long* id : {&first, &second}) {
    CapturedGraph graph(env);
    cu::Graph building = nullptr;
    const cu::GraphNode* dependencies = nullptr;
    std::size_t count = 99;
    SPW_MUST(begin(env, s));
    SPW_OK(env.launch_increment(s.handle(), a, kN));
    SPW_OK(env.d.cuStreamGetCaptureInfo(s.handle(), &status, id, &building, &dependencies, &count));
    CHECK(status == cu::StreamCaptureStatus::kActive);
    CHECK(building != nullptr);
    CHECK(count == 1);
    SPW_MUST(graph.end(s));
  }
  CHECK(first != second);
}

// --- Streams join and leave ----------------------------------------------------------------------

SPW_CONFORMANCE(
    "capture",
    fork_and_join,
    "a stream that waits for a captured event joins, and leaves when it is waited for") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event fork = env.event();
  const Event join = env.event();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(fork.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), fork.handle(), 0));
  CHECK(status_of(env, t) == cu::StreamCaptureStatus::kActive);
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuEventRecord(join.handle(), t.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(s.handle(), join.handle(), 0));
  SPW_OK(env.launch_increment(s.handle(), b, kN));
  SPW_MUST(graph.end(s));
  CHECK(status_of(env, t) == cu::StreamCaptureStatus::kNone);
  graph.instantiate();
  graph.launch(s);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 2);
}

SPW_CONFORMANCE("capture",
                unjoined,
                "a capture that ends while a joined stream was not waited for is error 904") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event fork = env.event();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(fork.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), fork.handle(), 0));
  SPW_OK(env.launch_fill(t.handle(), b, 2, kN));
  SPW_EXPECT(kStreamCaptureUnjoined, graph.end(s));
  CHECK(graph.get() == nullptr);
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kNone);
  CHECK(status_of(env, t) == cu::StreamCaptureStatus::kNone);
  check_usable(env, s, a);
  check_usable(env, t, b);
}

SPW_CONFORMANCE("capture",
                wrong_stream,
                "a capture cannot be ended on a stream that only joined it") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event fork = env.event();
  const Event join = env.event();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.d.cuEventRecord(fork.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), fork.handle(), 0));
  SPW_OK(env.launch_fill(t.handle(), a, 1, kN));
  SPW_EXPECT(kStreamCaptureUnmatched, graph.end(t));
  (void)env.d.cuEventRecord(join.handle(), t.handle());  // refused if the capture broke
  (void)env.d.cuStreamWaitEvent(s.handle(), join.handle(), 0);
  end_whatever(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE(
    "capture",
    not_capturing,
    "a stream that is not capturing has no capture to end, and one that is begins none") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_EXPECT_FAILURE(graph.end(s));
  SPW_MUST(begin(env, s));
  SPW_EXPECT_FAILURE(begin(env, s));
  end_whatever(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture", legacy_stream, "the legacy default stream cannot be captured") {
  SPW_EXPECT(kStreamCaptureUnsupported, env.d.cuStreamBeginCapture(nullptr, kGlobal));
  SPW_EXPECT(kStreamCaptureUnsupported, env.d.cuStreamBeginCapture(cu::stream_legacy(), kRelaxed));
}

SPW_CONFORMANCE(
    "capture",
    merge,
    "two captures cannot be joined by an event: error 902, and the waiting one breaks") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_MUST(begin(env, s));
  SPW_MUST(begin(env, t));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.launch_fill(t.handle(), b, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_EXPECT(kStreamCaptureMerge, env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  end_whatever(env, t);
  end_whatever(env, s);
}

SPW_CONFORMANCE("capture",
                isolation,
                "a capture cannot wait for an event recorded before it: error 905") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_fill(t.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), t.handle()));
  SPW_MUST(begin(env, s));
  SPW_EXPECT(kStreamCaptureIsolation, env.d.cuStreamWaitEvent(s.handle(), e.handle(), 0));
  end_invalidated(env, s);
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  check_usable(env, s, a);
}

// --- What breaks a capture -----------------------------------------------------------------------

SPW_CONFORMANCE("capture",
                synchronise,
                "waiting for a capturing stream is error 900 and breaks the capture") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_EXPECT(kStreamCaptureUnsupported, env.d.cuStreamSynchronize(s.handle()));
  CHECK(status_of(env, s) == cu::StreamCaptureStatus::kInvalidated);
  SPW_EXPECT(kStreamCaptureInvalidated, env.launch_fill(s.handle(), a, 2, kN));
  end_invalidated(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE(
    "capture",
    query,
    "asking a capturing stream whether it is done is error 900 and breaks the capture") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_EXPECT(kStreamCaptureUnsupported, env.d.cuStreamQuery(s.handle()));
  end_invalidated(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture",
                captured_event,
                "an event recorded in a capture can be neither asked nor waited for: error 907") {
  // Under a global capture a driver may refuse the call as such, with 900.
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  const auto codes = {Result::kCapturedEvent, Result::kStreamCaptureUnsupported};
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_EXPECT_ONE_OF(env.d.cuEventQuery(e.handle()), codes);
  end_whatever(env, s);
  SPW_MUST(begin(env, s, kRelaxed));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_EXPECT_ONE_OF(env.d.cuEventSynchronize(e.handle()), codes);
  end_whatever(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture",
                event_after_capture,
                "an event that was recorded in a capture is like new once recorded for real") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_MUST(graph.end(s));
  SPW_OK(env.launch_fill(s.handle(), a, 2, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  env.check_words(a, kN, 2);
}

SPW_CONFORMANCE("capture",
                legacy_stream_meanwhile,
                "work in the legacy stream breaks the capture of a blocking stream: error 906") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_EXPECT(kStreamCaptureImplicit, env.launch_fill(nullptr, b, 1, kN));
  end_invalidated(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture",
                legacy_stream_beside_non_blocking,
                "work in the legacy stream goes on beside the capture of a non-blocking stream") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.launch_fill(nullptr, b, 1, kN));
  SPW_MUST(graph.end(s));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(a, kN, 0);
  env.check_words(b, kN, 1);
}

SPW_CONFORMANCE("capture",
                other_streams_meanwhile,
                "a stream that is not part of the capture works as ever") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s, kThreadLocal));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.launch_fill(t.handle(), b, 2, kN));
  SPW_MUST(graph.end(s));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(a, kN, 0);
  env.check_words(b, kN, 2);
}

SPW_CONFORMANCE("capture",
                allocation_in_global_capture,
                "allocating during a global capture is error 900 and breaks the capture") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(begin(env, s));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_EXPECT(kStreamCaptureUnsupported, env.d.cuMemAlloc(&p, kBytes));
  end_invalidated(env, s);
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture",
                allocation_in_relaxed_capture,
                "a relaxed capture, and a thread whose mode is relaxed, may allocate meanwhile") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  {
    CapturedGraph graph(env);
    SPW_MUST(begin(env, s, kRelaxed));
    const Memory b = env.memory(kBytes);
    SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
    SPW_OK(graph.end(s));
  }
  {
    CapturedGraph graph(env);
    SPW_MUST(begin(env, s, kGlobal));
    auto mode = kRelaxed;
    SPW_OK(env.d.cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == kGlobal);
    { const Memory b = env.memory(kBytes); }
    SPW_OK(env.d.cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == kRelaxed);
    SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
    SPW_OK(graph.end(s));
  }
}

SPW_CONFORMANCE("capture",
                other_thread_in_global_capture,
                "a global capture forbids other threads to allocate, and breaks if they try") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  auto got = Result::kUnknown;
  SPW_MUST(begin(env, s, kGlobal));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  env.on_other_thread([&] {
    cu::DevicePtr p = 0;
    (void)env.d.cuCtxSetCurrent(env.context);
    got = env.d.cuMemAlloc(&p, kBytes);
    if (got == Result::kSuccess) (void)env.d.cuMemFree(p);
  });
  CHECK(got == Result::kStreamCaptureUnsupported);
  end_invalidated(env, s);
}

SPW_CONFORMANCE("capture",
                other_thread_in_thread_local_capture,
                "a thread-local capture leaves other threads alone") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  auto got = Result::kUnknown;
  auto freed = Result::kUnknown;
  CapturedGraph graph(env);
  SPW_MUST(begin(env, s, kThreadLocal));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  env.on_other_thread([&] {
    cu::DevicePtr p = 0;
    (void)env.d.cuCtxSetCurrent(env.context);
    got = env.d.cuMemAlloc(&p, kBytes);
    freed = env.d.cuMemFree(p);
  });
  CHECK(got == Result::kSuccess);
  CHECK(freed == Result::kSuccess);
  SPW_OK(graph.end(s));
}

SPW_CONFORMANCE("capture",
                wrong_thread,
                "a capture that is not relaxed ends on the thread that began it: error 908") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  for (const auto mode : {kGlobal, kThreadLocal, kRelaxed}) {
    auto got = Result::kUnknown;
    cu::Graph graph = nullptr;
    SPW_MUST(begin(env, s, mode));
    SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
    env.on_other_thread([&] {
      (void)env.d.cuCtxSetCurrent(env.context);
      got = env.d.cuStreamEndCapture(s.handle(), &graph);
    });
    if (mode == kRelaxed) {
      CHECK(got == Result::kSuccess);
      REQUIRE(graph != nullptr);
      SPW_OK(env.d.cuGraphDestroy(graph));
    } else {
      CHECK(got == Result::kStreamCaptureWrongThread);
      end_whatever(env, s);
    }
  }
  check_usable(env, s, a);
}

SPW_CONFORMANCE("capture",
                bad_arguments,
                "graphs are not made from nothing or launched as nothing") {
  const Stream s = env.non_blocking_stream();
  const auto codes = {Result::kInvalidValue, Result::kInvalidHandle};
  cu::GraphExec exec = nullptr;
  SPW_EXPECT_ONE_OF(env.d.cuGraphInstantiate(&exec, nullptr, 0), codes);
  SPW_EXPECT_ONE_OF(env.d.cuGraphLaunch(nullptr, s.handle()), codes);
  SPW_EXPECT_ONE_OF(env.d.cuGraphDestroy(nullptr), codes);
  SPW_EXPECT(kInvalidValue, env.d.cuStreamIsCapturing(s.handle(), nullptr));
}

}  // namespace
}  // namespace spillway::conformance
