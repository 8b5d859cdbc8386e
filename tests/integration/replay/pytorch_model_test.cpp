// SPDX-License-Identifier: Apache-2.0
// The rules by hand, the books at random, and the reserved sizes that snapshots recorded.
#include "integration/replay/pytorch_model.hpp"

#include "integration/replay/allocator_run.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Outcome {
  AllocatorRun run;
  std::size_t segments = 0;
  std::size_t made = 0;
  std::vector<ReservedRange> ranges;
};

Outcome replay(const AllocationTrace& trace, std::uint64_t budget_bytes = 0) {
  PytorchModel model(budget_bytes);
  AllocatorRunOptions options;
  options.pictures = true;
  auto run = run_allocator(trace, model, options);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  return {std::move(run).value(),
          model.segment_count(),
          model.segments_made(),
          model.reserved_ranges()};
}

std::uint64_t reserved_for(std::uint64_t bytes) {
  Calls calls;
  calls.alloc(bytes);
  return replay(calls.take()).run.reserved_peak_bytes;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("a first request takes a segment of its class") {
  CHECK(reserved_for(1) == 2 * kMiB);
  CHECK(reserved_for(kMiB) == 2 * kMiB);
  CHECK(reserved_for(kMiB + 1) == 20 * kMiB);
  CHECK(reserved_for(10 * kMiB - 512) == 20 * kMiB);
  CHECK(reserved_for(10 * kMiB) == 10 * kMiB);
  CHECK(reserved_for(10 * kMiB + 1) == 12 * kMiB);
  CHECK(reserved_for(39 * kMiB + 100) == 40 * kMiB);
}

TEST_CASE("a large block keeps a rest of up to 1 MiB, a small one none") {
  Calls calls;
  calls.alloc(19 * kMiB);  // own segment of 20 MiB with a rest of 1 MiB: not split off
  calls.alloc(kMiB);       // small pool: no use of that rest
  calls.alloc(kMiB - 512);
  calls.alloc(512);  // fills the small segment exactly
  const Outcome outcome = replay(calls.take());
  CHECK(outcome.run.reserved_peak_bytes == 22 * kMiB);
  CHECK(outcome.segments == 2);
}

TEST_CASE("the smallest block that fits is taken, and neighbours merge when freed") {
  Calls calls;
  const auto a = calls.alloc(4 * kMiB);
  const auto b = calls.alloc(6 * kMiB);
  const auto c = calls.alloc(3 * kMiB);
  calls.alloc(7 * kMiB);  // the segment of 20 MiB is full
  calls.free(a);
  calls.free(c);
  calls.alloc(2 * kMiB);  // best fit: the hole of 3, whose rest is too small to split
  calls.free(b);          // merges with the hole of 4: 10 MiB
  calls.alloc(9 * kMiB);
  const Outcome outcome = replay(calls.take());
  CHECK(outcome.run.reserved_peak_bytes == 20 * kMiB);
  CHECK(outcome.run.placements[4].address == outcome.run.placements[2].address);
  CHECK(outcome.run.placements[5].address == outcome.run.placements[0].address);
}

TEST_CASE("streams and pools do not share") {
  Calls calls;
  const auto a = calls.alloc(5 * kMiB, 0);
  calls.free(a, 0);
  calls.alloc(5 * kMiB, 1);
  calls.alloc(100, 1);
  CHECK(replay(calls.take()).run.reserved_peak_bytes == 42 * kMiB);
}

TEST_CASE("a full budget first gives back segments that are wholly free, then fails") {
  Calls calls;
  const auto a = calls.alloc(30 * kMiB);
  calls.free(a);
  const auto b = calls.alloc(40 * kMiB);
  calls.alloc(16 * kMiB);
  calls.free(b);
  const AllocationTrace trace = calls.take();
  CHECK(replay(trace).run.reserved_peak_bytes == 70 * kMiB);  // 16 goes into the hole of 30
  CHECK(replay(trace, 60 * kMiB).run.reserved_peak_bytes == 56 * kMiB);
  const Outcome refused = replay(trace, 55 * kMiB);
  CHECK(!refused.run.feasible);
  CHECK(refused.run.out_of_memory.find("16.0 MiB wanted") != std::string::npos);
}

TEST_CASE("a warm start takes the recorded segments and blocks where they were") {
  Calls calls;
  calls.segment_before(100 * kMiB, 20 * kMiB);
  calls.segment_before(200 * kMiB, 2 * kMiB);
  calls.segment_before(300 * kMiB, 10 * kMiB);
  const auto a = calls.before(100 * kMiB, 4 * kMiB);
  calls.before(108 * kMiB, 12 * kMiB - 4096);  // its rest of 4 KiB is part of it
  calls.before(200 * kMiB + 512, 1000);
  calls.before(500 * kMiB, 100);  // in no segment: allocated anew, in the small one
  calls.alloc(4 * kMiB);          // the recorded hole at 104 MiB
  calls.alloc(10 * kMiB);         // the segment that was wholly free
  calls.free(a);
  calls.alloc(3 * kMiB);
  const Outcome outcome = replay(calls.take());
  CHECK(outcome.made == 0);
  CHECK(outcome.run.reserved_peak_bytes == 32 * kMiB);
  const auto& placed = outcome.run.placements;
  CHECK(placed[0].address == 100 * kMiB);
  CHECK(placed[3].address >= 200 * kMiB);
  CHECK(placed[3].address < 202 * kMiB);
  CHECK(placed[4].address == 104 * kMiB);
  CHECK(placed[5].address == 300 * kMiB);
  CHECK(placed[6].address == 100 * kMiB);
}

TEST_CASE("segments and blocks of a damaged trace are put in order or left out") {
  Calls calls;
  calls.segment_before(kMiB, 20 * kMiB);
  calls.segment_before(2 * kMiB, 20 * kMiB);  // overlaps
  calls.segment_before(~std::uint64_t{0} - 10, 5);
  calls.before(kMiB, 5 * kMiB);
  calls.before(2 * kMiB, 5 * kMiB);   // overlaps
  calls.before(20 * kMiB, 5 * kMiB);  // leaves its segment
  calls.before(0, 5 * kMiB);
  calls.alloc(1);
  const Outcome outcome = replay(calls.take());
  CHECK(outcome.run.feasible);
  CHECK(outcome.run.reserved_peak_bytes == 22 * kMiB);
}

TEST_SUITE_END();

TEST_SUITE("property") {
  TEST_CASE("random programs: blocks never overlap, what is held covers what lives") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      const Outcome outcome = replay(random_calls(seed, 3000, 3));
      CHECK(outcome.run.feasible);
      CHECK(outcome.run.live_peak_bytes <= outcome.run.reserved_peak_bytes);
      CHECK(outcome.segments == outcome.made);
      std::uint64_t held = 0;
      for (const ReservedRange& range : outcome.ranges) held += range.bytes;
      CHECK(held == outcome.run.reserved_peak_bytes);
    }
  }
}

TEST_SUITE("golden") {
  TEST_CASE("the reserved size that a snapshot recorded is met within 3 %") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator(dir / "snapshots")) {
      if (file.path().extension() != ".pickle") continue;
      CAPTURE(file.path());
      const auto trace = read_allocation_trace(file.path().string(), -1);
      REQUIRE(trace.ok());
      const Outcome outcome = replay(trace.value());
      const auto recorded = static_cast<double>(trace.value().recorded_reserved_bytes);
      const auto modelled = static_cast<double>(outcome.run.reserved_peak_bytes);
      CHECK(modelled / recorded > 0.97);
      CHECK(modelled / recorded < 1.03);
      ++count;
    }
    CHECK(count > 0);
  }
}
