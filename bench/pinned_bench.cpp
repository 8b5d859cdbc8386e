// SPDX-License-Identifier: Apache-2.0
// What the pinned pool costs the host over a driver that costs nothing, what its sizes waste beside
// rounding to powers of two, and how fast its slabs get their memory. What a driver takes to
// register them is not measured: no device runs here (./run gpu measures registration itself).
#include "allocator/pinned_pool.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/null_driver.hpp"
#include "core/random.hpp"

#include <benchmark/benchmark.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace spillway::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

[[noreturn]] void fail(const Status& status) {
  std::fprintf(stderr, "pinned_bench: %s\n", status.message().c_str());
  std::exit(4);
}

/// A pool over the driver that costs nothing, whose memory is not touched.
class Ground {
 public:
  explicit Ground(std::uint64_t cap_bytes) : driver_(null_driver()) {
    cu::Context handle = nullptr;
    static_cast<void>(driver_.cuDevicePrimaryCtxRetain(&handle, 0));
    static_cast<void>(driver_.cuCtxSetCurrent(handle));
    Result<Context> context = Context::current_or_primary(driver_, 0);
    if (!context.ok()) fail(context.status());
    context_ = std::make_unique<Context>(std::move(context).value());
    PinnedPoolOptions options;
    options.cap_bytes = cap_bytes;
    options.prefault = false;
    options.threads = 0;
    Result<std::unique_ptr<PinnedPool>> made = PinnedPool::create(*context_, options);
    if (!made.ok()) fail(made.status());
    pool = std::move(made).value();
    for (int i = 0; i < 2; ++i) {
      cu::Stream stream = nullptr;
      static_cast<void>(driver_.cuStreamCreate(&stream, cu::kStreamNonBlocking));
      Result<StreamRef> ref = StreamRef::of(driver_, stream);
      if (!ref.ok()) fail(ref.status());
      streams.push_back(ref.value());
    }
  }

 private:
  Driver driver_;
  std::unique_ptr<Context> context_;

 public:
  std::unique_ptr<PinnedPool> pool;
  std::vector<StreamRef> streams;
};

/// Bytes of offloaded activations: a few sizes per layer of a transformer, none a power of two.
std::uint64_t some_bytes(Random& random) {
  constexpr std::uint64_t kSizes[] = {5 * kMiB / 4, 3 * kMiB, 5 * kMiB, 20 * kMiB, 81920, 24576};
  return kSizes[random.below(6)] + random.below(2) * 12288;
}

/// Allocation and free of one block, the stream's own again and again.
void warm_pair(benchmark::State& state) {
  Ground ground(64 * kMiB);
  for (auto _ : state) {
    const Result<PinnedBlock> block = ground.pool->allocate(3 * kMiB, ground.streams[0]);
    if (!block.ok()) fail(block.status());
    if (Status freed = ground.pool->free(block.value().data, ground.streams[0]); !freed.ok())
      fail(freed);
  }
}
BENCHMARK(warm_pair);

/// The host's own, without a stream.
void warm_pair_host(benchmark::State& state) {
  Ground ground(64 * kMiB);
  for (auto _ : state) {
    const Result<PinnedBlock> block = ground.pool->allocate(3 * kMiB);
    if (!block.ok()) fail(block.status());
    if (Status freed = ground.pool->free(block.value().data); !freed.ok()) fail(freed);
  }
}
BENCHMARK(warm_pair_host);

/// A step as offload runs it: many blocks alive, freed at random by the stream that copied them
/// back, allocated by the one that copies them out.
void warm_pair_among_live(benchmark::State& state) {
  Ground ground(std::uint64_t{64} << 30);
  Random random(1);
  std::vector<PinnedBlock> live;
  const auto add = [&] {
    const Result<PinnedBlock> block =
        ground.pool->allocate(some_bytes(random), ground.streams[0], WaitPolicy::kStream);
    if (!block.ok()) fail(block.status());
    live.push_back(block.value());
  };
  const auto take = [&] {
    const std::size_t pick = random.below(live.size());
    if (Status freed = ground.pool->free(live[pick].data, ground.streams[1]); !freed.ok())
      fail(freed);
    live[pick] = live.back();
    live.pop_back();
  };
  while (live.size() < static_cast<std::size_t>(state.range(0))) add();
  for (int i = 0; i < 20000; ++i) {
    take();
    add();
  }
  for (auto _ : state) {
    take();
    add();
  }
  const PinnedStats stats = ground.pool->stats();
  state.counters["peak_in_use_over_reserved"] = static_cast<double>(stats.allocated_bytes_peak) /
                                                static_cast<double>(stats.reserved_bytes_peak);
  while (!live.empty()) take();
}
BENCHMARK(warm_pair_among_live)->Arg(100)->Arg(700);

/// Bytes, not time: what 700 live blocks pin here, and would pin rounded to powers of two each.
void pinned_bytes_of_700_blocks(benchmark::State& state) {
  double ours = 0;
  double powers = 0;
  double asked = 0;
  for (auto _ : state) {
    Ground ground(std::uint64_t{64} << 30);
    Random random(2);
    std::vector<PinnedBlock> live;
    ours = powers = asked = 0;
    for (int i = 0; i < 700; ++i) {
      const std::uint64_t bytes = some_bytes(random);
      const Result<PinnedBlock> block = ground.pool->allocate(bytes);
      if (!block.ok()) fail(block.status());
      live.push_back(block.value());
      asked += static_cast<double>(bytes);
      powers += static_cast<double>(std::bit_ceil(bytes));
    }
    ours = static_cast<double>(ground.pool->stats().reserved_bytes);
    for (const PinnedBlock& block : live)
      if (Status freed = ground.pool->free(block.data); !freed.ok()) fail(freed);
  }
  state.counters["pinned_over_asked"] = ours / asked;
  state.counters["powers_of_two_over_asked"] = powers / asked;
}
BENCHMARK(pinned_bytes_of_700_blocks)->Iterations(1);

/// A slab's memory: mapped and touched in chunks by the caller and `range` threads beside it.
void slab_memory(benchmark::State& state) {
  const Driver driver = null_driver();
  cu::Context handle = nullptr;
  static_cast<void>(driver.cuDevicePrimaryCtxRetain(&handle, 0));
  static_cast<void>(driver.cuCtxSetCurrent(handle));
  Result<Context> context = Context::current_or_primary(driver, 0);
  if (!context.ok()) fail(context.status());
  PinnedPoolOptions options;
  options.cap_bytes = 512 * kMiB;
  options.slab_bytes = 512 * kMiB;
  options.threads = static_cast<std::uint32_t>(state.range(0));
  options.huge_pages = state.range(1) != 0 ? HugePages::kTransparent : HugePages::kOff;
  for (auto _ : state) {
    Result<std::unique_ptr<PinnedPool>> pool = PinnedPool::create(context.value(), options);
    if (!pool.ok()) fail(pool.status());
    const Result<PinnedBlock> block = pool.value()->allocate(1);
    if (!block.ok()) fail(block.status());
    if (Status freed = pool.value()->free(block.value().data); !freed.ok()) fail(freed);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(options.slab_bytes));
}
BENCHMARK(slab_memory)
    ->ArgNames({"threads", "huge"})
    ->Args({0, 0})
    ->Args({1, 0})
    ->Args({0, 1})
    ->Args({1, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("machine", spillway::bench::machine_text());
  benchmark::AddCustomContext("load", spillway::bench::load_text());
  benchmark::AddCustomContext("driver", "zero-cost: every call succeeds at once and does nothing");
  benchmark::AddCustomContext("registration", "not measured: no device ran");
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
