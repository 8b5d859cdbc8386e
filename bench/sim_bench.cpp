// SPDX-License-Identifier: Apache-2.0
// How fast the simulated GPU is: schedules of a 50-operation program per second, operations of a
// timed replay per second. Both include everything that the race checker does.
#include "tests/support/sim_lab.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway {
namespace {

using sim::Contents;
using sim::Mode;
using sim::Options;
using sim::Simulator;

constexpr std::size_t kPage = 4096;

/// An offload ring: 10 rounds of kernel, event, copy out, event, kernel; 5 operations each.
void offload_ring(Simulator& simulator) {
  test::Lab lab(simulator);
  const cu::Stream compute = lab.stream();
  const cu::Stream copies = lab.stream();
  const cu::Event done = lab.event();
  const cu::DevicePtr x = lab.device(kPage);
  std::uint8_t* host = lab.pinned(kPage);
  for (int i = 0; i < 10; ++i) {
    lab.fill(compute, x, 1, kPage);
    lab.record(done, compute);
    lab.wait(copies, done);
    lab.d2h(copies, host, x, kPage);
    lab.record(done, copies);
    lab.wait(compute, done);
  }
}

void schedules(benchmark::State& state, Contents contents) {
  Options options = test::lab_options();
  options.contents = contents;
  auto made = Simulator::create(options);
  if (!made.ok()) {
    state.SkipWithError(made.status().message().c_str());
    return;
  }
  Simulator& simulator = *made.value();
  for (auto _ : state) {
    ++options.seed;
    if (!simulator.reset(options).ok()) state.SkipWithError("reset failed");
    simulator.run([&] { offload_ring(simulator); });
    if (!simulator.reports().empty()) state.SkipWithError(simulator.report_text().c_str());
  }
  state.counters["schedules/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["operations"] = static_cast<double>(simulator.counters().operations);
}
BENCHMARK_CAPTURE(schedules, no_contents, Contents::kNone)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(schedules, contents_4KiB_pages, Contents::kFull)->Unit(benchmark::kMicrosecond);

/// 1,000 storages in turn, a kernel and an offload each.
void timed_replay(benchmark::State& state) {
  Options options;
  options.mode = Mode::kTimed;
  options.contents = Contents::kNone;
  options.memory_bytes = 141ull << 30;
  auto made = Simulator::create(options);
  if (!made.ok()) {
    state.SkipWithError(made.status().message().c_str());
    return;
  }
  Simulator& simulator = *made.value();
  std::uint64_t operations = 0;
  for (auto _ : state) {
    if (!simulator.reset(options).ok()) state.SkipWithError("reset failed");
    simulator.run([&] {
      test::Lab lab(simulator);
      constexpr std::size_t kBytes = 32u << 20;
      const cu::Stream compute = lab.stream();
      const cu::Stream copies = lab.stream();
      const cu::Event done = lab.event();
      std::vector<cu::DevicePtr> storages(1000);
      for (cu::DevicePtr& x : storages) x = lab.device(kBytes);
      std::vector<std::uint8_t*> pinned(storages.size());
      for (std::uint8_t*& host : pinned) host = lab.pinned(kBytes);
      for (int i = 0; i < 250000; ++i) {
        const std::size_t n = static_cast<std::size_t>(i) % storages.size();
        lab.add(compute, storages[n], 1, kBytes);
        lab.record(done, compute);
        lab.wait(copies, done);
        lab.d2h(copies, pinned[n], storages[n], kBytes);
        if (n + 1 == storages.size()) lab.order(copies, compute);
      }
    });
    if (!simulator.reports().empty()) state.SkipWithError(simulator.report_text().c_str());
    operations += simulator.counters().operations;
  }
  state.counters["operations/s"] =
      benchmark::Counter(static_cast<double>(operations), benchmark::Counter::kIsRate);
  state.counters["virtual_s"] = static_cast<double>(simulator.counters().now_ns) * 1e-9;
}
BENCHMARK(timed_replay)->Unit(benchmark::kMillisecond)->Iterations(2);

}  // namespace
}  // namespace spillway

BENCHMARK_MAIN();
