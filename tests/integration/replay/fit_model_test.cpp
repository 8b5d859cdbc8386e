// SPDX-License-Identifier: Apache-2.0
// Best fit and first fit, by hand and against a byte map.
#include "integration/replay/fit_model.hpp"

#include "integration/replay/allocator_run.hpp"
#include "tests/integration/replay/calls.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

std::vector<std::uint64_t> addresses_of(FitModel::Fit fit, const AllocationTrace& trace) {
  FitModel model(fit, 0);
  AllocatorRunOptions options;
  options.pictures = true;
  const auto run = run_allocator(trace, model, options);
  REQUIRE(run.ok());
  REQUIRE(run.value().feasible);
  std::vector<std::uint64_t> addresses;
  for (const Placement& placement : run.value().placements) addresses.push_back(placement.address);
  return addresses;
}

/// The same search over an array of quanta: slow and plain.
std::uint64_t plain_search(FitModel::Fit fit, const std::vector<bool>& used, std::size_t quanta) {
  std::size_t best = used.size();
  std::size_t best_length = 0;
  for (std::size_t i = 0; i < used.size();) {
    std::size_t end = i;
    while (end < used.size() && !used[end]) ++end;
    const std::size_t length = end - i;
    if (length >= quanta && (best == used.size() || length < best_length)) {
      best = i;
      best_length = length;
      if (fit == FitModel::Fit::kFirst) break;
    }
    i = end == i ? i + 1 : end;
  }
  if (best != used.size()) return best;
  std::size_t tail = used.size();
  while (tail > 0 && !used[tail - 1]) --tail;
  return tail;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("best fit takes the tightest hole, first fit the lowest, and the arena's end grows") {
  Calls calls;
  const auto wide = calls.alloc(2048);
  calls.alloc(512);
  const auto tight = calls.alloc(1000);  // two quanta
  calls.alloc(512);
  calls.free(wide);
  calls.free(tight);
  calls.alloc(1024);
  const auto last = calls.alloc(4096);
  calls.free(last);
  calls.alloc(8192);  // the free end is used before it grows
  const AllocationTrace trace = calls.take();
  const auto best = addresses_of(FitModel::Fit::kBest, trace);
  CHECK(best[4] == 2560);
  CHECK(best[5] == 4096);
  CHECK(best[6] == 4096);
  const auto first = addresses_of(FitModel::Fit::kFirst, trace);
  CHECK(first[4] == 0);
  CHECK(first[6] == 4096);
}

TEST_CASE("a budget is kept to the quantum") {
  Calls calls;
  calls.alloc(513);
  const AllocationTrace trace = calls.take();
  FitModel enough(FitModel::Fit::kBest, 1024);
  FitModel short_of_one(FitModel::Fit::kBest, 1023);
  AllocatorRunOptions options;
  CHECK(run_allocator(trace, enough, options).value().feasible);
  const auto run = run_allocator(trace, short_of_one, options);
  REQUIRE(run.ok());
  CHECK(!run.value().feasible);
  CHECK(run.value().out_of_memory.find("513 B wanted") != std::string::npos);
  CHECK(run.value().reserved_peak_bytes == 0);
}

TEST_SUITE_END();

TEST_SUITE("model") {
  TEST_CASE("placements are those of a plain search over an array of quanta") {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      Calls calls;
      std::vector<std::uint64_t> live;
      for (int i = 0; i < 600; ++i) {
        if (!live.empty() && random.below(2) == 0) {
          const std::size_t victim = random.below(live.size());
          calls.free(live[victim]);
          live[victim] = live.back();
          live.pop_back();
        } else {
          live.push_back(calls.alloc(1 + random.below(20 * 512)));
        }
      }
      const AllocationTrace trace = calls.take();
      for (const FitModel::Fit fit : {FitModel::Fit::kBest, FitModel::Fit::kFirst}) {
        const auto addresses = addresses_of(fit, trace);
        std::vector<bool> used;
        for (const ReplayEvent& event : trace.events) {
          const std::size_t quanta = (trace.blocks[event.block].bytes + 511) / 512;
          const std::size_t at = addresses[event.block] / 512;
          if (event.is_alloc) {
            REQUIRE(at == plain_search(fit, used, quanta));
            if (used.size() < at + quanta) used.resize(at + quanta, false);
          }
          for (std::size_t q = at; q < at + quanta; ++q) used[q] = event.is_alloc;
        }
      }
    }
  }
}
