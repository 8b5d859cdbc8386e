// SPDX-License-Identifier: Apache-2.0
// One scenario over everything the pinned pool does, with each of its driver calls failing in turn:
// the books stay whole, failures are told, nothing leaks, and what was not refused still works.
#include "core/thread.hpp"
#include "device/sim/faults.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

using namespace spillway;
using test::PoolLab;
using test::small_pool;

namespace {

constexpr std::uint64_t kKiB = 1024;

/// What a run came to.
struct Outcome {
  int failures = 0;     // calls of the pool that said no
  std::string problem;  // what must not be
};

class Scenario {
 public:
  Scenario(PoolLab& t, Outcome* outcome) : t_(t), outcome_(outcome) {}

  void run() {
    const StreamRef streams[3] = {t_.stream(), t_.stream(), t_.stream()};
    const cu::DevicePtr x = t_.lab.device(64 * kKiB);
    ahead(100 * kKiB);
    for (int round = 0; round < 3; ++round) {
      t_.pool->begin_step();
      PinnedBlock blocks[6] = {};
      for (std::size_t i = 0; i < 6; ++i) {
        const StreamRef s = streams[i % 2];
        blocks[i] = take(t_.pool->allocate((10 + 7 * i) * kKiB, s, WaitPolicy::kStream));
        if (blocks[i].data != nullptr) t_.lab.d2h(s.handle(), blocks[i].data, x, blocks[i].bytes);
      }
      for (std::size_t i = 0; i < 6; ++i) give(blocks[i], streams[i % 2]);
      // Their memory, gathered for a third stream; then given on by it and freed elsewhere.
      const PinnedBlock gathered =
          take(t_.pool->allocate(40 * kKiB, streams[2], WaitPolicy::kStream));
      give(gathered, streams[2]);
      const PinnedBlock unused = take(t_.pool->allocate(40 * kKiB, streams[2]));
      give(unused, streams[0]);
      const PinnedBlock host = take(t_.pool->allocate(60 * kKiB, WaitPolicy::kHost));
      if (host.data != nullptr) note(t_.pool->free(host.data));
      check();
      note(t_.pool->end_step());
      note(t_.pool->trim(64 * kKiB).status());
      check();
    }
    capture(streams[0], x);
    // Larger than what is left: idle slabs must make room.
    const PinnedBlock large = take(t_.pool->allocate(190 * kKiB, WaitPolicy::kHost));
    if (large.data != nullptr) note(t_.pool->free(large.data));
    check();
  }

 private:
  void note(const Status& status) {
    if (status.ok()) return;
    ++outcome_->failures;
    if (status.message().empty()) outcome_->problem = "a failure without words";
  }
  void check() {
    const Status status = t_.pool->check_invariants();
    if (!status.ok()) outcome_->problem = status.message();
    const sim::Counters machine = t_.lab.simulator().counters();
    if (machine.pinned_bytes_peak > 200 * kKiB) outcome_->problem = "the cap was broken";
    if (machine.pinned_bytes_used > t_.pool->stats().reserved_bytes)
      outcome_->problem = "pinned memory that is in no book";
  }
  PinnedBlock take(const Result<PinnedBlock>& block) {
    note(block.status());
    check();
    return block.ok() ? block.value() : PinnedBlock{};
  }
  void give(const PinnedBlock& block, StreamRef stream) {
    if (block.data == nullptr) return;
    const Status status = t_.pool->free(block.data, stream);
    note(status);
    check();
    if (status.ok()) return;
    // It is still in use: the host waits and gives it back without a stream.
    t_.lab.cu.cuStreamSynchronize(stream.handle());
    if (!t_.pool->free(block.data).ok()) outcome_->problem = "a block that cannot be given back";
    check();
  }
  void ahead(std::uint64_t bytes) {
    note(t_.pool->reserve_ahead(bytes).status());
    note(t_.pool->finish_ahead());
    check();
  }
  void capture(StreamRef s, cu::DevicePtr x) {
    const Driver& d = t_.lab.cu;
    if (d.cuStreamBeginCapture(s.handle(), cu::StreamCaptureMode::kGlobal) != cu::Result::kSuccess)
      return;
    auto status = cu::StreamCaptureStatus::kNone;
    unsigned long long id = 0;
    d.cuStreamGetCaptureInfo(s.handle(), &status, &id, nullptr, nullptr, nullptr);
    const PinnedBlock block = take(t_.pool->allocate(30 * kKiB, s, WaitPolicy::kHost));
    if (block.data != nullptr) {
      d.cuMemcpyDtoHAsync(block.data, x, block.bytes, s.handle());
      const Status freed = t_.pool->free(block.data, s);
      note(freed);
      if (!freed.ok()) note(t_.pool->free(block.data));
    }
    cu::Graph graph = nullptr;
    if (d.cuStreamEndCapture(s.handle(), &graph) == cu::Result::kSuccess) d.cuGraphDestroy(graph);
    t_.pool->forget_capture(id);
    check();
  }

  PoolLab& t_;
  Outcome* outcome_;
};

/// `rule` is one line of parse_faults(), or nothing.
Outcome run_with(sim::Simulator& simulator, const std::string& rule, std::uint32_t threads) {
  sim::Options options = test::lab_options(sim::Mode::kRandom, 11);
  if (!rule.empty()) {
    auto faults = sim::parse_faults(rule, "test");
    REQUIRE(faults.ok());
    options.faults = std::move(faults).value();
  }
  test::page_notes() = {};
  REQUIRE(simulator.reset(options).ok());
  Outcome outcome;
  simulator.run([&] {
    PinnedPoolOptions pool_options = small_pool(200 * kKiB);
    pool_options.threads = threads;
    PoolLab t(simulator, pool_options);
    Scenario(t, &outcome).run();
    t.pool.reset();
  });
  if (test::page_notes().locks_held != 0) outcome.problem = "a lock across a page call";
  return outcome;
}

/// Host memory that was mapped and not given back; what the driver keeps must stay.
int mappings_left() {
  const test::PageCallNotes& notes = test::page_notes();
  return notes.maps - notes.refused_maps - notes.unmaps;
}

// Calls that may fail for want of something, and calls that only a lost context makes fail.
constexpr const char* kMayFail[] = {"cuStreamGetCtx",
                                    "cuStreamGetCaptureInfo",
                                    "cuEventCreate",
                                    "cuEventRecord",
                                    "cuEventQuery",
                                    "cuEventSynchronize",
                                    "cuStreamWaitEvent",
                                    "cuMemHostRegister"};
constexpr const char* kMayBeLost[] = {"cuStreamGetCtx",
                                      "cuStreamGetCaptureInfo",
                                      "cuEventCreate",
                                      "cuEventRecord",
                                      "cuEventQuery",
                                      "cuEventSynchronize",
                                      "cuStreamWaitEvent",
                                      "cuMemHostRegister",
                                      "cuMemHostUnregister",
                                      "cuCtxPushCurrent",
                                      "cuCtxPopCurrent",
                                      "cuThreadExchangeStreamCaptureMode"};

}  // namespace

TEST_SUITE("fault") {
  TEST_CASE("each driver call of a long scenario may fail: nothing breaks and nothing leaks") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    for (const std::uint32_t threads : {0u, 1u}) {
      const int plain = run_with(simulator, "", threads).failures;
      CHECK(simulator.report_text() == "");
      for (const char* call : kMayFail) {
        int told = 0;
        for (int nth = 1; nth <= 40; ++nth) {
          for (const char* error : {"2", "1"}) {
            const std::string rule =
                std::string(call) + " nth=" + std::to_string(nth) + " error=" + error;
            CAPTURE(rule);
            CAPTURE(threads);
            const Outcome outcome = run_with(simulator, rule, threads);
            CHECK_MESSAGE(outcome.problem.empty(), outcome.problem);
            CHECK_MESSAGE(simulator.reports().empty(), simulator.report_text());
            CHECK(simulator.counters().pinned_bytes_used == 0);
            CHECK(mappings_left() == 0);
            told += outcome.failures > plain ? 1 : 0;
          }
        }
        CAPTURE(call);
        CHECK(told > 0);
      }
    }
  }

  TEST_CASE("a context lost at each driver call ends everything quietly, with the error told") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    for (const char* call : kMayBeLost) {
      int told = 0;
      for (int nth = 1; nth <= 25; ++nth) {
        const std::string rule = std::string(call) + " nth=" + std::to_string(nth) + " error=700";
        CAPTURE(rule);
        const Outcome outcome = run_with(simulator, rule, 1);
        CHECK_MESSAGE(outcome.problem.empty(), outcome.problem);
        for (const sim::Report& report : simulator.reports())
          CHECK_MESSAGE(report.kind == sim::ReportKind::kLeak, report.text);
        CHECK(mappings_left() == 0);
        told += outcome.failures > 3 ? 1 : 0;
      }
      CAPTURE(call);
      CHECK(told > 0);
    }
  }

  TEST_CASE("what the driver does not let go of stays in the books, and mapped at the end") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    for (const bool at_the_end : {false, true}) {
      CAPTURE(at_the_end);
      sim::Options options = test::lab_options();
      options.faults =
          sim::parse_faults("cuMemHostUnregister nth=1 error=CUDA_ERROR_UNKNOWN", "test").value();
      test::page_notes() = {};
      REQUIRE(simulator.reset(options).ok());
      simulator.run([&] {
        PoolLab t(simulator);
        const PinnedBlock block = t.pool->allocate(64 * kKiB).value();
        CHECK(t.pool->free(block.data).ok());
        if (at_the_end) return;
        CHECK(t.pool->trim().status().code() == Code::kInternal);
        CHECK(t.pool->check_invariants().ok());
        CHECK(t.pool->stats().reserved_bytes == 64 * kKiB);
        const PinnedBlock again = t.pool->allocate(64 * kKiB).value();
        CHECK(again.data == block.data);
        CHECK(t.pool->free(again.data).ok());
        CHECK(t.pool->trim().value() == 64 * kKiB);
      });
      CHECK(mappings_left() == (at_the_end ? 1 : 0));
      CHECK(simulator.reports().empty() == !at_the_end);  // the registration that is left
    }
  }

  TEST_CASE("host memory that runs out while a slab is made is told and charges nothing") {
    test::run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      test::page_notes().refuse_map = ENOMEM;
      const auto none = t.pool->allocate(kKiB);
      CHECK(none.status().code() == Code::kOutOfMemory);
      CHECK(none.status().message().find("mmap of 64.0 KiB") != std::string::npos);
      test::page_notes().refuse_map = 0;
      test::page_notes().refuse_advice = 23;  // MADV_POPULATE_WRITE
      test::page_notes().advice_error = ENOMEM;
      const auto untouched = t.pool->allocate(kKiB);
      CHECK(untouched.status().code() == Code::kOutOfMemory);
      CHECK(untouched.status().message().find("no memory for 64.0 KiB") != std::string::npos);
      CHECK(t.pool->stats().reserved_bytes == 0);
      CHECK(mappings_left() == 0);
      test::page_notes().refuse_advice = 0;
      const PinnedBlock block = t.pool->allocate(kKiB).value();
      CHECK(t.pool->free(block.data).ok());
    });
  }
}
