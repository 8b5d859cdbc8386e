// SPDX-License-Identifier: Apache-2.0
// spillway pack: an offset for every buffer of a table of lifetimes, judged before it is shown.
#include "allocator/packing.hpp"
#include "allocator/packing_check.hpp"
#include "core/clock.hpp"
#include "core/units.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/cli/progress.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/packing_csv.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <limits>
#include <memory>

namespace spillway::cli {
namespace {

struct PackOptions {
  std::string input;
  std::string output;
  std::string capacity;
  std::uint64_t alignment = 0;
  double seconds = 0;
  std::uint64_t seed = 1;
  unsigned threads = 0;
  bool fixed = false;
  bool json = false;
};

struct Outcome {
  PackingFile file;
  Packing packing;
  std::uint64_t capacity_bytes = 0;
  double seconds = 0;
  Status verdict;  // of check_packing
};

double ratio_of(const Packing& packing) {
  if (packing.load_bound_bytes == 0) return 1;
  return static_cast<double>(packing.height_bytes) / static_cast<double>(packing.load_bound_bytes);
}

void print_json(const PackOptions& options, const Outcome& outcome) {
  const Packing& packing = outcome.packing;
  nlohmann::ordered_json out;
  out["schema"] = "spillway.pack/1";
  out["file"] = options.input;
  out["buffers"] = outcome.file.problem.buffers.size();
  out["height"] = packing.height_bytes;
  out["load_bound"] = packing.load_bound_bytes;
  out["lower_bound"] = packing.lower_bound_bytes;
  out["ratio"] = ratio_of(packing);
  out["optimal"] = packing.optimal;
  out["capacity"] = outcome.capacity_bytes == 0 ? nlohmann::ordered_json()
                                                : nlohmann::ordered_json(outcome.capacity_bytes);
  out["fits"] = outcome.capacity_bytes == 0 || packing.height_bytes <= outcome.capacity_bytes;
  out["valid"] = outcome.verdict.ok();
  out["seconds"] = outcome.seconds;
  out["work"] = packing.work;
  out["method"] = packing.method;
  out["seed"] = options.seed;
  out["notes"] = outcome.file.notes;
  fmt::print("{}", dump_json(out));
}

void print_text(const PackOptions& options, const Outcome& outcome) {
  const Packing& packing = outcome.packing;
  fmt::print("{}  {} buffers\n", clean_text(options.input), outcome.file.problem.buffers.size());
  fmt::print("height       {} B ({})\n", packing.height_bytes, format_bytes(packing.height_bytes));
  fmt::print(
      "load bound   {} B ({})\n", packing.load_bound_bytes, format_bytes(packing.load_bound_bytes));
  fmt::print(
      "ratio        {:.5f}, {}\n",
      ratio_of(packing),
      packing.optimal ? "optimal" : fmt::format("none is below {} B", packing.lower_bound_bytes));
  if (outcome.capacity_bytes != 0)
    fmt::print("capacity     {} B, {}\n",
               outcome.capacity_bytes,
               packing.height_bytes <= outcome.capacity_bytes ? "fits" : "does not fit");
  fmt::print("found by     {}\n", packing.method);
  fmt::print("valid        {}\n", outcome.verdict.ok() ? "yes" : "no");
  fmt::print("seconds      {:.3f}\n", outcome.seconds);
  for (const std::string& note : outcome.file.notes) fmt::print("note: {}\n", clean_text(note));
}

Status run(const PackOptions& options) {
  const SystemClock clock;
  const std::int64_t begin_ns = clock.now_ns();
  Outcome outcome;
  std::string output;
  if (!options.output.empty()) {
    SPW_ASSIGN_OR_RETURN(output, expand_output_name(options.output));
  }
  PackingOptions how;
  how.seed = options.seed;
  how.thread_count = options.threads;
  if (!options.capacity.empty()) {
    SPW_ASSIGN_OR_RETURN(outcome.capacity_bytes, parse_bytes(options.capacity));
    if (outcome.capacity_bytes == 0)
      return {Code::kInvalidArgument, "--capacity: expected bytes above 0"};
    how.capacity_bytes = outcome.capacity_bytes;
  }
  if (options.seconds > 0) {
    // The clock decides instead of the count.
    const std::int64_t end_ns = begin_ns + static_cast<std::int64_t>(options.seconds * 1e9);
    how.work_limit = std::numeric_limits<std::uint64_t>::max();
    how.stop = [&clock, end_ns] { return clock.now_ns() >= end_ns; };
  }

  SPW_ASSIGN_OR_RETURN(const auto source, open_file_source(options.input));
  BufferedInput input(*source);
  SPW_ASSIGN_OR_RETURN(outcome.file, read_packing_csv(input));
  std::vector<PackBuffer>& buffers = outcome.file.problem.buffers;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (options.alignment != 0) buffers[i].alignment = options.alignment;
    if (options.fixed && i < outcome.file.offsets.size())
      buffers[i].fixed_offset = outcome.file.offsets[i];
  }

  Progress progress;
  progress.show("packing " + options.input);
  const Result<Packing> packed = pack(outcome.file.problem, how);
  progress.clear();
  if (!packed.ok()) {
    // The numbers are the file's.
    return {Code::kBadInput, clean_text(options.input) + ": " + packed.status().message()};
  }
  outcome.packing = packed.value();
  outcome.verdict = check_packing(outcome.file.problem, outcome.packing);
  if (outcome.verdict.ok() && !output.empty()) {
    SPW_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(output));
    SPW_RETURN_IF_ERROR(write_packing_csv(outcome.file, outcome.packing.offsets, file));
    SPW_RETURN_IF_ERROR(file.commit());
  }
  outcome.seconds = static_cast<double>(clock.now_ns() - begin_ns) / 1e9;
  options.json ? print_json(options, outcome) : print_text(options, outcome);
  SPW_RETURN_IF_ERROR(outcome.verdict);
  const Packing& packing = outcome.packing;
  if (outcome.capacity_bytes == 0 || packing.height_bytes <= outcome.capacity_bytes) return {};
  if (packing.lower_bound_bytes > outcome.capacity_bytes)
    return {Code::kInfeasible,
            fmt::format("{}: no packing is below {} bytes, the capacity is {}",
                        clean_text(options.input),
                        packing.lower_bound_bytes,
                        outcome.capacity_bytes)};
  return {Code::kGaveUp,
          fmt::format("{}: no packing within {} bytes was found, the best has {}",
                      clean_text(options.input),
                      outcome.capacity_bytes,
                      packing.height_bytes)};
}

}  // namespace

void add_pack(::CLI::App& app, Session& session) {
  auto options = std::make_shared<PackOptions>();
  ::CLI::App* command =
      app.add_subcommand("pack", "places buffers of known lifetimes as low as possible");
  command
      ->add_option("file",
                   options->input,
                   "table with id,lower,upper,size[,alignment,hint,offset], also .gz")
      ->required()
      ->type_name("FILE.csv");
  command->add_flag("--json", options->json, "one JSON object on standard output");
  command->add_option("-o,--output", options->output, "table with the offsets to write")
      ->type_name("OUT.csv");
  command
      ->add_option("--capacity",
                   options->capacity,
                   "bytes there are: ends at the first packing that fits; exit code 3 without one")
      ->type_name("BYTES");
  command->add_option("--alignment", options->alignment, "of every offset, instead of the table's")
      ->check(::CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
  command->add_flag("--fixed", options->fixed, "the table's offsets are laws, not hints");
  command
      ->add_option("--seconds",
                   options->seconds,
                   "search for at most so long; without it a count of work decides, which repeats")
      ->check(::CLI::Range(0.001, 1e6));
  command->add_option("--seed", options->seed, "of the search (default 1)");
  command
      ->add_option("--threads", options->threads, "default: one per core; the result is the same")
      ->check(::CLI::Range(1, 256));
  command->callback([options, &session] { session.report(run(*options)); });
}

}  // namespace spillway::cli
