// SPDX-License-Identifier: Apache-2.0
// A live pool's snapshot, written and read back.
#include "integration/trace/pool_snapshot.hpp"

#include "allocator/device_pool.hpp"
#include "integration/replay/allocation_trace.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

TEST_SUITE("unit") {
  TEST_CASE("blocks, tags and segments of a live pool come back from its snapshot") {
    auto simulator = sim::Simulator::create(lab_options(sim::Mode::kEager));
    REQUIRE(simulator.ok());
    SnapshotContents contents;
    PoolStats stats;
    std::uint64_t first = 0;
    simulator.value()->run([&] {
      Lab lab(*simulator.value());
      const Context context = Context::adopt_current(lab.cu).value();
      const StreamRef stream = StreamRef::of(lab.cu, lab.stream()).value();
      DevicePoolOptions options;
      options.comm_chunk_bytes = 1 << 20;
      const auto pool = DevicePool::create(context, options).value();
      Tag tag;
      tag.kind = BufferKind::kActivation;
      tag.layer = 7;
      first = pool->allocate(1000, stream, pool->tag(tag, "attention.q")).value();
      const auto second = pool->allocate(2000, stream).value();
      CHECK(pool->allocate(3000, stream).ok());
      CHECK(pool->allocate_comm(4000, stream).ok());
      CHECK(pool->free(second, stream).ok());
      contents = snapshot_of(pool->snapshot());
      stats = pool->stats();
      lab.cu.cuCtxSynchronize();
    });
    StringSink bytes;
    const Status written = write_snapshot(contents, bytes);
    REQUIRE_MESSAGE(written.ok(), written.message());
    AllocationTraceSink sink;
    const auto source = memory_source(bytes.bytes());
    REQUIRE(read_trace(*source, {}, sink).ok());
    const AllocationTrace trace = sink.take();
    CHECK(trace.preexisting_count == 3);
    CHECK(trace.recorded_reserved_bytes == stats.mapped_bytes + stats.comm_bytes);
    CHECK(trace.recorded_expandable_segments);
    CHECK(trace.live_peak_bytes == 8000);
    bool found = false;
    for (const ReplayBlock& block : trace.blocks)
      found = found || (block.recorded_address == first && block.bytes == 1000);
    CHECK(found);
    CHECK(bytes.bytes().find("attention.q") != std::string::npos);
    CHECK(bytes.bytes().find("activation, layer 7") != std::string::npos);
  }
}
