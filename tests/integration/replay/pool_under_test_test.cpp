// SPDX-License-Identifier: Apache-2.0
// The real pool behind the replay's interface: many streams, budgets, recorded steps.
#include "integration/replay/pool_under_test.hpp"

#include "integration/replay/allocator_run.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <utility>

using namespace spillway;
using namespace spillway::test;

namespace {

AllocatorRun run_pool(const AllocationTrace& trace, std::uint64_t budget_bytes) {
  auto pool = make_pool_under_test(trace, budget_bytes, PoolService::kOnline);
  REQUIRE_MESSAGE(pool.ok(), pool.status().message());
  AllocatorRunOptions options;
  options.budget_bytes = budget_bytes;
  auto run = run_allocator(trace, *pool.value(), options);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  return std::move(run).value();
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("random programs on several streams: no overlap, no race, books in order") {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      CAPTURE(seed);
      const AllocationTrace trace =
          random_calls(seed, 2000, 1 + static_cast<std::uint32_t>(seed % 4));
      const AllocatorRun run = run_pool(trace, 0);
      CHECK_MESSAGE(run.feasible, run.out_of_memory);
      CHECK(run.live_peak_bytes == trace.live_peak_bytes);
      CHECK(run.reserved_peak_bytes >= run.live_peak_bytes);
      CHECK(run.alloc_ns_median);
    }
  }

  TEST_CASE("a budget is never exceeded, and too small a one ends with a table") {
    const AllocationTrace trace = random_calls(3, 1500, 2);
    const std::uint64_t enough = run_pool(trace, 0).reserved_peak_bytes;
    const AllocatorRun fits = run_pool(trace, enough);
    CHECK_MESSAGE(fits.feasible, fits.out_of_memory);
    CHECK(fits.reserved_peak_bytes <= enough);
    const std::uint64_t tight = trace.live_peak_bytes / 2;
    const AllocatorRun refused = run_pool(trace, tight);
    CHECK(!refused.feasible);
    CHECK(refused.reserved_peak_bytes <= tight);
    CHECK(refused.out_of_memory.size() > 40);
  }

  TEST_CASE("a trace larger than any device is refused") {
    Calls calls;
    calls.alloc(std::uint64_t{1} << 45);
    const AllocationTrace trace = calls.take();
    const auto pool = make_pool_under_test(trace, 0, PoolService::kOnline);
    REQUIRE(!pool.ok());
    CHECK(pool.status().code() == Code::kUnsupported);
  }
}

TEST_SUITE("golden") {
  TEST_CASE("recorded steps use at least 98.5 % of what the pool holds") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator(dir / "snapshots")) {
      if (file.path().extension() != ".pickle") continue;
      CAPTURE(file.path());
      const auto trace = read_allocation_trace(file.path().string(), -1);
      REQUIRE(trace.ok());
      const AllocatorRun run = run_pool(trace.value(), 0);
      CHECK(run.feasible);
      CHECK(run.utilization >= 0.985);
      ++count;
    }
    CHECK(count > 0);
  }
}
