// SPDX-License-Identifier: Apache-2.0
// Reads the trace twice: once as a step (for the facts that every replay prints), once as calls.
#include "integration/cli/allocator_replay.hpp"

#include "integration/cli/output_name.hpp"
#include "integration/replay/allocator_run.hpp"
#include "integration/replay/allocators.hpp"
#include "integration/replay/run_snapshot.hpp"
#include "integration/report/allocator_report.hpp"
#include "integration/report/arena_page.hpp"
#include "integration/report/json.hpp"
#include "integration/trace/atomic_file.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace spillway::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint32_t kSamples = 1200;  // about one per pixel of a wide page

Result<AllocatorRun> run_one(std::string_view name,
                             const AllocationTrace& trace,
                             std::uint64_t budget_bytes,
                             bool pictures,
                             bool beside_others) {
  AllocatorRunOptions run_options;
  run_options.pictures = pictures;
  run_options.sample_count = pictures ? kSamples : 0;
  run_options.budget_bytes = budget_bytes;
  const auto allocator = make_allocator(name, trace, budget_bytes);
  if (allocator.ok()) return run_allocator(trace, *allocator.value(), run_options);
  // Beside others, one that cannot run this trace is a row that says so.
  if (!beside_others || allocator.status().code() != Code::kUnsupported) return allocator.status();
  AllocatorRun refused;
  refused.allocator = std::string(name);
  refused.budget_bytes = budget_bytes;
  refused.out_of_memory = allocator.status().message();
  return refused;
}

Status write_snapshot_file(const std::string& pattern,
                           const AllocationTrace& trace,
                           const AllocatorRun& run) {
  SPW_ASSIGN_OR_RETURN(const std::string path, expand_output_name(pattern));
  SPW_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  SPW_RETURN_IF_ERROR(write_snapshot(snapshot_of(trace, run), file));
  return file.commit();
}

/// The object of a keep-all replay with the allocator's fields.
Result<Json> object_of(const Study& study, const AllocationTrace& trace, const AllocatorRun& run) {
  SPW_ASSIGN_OR_RETURN(PolicyResult result, study.evaluate("keep-all", 0, false));
  result.budget_bytes = run.budget_bytes;
  if (!run.feasible) {
    // The smallest budget that is known to do: what the same allocator takes without one.
    SPW_ASSIGN_OR_RETURN(const AllocatorRun free_run,
                         run_one(run.allocator, trace, 0, false, true));
    result.feasible = false;
    result.min_budget_bytes = free_run.reserved_peak_bytes;
    result.infeasible_at = run.out_of_memory.substr(0, run.out_of_memory.find('\n'));
  } else {
    result.min_budget_bytes = run.reserved_peak_bytes;
  }
  Json object = result_json(study.context(), result, "spillway.replay/1");
  add_allocator_fields(trace, run, &object);
  return object;
}

}  // namespace

Status replay_allocator(const AllocatorReplayOptions& options,
                        const StudyOptions& study_options,
                        Session& session) {
  Progress progress;
  std::vector<std::string_view> names = {options.allocator};
  if (options.allocator == "all") names = allocator_names();
  if (names.size() != 1 && !options.snapshot.empty())
    return {Code::kInvalidArgument, "--snapshot: expected one allocator, found --allocator all"};
  // Words first: a wrong name should not cost the reading of a large file.
  for (const std::string_view name : names)
    SPW_RETURN_IF_ERROR(make_allocator(name, AllocationTrace(), 0).status());
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(study_options, session.command_line, progress));
  progress.show("reading the allocations");
  SPW_ASSIGN_OR_RETURN(const AllocationTrace trace,
                       read_allocation_trace(study_options.trace, study_options.device));
  const bool pictures = !options.snapshot.empty() || !options.html.empty();
  std::vector<AllocatorRun> runs;
  for (const std::string_view name : names) {
    progress.show("replaying: " + std::string(name));
    SPW_ASSIGN_OR_RETURN(AllocatorRun run,
                         run_one(name, trace, study->budget_bytes(), pictures, names.size() > 1));
    runs.push_back(std::move(run));
  }
  if (!options.snapshot.empty())
    SPW_RETURN_IF_ERROR(write_snapshot_file(options.snapshot, trace, runs.front()));
  if (!options.html.empty()) {
    SPW_ASSIGN_OR_RETURN(const std::string path, expand_output_name(options.html));
    SPW_RETURN_IF_ERROR(write_file(
        path, render_arena_page(study_options.trace, session.command_line, trace, runs)));
  }
  progress.clear();
  if (!options.json) {
    fmt::print("{}", render_allocators(study_options.trace, trace, runs));
  } else if (options.allocator != "all") {
    SPW_ASSIGN_OR_RETURN(const Json object, object_of(*study, trace, runs.front()));
    fmt::print("{}", dump_json(object));
  } else {
    Json rows = Json::array();
    for (const AllocatorRun& run : runs) {
      SPW_ASSIGN_OR_RETURN(Json object, object_of(*study, trace, run));
      rows.push_back(std::move(object));
    }
    Json object;
    object["schema"] = "spillway.allocators/1";
    object["trace"] = rows.front()["trace"];
    object["budget_bytes"] = rows.front()["budget_bytes"];
    object["rows"] = std::move(rows);
    fmt::print("{}", dump_json(object));
  }
  const bool any =
      std::any_of(runs.begin(), runs.end(), [](const AllocatorRun& run) { return run.feasible; });
  if (!any) session.exit_code = kNoPlan;
  return {};
}

}  // namespace spillway::cli
