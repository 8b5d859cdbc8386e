// SPDX-License-Identifier: Apache-2.0
// Captured graphs: edges missing inside one, before one and behind one.
#include "tests/device/sim/planted_bugs.hpp"

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;

/// What `body` enqueues on `origin`, captured and ready for launches; ends with the program.
struct Captured {
  template <typename Body>
  Captured(BugLab& bug_lab, cu::Stream origin, Body body) : lab(bug_lab) {
    lab.note(lab.cu.cuStreamBeginCapture(origin, cu::StreamCaptureMode::kThreadLocal));
    body();
    cu::Graph graph = nullptr;
    lab.note(lab.cu.cuStreamEndCapture(origin, &graph));
    lab.note(lab.cu.cuGraphInstantiate(&exec, graph, 0));
    lab.note(lab.cu.cuGraphDestroy(graph));
  }
  ~Captured() {
    lab.note(lab.cu.cuCtxSynchronize());
    lab.note(lab.cu.cuGraphExecDestroy(exec));
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  void launch(cu::Stream stream) const { lab.note(lab.cu.cuGraphLaunch(exec, stream)); }

  BugLab& lab;
  cu::GraphExec exec = nullptr;
};

TEST_CASE("a kernel that does not wait for the graph that makes its input is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::Stream consumer = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const Captured graph(lab, stream, [&] { lab.fill(stream, x, 7, n); });
                      graph.launch(stream);
                      if (repaired) lab.order(stream, consumer);
                      lab.copy(consumer, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a captured branch that is joined behind its consumer is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::Stream branch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const Captured graph(lab, stream, [&] {
                        lab.order(stream, branch);
                        lab.fill(branch, x, 7, n);
                        if (repaired) lab.order(branch, stream);
                        lab.copy(stream, y, x, n);
                        if (!repaired) lab.order(branch, stream);
                      });
                      graph.launch(stream);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a graph's pinned input that is filled for the next launch too early is reported") {
  check_planted_bug({ReportKind::kRace, "`host write`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr sum = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const Captured graph(lab, stream, [&] {
                        lab.h2d(stream, x, host, n);
                        lab.copy(stream, sum, x, n);
                      });
                      lab.put(host, n, 1);
                      graph.launch(stream);
                      if (repaired) lab.sync(stream);
                      lab.put(host, n, 2);
                      graph.launch(stream);
                      return lab.device_holds(sum, n, 2);
                    });
}

TEST_CASE("a prefetch into the input of a graph in flight is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_copy`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.put(host, n, 9);
                      const Captured graph(lab, stream, [&] { lab.copy(stream, y, x, n); });
                      lab.fill(stream, x, 1, n);
                      lab.order(stream, prefetch);
                      graph.launch(stream);
                      if (repaired) lab.order(stream, prefetch);
                      lab.h2d(prefetch, x, host, n);
                      return lab.device_holds(y, n, 1) && lab.device_holds(x, n, 9);
                    });
}

TEST_CASE("two graphs that use one workspace on two streams are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::DevicePtr shared = lab.device(n);
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const Captured one(lab, first, [&] {
                        lab.fill(first, shared, 1, n);
                        lab.copy(first, x, shared, n);
                      });
                      const Captured other(lab, second, [&] {
                        lab.fill(second, shared, 2, n);
                        lab.copy(second, y, shared, n);
                      });
                      one.launch(first);
                      if (repaired) lab.order(first, second);
                      other.launch(second);
                      return lab.device_holds(x, n, 1) && lab.device_holds(y, n, 2);
                    });
}

TEST_CASE("a free of memory that a graph in flight uses is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_fill`",
                     .second = "cuMemFree",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const Captured graph(lab, stream, [&] { lab.fill(stream, x, 7, n); });
                      graph.launch(stream);
                      if (repaired) lab.sync(stream);
                      lab.note(lab.cu.cuMemFree(x));
                      lab.forget(x);
                      return true;
                    });
}

}  // namespace
}  // namespace spillway::test
