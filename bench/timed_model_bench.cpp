// SPDX-License-Identifier: Apache-2.0
// What the timed model costs an operation: a made-up offload step on few streams, and kernels and
// copies in both directions on hundreds. Every run is checked to complete all it was given.
#include "core/random.hpp"
#include "device/sim/timed_model.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::sim;

constexpr std::size_t kOps = 1'000'000;

// A quarter copies of 64 KiB to 32 MiB, half kernels of 5 to 100 us, a quarter event records.
std::vector<Work> made_up_work() {
  Random random(7);
  std::vector<Work> work(kOps);
  for (Work& one : work) {
    const std::uint64_t pick = random.below(8);
    if (pick < 4) {
      one.kind = Work::Kind::kKernel;
      one.fixed_ns = 5000 + static_cast<std::int64_t>(random.below(95'000));
      one.memory_bytes = random.below(std::uint64_t{100} << 20);
    } else if (pick < 6) {
      one.kind = pick == 4 ? Work::Kind::kH2D : Work::Kind::kD2H;
      one.bytes = std::uint64_t{65536} << random.below(10);
    }
  }
  return work;
}

void run_streams(benchmark::State& state) {
  const auto streams = static_cast<std::uint32_t>(state.range(0));
  const std::vector<Work> work = made_up_work();
  auto card = load_calibration("h200");
  auto made = TimedModel::make(card.value(), {});
  if (!made.ok()) std::abort();
  TimedModel model = std::move(made).value();
  std::vector<Completion> out;
  for (auto _ : state) {
    model.reset();
    // Operation i is on stream i % streams, behind operation i - streams.
    for (std::size_t i = 0; i < streams; ++i)
      model.submit(i, static_cast<std::uint32_t>(i), 0, work[i], 0);
    std::size_t done = 0;
    while (const auto next = model.next_event_ns()) {
      out.clear();
      model.advance_to(*next, &out);
      done += out.size();
      for (const Completion& one : out) {
        const std::size_t successor = one.key + streams;
        if (successor < kOps) model.submit(successor, one.stream, 0, work[successor], one.end_ns);
      }
    }
    if (done != kOps) std::abort();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(kOps) * state.iterations());
}

}  // namespace

BENCHMARK(run_streams)->Arg(1)->Arg(4)->Arg(32)->Arg(500)->Unit(benchmark::kMillisecond);

BENCHMARK_MAIN();
