// SPDX-License-Identifier: Apache-2.0
// The judge of a replay: its books, its samples, and that it catches a bad allocator.
#include "integration/replay/allocator_run.hpp"

#include "integration/replay/allocators.hpp"
#include "integration/replay/fit_model.hpp"
#include "tests/integration/replay/calls.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

/// Gives everybody the same address.
class Careless final : public AllocatorUnderTest {
 public:
  [[nodiscard]] std::string_view name() const override { return "careless"; }
  Result<std::uint64_t> allocate(const AllocationTrace&, std::uint32_t) override {
    return std::uint64_t{4096};
  }
  Status release(const AllocationTrace&, std::uint32_t, std::uint64_t, std::uint32_t) override {
    return {};
  }
  [[nodiscard]] std::uint64_t reserved_bytes() const override { return 1 << 20; }
  [[nodiscard]] std::uint64_t largest_hole_bytes() const override { return 0; }
  [[nodiscard]] std::vector<ReservedRange> reserved_ranges() const override { return {}; }
  [[nodiscard]] bool is_product() const override { return true; }
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("peaks, placements and samples agree with the trace") {
  Calls calls;
  const auto a = calls.alloc(1024);
  const auto b = calls.alloc(2048);
  calls.free(a);
  calls.free(b);
  calls.alloc(512);
  const AllocationTrace trace = calls.take();
  FitModel model(FitModel::Fit::kBest, 0);
  AllocatorRunOptions options;
  options.sample_count = 2;
  options.pictures = true;
  const auto result = run_allocator(trace, model, options);
  REQUIRE(result.ok());
  const AllocatorRun& run = result.value();
  CHECK(run.allocator == "best-fit");
  CHECK(run.feasible);
  CHECK(run.live_peak_bytes == 3072);
  CHECK(run.reserved_peak_bytes == 3072);
  CHECK(run.utilization == 1.0);
  CHECK(run.alloc_count == 3);
  CHECK(run.free_count == 2);
  CHECK(!run.alloc_ns_median);
  REQUIRE(run.placements.size() == 3);
  CHECK(run.placements[0].born == 0);
  CHECK(run.placements[0].died == 3);
  CHECK(run.placements[2].died == 6);
  REQUIRE(run.samples.size() >= 3);
  bool peak_seen = false;
  std::uint32_t last = 0;
  for (const FragmentationSample& sample : run.samples) {
    CHECK(sample.event >= last);
    last = sample.event;
    peak_seen = peak_seen || sample.live_bytes == run.live_peak_bytes;
  }
  CHECK(peak_seen);
  CHECK(run.samples.back().live_bytes == 512);
  CHECK(run.samples.back().largest_hole_bytes == 2560);
}

TEST_CASE("an allocator that hands out overlapping blocks is found out") {
  Calls calls;
  calls.alloc(1);
  calls.alloc(1);
  Careless careless;
  const auto run = run_allocator(calls.take(), careless, {});
  REQUIRE(!run.ok());
  CHECK(run.status().code() == Code::kInternal);
  CHECK(run.status().message().find("overlaps") != std::string::npos);
}

TEST_CASE("an unknown allocator is refused with the known names") {
  const auto made = make_allocator("slab", AllocationTrace(), 0);
  REQUIRE(!made.ok());
  CHECK(made.status().code() == Code::kInvalidArgument);
  for (const std::string_view name : allocator_names()) {
    CHECK(made.status().message().find(name) != std::string::npos);
    CHECK(make_allocator(name, AllocationTrace(), 0).ok());
  }
}

TEST_SUITE_END();
