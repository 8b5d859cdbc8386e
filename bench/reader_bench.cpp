// SPDX-License-Identifier: Apache-2.0
// How fast foreign traces are read, trace building included, and how much memory that takes. Inputs
// are made up here, with the proportions of recorded ones; recorded ones are added where the shared
// data is. Correctness is checked before timing.
#include "core/random.hpp"
#include "integration/trace/reader.hpp"
#include "tests/support/pickle_writer.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <malloc.h>
#include <new>
#include <string>
#include <vector>

namespace {

// Heap in use, counted in operator new: one number for what a reader needs, free of what the
// program holds anyway.
std::atomic<std::int64_t> heap_bytes{0};
std::atomic<std::int64_t> heap_bytes_peak{0};

void* counted_new(std::size_t bytes) {
  void* place = std::malloc(bytes == 0 ? 1 : bytes);
  if (place == nullptr) throw std::bad_alloc();
  const std::int64_t now = heap_bytes += static_cast<std::int64_t>(malloc_usable_size(place));
  if (now > heap_bytes_peak) heap_bytes_peak = now;
  return place;
}

void counted_delete(void* place) noexcept {
  if (place != nullptr) heap_bytes -= static_cast<std::int64_t>(malloc_usable_size(place));
  std::free(place);
}

}  // namespace

void* operator new(std::size_t bytes) { return counted_new(bytes); }
void* operator new[](std::size_t bytes) { return counted_new(bytes); }
void operator delete(void* place) noexcept { counted_delete(place); }
void operator delete[](void* place) noexcept { counted_delete(place); }
void operator delete(void* place, std::size_t) noexcept { counted_delete(place); }
void operator delete[](void* place, std::size_t) noexcept { counted_delete(place); }

namespace {

using namespace spillway;

class CountingSink final : public TraceSink {
 public:
  void string(StringId, std::string_view text) override { sum += text.size(); }
  void record(const Record& record) override {
    sum += record.id ^ record.arg ^ record.time_ns, ++count;
  }
  std::uint64_t count = 0, sum = 0;
};

/// `event_count` events over 600 frames in stacks of 31, as a recorded training step has: frames
/// and the stacks of the two halves of a free are named by memo.
std::string made_up_snapshot(std::uint64_t event_count) {
  test::PickleWriter writer;
  Random random(1);
  const auto get = [&writer](std::int64_t index) {
    writer.raw("j");
    writer.little_endian(index, 4);
  };
  const auto field = [&writer](const char* name, std::int64_t value) {
    writer.text(name);
    writer.number(value);
  };
  std::vector<std::int64_t> frames;
  writer.raw("}(");
  writer.text("frames");
  writer.raw("](");
  for (int i = 0; i < 600; ++i) {
    writer.raw("}");
    frames.push_back(writer.memorise());
    writer.raw("(");
    writer.text("filename");
    writer.text(i % 3 == 0 ? "/home/user/net/model_" + std::to_string(i % 7) + ".py" : "??");
    field("line", i % 3 == 0 ? i : 0);
    writer.text("name");
    writer.text(i % 3 == 0 ? "forward"
                           : "torch::some::very_long_function_name_" + std::to_string(i) +
                                 "(at::Tensor const&)");
    writer.raw("u");
  }
  writer.raw("e");
  writer.text("segments");
  writer.raw("]");
  writer.text("device_traces");
  writer.raw("](](");
  std::int64_t stack = 0;
  const auto event = [&](const char* action,
                         std::int64_t addr,
                         std::int64_t size,
                         std::uint64_t number,
                         bool same_stack) {
    writer.raw("}(");
    writer.text("action");
    writer.text(action);
    field("addr", addr);
    field("size", size);
    field("stream", 0);
    field("time_us", 1700000000000000 + static_cast<std::int64_t>(number));
    writer.text("frames");
    if (same_stack) {
      get(stack);
    } else {
      writer.raw("]");
      stack = writer.memorise();
      writer.raw("(");
      const std::uint64_t leaf = random.below(560);
      for (std::uint64_t i = 0; i < 31; ++i) get(frames[i < 6 ? leaf + i : 30 * (leaf % 19) + i]);
      writer.raw("e");
    }
    writer.raw("u");
  };
  for (std::uint64_t i = 0; i + 3 <= event_count; i += 3) {
    const std::int64_t addr = 0x7f0000000000 + static_cast<std::int64_t>(i) * 512;
    const auto size = static_cast<std::int64_t>(1 + random.below(1 << 24));
    event("alloc", addr, size, i, false);
    event("free_requested", addr, size, i, false);
    event("free_completed", addr, size, i, true);
  }
  writer.raw("eeu");
  return writer.finish();
}

std::string made_up_log(std::uint64_t op_count) {
  std::string log =
      "{\"ANNOTATION\":\"START\",\"INSTRUCTION\":\"ANNOTATE\"}\n{\"INSTRUCTION\":\"CONSTANT\","
      "\"NAME\":\"x0\"}\n"
      "{\"INSTRUCTION\":\"MEMORY\",\"MEMORY\":\"4096\",\"NAME\":\"x0\"}\n";
  for (std::uint64_t i = 1; i <= op_count; ++i) {
    const std::string before = "x" + std::to_string(i - 1);
    const std::string name = "x" + std::to_string(i);
    log +=
        "{\"ARGS\":[\"" + before +
        "\"],\"INSTRUCTION\":\"CALL\",\"NAME\":\"cudnn_convolution\",\"RESULT\":[\"" + name +
        "\"],\"TIME\":\"123456\"}\n{\"INSTRUCTION\":\"MEMORY\",\"MEMORY\":\"1048576\",\"NAME\":\"" +
        name + "\"}\n{\"ALIAS\":\"-1\",\"INSTRUCTION\":\"ALIAS\",\"NAME\":\"" + name +
        "\"}\n{\"INSTRUCTION\":\"RELEASE\",\"NAME\":\"" + before + "\"}\n";
  }
  return log;
}

void read_bytes(benchmark::State& state, const std::string& bytes) {
  std::uint64_t records = 0;
  const std::int64_t before = heap_bytes;
  heap_bytes_peak = before;
  for (auto _ : state) {
    CountingSink sink;
    const auto source = memory_source(bytes);
    const auto info = read_trace(*source, {}, sink);
    if (!info.ok()) return state.SkipWithError(info.status().message().c_str());
    records = sink.count;
    benchmark::DoNotOptimize(sink.sum);
  }
  const auto count = static_cast<std::int64_t>(state.iterations());
  state.SetBytesProcessed(count * static_cast<std::int64_t>(bytes.size()));
  state.SetItemsProcessed(count * static_cast<std::int64_t>(records));
  state.counters["input_MB"] = static_cast<double>(bytes.size()) / 1e6;
  state.counters["heap_per_input_byte"] =
      static_cast<double>(heap_bytes_peak - before) / static_cast<double>(bytes.size());
}

void check(const std::string& bytes, std::uint64_t expected_records) {
  CountingSink sink;
  const auto source = memory_source(bytes);
  const auto info = read_trace(*source, {}, sink);
  if (info.ok() && sink.count >= expected_records) return;
  std::fprintf(stderr,
               "made-up input is not read: %s\n",
               info.ok() ? "records are missing" : info.status().message().c_str());
  std::exit(1);
}

void add_recorded(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.is_regular_file()) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    const std::string extension = path.extension().string();
    if (extension != ".pickle" && extension != ".log") continue;
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    benchmark::RegisterBenchmark(("recorded/" + path.stem().string().substr(0, 24)).c_str(),
                                 [bytes](benchmark::State& state) { read_bytes(state, bytes); })
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string snapshot = made_up_snapshot(60000);
  const std::string log = made_up_log(20000);
  check(snapshot, 60000);
  check(log, 80000);
  benchmark::RegisterBenchmark("made_up/pytorch_snapshot", [&](benchmark::State& state) {
    read_bytes(state, snapshot);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("made_up/dtr_log", [&](benchmark::State& state) {
    read_bytes(state, log);
  })->Unit(benchmark::kMillisecond);
  const char* given = std::getenv("SPILLWAY_SHARED_DATA");
  const std::filesystem::path shared =
      given != nullptr ? given : SPILLWAY_SOURCE_DIR "/../shared/data";
  add_recorded(shared / "snapshots");
  add_recorded(shared / "dtr" / "logs");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
