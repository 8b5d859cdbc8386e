// SPDX-License-Identifier: Apache-2.0
// The real pool behind the replay's interface: many streams, budgets, recorded steps.
#include "integration/replay/pool_under_test.hpp"

#include "integration/replay/allocator_run.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

AllocatorRun run_pool(const AllocationTrace& trace,
                      std::uint64_t budget_bytes,
                      PoolService service = PoolService::kOnline,
                      const AllocationTrace* planned_from = nullptr) {
  auto pool = make_pool_under_test(trace, budget_bytes, service, planned_from);
  REQUIRE_MESSAGE(pool.ok(), pool.status().message());
  AllocatorRunOptions options;
  options.budget_bytes = budget_bytes;
  options.pictures = true;
  auto run = run_allocator(trace, *pool.value(), options);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  return std::move(run).value();
}

std::uint64_t counter(const AllocatorRun& run, std::string_view name) {
  for (const AllocatorCounter& one : run.counters)
    if (one.name == name) return one.value;
  FAIL("no such counter");
  return 0;
}

/// Blocks that lie where the plan puts them, both counted in the order of allocation: the most that
/// agree on where the plan's range begins.
std::size_t at_their_places(const AllocatorRun& run, const PlannedStep& plan) {
  std::map<std::uint64_t, std::size_t> count_of_base;
  std::size_t most = 0;
  for (std::size_t i = 0; i < plan.items.size(); ++i)
    most = std::max(most, ++count_of_base[run.placements[i].address - plan.items[i].offset_bytes]);
  return most;
}

/// A step of `layers` layers: saved activations, a workspace each, and gradients that stay.
AllocationTrace made_up_step(std::uint64_t seed, int layers) {
  Random random(seed);
  Calls calls;
  std::vector<std::uint64_t> saved;
  const auto size = [&random] { return (1 + random.below(4096)) << 10; };
  for (int i = 0; i < layers; ++i) {
    saved.push_back(calls.alloc(size()));
    calls.free(calls.alloc(size()));
    saved.push_back(calls.alloc(size()));
  }
  while (!saved.empty()) {
    calls.alloc(size());
    calls.free(calls.alloc(size()));
    calls.free(saved.back());
    saved.pop_back();
  }
  return calls.take();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a planned step that comes as planned lies where the plan says, in nearly no more") {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(seed);
      const AllocationTrace trace = made_up_step(seed, 40);
      const auto plan = plan_step(trace);
      REQUIRE_MESSAGE(plan.ok(), plan.status().message());
      const AllocatorRun run = run_pool(trace, 0, PoolService::kPlanned);
      CHECK(run.feasible);
      CHECK(at_their_places(run, plan.value()) == trace.blocks.size());
      CHECK(counter(run, "planned_count") == trace.blocks.size());
      CHECK(counter(run, "deviated_count") == 0);
      CHECK(run.reserved_peak_bytes < plan.value().height_bytes + (std::uint64_t{2} << 20));
    }
  }

  TEST_CASE("a step that deviates from its plan is served all the same") {
    const AllocationTrace planned = made_up_step(1, 40);
    const auto plan = plan_step(planned);
    REQUIRE(plan.ok());
    AllocationTrace other = planned;
    for (std::size_t i = 0; i < other.blocks.size(); i += 9) other.blocks[i].bytes += 100 << 10;
    const AllocatorRun run = run_pool(other, 0, PoolService::kPlanned, &planned);
    CHECK_MESSAGE(run.feasible, run.out_of_memory);
    const std::size_t count = at_their_places(run, plan.value());
    CHECK(count > other.blocks.size() / 2);
    CHECK(count < other.blocks.size());
    CHECK(counter(run, "deviated_count") > 0);
    const AllocationTrace stranger = made_up_step(7, 60);
    CHECK(run_pool(stranger, 0, PoolService::kPlanned, &planned).feasible);
  }

  TEST_CASE("a plan that does not fit the budget is out of memory before the first call") {
    const AllocationTrace trace = made_up_step(1, 40);
    const AllocatorRun run = run_pool(trace, trace.live_peak_bytes / 2, PoolService::kPlanned);
    CHECK(!run.feasible);
    CHECK(run.alloc_count == 0);
  }
}

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
    // Under a budget the pool merges and remaps at other moments than without one, so what it took
    // freely need not be enough to the byte.
    const std::uint64_t enough = run_pool(trace, 0).reserved_peak_bytes * 102 / 100;
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
  TEST_CASE("recorded steps use 98.5 % of what the pool holds, and 99.5 % when planned") {
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
      const AllocatorRun planned = run_pool(trace.value(), 0, PoolService::kPlanned);
      CHECK(planned.feasible);
      CHECK(planned.utilization >= 0.995);
      ++count;
    }
    CHECK(count > 0);
  }
}
