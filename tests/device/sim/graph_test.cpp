// SPDX-License-Identifier: Apache-2.0
// Captured graphs run: the right bytes in every mode, as often as launched, in order with what is
// around them, and judged like any other work.
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::test {
namespace {

using sim::Mode;
using sim::ReportKind;
using sim::Simulator;

constexpr std::size_t kBytes = 4096;

std::unique_ptr<Simulator> make(const sim::Options& options) {
  Result<std::unique_ptr<Simulator>> made = Simulator::create(options);
  REQUIRE(made.ok());
  return std::move(made).value();
}

/// Eager, lazy, timed, 50 seeds of random and 20 of PCT.
std::vector<sim::Options> all_modes() {
  std::vector<sim::Options> all;
  for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kTimed})
    all.push_back(lab_options(mode));
  for (std::uint64_t seed = 0; seed < 50; ++seed) all.push_back(lab_options(Mode::kRandom, seed));
  for (std::uint64_t seed = 0; seed < 20; ++seed) all.push_back(lab_options(Mode::kPct, seed));
  return all;
}

struct Graph {
  cu::Graph graph = nullptr;
  cu::GraphExec exec = nullptr;
};

Graph end_capture(Lab& lab, cu::Stream stream) {
  Graph g;
  lab.note(lab.cu.cuStreamEndCapture(stream, &g.graph));
  lab.note(lab.cu.cuGraphInstantiate(&g.exec, g.graph, 0));
  return g;
}

void destroy(Lab& lab, const Graph& g) {
  lab.note(lab.cu.cuGraphExecDestroy(g.exec));
  lab.note(lab.cu.cuGraphDestroy(g.graph));
}

void begin(Lab& lab, cu::Stream stream) {
  lab.note(lab.cu.cuStreamBeginCapture(stream, cu::StreamCaptureMode::kGlobal));
}

/// in -> x on `main`; y = x on `side`, x += 1 comes after that; x += 1 again; out = x.
Graph capture_fork(Lab& lab,
                   cu::Stream main,
                   cu::Stream side,
                   const std::uint8_t* in,
                   std::uint8_t* out,
                   cu::DevicePtr x,
                   cu::DevicePtr y) {
  begin(lab, main);
  lab.h2d(main, x, in, kBytes);
  lab.order(main, side);
  lab.copy(side, y, x, kBytes);
  lab.order(side, main);
  lab.add(main, x, 1, kBytes);
  lab.d2h(main, out, x, kBytes);
  return end_capture(lab, main);
}

TEST_CASE("sim graph: a graph launched three times on changed input gives the right bytes") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const sim::Options& options : all_modes()) {
    CAPTURE(name_of(options.mode));
    CAPTURE(options.seed);
    REQUIRE(simulator->reset(options).ok());
    std::vector<int> seen;
    cu::Result failure = cu::Result::kUnknown;
    std::size_t nodes = 0;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream main = lab.stream();
      const cu::Stream side = lab.stream();
      std::uint8_t* in = lab.pinned(kBytes);
      std::uint8_t* out = lab.pinned(kBytes);
      const cu::DevicePtr x = lab.device(kBytes);
      const cu::DevicePtr y = lab.device(kBytes);
      const Graph g = capture_fork(lab, main, side, in, out, x, y);
      lab.note(lab.cu.cuGraphGetNodes(g.graph, nullptr, &nodes));
      for (int i = 0; i < 3; ++i) {
        std::memset(in, 10 * (i + 1), kBytes);
        lab.note(lab.cu.cuGraphLaunch(g.exec, main));
        lab.sync(main);
        seen.push_back(out[0]);
        seen.push_back(out[kBytes - 1]);
      }
      std::uint8_t* copy = lab.pinned(kBytes);
      lab.d2h(main, copy, y, kBytes);
      lab.sync(main);
      seen.push_back(copy[kBytes / 2]);
      destroy(lab, g);
      failure = lab.failure;
    });
    CHECK(simulator->report_text() == "");
    CHECK(failure == cu::Result::kSuccess);
    CHECK(nodes == 4);
    CHECK(seen == std::vector<int>{11, 11, 21, 21, 31, 31, 30});
  }
}

TEST_CASE("sim graph: nothing runs before the launch, and parameters are those of the capture") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const sim::Options& options : all_modes()) {
    CAPTURE(options.seed);
    REQUIRE(simulator->reset(options).ok());
    int before = -1;
    int after = -1;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream main = lab.stream();
      std::uint8_t* out = lab.pinned(kBytes);
      const cu::DevicePtr x = lab.device(kBytes);
      lab.fill(main, x, 1, kBytes);
      begin(lab, main);
      lab.add(main, x, 5, kBytes);  // Lab's parameters are gone after the call
      const Graph g = end_capture(lab, main);
      lab.d2h(main, out, x, kBytes);
      lab.sync(main);
      before = out[0];
      lab.note(lab.cu.cuGraphLaunch(g.exec, main));
      lab.note(lab.cu.cuGraphLaunch(g.exec, main));
      lab.d2h(main, out, x, kBytes);
      lab.sync(main);
      after = out[0];
      destroy(lab, g);
      CHECK(lab.failure == cu::Result::kSuccess);
    });
    CHECK(simulator->report_text() == "");
    CHECK(before == 1);
    CHECK(after == 11);
  }
}

TEST_CASE("sim graph: two launches of one graph on two streams are one after the other") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const sim::Options& options : all_modes()) {
    CAPTURE(options.seed);
    REQUIRE(simulator->reset(options).ok());
    int value = -1;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream a = lab.stream();
      const cu::Stream b = lab.stream();
      std::uint8_t* out = lab.pinned(kBytes);
      const cu::DevicePtr x = lab.device(kBytes);
      lab.fill(a, x, 1, kBytes);
      begin(lab, a);
      lab.add(a, x, 3, kBytes);
      const Graph g = end_capture(lab, a);
      lab.note(lab.cu.cuGraphLaunch(g.exec, a));
      lab.note(lab.cu.cuGraphLaunch(g.exec, b));  // no event: the driver orders them itself
      lab.d2h(b, out, x, kBytes);
      lab.sync(b);
      value = out[0];
      destroy(lab, g);
      CHECK(lab.failure == cu::Result::kSuccess);
    });
    CHECK(simulator->report_text() == "");
    CHECK(value == 7);
  }
}

TEST_CASE("sim graph: a consumer without an edge from the launch is a race in every mode") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const bool ordered : {false, true}) {
    for (const sim::Options& options : all_modes()) {
      CAPTURE(options.seed);
      REQUIRE(simulator->reset(options).ok());
      simulator->run([&] {
        Lab lab(*simulator);
        const cu::Stream main = lab.stream();
        const cu::Stream side = lab.stream();
        const cu::Stream consumer = lab.stream();
        std::uint8_t* in = lab.pinned(kBytes);
        std::uint8_t* out = lab.pinned(kBytes);
        const cu::DevicePtr x = lab.device(kBytes);
        const cu::DevicePtr y = lab.device(kBytes);
        const Graph g = capture_fork(lab, main, side, in, out, x, y);
        lab.note(lab.cu.cuGraphLaunch(g.exec, main));
        if (ordered) lab.order(main, consumer);
        lab.read(consumer, y, kBytes);
        destroy(lab, g);
        CHECK(lab.failure == cu::Result::kSuccess);
      });
      CHECK(simulator->has_report(ReportKind::kRace) == !ordered);
      if (ordered) CHECK(simulator->report_text() == "");
    }
  }
}

TEST_CASE("sim graph: branches of a graph that nothing orders race with each other") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream main = lab.stream();
    const cu::Stream side = lab.stream();
    const cu::DevicePtr x = lab.device(kBytes);
    begin(lab, main);
    lab.order(main, side);
    lab.fill(main, x, 1, kBytes);
    lab.fill(side, x, 2, kBytes);
    lab.order(side, main);
    const Graph g = end_capture(lab, main);
    CHECK_FALSE(simulator->has_report(ReportKind::kRace));  // nothing has run
    lab.note(lab.cu.cuGraphLaunch(g.exec, main));
    destroy(lab, g);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
  CHECK(simulator->has_report(ReportKind::kRace));
}

TEST_CASE("sim graph: a launch inside a capture becomes part of the graph") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const sim::Options& options : all_modes()) {
    CAPTURE(options.seed);
    REQUIRE(simulator->reset(options).ok());
    int value = -1;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream main = lab.stream();
      const cu::Stream side = lab.stream();
      std::uint8_t* in = lab.pinned(kBytes);
      std::uint8_t* out = lab.pinned(kBytes);
      const cu::DevicePtr x = lab.device(kBytes);
      const cu::DevicePtr y = lab.device(kBytes);
      const Graph inner = capture_fork(lab, main, side, in, out, x, y);
      begin(lab, main);
      lab.fill(main, y, 0, kBytes);
      lab.note(lab.cu.cuGraphLaunch(inner.exec, main));
      lab.add(main, y, 1, kBytes);
      const Graph outer = end_capture(lab, main);
      destroy(lab, inner);
      std::memset(in, 40, kBytes);
      lab.note(lab.cu.cuGraphLaunch(outer.exec, side));
      lab.d2h(side, out, y, kBytes);
      lab.sync(side);
      value = out[0];
      destroy(lab, outer);
      CHECK(lab.failure == cu::Result::kSuccess);
    });
    CHECK(simulator->report_text() == "");
    CHECK(value == 41);
  }
}

TEST_CASE("sim graph: event nodes record and wait outside when the graph runs") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const sim::Options& options : all_modes()) {
    CAPTURE(options.seed);
    REQUIRE(simulator->reset(options).ok());
    int value = -1;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream main = lab.stream();
      const cu::Stream other = lab.stream();
      const cu::Event before = lab.event();
      const cu::Event after = lab.event();
      std::uint8_t* out = lab.pinned(kBytes);
      const cu::DevicePtr x = lab.device(kBytes);
      begin(lab, main);
      lab.note(lab.cu.cuStreamWaitEvent(main, before, cu::kEventWaitExternal));
      lab.add(main, x, 2, kBytes);
      lab.note(lab.cu.cuEventRecordWithFlags(after, main, cu::kEventRecordExternal));
      const Graph g = end_capture(lab, main);
      lab.fill(other, x, 1, kBytes);
      lab.record(before, other);
      lab.note(lab.cu.cuGraphLaunch(g.exec, main));
      lab.wait(other, after);
      lab.d2h(other, out, x, kBytes);
      lab.sync(other);
      value = out[0];
      CHECK(lab.cu.cuEventRecordWithFlags(after, main, cu::kEventRecordExternal) ==
            cu::Result::kInvalidValue);  // for captures only
      destroy(lab, g);
      CHECK(lab.failure == cu::Result::kSuccess);
    });
    CHECK(value == 3);
    CHECK_FALSE(simulator->has_report(ReportKind::kRace));
  }
}

TEST_CASE("sim graph: memory that was freed before the launch faults at the launch") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  for (const bool copy : {false, true}) {
    CAPTURE(copy);
    REQUIRE(simulator->reset(lab_options(Mode::kLazy)).ok());
    cu::Result after = cu::Result::kSuccess;
    simulator->run([&] {
      Lab lab(*simulator);
      const cu::Stream main = lab.stream();
      const cu::DevicePtr x = lab.device(kBytes);
      begin(lab, main);
      if (copy)
        lab.note(lab.cu.cuMemsetD8Async(x, 1, kBytes, main));
      else
        lab.fill(main, x, 1, kBytes);
      const Graph g = end_capture(lab, main);
      lab.forget(x);
      lab.note(lab.cu.cuMemFree(x));
      CHECK(lab.failure == cu::Result::kSuccess);
      lab.cu.cuGraphLaunch(g.exec, main);
      after = lab.cu.cuStreamSynchronize(main);
    });
    CHECK(after == cu::Result::kIllegalAddress);
    CHECK((simulator->has_report(ReportKind::kUseAfterFree) ||
           simulator->has_report(ReportKind::kUnmapped)));
  }
}

TEST_CASE("sim graph: pageable memory is read when the graph runs, not when it is captured") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  std::vector<std::uint8_t> source(kBytes, 1);
  int value = -1;
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream main = lab.stream();
    std::uint8_t* out = lab.pinned(kBytes);
    const cu::DevicePtr x = lab.device(kBytes);
    begin(lab, main);
    lab.h2d(main, x, source.data(), kBytes);
    const Graph g = end_capture(lab, main);
    source.assign(kBytes, 2);
    lab.note(lab.cu.cuGraphLaunch(g.exec, main));
    lab.d2h(main, out, x, kBytes);
    lab.sync(main);
    value = out[0];
    destroy(lab, g);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
  CHECK(simulator->report_text() == "");
  CHECK(value == 2);
}

TEST_CASE("sim graph: graphs that nobody destroys are leaks, and dead handles are refused") {
  const std::unique_ptr<Simulator> simulator = make(lab_options());
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream main = lab.stream();
    begin(lab, main);
    end_capture(lab, main);
  });
  CHECK(simulator->report_text().find("1 graph, 1 instantiated graph") != std::string::npos);

  REQUIRE(simulator->reset(lab_options()).ok());
  simulator->run([&] {
    Lab lab(*simulator);
    const cu::Stream main = lab.stream();
    begin(lab, main);
    const Graph g = end_capture(lab, main);
    destroy(lab, g);
    CHECK(lab.cu.cuGraphLaunch(g.exec, main) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuGraphDestroy(g.graph) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuGraphExecDestroy(nullptr) == cu::Result::kInvalidValue);
    cu::GraphExec exec = nullptr;
    CHECK(lab.cu.cuGraphInstantiate(&exec, g.graph, 0) == cu::Result::kInvalidValue);
  });
  CHECK(simulator->has_report(ReportKind::kMisuse));
  CHECK_FALSE(simulator->has_report(ReportKind::kLeak));
}

}  // namespace
}  // namespace spillway::test
