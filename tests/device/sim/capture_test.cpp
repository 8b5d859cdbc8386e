// SPDX-License-Identifier: Apache-2.0
// What a program may not do while a stream is capturing: each rule, its error code, whether the
// capture survives, and that switching Semantic::kCaptureRules off lets the call run.
#include "core/thread.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace spillway::test {
namespace {

using Capturing = cu::StreamCaptureMode;
using Status = cu::StreamCaptureStatus;
using sim::Mode;
using sim::ReportKind;
using sim::Simulator;
using R = cu::Result;

constexpr std::size_t kBytes = 4096;

std::unique_ptr<Simulator> make() {
  Result<std::unique_ptr<Simulator>> made = Simulator::create(lab_options());
  REQUIRE(made.ok());
  return std::move(made).value();
}

std::vector<sim::Options> all_modes() {
  std::vector<sim::Options> all;
  for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kTimed})
    all.push_back(lab_options(mode));
  for (std::uint64_t seed = 0; seed < 50; ++seed) all.push_back(lab_options(Mode::kRandom, seed));
  for (std::uint64_t seed = 0; seed < 20; ++seed) all.push_back(lab_options(Mode::kPct, seed));
  return all;
}

Status status_of(Lab& lab, cu::Stream stream) {
  Status status = Status::kNone;
  lab.note(lab.cu.cuStreamIsCapturing(stream, &status));
  return status;
}

/// What a rule's test has at hand: an origin with one captured operation, and things outside.
struct Scene {
  Lab& lab;
  cu::Stream origin;
  cu::Stream other;     // not capturing
  cu::Event inside;     // recorded in the capture
  cu::Event outside;    // recorded before it, complete
  cu::DevicePtr x;      // the capture uses it
  cu::DevicePtr y;      // free to use
  std::uint8_t* bytes;  // pinned
};

struct Verdict {
  R call = R::kUnknown;
  Status status = Status::kNone;
  R end = R::kUnknown;
  bool reported = false;
};

/// Runs `act` during a capture on `origin_flags`, then ends the capture and gives everything back.
Verdict during_capture(Simulator& simulator,
                       const sim::Options& options,
                       Capturing mode,
                       unsigned int origin_flags,
                       const std::function<R(Scene&)>& act) {
  Verdict verdict;
  REQUIRE(simulator.reset(options).ok());
  simulator.run([&] {
    Lab lab(simulator);
    Scene s{lab,
            lab.stream(origin_flags),
            lab.stream(),
            lab.event(),
            lab.event(),
            lab.device(kBytes),
            lab.device(kBytes),
            lab.pinned(kBytes)};
    lab.record(s.outside, s.other);
    lab.sync(s.other);
    lab.note(lab.cu.cuStreamBeginCapture(s.origin, mode));
    lab.fill(s.origin, s.x, 1, kBytes);
    lab.record(s.inside, s.origin);
    verdict.call = act(s);
    verdict.status = status_of(lab, s.origin);
    cu::Graph graph = nullptr;
    verdict.end = lab.cu.cuStreamEndCapture(s.origin, &graph);
    CHECK((graph != nullptr) == (verdict.end == R::kSuccess));
    CHECK(status_of(lab, s.origin) == Status::kNone);
    if (graph != nullptr) lab.note(lab.cu.cuGraphDestroy(graph));
    // The stream works again.
    lab.fill(s.origin, s.x, 2, kBytes);
    lab.sync(s.origin);
    CHECK(lab.failure == R::kSuccess);
  });
  verdict.reported = simulator.has_report(ReportKind::kCapture);
  for (const sim::Report& report : simulator.reports()) CHECK(report.kind == ReportKind::kCapture);
  return verdict;
}

struct Rule {
  const char* name;
  Capturing mode;
  unsigned int origin_flags;
  R expected;
  std::function<R(Scene&)> act;
};

constexpr unsigned int kNonBlocking = cu::kStreamNonBlocking;
constexpr unsigned int kBlocking = cu::kStreamDefault;

R allocate(Scene& s) {
  cu::DevicePtr made = 0;
  const R r = s.lab.cu.cuMemAlloc(&made, kBytes);
  if (r == R::kSuccess) s.lab.note(s.lab.cu.cuMemFree(made));
  return r;
}

std::vector<Rule> rules() {
  const auto sync_origin = [](Scene& s) { return s.lab.cu.cuStreamSynchronize(s.origin); };
  const auto query_origin = [](Scene& s) { return s.lab.cu.cuStreamQuery(s.origin); };
  const auto sync_context = [](Scene& s) { return s.lab.cu.cuCtxSynchronize(); };
  const auto legacy_fill = [](Scene& s) {
    return s.lab.cu.cuMemsetD8Async(s.y, 1, kBytes, nullptr);
  };
  const auto sync_inside = [](Scene& s) { return s.lab.cu.cuEventSynchronize(s.inside); };
  return {
      {"synchronising the origin", Capturing::kRelaxed, kNonBlocking, R(900), sync_origin},
      {"querying the origin", Capturing::kRelaxed, kNonBlocking, R(900), query_origin},
      {"synchronising the context", Capturing::kRelaxed, kNonBlocking, R(900), sync_context},
      {"legacy work", Capturing::kRelaxed, kBlocking, R(906), legacy_fill},
      {"synchronising the legacy stream",
       Capturing::kRelaxed,
       kBlocking,
       R(906),
       [](Scene& s) { return s.lab.cu.cuStreamSynchronize(nullptr); }},
      {"a synchronous copy, blocking origin",
       Capturing::kRelaxed,
       kBlocking,
       R(906),
       [](Scene& s) { return s.lab.cu.cuMemcpyDtoH(s.bytes, s.y, kBytes); }},
      {"a synchronous set, global",
       Capturing::kGlobal,
       kNonBlocking,
       R(900),
       [](Scene& s) { return s.lab.cu.cuMemsetD8(s.y, 1, kBytes); }},
      {"allocating, global", Capturing::kGlobal, kNonBlocking, R(900), allocate},
      {"allocating, thread-local", Capturing::kThreadLocal, kNonBlocking, R(900), allocate},
      {"freeing",
       Capturing::kGlobal,
       kNonBlocking,
       R(900),
       [](Scene& s) {
         const R r = s.lab.cu.cuMemFree(s.y);
         if (r == R::kSuccess) s.lab.forget(s.y);
         return r;
       }},
      {"pinning",
       Capturing::kGlobal,
       kNonBlocking,
       R(900),
       [](Scene& s) {
         void* made = nullptr;
         const R r = s.lab.cu.cuMemHostAlloc(&made, kBytes, 0);
         if (r == R::kSuccess) s.lab.note(s.lab.cu.cuMemFreeHost(made));
         return r;
       }},
      {"querying an event outside",
       Capturing::kGlobal,
       kNonBlocking,
       R(900),
       [](Scene& s) {
         R r = s.lab.cu.cuEventQuery(s.outside);
         while (r == R::kNotReady) r = s.lab.cu.cuEventQuery(s.outside);
         return r;
       }},
      {"synchronising a captured event", Capturing::kRelaxed, kNonBlocking, R(907), sync_inside},
      {"querying a captured event",
       Capturing::kRelaxed,
       kNonBlocking,
       R(907),
       [](Scene& s) { return s.lab.cu.cuEventQuery(s.inside); }},
      {"waiting for an event outside",
       Capturing::kRelaxed,
       kNonBlocking,
       R(905),
       [](Scene& s) { return s.lab.cu.cuStreamWaitEvent(s.origin, s.outside, 0); }},
  };
}

TEST_CASE("sim capture: an illegal call fails, is reported and invalidates the capture") {
  const std::unique_ptr<Simulator> simulator = make();
  for (const Rule& rule : rules()) {
    CAPTURE(rule.name);
    for (const sim::Options& options : all_modes()) {
      CAPTURE(options.seed);
      const Verdict v = during_capture(*simulator, options, rule.mode, rule.origin_flags, rule.act);
      CHECK(v.call == rule.expected);
      CHECK(v.status == Status::kInvalidated);
      CHECK(v.end == R::kStreamCaptureInvalidated);
      CHECK(v.reported);
    }
  }
}

TEST_CASE("sim capture: with the rules switched off the same calls run") {
  const std::unique_ptr<Simulator> simulator = make();
  for (const Rule& rule : rules()) {
    CAPTURE(rule.name);
    sim::Options options = lab_options(Mode::kLazy);
    options.semantics.switch_off(sim::Semantic::kCaptureRules);
    options.semantics.switch_off(sim::Semantic::kLateQuery);
    const Verdict v = during_capture(*simulator, options, rule.mode, rule.origin_flags, rule.act);
    CHECK(v.call == R::kSuccess);
    CHECK(v.status == Status::kActive);
    CHECK(v.end == R::kSuccess);
    CHECK_FALSE(v.reported);
  }
}

TEST_CASE("sim capture: what is safe stays allowed") {
  const std::unique_ptr<Simulator> simulator = make();
  const auto fill_other = [](Scene& s) {
    s.lab.fill(s.other, s.y, 1, kBytes);
    s.lab.record(s.outside, s.other);
    return s.lab.cu.cuStreamWaitEvent(s.other, s.outside, 0);
  };
  const auto relaxed_thread = [](Scene& s) {
    Capturing mode = Capturing::kRelaxed;
    s.lab.note(s.lab.cu.cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == Capturing::kGlobal);
    const R r = allocate(s);
    s.lab.note(s.lab.cu.cuThreadExchangeStreamCaptureMode(&mode));
    CHECK(mode == Capturing::kRelaxed);
    return r;
  };
  const auto legacy_fill = [](Scene& s) {
    return s.lab.cu.cuMemsetD8Async(s.y, 1, kBytes, nullptr);
  };
  const auto in_thread = [](Scene& s) {
    R r = R::kUnknown;
    Result<Thread> thread = Thread::start("allocating", [&] {
      s.lab.enter();
      r = allocate(s);
    });
    REQUIRE(thread.ok());
    thread.value().join();
    return r;
  };
  const std::vector<Rule> safe = {
      {"work on another stream", Capturing::kGlobal, kNonBlocking, R::kSuccess, fill_other},
      {"a relaxed thread", Capturing::kGlobal, kNonBlocking, R::kSuccess, relaxed_thread},
      {"a relaxed capture", Capturing::kRelaxed, kNonBlocking, R::kSuccess, allocate},
      {"legacy beside non-blocking", Capturing::kGlobal, kNonBlocking, R::kSuccess, legacy_fill},
      {"another thread", Capturing::kThreadLocal, kNonBlocking, R::kSuccess, in_thread},
  };
  for (const Rule& rule : safe) {
    CAPTURE(rule.name);
    for (const sim::Options& options : all_modes()) {
      const Verdict v = during_capture(*simulator, options, rule.mode, rule.origin_flags, rule.act);
      CHECK(v.call == R::kSuccess);
      CHECK(v.status == Status::kActive);
      CHECK(v.end == R::kSuccess);
      CHECK_FALSE(v.reported);
    }
  }
  // A global capture forbids it to other threads too.
  const Verdict v =
      during_capture(*simulator, lab_options(), Capturing::kGlobal, kNonBlocking, in_thread);
  CHECK(v.call == R::kStreamCaptureUnsupported);
  CHECK(v.end == R::kStreamCaptureInvalidated);
}

TEST_CASE("sim capture: allocations in stream order are refused on a capturing stream") {
  const std::unique_ptr<Simulator> simulator = make();
  const Verdict v =
      during_capture(*simulator, lab_options(), Capturing::kRelaxed, kNonBlocking, [](Scene& s) {
        cu::DevicePtr made = 0;
        return s.lab.cu.cuMemAllocAsync(&made, kBytes, s.origin);
      });
  CHECK(v.call == R::kStreamCaptureUnsupported);
  CHECK(v.end == R::kStreamCaptureInvalidated);
}

TEST_CASE("sim capture: a stream that is not joined back makes the end fail") {
  const std::unique_ptr<Simulator> simulator = make();
  const Verdict v =
      during_capture(*simulator, lab_options(), Capturing::kGlobal, kNonBlocking, [](Scene& s) {
        s.lab.wait(s.other, s.inside);
        s.lab.fill(s.other, s.y, 1, kBytes);
        CHECK(status_of(s.lab, s.other) == Status::kActive);
        return R::kSuccess;
      });
  CHECK(v.end == R::kStreamCaptureUnjoined);
  CHECK(v.reported);
}

TEST_CASE("sim capture: only the origin ends it, on the thread that began it") {
  const std::unique_ptr<Simulator> simulator = make();
  const Verdict unmatched =
      during_capture(*simulator, lab_options(), Capturing::kGlobal, kNonBlocking, [](Scene& s) {
        s.lab.wait(s.other, s.inside);
        cu::Graph graph = nullptr;
        return s.lab.cu.cuStreamEndCapture(s.other, &graph);
      });
  CHECK(unmatched.call == R::kStreamCaptureUnmatched);
  CHECK(unmatched.reported);

  const auto in_thread = [](Scene& s) {
    R r = R::kUnknown;
    Result<Thread> thread = Thread::start("ending", [&] {
      s.lab.enter();
      cu::Graph graph = nullptr;
      r = s.lab.cu.cuStreamEndCapture(s.origin, &graph);
      if (graph != nullptr) s.lab.note(s.lab.cu.cuGraphDestroy(graph));
      if (r == R::kSuccess)
        s.lab.note(s.lab.cu.cuStreamBeginCapture(s.origin, Capturing::kRelaxed));
    });
    REQUIRE(thread.ok());
    thread.value().join();
    return r;
  };
  for (const sim::Options& options : all_modes()) {
    CHECK(during_capture(*simulator, options, Capturing::kThreadLocal, kNonBlocking, in_thread)
              .call == R::kStreamCaptureWrongThread);
    CHECK(during_capture(*simulator, options, Capturing::kRelaxed, kNonBlocking, in_thread).call ==
          R::kSuccess);
  }
}

TEST_CASE("sim capture: two captures do not merge") {
  const std::unique_ptr<Simulator> simulator = make();
  const Verdict v =
      during_capture(*simulator, lab_options(), Capturing::kGlobal, kNonBlocking, [](Scene& s) {
        s.lab.note(s.lab.cu.cuStreamBeginCapture(s.other, Capturing::kGlobal));
        const R r = s.lab.cu.cuStreamWaitEvent(s.other, s.inside, 0);
        CHECK(status_of(s.lab, s.other) == Status::kInvalidated);
        cu::Graph graph = nullptr;
        CHECK(s.lab.cu.cuStreamEndCapture(s.other, &graph) == R::kStreamCaptureInvalidated);
        return r;
      });
  CHECK(v.call == R::kStreamCaptureMerge);
  CHECK(v.end == R::kStreamCaptureInvalidated);
}

TEST_CASE("sim capture: a captured event is of no use outside until it is recorded there") {
  const std::unique_ptr<Simulator> simulator = make();
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream origin = lab.stream();
    const cu::Stream other = lab.stream();
    const cu::Event event = lab.event();
    lab.note(lab.cu.cuStreamBeginCapture(origin, Capturing::kGlobal));
    lab.record(event, origin);
    cu::Graph graph = nullptr;
    lab.note(lab.cu.cuStreamEndCapture(origin, &graph));
    lab.note(lab.cu.cuGraphDestroy(graph));
    CHECK(lab.cu.cuEventQuery(event) == R::kCapturedEvent);
    CHECK(lab.cu.cuEventSynchronize(event) == R::kCapturedEvent);
    CHECK(lab.cu.cuStreamWaitEvent(other, event, 0) == R::kCapturedEvent);
    lab.record(event, origin);
    lab.wait(other, event);
    lab.sync(event);
    CHECK(lab.failure == R::kSuccess);
  });
  CHECK(simulator->reports().size() == 3);
  CHECK(simulator->has_report(ReportKind::kCapture));
}

TEST_CASE("sim capture: states that make begin and end impossible") {
  const std::unique_ptr<Simulator> simulator = make();
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream origin = lab.stream(cu::kStreamDefault);
    cu::Graph graph = nullptr;
    Status status = Status::kNone;
    CHECK(lab.cu.cuStreamEndCapture(origin, &graph) == R::kIllegalState);
    CHECK(lab.cu.cuStreamBeginCapture(nullptr, Capturing::kGlobal) == R::kStreamCaptureUnsupported);
    CHECK(lab.cu.cuStreamBeginCapture(origin, Capturing(3)) == R::kInvalidValue);
    lab.note(lab.cu.cuStreamBeginCapture(origin, Capturing::kGlobal));
    CHECK(lab.cu.cuStreamBeginCapture(origin, Capturing::kGlobal) == R::kIllegalState);
    // Asking about the legacy stream fails without harm.
    CHECK(lab.cu.cuStreamIsCapturing(nullptr, &status) == R::kStreamCaptureImplicit);
    CHECK(status_of(lab, origin) == Status::kActive);
    lab.note(lab.cu.cuStreamEndCapture(origin, &graph));
    lab.note(lab.cu.cuGraphDestroy(graph));
    CHECK(lab.failure == R::kSuccess);
  });
}

TEST_CASE("sim capture: the information about a capture names its graph and what comes next") {
  const std::unique_ptr<Simulator> simulator = make();
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream origin = lab.stream();
    const cu::DevicePtr x = lab.device(kBytes);
    Status status = Status::kActive;
    unsigned long long id = 0;
    cu::Graph graph = nullptr;
    const cu::GraphNode* after = nullptr;
    std::size_t count = 7;
    const auto ask = [&] {
      lab.note(lab.cu.cuStreamGetCaptureInfo(origin, &status, &id, &graph, &after, &count));
    };
    ask();
    CHECK(status == Status::kNone);
    CHECK(count == 7);  // only written while a capture is active
    lab.note(lab.cu.cuStreamBeginCapture(origin, Capturing::kRelaxed));
    ask();
    CHECK(status == Status::kActive);
    CHECK(id != 0);
    CHECK(count == 0);
    lab.fill(origin, x, 1, kBytes);
    lab.fill(origin, x, 2, kBytes);
    ask();
    REQUIRE(count == 1);
    const cu::GraphNode last = after[0];
    cu::Graph ended = nullptr;
    lab.note(lab.cu.cuStreamEndCapture(origin, &ended));
    CHECK(ended == graph);
    cu::GraphNode nodes[3] = {last, last, last};
    count = 3;
    lab.note(lab.cu.cuGraphGetNodes(ended, nodes, &count));
    CHECK(count == 2);
    CHECK(nodes[1] == last);
    CHECK(nodes[2] == nullptr);
    lab.note(lab.cu.cuGraphDestroy(ended));
    CHECK(lab.failure == R::kSuccess);
  });
  CHECK(simulator->report_text() == "");
}

TEST_CASE("sim capture: a capture that nobody ends is reported") {
  const std::unique_ptr<Simulator> simulator = make();
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream origin = lab.stream();
    lab.forget(origin);
    lab.note(lab.cu.cuStreamBeginCapture(origin, Capturing::kThreadLocal));
    Capturing mode = Capturing::kRelaxed;
    lab.note(lab.cu.cuThreadExchangeStreamCaptureMode(&mode));
  });
  CHECK(simulator->report_text().find("1 unfinished capture") != std::string::npos);
}

}  // namespace
}  // namespace spillway::test
