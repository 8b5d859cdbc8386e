// SPDX-License-Identifier: Apache-2.0
// The pinned pool and stream captures: what belongs to a capture stays with it until it is
// forgotten, nothing of it is queried, and no capture is broken by what the pool does beside it.
#include "allocator/pinned_pool.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

using namespace spillway;
using test::PoolLab;
using test::run_clean;
using test::small_pool;

namespace {

constexpr std::uint64_t kKiB = 1024;

/// A capture on a stream and the graph that came out of it.
class Captured {
 public:
  Captured(PoolLab& t, StreamRef stream, cu::StreamCaptureMode mode) : t_(t), stream_(stream) {
    t.lab.note(t.lab.cu.cuStreamBeginCapture(stream.handle(), mode));
    auto status = cu::StreamCaptureStatus::kNone;
    unsigned long long number = 0;
    t.lab.note(t.lab.cu.cuStreamGetCaptureInfo(
        stream.handle(), &status, &number, nullptr, nullptr, nullptr));
    id = number;
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  Captured(Captured&&) = delete;
  Captured& operator=(Captured&&) = delete;
  ~Captured() {
    if (exec_ != nullptr) t_.lab.note(t_.lab.cu.cuGraphExecDestroy(exec_));
    if (graph_ != nullptr) t_.lab.note(t_.lab.cu.cuGraphDestroy(graph_));
  }
  void end() {
    t_.lab.note(t_.lab.cu.cuStreamEndCapture(stream_.handle(), &graph_));
    t_.lab.note(t_.lab.cu.cuGraphInstantiate(&exec_, graph_, 0));
  }
  void launch(StreamRef stream) { t_.lab.note(t_.lab.cu.cuGraphLaunch(exec_, stream.handle())); }

  std::uint64_t id = 0;

 private:
  PoolLab& t_;
  StreamRef stream_;
  cu::Graph graph_ = nullptr;
  cu::GraphExec exec_ = nullptr;
};

constexpr cu::StreamCaptureMode kModes[] = {cu::StreamCaptureMode::kGlobal,
                                            cu::StreamCaptureMode::kThreadLocal,
                                            cu::StreamCaptureMode::kRelaxed};

/// Runs with every capture mode.
template <typename Program>
void run_in_all_modes(const Program& program) {
  for (const cu::StreamCaptureMode mode : kModes) {
    CAPTURE(static_cast<int>(mode));
    run_clean([&](sim::Simulator& simulator) { program(simulator, mode); });
  }
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("memory freed in a capture is the capture's own until that is forgotten") {
    run_in_all_modes([](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      Captured captured(t, s, mode);
      REQUIRE(captured.id != 0);
      const PinnedBlock first = t.pool->allocate(64 * kKiB, s).value();  // registers in a capture
      t.lab.fill(s.handle(), x, 5, 64 * kKiB);
      t.lab.d2h(s.handle(), first.data, x, 64 * kKiB);
      CHECK(t.pool->free(first.data, s).ok());
      const PinnedBlock again =
          t.pool->allocate(64 * kKiB, s).value();  // same stream, same capture
      CHECK(again.data == first.data);
      CHECK(t.pool->free(again.data, s).ok());
      // Nobody else gets it: not the host, not another stream, nor this one after the capture.
      CHECK_FALSE(t.pool->allocate(kKiB, WaitPolicy::kHost).ok());
      CHECK_FALSE(t.pool->allocate(kKiB, other, WaitPolicy::kStream).ok());
      captured.end();
      CHECK_FALSE(t.pool->allocate(kKiB, s, WaitPolicy::kStream).ok());
      CHECK_FALSE(t.pool->allocate(kKiB, s, WaitPolicy::kHost).ok());
      CHECK(t.pool->trim().value() == 0);
      captured.launch(s);
      captured.launch(s);
      t.lab.sync(s.handle());
      t.pool->forget_capture(captured.id);
      const PinnedBlock host = t.pool->allocate(64 * kKiB).value();
      simulator.observer().host_writes(host.data, host.bytes);
      CHECK(t.pool->free(host.data).ok());
      CHECK(t.pool->check_invariants().ok());
      CHECK(t.lab.failure == cu::Result::kSuccess);
    });
  }

  TEST_CASE("work outside of a capture is asked about and waited for without breaking it") {
    run_in_all_modes([](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      const StreamRef worker = t.stream();
      const cu::DevicePtr x = t.lab.device(32 * kKiB);
      const PinnedBlock a = t.pool->allocate(32 * kKiB, worker).value();
      const PinnedBlock b = t.pool->allocate(32 * kKiB, s).value();
      t.lab.fill(worker.handle(), x, 5, 32 * kKiB);
      t.lab.d2h(worker.handle(), a.data, x, 32 * kKiB);
      t.lab.h2d(s.handle(), t.lab.device(32 * kKiB), b.data, 32 * kKiB);
      CHECK(t.pool->free(a.data, worker).ok());
      CHECK(t.pool->free(b.data, s).ok());
      Captured captured(t, s, mode);
      // What s freed before the capture is not ordered before the graph: it must be idle.
      const PinnedBlock all = t.pool->allocate(64 * kKiB, s, WaitPolicy::kHost).value();
      t.lab.d2h(s.handle(), all.data, x, 32 * kKiB);
      CHECK(t.pool->free(all.data, s).ok());
      captured.end();
      captured.launch(s);
      t.lab.sync(s.handle());
      t.pool->forget_capture(captured.id);
      CHECK(t.pool->stats().free_bytes == 64 * kKiB);
      CHECK(t.lab.failure == cu::Result::kSuccess);
    });
  }

  TEST_CASE("another stream of the same capture waits inside of it") {
    run_in_all_modes([](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      const StreamRef fork = t.stream();
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      const cu::DevicePtr y = t.lab.device(64 * kKiB);
      Captured captured(t, s, mode);
      t.lab.order(s.handle(), fork.handle());  // now it captures too
      const PinnedBlock a = t.pool->allocate(64 * kKiB, s).value();
      t.lab.d2h(s.handle(), a.data, x, 64 * kKiB);
      CHECK(t.pool->free(a.data, s).ok());
      CHECK_FALSE(t.pool->allocate(64 * kKiB, fork).ok());
      const PinnedBlock b = t.pool->allocate(64 * kKiB, fork, WaitPolicy::kStream).value();
      CHECK(b.data == a.data);
      t.lab.d2h(fork.handle(), b.data, y, 64 * kKiB);
      CHECK(t.pool->free(b.data, fork).ok());
      t.lab.order(fork.handle(), s.handle());
      captured.end();
      captured.launch(s);
      t.lab.sync(s.handle());
      t.pool->forget_capture(captured.id);
      CHECK(t.lab.failure == cu::Result::kSuccess);
      CHECK(t.pool->check_invariants().ok());
    });
  }

  TEST_CASE("memory awaited from outside that a capture frees is still awaited afterwards") {
    run_in_all_modes([](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      t.lab.fill(s.handle(), x, 5, 64 * kKiB);
      const PinnedBlock a = t.pool->allocate(64 * kKiB, s).value();
      t.lab.d2h(s.handle(), a.data, x, 64 * kKiB);
      CHECK(t.pool->free(a.data, s).ok());
      const PinnedBlock b = t.pool->allocate(64 * kKiB, s).value();  // before the capture
      Captured captured(t, s, mode);
      CHECK(t.pool->free(b.data, s).ok());  // in it
      CHECK(t.pool->check_invariants().ok());
      captured.end();
      t.pool->forget_capture(captured.id);
      CHECK(t.pool->stats().pending_bytes == 64 * kKiB);
      const PinnedBlock host = t.pool->allocate(64 * kKiB, WaitPolicy::kHost).value();
      simulator.observer().host_writes(host.data, host.bytes);
      CHECK(t.pool->free(host.data).ok());
      CHECK(t.lab.failure == cu::Result::kSuccess);
    });
  }

  TEST_CASE("memory of a capture that is freed outside waits for both") {
    for (const bool by_host : {false, true}) {
      CAPTURE(by_host);
      run_in_all_modes([by_host](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
        PoolLab t(simulator, small_pool(64 * kKiB));
        const StreamRef s = t.stream();
        const StreamRef outside = t.stream();
        const cu::DevicePtr x = t.lab.device(64 * kKiB);
        Captured captured(t, s, mode);
        const PinnedBlock a = t.pool->allocate(64 * kKiB, s).value();
        t.lab.d2h(s.handle(), a.data, x, 64 * kKiB);
        CHECK(t.pool->free(a.data, s).ok());
        const PinnedBlock b = t.pool->allocate(64 * kKiB, s).value();
        captured.end();
        captured.launch(s);
        t.lab.sync(s.handle());
        if (!by_host) {
          t.lab.fill(outside.handle(), x, 1, 64 * kKiB);
          t.lab.d2h(outside.handle(), b.data, x, 64 * kKiB);
        }
        CHECK((by_host ? t.pool->free(b.data) : t.pool->free(b.data, outside)).ok());
        CHECK_FALSE(t.pool->allocate(64 * kKiB, WaitPolicy::kHost).ok());
        t.pool->forget_capture(captured.id);
        const PinnedBlock host = t.pool->allocate(64 * kKiB, WaitPolicy::kHost).value();
        simulator.observer().host_writes(host.data, host.bytes);
        CHECK(t.pool->free(host.data).ok());
        CHECK(t.lab.failure == cu::Result::kSuccess);
      });
    }
  }

  TEST_CASE("a pool may end before its captures are forgotten") {
    run_in_all_modes([](sim::Simulator& simulator, cu::StreamCaptureMode mode) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      Captured captured(t, s, mode);
      const PinnedBlock a = t.pool->allocate(64 * kKiB, s).value();
      CHECK(t.pool->free(a.data, s).ok());
      captured.end();
      t.pool.reset();
      CHECK(t.machine_bytes() == 0);
    });
  }
}

TEST_SUITE("fault") {
  TEST_CASE("memory that belongs to one capture is not freed in another") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef s = t.stream();
      Captured first(t, s, cu::StreamCaptureMode::kRelaxed);
      const PinnedBlock a = t.pool->allocate(64 * kKiB, s).value();
      CHECK(t.pool->free(a.data, s).ok());
      const PinnedBlock b = t.pool->allocate(64 * kKiB, s).value();
      first.end();
      Captured second(t, s, cu::StreamCaptureMode::kRelaxed);
      CHECK(second.id != first.id);
      CHECK(t.pool->free(b.data, s).code() == Code::kUnsupported);
      CHECK(t.pool->stats().live_count == 1);
      second.end();
      CHECK(t.pool->free(b.data, s).ok());
      t.pool->forget_capture(first.id);
      t.pool->forget_capture(second.id);
      t.pool->forget_capture(0);
      t.pool->forget_capture(12345);
      CHECK(t.pool->check_invariants().ok());
    });
  }
}
