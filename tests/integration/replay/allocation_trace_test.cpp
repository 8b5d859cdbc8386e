// SPDX-License-Identifier: Apache-2.0
// From records to calls: what was there before, what is left out, peaks.
#include "integration/replay/allocation_trace.hpp"

#include "integration/trace/atomic_file.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/shared_data.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

TEST_SUITE_BEGIN("unit");

TEST_CASE("blocks that were there come first, in address order, and events follow them") {
  Calls calls;
  calls.segment_before(1 << 22, 1 << 21, 7);
  calls.segment_before(1 << 20, 1 << 21);
  const auto high = calls.before(9000, 100);
  const auto low = calls.before(5000, 200, 7);
  const auto fresh = calls.alloc(300);
  calls.free(high);
  calls.free(low, 7);
  const AllocationTrace trace = calls.take();
  REQUIRE(trace.blocks.size() == 3);
  CHECK(trace.preexisting_count == 2);
  CHECK(trace.blocks[0].recorded_address == 5000);
  CHECK(trace.blocks[1].recorded_address == 9000);
  CHECK(trace.blocks[2].bytes == 300);
  REQUIRE(trace.events.size() == 3);
  CHECK(trace.events[0].is_alloc);
  CHECK(trace.events[0].block == 2);
  CHECK(trace.events[1].block == 1);
  CHECK(trace.events[2].block == 0);
  CHECK(trace.streams[trace.events[2].stream] == 7);
  CHECK(trace.live_peak_bytes == 600);
  CHECK(trace.recorded_reserved_bytes == 2 << 21);
  REQUIRE(trace.segments.size() == 2);
  CHECK(trace.segments[0].address == 1 << 20);
  CHECK(trace.streams[trace.segments[1].stream] == 7);
  CHECK(fresh == 3);
}

TEST_CASE("the recorded peak of held memory counts what was given back") {
  Calls calls;
  calls.segment_before(4096, 1000);
  calls.alloc(8);
  calls.segment(1 << 20, 500);
  calls.segment_gone(4096, 1000);
  calls.segment(1 << 21, 900);
  CHECK(calls.take().recorded_reserved_bytes == 1500);
}

TEST_CASE("calls that no program can make are left out and counted") {
  Calls calls;
  const auto once = calls.alloc(100);
  calls.free(once);
  calls.free(once);
  calls.free(999);
  calls.emitter().alloc(once, 50);
  calls.emitter().alloc(50, 0);
  calls.emitter().alloc(51, ~std::uint64_t{0});
  calls.emitter().record(RecordKind::kMap, 4096, ~std::uint64_t{0});
  calls.emitter().record(RecordKind::kUnmap, 4096, ~std::uint64_t{0});
  const AllocationTrace trace = calls.take();
  CHECK(trace.events.size() == 2);
  CHECK(trace.live_peak_bytes == 100);
  CHECK(trace.recorded_reserved_bytes == 0);
  REQUIRE(trace.notes.size() == 4);
  CHECK(trace.notes[0].substr(0, 2) == "1 ");
  CHECK(trace.notes[1].substr(0, 2) == "2 ");
  CHECK(trace.notes[2].substr(0, 2) == "2 ");
}

TEST_CASE("an allocation that claims to be older than the events before it is an event") {
  Calls calls;
  calls.alloc(100);
  calls.before(4096, 200);
  const AllocationTrace trace = calls.take();
  CHECK(trace.preexisting_count == 0);
  CHECK(trace.events.size() == 2);
}

TEST_CASE("a trace without allocations is refused with its name") {
  const TempDir dir;
  const std::string path = (dir.path() / "empty.txt").string();
  REQUIRE(write_file(path, "# spwt text 1\n").ok());
  const auto trace = read_allocation_trace(path, -1);
  REQUIRE(!trace.ok());
  CHECK(trace.status().message().find(path) != std::string::npos);
}

TEST_SUITE_END();

TEST_SUITE("golden") {
  TEST_CASE("recorded snapshots give their calls, peaks and segments") {
    SPW_REQUIRE_SHARED_DATA(dir);
    struct Expected {
      const char* file;
      std::size_t before, events;
      std::uint64_t reserved_mib, live_peak_bytes;
    };
    for (const Expected& expected :
         {Expected{"medium_128_training_memory_snapshot.pickle", 664, 12831, 6900, 7013335044},
          Expected{"medium_512_training_memory_snapshot.pickle", 664, 14961, 12074, 12426629128},
          Expected{"medium_512_inference_memory_snapshot.pickle", 223, 3332, 1890, 1949343744}}) {
      CAPTURE(expected.file);
      const auto trace = read_allocation_trace((dir / "snapshots" / expected.file).string(), -1);
      REQUIRE_MESSAGE(trace.ok(), trace.status().message());
      CHECK(trace.value().preexisting_count == expected.before);
      CHECK(trace.value().events.size() == expected.events);
      CHECK(trace.value().recorded_reserved_bytes == expected.reserved_mib << 20);
      CHECK(trace.value().live_peak_bytes == expected.live_peak_bytes);
    }
  }
}
