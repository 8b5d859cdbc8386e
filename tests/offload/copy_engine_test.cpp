// SPDX-License-Identifier: Apache-2.0
// The copy engine on the simulated GPU: bytes arrive whatever the order of execution, windows and
// priorities hold, called-off copies leave memory alone, every failing call leaves the books whole.
#include "offload/copy_engine.hpp"

#include "core/random.hpp"
#include "core/thread.hpp"
#include "device/sim/faults.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using test::lab_options;

namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr CopyEngineOptions kSmall{4 * kKiB, 8 * kKiB, 0};

/// A lab with an engine, which ends before the lab does.
class CopyLab {
 public:
  explicit CopyLab(sim::Simulator& simulator, const CopyEngineOptions& options = kSmall)
      : lab(simulator), context_(Context::adopt_current(lab.cu).value()) {
    Result<std::unique_ptr<CopyEngine>> made = CopyEngine::create(context_, options);
    if (made.ok()) engine = std::move(made).value();
  }

  StreamRef stream() { return StreamRef::of(lab.cu, lab.stream()).value(); }
  /// A copy out or in; REQUIREs that it is taken.
  CopyId submit(CopyDirection direction,
                cu::DevicePtr device,
                std::uint8_t* host,
                std::uint64_t bytes,
                StreamRef after,
                CopyId after_copy = {},
                int priority = 0) const {
    const Result<CopyId> id =
        engine->submit({direction, device, host, bytes, after_copy, priority}, after);
    REQUIRE_MESSAGE(id.ok(), id.status().message());
    return id.value();
  }

  test::Lab lab;

 private:
  Context context_;

 public:
  std::unique_ptr<CopyEngine> engine;
};

bool all_are(const std::uint8_t* bytes, std::uint64_t count, std::uint8_t value) {
  for (std::uint64_t i = 0; i < count; ++i)
    if (bytes[i] != value) return false;
  return true;
}

/// Runs under one schedule; the reports of the simulator are the test's.
void run_clean(const std::function<void(sim::Simulator&)>& program,
               sim::Mode mode = sim::Mode::kLazy,
               std::uint64_t seed = 0) {
  auto made = sim::Simulator::create(lab_options(mode, seed));
  REQUIRE(made.ok());
  sim::Simulator& simulator = *made.value();
  simulator.run([&] { program(simulator); });
  CHECK(simulator.report_text() == "");
}

/// Writes, offloads, poisons, prefetches and reads tensors of odd sizes; what went wrong.
std::string round_trips(CopyLab& t, Random random) {
  const StreamRef compute = t.stream();
  struct Tensor {
    cu::DevicePtr device;
    std::uint8_t* host;
    std::uint64_t bytes;
    std::uint8_t value;
    CopyId out;
    CopyId in;
  };
  std::vector<Tensor> tensors;
  for (int i = 0; i < 5; ++i) {
    Tensor x;
    x.bytes = 1 + random.below(20 * kKiB);
    x.device = t.lab.device(x.bytes);
    x.host = t.lab.pinned(x.bytes);
    x.value = static_cast<std::uint8_t>(1 + random.below(200));
    t.lab.fill(compute.handle(), x.device, x.value, x.bytes);
    x.out = t.submit(CopyDirection::kOut, x.device, x.host, x.bytes, compute);
    tensors.push_back(x);
    if (random.below(2) == 0 && !t.engine->poll().ok()) return "poll";
  }
  for (Tensor& x : tensors) {
    // The device bytes are reused by work that waits for the copy.
    if (!t.engine->make_wait(x.out, compute).ok()) return "wait for a copy out";
    t.lab.fill(compute.handle(), x.device, 0xee, x.bytes);
  }
  for (std::size_t i = tensors.size(); i-- > 0;) {
    Tensor& x = tensors[i];
    x.in = t.submit(CopyDirection::kIn,
                    x.device,
                    x.host,
                    x.bytes,
                    compute,
                    x.out,
                    static_cast<int>(random.below(3)));
    if (random.below(3) == 0 && !t.engine->poll().ok()) return "poll";
  }
  for (Tensor& x : tensors) {
    if (!t.engine->make_wait(x.in, compute).ok()) return "wait for a copy in";
    t.lab.add(compute.handle(), x.device, 1, x.bytes);
  }
  std::uint8_t* seen = t.lab.pinned(20 * kKiB);
  for (const Tensor& x : tensors) {
    t.lab.d2h(compute.handle(), seen, x.device, x.bytes);
    t.lab.sync(compute.handle());
    t.lab.simulator().observer().host_reads(seen, x.bytes);
    if (!all_are(seen, x.bytes, static_cast<std::uint8_t>(x.value + 1)))
      return "a tensor came back as something else";
  }
  for (int i = 0; i < 100 && t.engine->poll().ok(); ++i)
    if (t.engine->is_done(tensors.front().in).value()) break;
  const Status whole = t.engine->check_invariants();
  return whole.ok() ? "" : whole.message();
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("tensors come back by the copy engine, in whatever order the device works") {
    auto made = sim::Simulator::create(lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    for (const sim::Mode mode : {sim::Mode::kLazy, sim::Mode::kRandom, sim::Mode::kPct})
      for (std::uint64_t sizes = 0; sizes < 6; ++sizes) {
        sim::Options options = lab_options(mode);
        options.repeat_command =
            "SPILLWAY_SIM_SEED=%s spillway_offload_tests -tc='tensors come back*'";
        std::string problem;
        const sim::Exploration exploration =
            sim::explore_seeds(simulator, options, 0, 25, [&](sim::Simulator& s) {
              CopyLab t(s);
              problem += round_trips(t, Random(sizes));
            });
        CHECK(exploration.text == "");
        CHECK(problem == "");
      }
  }

  TEST_CASE("a copy that nobody waited for is a race, and is reported") {
    auto made = sim::Simulator::create(lab_options());
    REQUIRE(made.ok());
    bool reported = false;
    for (std::uint64_t seed = 0; seed < 8 && !reported; ++seed) {
      REQUIRE(made.value()->reset(lab_options(sim::Mode::kRandom, seed)).ok());
      made.value()->run([&] {
        CopyLab t(*made.value());
        const StreamRef compute = t.stream();
        const cu::DevicePtr x = t.lab.device(16 * kKiB);
        t.lab.fill(compute.handle(), x, 1, 16 * kKiB);
        t.submit(CopyDirection::kOut, x, t.lab.pinned(16 * kKiB), 16 * kKiB, compute);
        t.lab.fill(compute.handle(), x, 2, 16 * kKiB);
      });
      reported = !made.value()->report_text().empty();
    }
    CHECK(reported);
  }

  TEST_CASE("no more than the window is with the driver until somebody waits") {
    run_clean([](sim::Simulator& simulator) {
      CopyLab t(simulator);
      const StreamRef compute = t.stream();
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      std::uint8_t* host = t.lab.pinned(64 * kKiB);
      t.lab.fill(compute.handle(), x, 7, 64 * kKiB);
      const CopyId copy = t.submit(CopyDirection::kOut, x, host, 64 * kKiB, compute);
      CHECK(t.engine->progress(copy).value()->issued_bytes == 8 * kKiB);
      CHECK(t.engine->poll().ok());
      CHECK(t.engine->progress(copy).value()->issued_bytes == 8 * kKiB);
      t.lab.sync(t.engine->stream(CopyDirection::kOut).handle());
      // Queries may be late; each look that sees chunks done issues as many.
      for (int i = 0; i < 100 && t.engine->progress(copy).value()->issued_bytes == 8 * kKiB; ++i)
        CHECK(t.engine->poll().ok());
      const CopyProgress progress = *t.engine->progress(copy).value();
      CHECK(progress.done_bytes > 0);
      CHECK(progress.issued_bytes - progress.done_bytes <= 8 * kKiB);
      CHECK(t.engine->stats().urgent_chunks == 0);
      CHECK(t.engine->wait_on_host(copy).ok());
      CHECK(t.engine->stats().host_waits == 1);
      CHECK(t.engine->stats().chunks == 16);
      CHECK(t.engine->stats().bytes == 64 * kKiB);
      CHECK(t.engine->stats().window_bytes_peak <= 8 * kKiB);
      CHECK(t.engine->stats().urgent_chunks > 0);
      t.lab.simulator().observer().host_reads(host, 64 * kKiB);
      CHECK(all_are(host, 64 * kKiB, 7));
      CHECK(t.engine->check_invariants().ok());
    });
  }

  TEST_CASE("an urgent copy goes before those that came earlier, and the window between them") {
    run_clean([](sim::Simulator& simulator) {
      CopyLab t(simulator);
      const StreamRef compute = t.stream();
      const cu::DevicePtr x = t.lab.device(80 * kKiB);
      std::uint8_t* host = t.lab.pinned(80 * kKiB);
      t.lab.fill(compute.handle(), x, 7, 80 * kKiB);
      const CopyId slow = t.submit(CopyDirection::kOut, x, host, 64 * kKiB, compute);
      const CopyId urgent =
          t.submit(CopyDirection::kOut, x + 64 * kKiB, host + 64 * kKiB, 4 * kKiB, compute, {}, -1);
      const CopyId late =
          t.submit(CopyDirection::kOut, x + 68 * kKiB, host + 68 * kKiB, 4 * kKiB, compute);
      t.lab.sync(t.engine->stream(CopyDirection::kOut).handle());
      // The two chunks of the window are done: the urgent copy is the next.
      for (int i = 0; i < 100 && t.engine->stats().chunks < 4; ++i) CHECK(t.engine->poll().ok());
      t.lab.sync(t.engine->stream(CopyDirection::kOut).handle());
      bool done = false;
      for (int i = 0; i < 100 && !done; ++i) done = t.engine->is_done(urgent).value();
      CHECK(done);
      CHECK(t.engine->progress(slow).value()->issued_bytes < 64 * kKiB);
      CHECK(t.engine->progress(late).value()->issued_bytes == 0);
      CHECK(t.engine->make_wait(late, compute).ok());
      CHECK(t.engine->make_wait(slow, compute).ok());
      t.lab.sync(compute.handle());
      t.lab.simulator().observer().host_reads(host, 72 * kKiB);
      CHECK(all_are(host, 72 * kKiB, 7));
    });
  }

  TEST_CASE("what is called off is not copied, and its memory is free behind what was") {
    run_clean([](sim::Simulator& simulator) {
      CopyLab t(simulator);
      const StreamRef compute = t.stream();
      const StreamRef out = t.engine->stream(CopyDirection::kOut);
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      std::uint8_t* host = t.lab.pinned(64 * kKiB);
      t.lab.fill(compute.handle(), x, 7, 64 * kKiB);
      const CopyId first = t.submit(CopyDirection::kOut, x, host, 32 * kKiB, compute);
      const CopyId second =
          t.submit(CopyDirection::kOut, x + 32 * kKiB, host + 32 * kKiB, 32 * kKiB, compute);
      CHECK(t.engine->cancel(second).value() == 0);
      CHECK(t.engine->cancel(first).value() == 8 * kKiB);
      CHECK(t.engine->stats().cancelled_bytes == 56 * kKiB);
      // Ordered behind the copy stream, the bytes are anybody's.
      t.lab.order(out.handle(), compute.handle());
      t.lab.fill(compute.handle(), x, 9, 64 * kKiB);
      t.lab.sync(compute.handle());
      CHECK(t.engine->poll().ok());
      CHECK(t.engine->check_invariants().ok());
      CHECK(t.engine->stats().chunks == 2);
      // A copy that is over is not called off, and nobody minds.
      const CopyId third = t.submit(CopyDirection::kOut, x, host, kKiB, compute);
      CHECK(t.engine->wait_on_host(third).ok());
      for (int i = 0; i < 100 && !t.engine->is_done(third).value(); ++i) continue;
      CHECK(t.engine->cancel(third).value() == 0);
    });
  }

  TEST_CASE("an engine ends while copies are queued and under way") {
    for (const sim::Mode mode : {sim::Mode::kLazy, sim::Mode::kRandom})
      run_clean(
          [](sim::Simulator& simulator) {
            CopyLab t(simulator);
            const StreamRef compute = t.stream();
            const cu::DevicePtr x = t.lab.device(64 * kKiB);
            std::uint8_t* host = t.lab.pinned(64 * kKiB);
            t.lab.fill(compute.handle(), x, 7, 64 * kKiB);
            t.submit(CopyDirection::kOut, x, host, 32 * kKiB, compute);
            t.submit(CopyDirection::kOut, x, host + 32 * kKiB, 32 * kKiB, compute);
            t.engine.reset();
          },
          mode);
  }

  TEST_CASE("copies of nothing, unknown copies and captured streams are refused") {
    run_clean([](sim::Simulator& simulator) {
      CopyLab t(simulator);
      const StreamRef s = t.stream();
      const cu::DevicePtr x = t.lab.device(kKiB);
      std::uint8_t* host = t.lab.pinned(kKiB);
      const auto code = [&](const CopyRequest& request) {
        return t.engine->submit(request, s).status().code();
      };
      CHECK(code({CopyDirection::kOut, 0, host, kKiB, {}, 0}) == Code::kInvalidArgument);
      CHECK(code({CopyDirection::kOut, x, nullptr, kKiB, {}, 0}) == Code::kInvalidArgument);
      CHECK(code({CopyDirection::kOut, x, host, 0, {}, 0}) == Code::kInvalidArgument);
      CHECK(code({CopyDirection::kIn, x, host, kKiB, CopyId{7}, 0}) == Code::kNotFound);
      CHECK(t.engine->make_wait({}, s).code() == Code::kNotFound);
      CHECK(t.engine->make_wait(CopyId{1}, s).code() == Code::kNotFound);
      CHECK(t.engine->wait_on_host(CopyId{1}).code() == Code::kNotFound);
      CHECK(t.engine->cancel(CopyId{1}).status().code() == Code::kNotFound);
      CHECK(t.engine->is_done(CopyId{1}).status().code() == Code::kNotFound);
      CHECK(t.engine->progress(CopyId{1}).status().code() == Code::kNotFound);
      CHECK(t.engine->stats().submitted == 0);
      CHECK(
          CopyEngine::create(Context::adopt_current(t.lab.cu).value(), {0, 0, 0}).status().code() ==
          Code::kInvalidArgument);
    });
  }

  TEST_CASE("with every driver call failing in turn the copy engine's books stay whole") {
    auto made = sim::Simulator::create(lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    int failures = 0;
    for (const char* call : {"cuEventCreate",
                             "cuEventRecord",
                             "cuEventQuery",
                             "cuEventSynchronize",
                             "cuStreamWaitEvent",
                             "cuMemcpyDtoHAsync",
                             "cuMemcpyHtoDAsync",
                             "cuStreamCreateWithPriority"}) {
      bool failed = true;
      for (int nth = 1; failed && nth < 60; ++nth) {
        sim::Options options = lab_options(sim::Mode::kRandom, 3);
        auto faults = sim::parse_faults(
            std::string(call) + " nth=" + std::to_string(nth) + " error=CUDA_ERROR_OUT_OF_MEMORY",
            "test");
        REQUIRE(faults.ok());
        options.faults = std::move(faults).value();
        REQUIRE(simulator.reset(options).ok());
        failed = false;
        std::string problem;
        simulator.run([&] {
          CopyLab t(simulator);
          if (t.engine == nullptr) {
            failed = true;
            return;
          }
          const StreamRef compute = t.stream();
          const cu::DevicePtr x = t.lab.device(24 * kKiB);
          std::uint8_t* host = t.lab.pinned(24 * kKiB);
          t.lab.fill(compute.handle(), x, 7, 24 * kKiB);
          const auto note = [&](const Status& status) {
            if (status.ok()) return true;
            failed = true;
            if (status.message().empty()) problem = "a failure without words";
            return false;
          };
          const auto out =
              t.engine->submit({CopyDirection::kOut, x, host, 24 * kKiB, {}, 0}, compute);
          if (note(out.status())) {
            note(t.engine->poll());
            const auto in =
                t.engine->submit({CopyDirection::kIn, x, host, 24 * kKiB, out.value(), 0}, compute);
            note(in.status());
            if (in.ok()) {
              note(t.engine->make_wait(in.value(), compute));
              note(t.engine->wait_on_host(in.value()));
              note(t.engine->cancel(in.value()).status());
            }
            note(t.engine->is_done(out.value()).status());
          }
          // What is still queued of this is of no interest; the stream's order is.
          t.lab.sync(t.engine->stream(CopyDirection::kOut).handle());
          t.lab.sync(t.engine->stream(CopyDirection::kIn).handle());
          for (int i = 0; i < 30; ++i) note(t.engine->poll());
          const Status whole = t.engine->check_invariants();
          if (!whole.ok()) problem = whole.message();
          // The engine is as good as new.
          const auto again = t.engine->submit({CopyDirection::kOut, x, host, kKiB, {}, 0}, compute);
          const bool failed_before = failed;
          if (!note(again.status()) && failed_before) problem = "no further copy after a failure";
          t.engine.reset();
        });
        CHECK_MESSAGE(problem == "", call << " nth=" << nth);
        CHECK_MESSAGE(simulator.report_text() == "", call << " nth=" << nth);
        failures += failed ? 1 : 0;
      }
    }
    CHECK(failures > 20);
  }

  TEST_CASE("threads share a copy engine, whatever order they run in") {
    auto made = sim::Simulator::create(lab_options());
    REQUIRE(made.ok());
    for (const sim::Mode mode : {sim::Mode::kRandom, sim::Mode::kPct})
      for (std::uint64_t seed = 0; seed < 60; ++seed) {
        REQUIRE(made.value()->reset(lab_options(mode, seed)).ok());
        std::string problem;
        made.value()->run([&] {
          CopyLab t(*made.value());
          Mutex mutex("test");
          std::vector<Thread> threads;
          for (std::uint64_t i = 0; i < 2; ++i)
            threads.push_back(Thread::start("copier", [&, i] {
                                t.lab.enter();
                                StreamRef s = t.stream();
                                const cu::DevicePtr x = t.lab.device(12 * kKiB);
                                std::uint8_t* host = t.lab.pinned(12 * kKiB);
                                const auto value = static_cast<std::uint8_t>(20 + i);
                                std::string wrong;
                                for (int round = 0; round < 2; ++round) {
                                  t.lab.fill(s.handle(), x, value, 12 * kKiB);
                                  const auto out = t.engine->submit(
                                      {CopyDirection::kOut, x, host, 12 * kKiB, {}, 0}, s);
                                  if (!out.ok() || !t.engine->poll().ok()) wrong = "out";
                                  if (!out.ok() || !t.engine->make_wait(out.value(), s).ok())
                                    wrong = "wait";
                                  t.lab.fill(s.handle(), x, 0, 12 * kKiB);
                                  const auto in = t.engine->submit(
                                      {CopyDirection::kIn, x, host, 12 * kKiB, out.value(), 0}, s);
                                  if (!in.ok() || !t.engine->wait_on_host(in.value()).ok())
                                    wrong = "in";
                                  t.lab.simulator().observer().host_reads(host, 12 * kKiB);
                                  if (!all_are(host, 12 * kKiB, value)) wrong = "bytes";
                                }
                                const LockGuard lock(mutex);
                                problem += wrong;
                              }).value());
          for (Thread& thread : threads) thread.join();
          const Status whole = t.engine->check_invariants();
          if (!whole.ok()) problem += whole.message();
        });
        CHECK_MESSAGE(made.value()->report_text() == "", "seed " << seed);
        REQUIRE_MESSAGE(problem == "", "seed " << seed);
      }
  }
}
