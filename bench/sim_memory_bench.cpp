// SPDX-License-Identifier: Apache-2.0
// What the simulated memory costs per call, with contents and without: it is on the path of every
// simulated driver call, and a schedule of 50 operations has to fit 100 us.
#include "device/sim/memory.hpp"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::sim;

constexpr std::uint64_t kBlockBytes = 16 * kPageBytes;

void expect_ok(MemoryError error) {
  if (error == MemoryError::kOk) return;
  std::fprintf(stderr, "sim_memory_bench: %s\n", memory_error_name(error));
  std::exit(1);
}

// Contents as the bench's argument: 1 full, 0 none.
std::unique_ptr<Memory> make(const benchmark::State& state) {
  MemoryOptions options;
  options.memory_bytes = 64u << 20;
  options.granularity_bytes = kPageBytes;
  options.contents = state.range(0) == 1 ? Contents::kFull : Contents::kNone;
  Result<std::unique_ptr<Memory>> memory = Memory::create(options);
  if (!memory.ok()) {
    std::fprintf(stderr, "sim_memory_bench: %s\n", memory.status().message().c_str());
    std::exit(1);
  }
  return std::move(memory).value();
}

void plain_block(benchmark::State& state) {
  const auto memory = make(state);
  for (auto _ : state) {
    std::uint64_t at = 0;
    expect_ok(memory->allocate(0, kPageBytes, 0, &at));
    expect_ok(memory->free(at));
  }
}

void plain_block_poisoned(benchmark::State& state) {
  const auto memory = make(state);
  for (auto _ : state) {
    std::uint64_t at = 0;
    expect_ok(memory->allocate(0, kPageBytes, 0, &at));
    memory->fill(at, kPageBytes, std::byte{0xFF});
    memory->fill(at, kPageBytes, std::byte{0xDE});
    expect_ok(memory->free(at));
  }
}

void translate_plain(benchmark::State& state) {
  const auto memory = make(state);
  std::uint64_t at = 0;
  expect_ok(memory->allocate(0, kBlockBytes, 0, &at));
  for (auto _ : state) {
    expect_ok(
        memory
            ->translate(at + 8,
                        64,
                        0,
                        Access::kRead,
                        [](std::uint64_t flat, std::uint64_t) { benchmark::DoNotOptimize(flat); })
            .error);
  }
}

void map_access_unmap(benchmark::State& state) {
  const auto memory = make(state);
  PhysicalId id;
  std::uint64_t at = 0;
  expect_ok(memory->create_physical(0, kBlockBytes, &id));
  expect_ok(memory->reserve(kBlockBytes, 0, 0, &at));
  for (auto _ : state) {
    expect_ok(memory->map(at, kBlockBytes, id));
    expect_ok(memory->set_access(at, kBlockBytes, 0, Access::kReadWrite));
    expect_ok(memory->unmap(at, kBlockBytes));
  }
}

void remap_another_handle(benchmark::State& state) {
  const auto memory = make(state);
  PhysicalId ids[2];
  std::uint64_t at = 0;
  expect_ok(memory->create_physical(0, kBlockBytes, &ids[0]));
  expect_ok(memory->create_physical(0, kBlockBytes, &ids[1]));
  expect_ok(memory->reserve(kBlockBytes, 0, 0, &at));
  std::size_t turn = 0;
  for (auto _ : state) {
    expect_ok(memory->map(at, kBlockBytes, ids[turn ^= 1]));
    expect_ok(memory->set_access(at, kBlockBytes, 0, Access::kReadWrite));
    expect_ok(memory->unmap(at, kBlockBytes));
  }
}

void guard_unguard(benchmark::State& state) {
  const auto memory = make(state);
  std::uint64_t at = 0;
  expect_ok(memory->allocate_pinned(kBlockBytes, 0, &at));
  for (auto _ : state) {
    expect_ok(memory->guard(at, kBlockBytes, GuardKind::kNoAccess));
    expect_ok(memory->unguard(at, kBlockBytes, GuardKind::kNoAccess));
  }
}

void host_fault(benchmark::State& state) {
  const auto memory = make(state);
  std::uint64_t at = 0;
  expect_ok(memory->allocate(0, kPageBytes, 0, &at));
  std::vector<HostFault> faults;
  for (auto _ : state) {
    faults.clear();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): simulated addresses are numbers
    benchmark::DoNotOptimize(*reinterpret_cast<const volatile unsigned char*>(at));
    (void)memory->take_faults(&faults);
    if (faults.size() != 1) expect_ok(MemoryError::kNoAccess);
  }
}

void check_mode_switch(benchmark::State& state) {
  const auto memory = make(state);
  std::uint64_t at = 0;
  expect_ok(memory->allocate(0, kBlockBytes, 0, &at));
  const std::vector<DeclaredRange> declared = {{at, kPageBytes, true, false},
                                               {at + kPageBytes, kPageBytes, false, true}};
  for (auto _ : state) {
    memory->only_accessible(declared);
    memory->all_accessible();
  }
}

// A schedule's worth of calls with everything leaked, and the reset that follows.
void program_and_reset(benchmark::State& state) {
  const auto memory = make(state);
  for (auto _ : state) {
    std::uint64_t at = 0;
    for (std::uint64_t i = 0; i < 10; ++i) {
      expect_ok(memory->allocate(0, kPageBytes << i % 3, 0, &at));
    }
    PhysicalId id;
    expect_ok(memory->create_physical(0, kBlockBytes, &id));
    expect_ok(memory->reserve(kBlockBytes, 0, 0, &at));
    expect_ok(memory->map(at, kBlockBytes, id));
    expect_ok(memory->set_access(at, kBlockBytes, 0, Access::kReadWrite));
    expect_ok(memory->allocate_pinned(kBlockBytes, 0, &at));
    memory->reset();
  }
}

void create_destroy(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(make(state));
}

BENCHMARK(plain_block)->Arg(1)->Arg(0);
BENCHMARK(plain_block_poisoned)->Arg(1);
BENCHMARK(translate_plain)->Arg(1)->Arg(0);
BENCHMARK(map_access_unmap)->Arg(1)->Arg(0);
BENCHMARK(remap_another_handle)->Arg(1);
BENCHMARK(guard_unguard)->Arg(1);
BENCHMARK(host_fault)->Arg(1);
BENCHMARK(check_mode_switch)->Arg(1);
BENCHMARK(program_and_reset)->Arg(1)->Arg(0);
BENCHMARK(create_destroy)->Arg(1)->Arg(0);

}  // namespace

BENCHMARK_MAIN();
