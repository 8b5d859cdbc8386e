// SPDX-License-Identifier: Apache-2.0
// How fast a packed trace is written and read, and what it costs in bytes. The input is a made-up
// transformer's training steps, seeded, with allocations, tags, names, ops and uses in the
// proportions of real ones. Correctness is checked before anything is timed.
#include "core/random.hpp"
#include "core/tag.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_live_writer.hpp"
#include "integration/trace/spwt_writer.hpp"
#include "policy/planner.hpp"
#include "policy/profile_builder.hpp"
#include "policy/simulator.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <malloc.h>
#include <new>
#include <string>
#include <unistd.h>
#include <variant>
#include <vector>

namespace {

// All of the program's heap goes through the operators below. One thread.
std::size_t heap_bytes = 0;
std::size_t heap_peak_bytes = 0;

}  // namespace

void* operator new(std::size_t bytes) {
  void* place = std::malloc(bytes == 0 ? 1 : bytes);
  if (place == nullptr) throw std::bad_alloc();
  heap_bytes += malloc_usable_size(place);
  heap_peak_bytes = std::max(heap_peak_bytes, heap_bytes);
  return place;
}
void operator delete(void* place) noexcept {
  heap_bytes -= malloc_usable_size(place);
  std::free(place);
}
void operator delete(void* place, std::size_t) noexcept { operator delete(place); }

namespace {

using namespace spillway;

/// Counts, and adds up so that the decoder's work cannot be left out.
class CountingSink final : public TraceSink {
 public:
  void string(StringId, std::string_view text) override { sum_ += text.size(); }
  void record(const Record& record) override {
    ++count_;
    sum_ += record.id ^ record.arg ^ record.time_ns;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }

 private:
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
};

/// Writes steps of `layers` layers with forward and backward until `record_count` records are
/// there.
std::uint64_t emit_training(TraceSink& sink, std::uint64_t record_count) {
  constexpr std::uint64_t kLayers = 48;
  constexpr std::uint64_t kOpsPerLayer = 12;
  TraceEmitter emitter(sink);
  Random random(20240607);
  emitter.meta("model", "bench");
  std::uint64_t time_ns = 0;
  std::uint64_t storage = 0;
  std::uint64_t op = 0;
  const auto tick = [&](std::uint64_t most_ns) {
    time_ns += 1 + random.below(most_ns);
    emitter.set_time_ns(time_ns);
  };
  for (std::uint64_t step = 0; emitter.record_count() < record_count; ++step) {
    emitter.step(step);
    std::vector<std::uint64_t> alive;
    for (std::uint64_t layer = 0; layer < kLayers; ++layer) {
      emitter.range_push("", "layer." + std::to_string(layer));
      for (std::uint64_t i = 0; i < kOpsPerLayer; ++i) {
        OpTag op_tag;
        op_tag.kind = static_cast<OpKind>(1 + i % 6);
        op_tag.phase = Phase::kForward;
        op_tag.layer = static_cast<std::uint16_t>(layer);
        emitter.op_begin(++op, "op." + std::to_string(i), op_tag);
        if (!alive.empty()) emitter.use(op, alive.back(), kRecordRead);
        Tag tag;
        tag.kind = BufferKind::kActivation;
        tag.dtype = Dtype::kBf16;
        tag.phase = Phase::kForward;
        tag.layer = static_cast<std::uint16_t>(layer);
        emitter.alloc(++storage, (1 + i) * 8u << 20);
        emitter.tag(storage, tag);
        emitter.use(op, storage, kRecordCreate);
        alive.push_back(storage);
        tick(50000);
        emitter.op_end(op);
        tick(2000);
      }
      emitter.range_pop("");
    }
    while (!alive.empty()) {
      OpTag op_tag;
      op_tag.kind = OpKind::kMatmul;
      op_tag.phase = Phase::kBackward;
      emitter.op_begin(++op, "backward", op_tag);
      emitter.use(op, alive.back(), kRecordRead);
      tick(80000);
      emitter.op_end(op);
      emitter.free(alive.back());
      alive.pop_back();
      tick(2000);
    }
  }
  return emitter.record_count();
}

std::uint64_t record_count_wanted() { return 2'000'000; }

struct Sample {
  std::string bytes;
  std::uint64_t record_count = 0;
};

Sample make_sample(int zstd_level) {
  StringSink out;
  SpwtWriterOptions options;
  options.zstd_level = zstd_level;
  SpwtWriter writer(out, options);
  Sample sample;
  sample.record_count = emit_training(writer, record_count_wanted());
  const Status status = writer.finish();
  CountingSink counted;
  const auto source = memory_source(out.bytes());
  const auto info = read_trace(*source, {}, counted);
  if (!status.ok() || !info.ok() || counted.count() != sample.record_count) {
    std::fprintf(stderr, "spwt_bench: what was written did not come back\n");
    std::exit(1);
  }
  sample.bytes = out.bytes();
  return sample;
}

const Sample& sample_of(int zstd_level) {
  static const Sample kPacked = make_sample(3);
  static const Sample kPlain = make_sample(0);
  return zstd_level == 0 ? kPlain : kPacked;
}

void count_records(benchmark::State& state, const Sample& sample) {
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(sample.record_count));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(sample.bytes.size()));
  state.counters["B/record"] =
      static_cast<double>(sample.bytes.size()) / static_cast<double>(sample.record_count);
}

void decode_to_counting_sink(benchmark::State& state) {
  const Sample& sample = sample_of(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    CountingSink sink;
    const auto source = memory_source(sample.bytes);
    const auto info = read_trace(*source, {}, sink);
    benchmark::DoNotOptimize(sink.sum());
    if (!info.ok()) state.SkipWithError(info.status().message().c_str());
  }
  count_records(state, sample);
}
BENCHMARK(decode_to_counting_sink)->ArgName("zstd")->Arg(0)->Arg(3)->Unit(benchmark::kMillisecond);

/// From packed bytes to a profile, as `replay` does it.
void decode_to_profile(benchmark::State& state) {
  const Sample& sample = sample_of(3);
  std::size_t peak_bytes = 0;
  for (auto _ : state) {
    const std::size_t before_bytes = heap_bytes;
    heap_peak_bytes = heap_bytes;
    ProfileBuilder builder;
    const auto source = memory_source(sample.bytes);
    const auto info = read_trace(*source, {}, builder);
    const auto profile = builder.finish();
    if (!info.ok()) state.SkipWithError(info.status().message().c_str());
    if (!profile.ok()) state.SkipWithError(profile.status().message().c_str());
    peak_bytes = std::max(peak_bytes, heap_peak_bytes - before_bytes);
  }
  count_records(state, sample);
  state.counters["peak B/event"] =
      static_cast<double>(peak_bytes) / static_cast<double>(sample.record_count);
}
BENCHMARK(decode_to_profile)->Unit(benchmark::kMillisecond);

/// From packed bytes to a simulated step: the profile, keep-all's plan of its chosen step, and the
/// step run.
void decode_to_simulation(benchmark::State& state) {
  const Sample& sample = sample_of(3);
  PlanRequest request;
  const auto planner = find_planner("keep-all", &request);
  if (!planner.ok()) return state.SkipWithError(planner.status().message().c_str());
  const DeviceModel device;  // keep-all copies nothing
  for (auto _ : state) {
    ProfileBuilder builder;
    const auto source = memory_source(sample.bytes);
    const auto info = read_trace(*source, {}, builder);
    const auto profile = builder.finish();
    if (!info.ok() || !profile.ok()) return state.SkipWithError("the trace has no profile");
    const ProfileSummary summary = summarize(profile.value());
    const PlanOutcome outcome = planner.value()->plan(profile.value(), summary, device, request);
    const Plan* plan = std::get_if<Plan>(&outcome);
    if (plan == nullptr) return state.SkipWithError("keep-all has no plan");
    const auto result = simulate(profile.value(), device, *plan, {});
    if (!result.ok()) return state.SkipWithError(result.status().message().c_str());
    benchmark::DoNotOptimize(result.value().peak_bytes);
  }
  count_records(state, sample);
}
BENCHMARK(decode_to_simulation)->Unit(benchmark::kMillisecond);

/// One thread into a memory-mapped log in the folder for temporary files.
void live_append(benchmark::State& state) {
  const std::string path = (std::filesystem::temp_directory_path() /
                            ("spwt_bench-" + std::to_string(::getpid()) + ".live"))
                               .string();
  constexpr std::uint64_t kRecords = 1'000'000;
  for (auto _ : state) {
    auto log = LiveLog::create(path);
    if (!log.ok()) return state.SkipWithError(log.status().message().c_str());
    const auto writer = log.value()->writer(0);
    Record record;
    record.kind = RecordKind::kAlloc;
    for (std::uint64_t i = 0; i < kRecords; ++i) {
      record.time_ns = record.id = i;
      writer->append(record);
    }
    if (log.value()->dropped_count() != 0) state.SkipWithError("the log was full");
  }
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kRecords));
}
BENCHMARK(live_append)->Unit(benchmark::kMillisecond);

/// Making up the trace is part of it; `emit_only` says how much.
void encode(benchmark::State& state) {
  const Sample& sample = sample_of(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    StringSink out;
    SpwtWriterOptions options;
    options.zstd_level = static_cast<int>(state.range(0));
    SpwtWriter writer(out, options);
    emit_training(writer, record_count_wanted());
    const Status status = writer.finish();
    if (!status.ok()) state.SkipWithError(status.message().c_str());
    benchmark::DoNotOptimize(out.bytes().size());
  }
  count_records(state, sample);
}
BENCHMARK(encode)->ArgName("zstd")->Arg(0)->Arg(3)->Unit(benchmark::kMillisecond);

void emit_only(benchmark::State& state) {
  std::uint64_t count = 0;
  for (auto _ : state) {
    CountingSink sink;
    emit_training(sink, record_count_wanted());
    benchmark::DoNotOptimize(sink.sum());
    count += sink.count();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(count));
}
BENCHMARK(emit_only)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
