// SPDX-License-Identifier: Apache-2.0
// See comparison.hpp.
#include "bench/support/comparison.hpp"

#include "bench/support/machine.hpp"
#include "core/version.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <latch>
#include <string_view>
#include <thread>

namespace spillway::bench {
namespace {

using nlohmann::json;

// A thread that sleeps. Programs that train have threads, and the C library is faster in a process
// that never had a second one, in its locks and in malloc: figures taken there would be nobody's.
class IdleThread {
 public:
  IdleThread() : thread_([this] { latch_.wait(); }) {}
  ~IdleThread() {
    latch_.count_down();
    thread_.join();
  }
  IdleThread(const IdleThread&) = delete;
  IdleThread& operator=(const IdleThread&) = delete;

 private:
  std::latch latch_{1};
  std::thread thread_;
};

// What one peer did in one scenario.
struct Row {
  const PeerKind* kind = nullptr;
  std::vector<double> ns_per_pair;
  std::vector<double> cpu_ns_per_pair, slowest_to_median;  // threads
  std::vector<std::uint32_t> allocate_ticks, free_ticks;
  std::size_t failed = 0;
};

class Comparison {
 public:
  Comparison(const Ground& ground,
             const std::vector<PeerKind>& kinds,
             const ComparisonOptions& options)
      : ground_(ground), kinds_(kinds), options_(options) {}

  Status run();

 private:
  void load_steps();
  [[nodiscard]] std::vector<Workload> share_out(std::size_t thread_count) const;
  [[nodiscard]] bool wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }
  // Whether the allocator takes part in this turn.
  [[nodiscard]] static bool fits(const PeerKind& kind, const Workload& workload, std::size_t turn) {
    constexpr std::size_t kFewPairs = 2500;
    return !kind.slow || (turn == 0 && workload.pair_count <= kFewPairs);
  }
  Status check();
  void print_head() const;
  void metadata();
  void single(const Workload& workload);
  void threads(bool foreign);
  void report(const std::string& name, const std::string& input, std::vector<Row>& rows, bool many);
  [[nodiscard]] Status write_json() const;
  [[nodiscard]] Status write_workloads() const;

  const Ground& ground_;
  const std::vector<PeerKind>& kinds_;
  const ComparisonOptions& options_;
  TickScale ticks_;
  std::vector<Workload> steps_, singles_;
  std::vector<std::uint64_t> sizes_;
  std::string sizes_from_;
  json scenarios_ = json::array();
  json metadata_ = json::array();
};

void Comparison::load_steps() {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(options_.data_dir, error)) {
    if (entry.path().extension() == ".pickle") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    Result<Workload> step = recorded_step(path.string());
    if (step.ok()) {
      steps_.push_back(std::move(step).value());
    } else {
      std::fprintf(stderr, "left out: %s\n", step.status().message().c_str());
    }
  }
  if (steps_.empty()) {
    std::printf("no recorded snapshots in '%s': steps and sizes are made up\n",
                options_.data_dir.c_str());
    steps_.push_back(made_up_step(24, 512));
  }
  // Sizes are those of the longest one.
  const auto longest =
      std::max_element(steps_.begin(), steps_.end(), [](const Workload& a, const Workload& b) {
        return a.pair_count < b.pair_count;
      });
  sizes_ = sizes_of(*longest);
  sizes_from_ = "sizes of " + longest->input;
}

std::vector<Workload> Comparison::share_out(std::size_t thread_count) const {
  constexpr std::uint32_t kLivePerThread = 64;
  std::vector<Workload> workloads;
  for (std::size_t i = 0; i < thread_count; ++i) {
    workloads.push_back(random_replace(
        sizes_, kLivePerThread, options_.smoke ? 300 : options_.pairs_per_thread, 100 + i));
  }
  return workloads;
}

Status Comparison::check() {
  const std::vector<Workload> shares = share_out(4);
  for (const PeerKind& kind : kinds_) {
    const auto named = [&kind](const Status& status) {
      return status.ok() ? status : Status(status.code(), kind.name + ": " + status.message());
    };
    for (const Workload& workload : singles_) {
      if (!wanted(workload.name) || !fits(kind, workload, 0)) continue;
      const Status checked = kind.check(ground_, workload);
      // A device that is too small is no fault of the allocator; its row will say so.
      if (checked.code() == Code::kOutOfMemory && !options_.smoke) continue;
      SPW_RETURN_IF_ERROR(named(checked));
    }
    if (options_.smoke) SPW_RETURN_IF_ERROR(named(kind.check_threads(ground_, shares)));
  }
  return {};
}

void Comparison::print_head() const {
  std::printf("machine   %s\n", machine_text().c_str());
  std::printf("load      %s\n", load_text().c_str());
  std::printf("revision  %.*s\n", static_cast<int>(git_revision().size()), git_revision().data());
  std::printf("driver    %s\n", options_.driver.c_str());
  std::printf(
      "figures   ns per pair of one allocation and one free: CPU time, median of %zu bodies in "
      "turn with the other allocators (fastest .. slowest body), in a process with a second, idle "
      "thread; single calls include the clock's own %.0f ns (p99 %.0f, p99.9 %.0f)\n",
      options_.repetitions,
      ticks_.cost.p50_ns,
      ticks_.cost.p99_ns,
      ticks_.cost.p999_ns);
}

void Comparison::metadata() {
  if (!options_.metadata || !wanted("metadata")) return;
  std::printf("\n== host bytes per live block (growth from 20,000 to 120,000 of them)\n");
  std::printf("%-40s %10s %10s\n", "", "heap", "resident");
  for (const PeerKind& kind : kinds_) {
    const Metadata held = kind.metadata(ground_);
    std::printf("%-40s %10.1f %10.1f\n",
                kind.name.c_str(),
                held.heap_bytes_per_block,
                held.resident_bytes_per_block);
    metadata_.push_back({{"allocator", kind.name},
                         {"heap_bytes_per_block", held.heap_bytes_per_block},
                         {"resident_bytes_per_block", held.resident_bytes_per_block}});
  }
}

void Comparison::single(const Workload& workload) {
  if (!wanted(workload.name)) return;
  std::vector<Row> rows(kinds_.size());
  std::vector<std::unique_ptr<Session>> open(kinds_.size());
  for (std::size_t turn = 0; turn < options_.repetitions; ++turn) {
    for (std::size_t i = 0; i < kinds_.size(); ++i) {
      // Another one begins each time, so that no peer always follows the same one.
      const std::size_t at = (i + turn) % kinds_.size();
      Row& row = rows[at];
      if (!fits(kinds_[at], workload, turn)) continue;
      row.kind = &kinds_[at];
      if (open[at] == nullptr) {
        open[at] = kinds_[at].open(ground_, workload);
        open[at]->warm_up();
      }
      row.ns_per_pair.push_back(open[at]->body_ns_per_pair());
      open[at]->time_calls(&row.allocate_ticks, &row.free_ticks);
      if (!options_.keep_open || kinds_[at].slow || turn + 1 == options_.repetitions) {
        open[at]->finish();
        row.failed += open[at]->failed();
        open[at].reset();
      }
    }
  }
  report(workload.name, workload.input, rows, false);
}

void Comparison::threads(bool foreign) {
  const std::string what = foreign ? ", each frees what others allocated" : "";
  for (const std::size_t count : {std::size_t{1}, options_.thread_count}) {
    if (foreign && count == 1) continue;
    const std::string name =
        fmt::format("{} thread{}, a stream each{}", count, count == 1 ? "" : "s", what);
    if (!wanted(name)) continue;
    const std::vector<Workload> workloads = share_out(count);
    std::vector<Row> rows(kinds_.size());
    for (std::size_t turn = 0; turn < options_.repetitions; ++turn) {
      for (std::size_t i = 0; i < kinds_.size(); ++i) {
        const std::size_t at = (i + turn) % kinds_.size();
        if (kinds_[at].slow && turn != 0) continue;
        rows[at].kind = &kinds_[at];
        const ThreadTimes times = foreign ? kinds_[at].foreign_frees(ground_, workloads)
                                          : kinds_[at].own_blocks(ground_, workloads);
        rows[at].ns_per_pair.push_back(times.ns_per_pair);
        rows[at].cpu_ns_per_pair.push_back(times.cpu_ns_per_pair);
        rows[at].slowest_to_median.push_back(times.slowest_to_median);
        rows[at].failed += times.failed;
      }
    }
    report(name, sizes_from_ + ", 64 live per thread", rows, true);
  }
}

// How many times faster than `yardstick`: the median over turns, each with its own two figures, so
// that what slows the whole machine down for a while divides out.
double ratio_of(const Row& yardstick, const Row& row) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(yardstick.ns_per_pair.size(), row.ns_per_pair.size()); ++i) {
    ratios.push_back(yardstick.ns_per_pair[i] / row.ns_per_pair[i]);
  }
  return spread_of(ratios).median;
}

json json_of(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

json json_of(const Percentiles& times) {
  return {{"p50", times.p50_ns},
          {"p99", times.p99_ns},
          {"p99.9", times.p999_ns},
          {"max", times.max_ns},
          {"count", times.count}};
}

void Comparison::report(const std::string& name,
                        const std::string& input,
                        std::vector<Row>& rows,
                        bool many) {
  const Row* yardstick = nullptr;
  double yardstick_ns = 0;
  for (const Row& row : rows) {
    if (row.kind == nullptr || !row.kind->yardstick || row.failed != 0) continue;
    const double median = spread_of(row.ns_per_pair).median;
    if (yardstick == nullptr || median < yardstick_ns) {
      yardstick = &row;
      yardstick_ns = median;
    }
  }
  std::printf("\n== %s (%s)\n", name.c_str(), input.c_str());
  if (many) {
    std::printf("%-40s %9s %19s %9s %9s %8s\n",
                "",
                "wall ns",
                "(min .. max)",
                "CPU ns",
                "slowest",
                "to CUB");
  } else {
    std::printf("%-40s %9s %19s %8s   %s\n",
                "",
                "ns/pair",
                "(min .. max)",
                "to CUB",
                "allocate p50/p99/p99.9     free p50/p99/p99.9");
  }
  json entry = {{"name", name}, {"input", input}, {"rows", json::array()}};
  for (Row& row : rows) {
    if (row.kind == nullptr) continue;
    const Spread pair = spread_of(row.ns_per_pair);
    json line = {{"allocator", row.kind->name}, {"failed", row.failed}};
    if (row.failed != 0) {
      std::printf(
          "%-40s out of memory: %zu allocations failed\n", row.kind->name.c_str(), row.failed);
      entry["rows"].push_back(line);
      continue;
    }
    const std::string range = fmt::format("({:.1f} .. {:.1f})", pair.min, pair.max);
    const double times = yardstick == nullptr ? 0 : ratio_of(*yardstick, row);
    const std::string ratio = times == 0 ? "-" : fmt::format("{:.2f}x", times);
    line[many ? "wall_ns_per_pair" : "cpu_ns_per_pair"] = json_of(pair);
    if (times != 0) line["cub_ns_over_ns"] = times;
    if (many) {
      const Spread cpu = spread_of(row.cpu_ns_per_pair);
      const Spread slowest = spread_of(row.slowest_to_median);
      std::printf("%-40s %9.1f %19s %9.1f %8.2fx %8s\n",
                  row.kind->name.c_str(),
                  pair.median,
                  range.c_str(),
                  cpu.median,
                  slowest.median,
                  ratio.c_str());
      line["cpu_ns_per_pair"] = json_of(cpu);
      line["slowest_to_median_thread"] = json_of(slowest);
    } else {
      const Percentiles allocate = percentiles(row.allocate_ticks, ticks_.ns_per_tick);
      const Percentiles release = percentiles(row.free_ticks, ticks_.ns_per_tick);
      std::printf("%-40s %9.1f %19s %8s   %6.0f %6.0f %8.0f   %6.0f %6.0f %8.0f\n",
                  row.kind->name.c_str(),
                  pair.median,
                  range.c_str(),
                  ratio.c_str(),
                  allocate.p50_ns,
                  allocate.p99_ns,
                  allocate.p999_ns,
                  release.p50_ns,
                  release.p99_ns,
                  release.p999_ns);
      line["allocate_ns"] = json_of(allocate);
      line["free_ns"] = json_of(release);
    }
    entry["rows"].push_back(std::move(line));
  }
  std::fflush(stdout);
  scenarios_.push_back(std::move(entry));
}

Status Comparison::write_json() const {
  if (options_.json_path.empty()) return {};
  const json all = {{"schema", "spillway-allocator-bench/1"},
                    {"machine", machine_text()},
                    {"load", load_text()},
                    {"revision", std::string(git_revision())},
                    {"driver", options_.driver},
                    {"repetitions", options_.repetitions},
                    {"clock_ns", json_of(ticks_.cost)},
                    {"metadata", metadata_},
                    {"scenarios", scenarios_}};
  std::ofstream file(options_.json_path);
  file << all.dump(1) << '\n';
  file.close();
  if (!file) return {Code::kIo, options_.json_path + ": cannot be written"};
  return {};
}

// One line per call, "a SLOT BYTES STREAM" or "f SLOT"; parts and workloads by name.
Status Comparison::write_workloads() const {
  if (options_.workload_path.empty()) return {};
  std::ofstream file(options_.workload_path);
  for (const Workload& workload : singles_) {
    file << "workload " << workload.slot_count << ' ' << workload.name << '\n';
    const std::pair<const char*, const std::vector<AllocOp>*> parts[] = {
        {"prologue", &workload.prologue},
        {"body", &workload.body},
        {"epilogue", &workload.epilogue}};
    for (const auto& [name, ops] : parts) {
      file << name << '\n';
      for (const AllocOp& op : *ops) {
        if (op.bytes != 0) {
          file << "a " << op.slot << ' ' << op.bytes << ' ' << op.stream << '\n';
        } else {
          file << "f " << op.slot << '\n';
        }
      }
    }
  }
  file.close();
  if (!file) return {Code::kIo, options_.workload_path + ": cannot be written"};
  return {};
}

Status Comparison::run() {
  const IdleThread idle;
  load_steps();
  const std::size_t pairs = options_.smoke ? 2000 : options_.pairs;
  singles_.push_back(back_to_back(sizes_, pairs));
  singles_.push_back(random_replace(sizes_, 700, pairs, 1));
  for (Workload& workload : singles_) workload.input = sizes_from_;
  singles_.push_back(rmm_random(options_.smoke ? 1000 : pairs, 64, 2));
  singles_.push_back(rmm_random(options_.smoke ? 1000 : pairs, 4096, 3));
  for (std::size_t i = singles_.size() - 2; i < singles_.size(); ++i) {
    singles_[i].input = "73 % allocations, at most 16,000 MiB live";
  }
  for (Workload& step : steps_) singles_.push_back(std::move(step));
  ticks_ = measure_ticks();
  SPW_RETURN_IF_ERROR(write_workloads());
  SPW_RETURN_IF_ERROR(check());
  if (options_.smoke) {
    std::printf("%zu allocators, %zu workloads: every block distinct and aligned, nothing left\n",
                kinds_.size(),
                singles_.size() + 1);
    return {};
  }
  print_head();
  metadata();
  for (const Workload& workload : singles_) single(workload);
  threads(false);
  threads(true);
  return write_json();
}

}  // namespace

Result<ComparisonOptions> parse_options(int argc, char** argv, ComparisonOptions options) {
  const auto bad = [&](std::string_view what) {
    return Status(Code::kInvalidArgument,
                  fmt::format("{}\nusage: {} [--json FILE] [--smoke] [--repetitions N] [--pairs N] "
                              "[--threads N] [--filter TEXT] [--data DIR] [--write-workload FILE]",
                              what,
                              argv[0]));
  };
  if (const char* given = std::getenv("SPILLWAY_SHARED_DATA"); given != nullptr) {
    options.data_dir = std::string(given) + "/snapshots";
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--smoke") {
      options.smoke = true;
      continue;
    }
    if (i + 1 == argc) return bad(fmt::format("'{}' is unknown or wants a value", word));
    const std::string_view value = argv[++i];
    const auto number = [&](std::size_t* to, std::size_t most) {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *to);
      return error == std::errc() && end == value.data() + value.size() && *to >= 1 && *to <= most;
    };
    bool good = true;
    if (word == "--json") {
      options.json_path = value;
    } else if (word == "--filter") {
      options.filter = value;
    } else if (word == "--data") {
      options.data_dir = value;
    } else if (word == "--write-workload") {
      options.workload_path = value;
    } else if (word == "--repetitions") {
      good = number(&options.repetitions, 1000);
    } else if (word == "--pairs") {
      good = number(&options.pairs, 10'000'000);
    } else if (word == "--threads") {
      good = number(&options.thread_count, 64);
    } else {
      return bad(fmt::format("unknown option '{}'", word));
    }
    if (!good) return bad(fmt::format("{}: '{}' is no number that is possible here", word, value));
  }
  return options;
}

Status compare_allocators(const Ground& ground,
                          const std::vector<PeerKind>& kinds,
                          const ComparisonOptions& options) {
  return Comparison(ground, kinds, options).run();
}

}  // namespace spillway::bench
