// SPDX-License-Identifier: Apache-2.0
// Offline packing: height over load bound and time, for problems made up here and, where the shared
// data is, for recorded ones. A table first, from one run each with the default limit of work; then
// the time of placing in one order, which is what a large problem's search is made of.
#include "allocator/packing_check.hpp"
#include "allocator/packing_greedy.hpp"
#include "core/random.hpp"
#include "core/version.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/packing_csv.hpp"

#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace spillway;

struct Case {
  std::string name;
  PackingProblem problem;
};

/// Forward and backward of `layers` layers: activations wait for their layer's backward, every
/// operation has workspaces.
PackingProblem made_up_step(std::uint64_t layers) {
  Random random(layers);
  PackingProblem problem;
  std::uint64_t time = 0;
  const auto add = [&](std::uint64_t begin, std::uint64_t end, std::uint64_t bytes) {
    PackBuffer buffer;
    buffer.begin = begin;
    buffer.end = end;
    buffer.bytes = bytes;
    buffer.alignment = 512;
    problem.buffers.push_back(buffer);
  };
  std::vector<std::uint64_t> outputs;
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    for (int i = 0; i < 4; ++i, ++time)
      add(time, time + 2 + random.below(6), 1 + random.below(1 << 22));
    outputs.push_back(time++);
  }
  for (std::uint64_t layer = layers; layer-- > 0;) {
    add(outputs[layer], time + 3, (1 + random.below(5)) << 19);
    for (int i = 0; i < 5; ++i, ++time)
      add(time, time + 2 + random.below(7), 1 + random.below(1 << 22));
  }
  return problem;
}

void add_recorded(const std::filesystem::path& folder, std::vector<Case>* cases) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".csv") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    const auto source = open_file_source(path.string());
    if (!source.ok()) continue;
    BufferedInput input(*source.value());
    auto file = read_packing_csv(input);
    if (!file.ok()) continue;
    // Packings of others that came along are no help here.
    for (PackBuffer& buffer : file.value().problem.buffers) buffer.hint_offset.reset();
    cases->push_back({path.stem().string(), std::move(file.value().problem)});
  }
}

/// False when a packing did not pass its judge.
bool print_table(const std::vector<Case>& cases) {
  fmt::print("revision {}; default work, all cores, seed 1\n", git_revision());
  fmt::print("{:<18} {:>7} {:>12} {:>12} {:>8} {:>8} {:>8} {:>8}  {}\n",
             "problem",
             "buffers",
             "height",
             "load bound",
             "ratio",
             "seconds",
             "cpu s",
             "Msteps",
             "found by");
  for (const Case& it : cases) {
    const auto begin = std::chrono::steady_clock::now();
    const std::clock_t cpu_begin = std::clock();
    const Result<Packing> packed = pack(it.problem, {});
    const double cpu = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!packed.ok() || !check_packing(it.problem, packed.value()).ok()) return false;
    const Packing& packing = packed.value();
    fmt::print(
        "{:<18} {:>7} {:>12} {:>12} {:>8.5f} {:>8.3f} {:>8.3f} {:>8.1f}  {}{}\n",
        it.name,
        it.problem.buffers.size(),
        packing.height_bytes,
        packing.load_bound_bytes,
        static_cast<double>(packing.height_bytes) / static_cast<double>(packing.load_bound_bytes),
        seconds,
        cpu,
        static_cast<double>(packing.work) / 1e6,
        packing.method,
        packing.optimal ? ", optimal" : "");
  }
  return true;
}

void place(benchmark::State& state, const PackPiece& piece) {
  AddressIndex index(piece.section_count);
  const std::vector<std::uint32_t> order = sort_buffers(piece, PackOrder::kSize);
  for (auto _ : state) {
    std::uint64_t steps = 0;
    benchmark::DoNotOptimize(
        place_in_order(piece, order, PlaceRule::kLowest, std::int64_t{1} << 62, &index, &steps));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(piece.count()));
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Case> cases;
  for (const std::uint64_t layers : {100u, 1000u, 6000u})
    cases.push_back({"made_up/" + std::to_string(10 * layers), made_up_step(layers)});
  const char* given = std::getenv("SPILLWAY_SHARED_DATA");
  const std::filesystem::path shared =
      given != nullptr ? given : SPILLWAY_SOURCE_DIR "/../shared/data";
  add_recorded(shared / "minimalloc", &cases);
  add_recorded(shared / "idealloc", &cases);
  if (!print_table(cases)) {
    fmt::print(stderr, "a packing did not pass its judge\n");
    return 1;
  }
  std::vector<PackPieces> pieces;
  pieces.reserve(cases.size());
  for (const Case& it : cases) {
    if (it.problem.buffers.size() < 1000) continue;
    auto split = split_into_pieces(it.problem);
    if (!split.ok() || split.value().pieces.empty()) continue;
    pieces.push_back(std::move(split.value()));
    const PackPiece* piece = &pieces.back().pieces.front();
    benchmark::RegisterBenchmark(("place/" + it.name).c_str(), [piece](benchmark::State& state) {
      place(state, *piece);
    })->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
