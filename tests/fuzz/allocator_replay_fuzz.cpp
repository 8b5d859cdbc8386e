// SPDX-License-Identifier: Apache-2.0
// Any sequence of allocation records, overlapping and contradicting ones too, through the models,
// the snapshot writer and the arena map. Records are taken from the bytes: kind, storage, size.
#include "integration/replay/allocators.hpp"
#include "integration/replay/run_snapshot.hpp"
#include "integration/report/arena_page.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

using namespace spillway;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

AllocationTrace trace_of(const std::uint8_t* data, std::size_t size) {
  constexpr std::array<RecordKind, 8> kKinds = {RecordKind::kAlloc,
                                                RecordKind::kFreeCompleted,
                                                RecordKind::kAddress,
                                                RecordKind::kMap,
                                                RecordKind::kUnmap,
                                                RecordKind::kTag,
                                                RecordKind::kAlloc,
                                                RecordKind::kFreeCompleted};
  AllocationTraceSink sink;
  for (std::size_t i = 0; i + 4 <= size && i < std::size_t{4} * 4000; i += 4) {
    Record record;
    record.kind = kKinds[data[i] % 8];
    record.flags = (data[i] & 8) != 0 ? kRecordPreexisting : 0;
    record.stream = data[i] >> 4 & 3;
    record.id = data[i + 1];
    record.arg = std::uint64_t{data[i + 2]} << (data[i + 3] % 64);
    if ((data[i] & 128) != 0) record.arg += data[i + 3];
    // Addresses and segments share a small space, so that they meet.
    if (record.kind == RecordKind::kMap || record.kind == RecordKind::kUnmap)
      record.id = std::uint64_t{data[i + 1]} << 20;
    if (record.kind == RecordKind::kAddress && (data[i] & 64) != 0)
      record.arg = (std::uint64_t{data[i + 2]} << 20) + (std::uint64_t{data[i + 3]} << 9);
    sink.record(record);
  }
  return sink.take();
}

void run(const AllocationTrace& trace, std::string_view name, std::uint64_t budget_bytes) {
  const auto allocator = make_allocator(name, trace, budget_bytes);
  require(allocator.ok(), "the allocator is made");
  AllocatorRunOptions options;
  options.budget_bytes = budget_bytes;
  options.sample_count = 16;
  options.pictures = true;
  const auto result = run_allocator(trace, *allocator.value(), options);
  require(result.ok(), "blocks do not overlap");
  const AllocatorRun& made = result.value();
  require(made.live_peak_bytes <= made.reserved_peak_bytes, "what lives is held");
  require(budget_bytes == 0 || made.reserved_peak_bytes <= budget_bytes, "the budget is kept");
  if (made.feasible) require(made.live_peak_bytes == trace.live_peak_bytes, "all was served");

  ArenaPageLimits limits;
  limits.map_columns = 20;
  limits.map_rows = 10;
  static_cast<void>(arena_page_data("t", "c", trace, {made}, limits));
  StringSink bytes;
  require(write_snapshot(snapshot_of(trace, made), bytes).ok(), "blocks fill their segments");
  // The reader refuses segments that no device has.
  constexpr std::uint64_t kReadableBytesMax = std::uint64_t{1} << 47;
  if (made.reserved_peak_bytes > kReadableBytesMax) return;
  AllocationTraceSink back;
  const auto source = memory_source(bytes.bytes());
  require(read_trace(*source, {}, back).ok(), "the snapshot is read");
  if (made.feasible)
    require(back.take().live_peak_bytes == trace.live_peak_bytes, "the snapshot is the run");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const AllocationTrace trace = trace_of(data, size);
  for (const std::string_view name : {"pytorch", "best-fit", "first-fit"}) {
    run(trace, name, 0);
    if (size != 0) run(trace, name, std::uint64_t{data[0]} << 21);
  }
  return 0;
}
