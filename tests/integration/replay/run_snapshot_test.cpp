// SPDX-License-Identifier: Apache-2.0
// A run written as a snapshot and read again is the same run.
#include "integration/replay/run_snapshot.hpp"

#include "integration/replay/allocators.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"
#include "tests/integration/replay/calls.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

TEST_SUITE("property") {
  TEST_CASE("a snapshot of a run gives back its calls, addresses, segments and peak") {
    for (const std::string_view name : allocator_names()) {
      for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        CAPTURE(name);
        CAPTURE(seed);
        const AllocationTrace trace = random_calls(seed, 800, 2);
        const auto allocator = make_allocator(name, trace, 0);
        REQUIRE(allocator.ok());
        AllocatorRunOptions options;
        options.pictures = true;
        const auto run = run_allocator(trace, *allocator.value(), options);
        REQUIRE_MESSAGE(run.ok(), run.status().message());
        StringSink bytes;
        const Status written = write_snapshot(snapshot_of(trace, run.value()), bytes);
        REQUIRE_MESSAGE(written.ok(), written.message());

        AllocationTraceSink sink;
        const auto source = memory_source(bytes.bytes());
        const auto info = read_trace(*source, {}, sink);
        REQUIRE_MESSAGE(info.ok(), info.status().message());
        const AllocationTrace back = sink.take();
        REQUIRE(back.blocks.size() == trace.blocks.size());
        REQUIRE(back.events.size() == trace.events.size());
        for (std::size_t i = 0; i < trace.events.size(); ++i) {
          REQUIRE(back.events[i].is_alloc == trace.events[i].is_alloc);
          const ReplayBlock& block = back.blocks[back.events[i].block];
          REQUIRE(block.bytes == trace.blocks[trace.events[i].block].bytes);
          REQUIRE(block.recorded_address == run.value().placements[trace.events[i].block].address);
        }
        CHECK(back.recorded_reserved_bytes == run.value().reserved_peak_bytes);
        CHECK(back.live_peak_bytes == trace.live_peak_bytes);
        std::uint64_t held = 0;
        for (const ReservedRange& range : run.value().final_ranges) held += range.bytes;
        CHECK(held > 0);
      }
    }
  }
}
