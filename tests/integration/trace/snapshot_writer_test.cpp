// SPDX-License-Identifier: Apache-2.0
// Snapshots that spillway writes: read back by our own reader and, where Python is at hand, by its
// pickle module, whose checks know nothing of the writer.
#include "integration/trace/snapshot_writer.hpp"

#include "integration/replay/allocation_trace.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/pickle_parser.hpp"
#include "integration/trace/pickle_writer.hpp"
#include "integration/trace/reader.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/skip.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/trace_tape.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kBase = std::uint64_t{0x7f0000000000};

SnapshotContents small_snapshot() {
  SnapshotContents contents;
  contents.stacks.push_back({{"model.py", 7, "forward"}, {"train.py", 3, "<module>"}});
  contents.expandable_segments = true;
  SnapshotSegmentOut segment;
  segment.address = kBase;
  segment.bytes = 4096;
  segment.expandable = true;
  segment.blocks = {{1024, 1000, SnapshotBlockState::kAllocated, 1},
                    {512, 0, SnapshotBlockState::kFree, 0},
                    {512, 1, SnapshotBlockState::kPendingFree, 1},
                    {2048, 0, SnapshotBlockState::kFree, 0}};
  contents.segments.push_back(segment);
  using Kind = SnapshotEventKind;
  contents.device_events.push_back({
      {Kind::kSegmentMap, kBase, 4096, 0, 10, 0},
      {Kind::kAlloc, kBase, 1000, 0, 11, 1},
      {Kind::kAlloc, kBase + 1536, 1, 42, 12, 1},
      {Kind::kFreeRequested, kBase + 1536, 1, 42, 13, 1},
      {Kind::kOom, 0, 1 << 30, 0, 14, 1},
  });
  return contents;
}

std::string bytes_of(const SnapshotContents& contents) {
  StringSink sink;
  const Status status = write_snapshot(contents, sink);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return sink.bytes();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("every number, text and repeat of a pickle comes back") {
  StringSink sink;
  PickleWriter writer(sink);
  const std::vector<std::uint64_t> numbers = {
      0, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, ~std::uint64_t{0} >> 1};
  writer.begin_list();
  for (const std::uint64_t number : numbers) writer.number(number);
  writer.number(~std::uint64_t{0});
  writer.signed_number(-1);
  writer.signed_number(std::numeric_limits<std::int64_t>::min());
  writer.real(0.25);
  writer.flag(true);
  writer.pair(3, 4);
  writer.empty_list();
  const std::uint32_t memo = writer.memorise();
  writer.same_as(memo);
  for (int i = 0; i < 600; ++i) writer.text("text " + std::to_string(i % 300));
  writer.end_list();
  REQUIRE(writer.finish().ok());
  const auto source = memory_source(sink.bytes());
  BufferedInput input(*source);
  const auto document = parse_pickle(input);
  REQUIRE_MESSAGE(document.ok(), document.status().message());
  const PickleDocument& doc = document.value();
  const auto items = doc.items(doc.root());
  REQUIRE(items.size() == numbers.size() + 8 + 600);
  for (std::size_t i = 0; i < numbers.size(); ++i) CHECK(doc.as_uint(items[i]) == numbers[i]);
  std::size_t at = numbers.size();
  CHECK(doc.as_uint(items[at++]) == ~std::uint64_t{0});
  CHECK(doc.as_int(items[at++]) == -1);
  CHECK(doc.as_int(items[at++]) == std::numeric_limits<std::int64_t>::min());
  CHECK(doc.as_float(items[at++]) == 0.25);
  CHECK(doc.as_bool(items[at++]) == true);
  CHECK(doc.as_uint(doc.item(items[at++], 1)) == 4u);
  CHECK(items[at].bits == items[at + 1].bits);
  at += 2;
  for (std::size_t i = 0; i < 600; ++i)
    CHECK(doc.as_string(items[at + i]) == "text " + std::to_string(i % 300));
}

TEST_CASE("a written snapshot is read as the calls and segments that were put in") {
  const std::string bytes = bytes_of(small_snapshot());
  AllocationTraceSink sink;
  const auto source = memory_source(bytes);
  const auto info = read_trace(*source, {}, sink);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(info.value().format == "pytorch-snapshot");
  const AllocationTrace trace = sink.take();
  CHECK(trace.preexisting_count == 0);
  REQUIRE(trace.blocks.size() == 2);
  CHECK(trace.blocks[0].bytes == 1000);
  CHECK(trace.blocks[0].recorded_address == kBase);
  CHECK(trace.streams[trace.blocks[1].stream] != trace.streams[trace.blocks[0].stream]);
  CHECK(trace.events.size() == 2);
  CHECK(trace.recorded_reserved_bytes == 4096);
  CHECK(trace.recorded_expandable_segments);
  CHECK(trace.oom_count == 1);
}

TEST_CASE("blocks that do not fill their segment, and unknown stacks, are refused") {
  StringSink sink;
  SnapshotContents gap = small_snapshot();
  gap.segments[0].blocks.pop_back();
  CHECK(write_snapshot(gap, sink).code() == Code::kInvalidArgument);
  SnapshotContents stack = small_snapshot();
  stack.segments[0].blocks[0].stack = 9;
  CHECK(write_snapshot(stack, sink).code() == Code::kInvalidArgument);
  SnapshotContents event = small_snapshot();
  event.device_events[0][1].stack = 9;
  CHECK(write_snapshot(event, sink).code() == Code::kInvalidArgument);
  CHECK(sink.bytes().empty());
}

TEST_CASE("Python's pickle reads it, and finds the fields that viewers use") {
  const std::string python = "/usr/bin/python3";
  if (run_program({python, "-c", "pass"}).exit_code != 0) {
    report_skipped("Python 3");
    return;
  }
  const TempDir dir;
  const std::string path = (dir.path() / "s.pickle").string();
  REQUIRE(write_file(path, bytes_of(small_snapshot())).ok());
  const std::string check = (source_dir() / "tests/integration/trace/check_snapshot.py").string();
  const ProgramRun run = run_program({python, check, path});
  CHECK_MESSAGE(run.exit_code == 0, run.out << run.err);
  CHECK(run.out.find("1 segments, 4 blocks, 5 events") != std::string::npos);
}

TEST_SUITE_END();
