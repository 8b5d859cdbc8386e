// SPDX-License-Identifier: Apache-2.0
// Memory of stream captures: it belongs to the capture until it is released, is reused inside it,
// and neither queried nor moved meanwhile.
#include "tests/allocator/device_pool_lab.hpp"

#include <vector>

namespace spillway {
namespace {

using test::DevicePoolLab;
using test::in_all_orders;
using test::kKiB;
using test::kMiB;
using test::Lab;

/// One capture of a stream, its graph and what it takes to launch it.
struct Captured {
  Captured(DevicePoolLab& in,
           StreamRef on,
           cu::StreamCaptureMode mode = cu::StreamCaptureMode::kGlobal)
      : t(in), stream(on) {
    t.lab.note(t.lab.cu.cuStreamBeginCapture(stream.handle(), mode));
    cu::StreamCaptureStatus status = cu::StreamCaptureStatus::kNone;
    t.lab.note(
        t.lab.cu.cuStreamGetCaptureInfo(stream.handle(), &status, &id, nullptr, nullptr, nullptr));
    CHECK(status == cu::StreamCaptureStatus::kActive);
  }
  ~Captured() {
    if (exec != nullptr) t.lab.note(t.lab.cu.cuGraphExecDestroy(exec));
    if (graph != nullptr) t.lab.note(t.lab.cu.cuGraphDestroy(graph));
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  void end() {
    t.lab.note(t.lab.cu.cuStreamEndCapture(stream.handle(), &graph));
    t.lab.note(t.lab.cu.cuGraphInstantiate(&exec, graph, 0));
  }
  void launch(StreamRef on) { t.lab.note(t.lab.cu.cuGraphLaunch(exec, on.handle())); }

  DevicePoolLab& t;
  StreamRef stream;
  unsigned long long id = 0;
  cu::Graph graph = nullptr;
  cu::GraphExec exec = nullptr;
};

TEST_SUITE("unit") {
  TEST_CASE(
      "what a capture gave back is reused inside it and by nobody else until it is released") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      cu::DevicePtr a = 0;
      {
        Captured capture(t, s);
        a = t.take(64 * kKiB, s);
        t.fill(a, s, 64 * kKiB);
        t.give(a, s);
        const cu::DevicePtr b = t.take(64 * kKiB, s);
        CHECK_EQ(a, b);
        t.fill(b, s, 64 * kKiB);
        t.give(b, s);
        capture.end();
        const cu::DevicePtr eager = t.take(64 * kKiB, s);
        CHECK_NE(eager, a);
        t.fill(eager, s, 64 * kKiB);
        capture.launch(s);
        capture.launch(s);
        t.give(eager, s);
        CHECK(t.pool->trim(0).ok());
        CHECK_EQ(t.pool->stats().reserved_bytes, 64 * kKiB);
        CHECK(t.pool->release_capture(capture.id + 1000, s).code() == Code::kNotFound);
        CHECK(t.pool->release_capture(capture.id, s).ok());
        CHECK(t.pool->release_capture(capture.id, s).code() == Code::kNotFound);
      }
      t.order(s, other);
      const cu::DevicePtr again = t.take(64 * kKiB, s);
      CHECK_EQ(again, a);
      t.fill(again, s, 64 * kKiB);
      t.give(again, s);
      CHECK(t.pool->trim(0).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
    });
  }

  TEST_CASE("a block of a capture that outlives it is given back after the release") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      Captured capture(t, s, cu::StreamCaptureMode::kThreadLocal);
      const cu::DevicePtr stays = t.take(8 * kKiB, s);
      const cu::DevicePtr goes = t.take(8 * kKiB, s);
      t.fill(stays, s, 8 * kKiB);
      t.fill(goes, s, 8 * kKiB);
      t.give(goes, s);
      capture.end();
      capture.launch(s);
      lab.read(s.handle(), stays, 8 * kKiB);
      CHECK(t.pool->release_capture(capture.id, s).ok());
      CHECK(t.pool->find(stays).has_value());
      CHECK(t.pool->trim(0).ok());
      CHECK_GE(t.pool->stats().reserved_bytes, 8 * kKiB);
      lab.read(s.handle(), stays, 8 * kKiB);
      t.give(stays, s);
      CHECK(t.pool->trim(0).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
    });
  }

  TEST_CASE("an ordinary block that a capture gives back is kept for its graph") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.take(16 * kKiB, s);
      t.fill(a, s, 16 * kKiB);
      Captured capture(t, s, cu::StreamCaptureMode::kRelaxed);
      t.fill(a, s, 16 * kKiB);
      t.give(a, s);
      const cu::DevicePtr b = t.take(16 * kKiB, s);
      CHECK_NE(a, b);
      t.fill(b, s, 16 * kKiB);
      t.give(b, s);
      capture.end();
      const cu::DevicePtr c = t.take(16 * kKiB, s);
      CHECK_NE(c, a);
      CHECK_NE(c, b);
      capture.launch(s);
      t.fill(c, s, 16 * kKiB);
      t.give(c, s);
      CHECK(t.pool->release_capture(capture.id, s).ok());
    });
  }

  TEST_CASE("two streams of one capture, at the budget, share by an edge of the graph") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 16 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const StreamRef fork = t.stream();
      Captured capture(t, s);
      t.order(s, fork);
      const cu::DevicePtr a = t.take(16 * kKiB, fork);
      t.fill(a, fork, 16 * kKiB);
      t.give(a, fork);
      const cu::DevicePtr b = t.take(16 * kKiB, s);
      CHECK_EQ(a, b);
      t.fill(b, s, 16 * kKiB);
      t.give(b, s);
      t.order(fork, s);
      CHECK(t.pool->allocate(17 * kKiB, s).status().code() == Code::kOutOfMemory);
      CHECK(t.pool->allocate_comm(kKiB, s).status().code() == Code::kUnsupported);
      CHECK(t.pool->release_capture(capture.id, s).code() == Code::kInvalidArgument);
      capture.end();
      capture.launch(s);
      CHECK(t.pool->release_capture(capture.id, s).ok());
    });
  }

  TEST_CASE(
      "while another stream captures, ordinary work goes on and pressure asks nobody's events") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      Captured capture(t, s, cu::StreamCaptureMode::kThreadLocal);
      const cu::DevicePtr a = t.take(16 * kKiB, s);
      t.fill(a, s, 16 * kKiB);
      const cu::DevicePtr b = t.take(40 * kKiB, other);
      t.fill(b, other, 40 * kKiB);
      t.give(b, other);
      const cu::DevicePtr c = t.take(48 * kKiB, other);
      t.fill(c, other, 48 * kKiB);
      t.give(c, other);
      t.give(a, s);
      capture.end();
      capture.launch(s);
      CHECK(t.pool->release_capture(capture.id, s).ok());
    });
  }
}

}  // namespace
}  // namespace spillway
