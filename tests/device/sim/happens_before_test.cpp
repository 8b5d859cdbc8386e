// SPDX-License-Identifier: Apache-2.0
// The synchronisation bugs of offloading, one scenario each: with the edge it is silent, without it
// the race is named.
#include "device/sim/happens_before.hpp"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {

constexpr Range kTensor{0x10000, 0x20000};
constexpr Range kPinned{0x900000, 0x910000};

/// Two streams and one host thread, with each operation numbered as it comes.
struct Fixture {
  HappensBefore engine;
  AgentId host = engine.add_host_thread(0);
  AgentId compute = engine.add_stream(7);
  AgentId copy = engine.add_stream(9);
  std::uint64_t op = 0;
  std::vector<Conflict> races;

  using Touches = std::vector<std::pair<Range, AccessKind>>;

  void enqueue(AgentId stream, const char* call, const Touches& touches) {
    enqueue_by(host, stream, call, touches);
  }
  void enqueue_by(AgentId thread, AgentId stream, const char* call, const Touches& touches) {
    const Epoch epoch = engine.issue(stream, thread);
    ++op;
    for (const auto& [range, kind] : touches) engine.access(range, kind, epoch, call, op, races);
  }
  void kernel_writes() { enqueue(compute, "produce", {{kTensor, AccessKind::kWrite}}); }
  void offload() {
    enqueue(copy,
            "cuMemcpyDtoHAsync_v2",
            {{kTensor, AccessKind::kRead}, {kPinned, AccessKind::kWrite}});
  }
  void on_host(const char* call, Range range, AccessKind kind) {
    on_host_by(host, call, range, kind);
  }
  void on_host_by(AgentId thread, const char* call, Range range, AccessKind kind) {
    engine.access(range, kind, engine.host_step(thread), call, ++op, races);
  }
};

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("a copy on another stream needs the producer's event") {
    for (const bool with_event : {true, false}) {
      CAPTURE(with_event);
      Fixture f;
      VectorClock event;
      f.kernel_writes();
      f.engine.record(f.compute, f.host, event);
      if (with_event) f.engine.wait(f.copy, f.host, event);
      f.offload();
      REQUIRE(f.races.size() == (with_event ? 0 : 1));
      if (with_event) continue;
      CHECK(f.races[0].earlier.op == 1);
      CHECK(f.races[0].later.op == 2);
      CHECK(f.races[0].range == kTensor);
      CHECK(f.races[0].covered_tick == 0);
    }
  }

  TEST_CASE("a wait binds to the newest record at the time of the call, and not to a later one") {
    Fixture f;
    VectorClock event;
    f.engine.record(f.compute, f.host, event);
    f.engine.wait(f.copy, f.host, event);  // too early: before the kernel
    f.kernel_writes();
    f.engine.record(f.compute, f.host, event);
    f.offload();
    REQUIRE(f.races.size() == 1);
    CHECK(f.races[0].covered_tick == 1);  // the first record
    CHECK(f.races[0].earlier.epoch.tick == 2);
  }

  TEST_CASE("a wait on an event that was never recorded orders nothing") {
    Fixture f;
    VectorClock event;
    f.kernel_writes();
    f.engine.wait(f.copy, f.host, event);
    f.engine.record(f.compute, f.host, event);
    f.offload();
    CHECK(f.races.size() == 1);
  }

  TEST_CASE("an event that is recorded twice keeps the order of the newer record only") {
    Fixture f;
    VectorClock event;
    f.kernel_writes();
    f.engine.record(f.compute, f.host, event);
    const AgentId other = f.engine.add_stream(11);
    f.engine.record(other, f.host, event);  // recorded again elsewhere
    f.engine.wait(f.copy, f.host, event);
    f.offload();
    CHECK(f.races.size() == 1);
  }

  TEST_CASE("the host reads pinned memory only after it waited for the copy") {
    for (const int sync : {0, 1, 2}) {
      CAPTURE(sync);
      Fixture f;
      VectorClock event;
      f.offload();
      f.engine.record(f.copy, f.host, event);
      if (sync == 1) f.engine.join(f.host, event);
      if (sync == 2) f.engine.join(f.host, f.copy);
      f.on_host("checksum", kPinned, AccessKind::kRead);
      CHECK(f.races.size() == (sync == 0 ? 1 : 0));
    }
  }

  TEST_CASE("a staging buffer is not filled again before its copy has read it") {
    Fixture f;
    f.on_host("fill", kPinned, AccessKind::kWrite);
    f.enqueue(f.copy, "cuMemcpyHtoDAsync_v2", {{kPinned, AccessKind::kRead}});
    CHECK(f.races.empty());
    f.on_host("fill", kPinned, AccessKind::kWrite);
    REQUIRE(f.races.size() == 1);
    CHECK(f.races[0].earlier.kind == AccessKind::kRead);
    CHECK(f.races[0].later.epoch.agent == f.host);
  }

  TEST_CASE("unmapping while a kernel may still run is a race; after a synchronisation it is not") {
    for (const bool with_sync : {true, false}) {
      CAPTURE(with_sync);
      Fixture f;
      f.on_host("cuMemMap", kTensor, AccessKind::kMap);
      f.kernel_writes();
      f.enqueue(f.compute, "consume", {{kTensor, AccessKind::kRead}});
      if (with_sync) f.engine.join(f.host, f.compute);
      f.on_host("cuMemUnmap", kTensor, AccessKind::kUnmap);
      CHECK(f.races.size() == (with_sync ? 0 : 2));  // the write, and the read after it
      for (const Conflict& race : f.races) CHECK(race.later.kind == AccessKind::kUnmap);
    }
  }

  TEST_CASE("memory freed in stream order is used on another stream only after an event") {
    for (const bool with_event : {true, false}) {
      CAPTURE(with_event);
      Fixture f;
      VectorClock event;
      f.kernel_writes();
      f.enqueue(f.compute, "cuMemFreeAsync", {{kTensor, AccessKind::kFree}});
      f.engine.record(f.compute, f.host, event);
      if (with_event) f.engine.wait(f.copy, f.host, event);
      f.enqueue(f.copy, "cuMemAllocAsync", {{kTensor, AccessKind::kAllocate}});
      REQUIRE(f.races.size() == (with_event ? 0 : 1));
      if (!with_event) CHECK(f.races[0].earlier.kind == AccessKind::kFree);
    }
  }

  TEST_CASE("an operation of the legacy stream lies between those of a blocking stream") {
    Fixture f;
    const AgentId legacy = f.engine.add_stream(1);
    f.kernel_writes();
    f.engine.join(legacy, f.compute);  // compute is a blocking stream, copy is not
    f.enqueue(legacy, "middle", {{kTensor, AccessKind::kWrite}});
    f.engine.join(f.compute, legacy);
    f.enqueue(f.compute, "last", {{kTensor, AccessKind::kRead}});
    CHECK(f.races.empty());
    f.offload();
    REQUIRE(f.races.size() == 1);
    CHECK(f.races[0].earlier.op == 2);
  }

  TEST_CASE("two host threads are ordered by a mutex, by a start and by nothing else") {
    Fixture f;
    f.on_host("init", kPinned, AccessKind::kWrite);
    const AgentId second = f.engine.add_host_thread(1);
    f.engine.join(second, f.host);  // started here
    f.on_host_by(second, "use", kPinned, AccessKind::kWrite);
    CHECK(f.races.empty());
    VectorClock mutex;
    f.engine.release(second, mutex);
    f.engine.join(f.host, mutex);
    f.on_host("use", kPinned, AccessKind::kWrite);
    CHECK(f.races.empty());
    f.on_host_by(second, "use", kPinned, AccessKind::kRead);
    CHECK(f.races.size() == 1);
  }

  TEST_CASE("what a thread does after a release is not released, even without a step of its own") {
    Fixture f;
    const AgentId second = f.engine.add_host_thread(1);
    VectorClock mutex;
    f.engine.host_step(f.host);
    f.engine.release(f.host, mutex);
    const Epoch epoch{f.host, f.engine.clock(f.host).get(f.host)};
    f.engine.access(kPinned, AccessKind::kWrite, epoch, "late", 1, f.races);
    f.engine.join(second, mutex);
    f.on_host_by(second, "use", kPinned, AccessKind::kRead);
    CHECK(f.races.size() == 1);
  }

  TEST_CASE("a stream is ordered after the thread that enqueues, and only after that one") {
    Fixture f;
    const AgentId second = f.engine.add_host_thread(1);
    f.on_host("fill", kPinned, AccessKind::kWrite);
    f.enqueue(f.copy, "cuMemcpyHtoDAsync_v2", {{kPinned, AccessKind::kRead}});
    CHECK(f.races.empty());
    f.enqueue_by(second, f.compute, "scale", {{kPinned, AccessKind::kRead}});
    REQUIRE(f.races.size() == 1);
    CHECK(f.races[0].earlier.epoch.agent == f.host);
    CHECK(f.engine.agent(f.races[0].later.epoch.agent).id == 7);
    CHECK(f.engine.agent(f.races[0].later.epoch.agent).is_stream);
  }

  TEST_CASE("a recorded event carries the recording thread, for the stream itself too") {
    Fixture f;
    const AgentId second = f.engine.add_host_thread(1);
    VectorClock event;
    f.on_host("fill", kPinned, AccessKind::kWrite);
    f.engine.record(f.copy, f.host, event);
    f.enqueue_by(second, f.copy, "cuMemcpyHtoDAsync_v2", {{kPinned, AccessKind::kRead}});
    CHECK(f.races.empty());
  }

  TEST_CASE("one kernel may read and write the same bytes") {
    Fixture f;
    f.enqueue(f.compute,
              "in_place",
              {{kTensor, AccessKind::kRead},
               {kTensor, AccessKind::kWrite},
               {kTensor, AccessKind::kRead}});
    CHECK(f.races.empty());
  }

  TEST_CASE("after a reset a program gives the same agents, ticks and races again") {
    Fixture f;
    const auto program = [&] {
      f.races.clear();
      f.op = 0;
      VectorClock event;
      f.kernel_writes();
      f.engine.record(f.compute, f.host, event);
      f.kernel_writes();
      f.engine.wait(f.copy, f.host, event);
      f.offload();
    };
    program();
    const std::vector<Conflict> first = f.races;
    REQUIRE(first.size() == 1);
    for (int round = 0; round < 3; ++round) {
      f.engine.reset();
      CHECK(f.engine.agent_count() == 0);
      CHECK(f.engine.add_host_thread(0) == f.host);
      CHECK(f.engine.add_stream(7) == f.compute);
      CHECK(f.engine.add_stream(9) == f.copy);
      CHECK(f.engine.clock(f.compute).empty());
      program();
      REQUIRE(f.races.size() == 1);
      CHECK(f.races[0].earlier.epoch == first[0].earlier.epoch);
      CHECK(f.races[0].later.epoch == first[0].later.epoch);
      CHECK(f.races[0].covered_tick == first[0].covered_tick);
    }
  }
}
