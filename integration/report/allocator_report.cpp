// SPDX-License-Identifier: Apache-2.0
// Fields and rows.
#include "integration/report/allocator_report.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace spillway {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiB = 0x1p30;

double gib(std::uint64_t bytes) { return static_cast<double>(bytes) / kGiB; }

Json null_if_zero(std::uint64_t value) { return value == 0 ? Json(nullptr) : Json(value); }

/// What a pool did to use so little.
std::string effort(const AllocatorRun& run) {
  const auto count = [&run](std::string_view name) {
    for (const AllocatorCounter& counter : run.counters)
      if (counter.name == name) return counter.value;
    return std::uint64_t{0};
  };
  return fmt::format(
      "{}: grew {} times by {} handles, moved {} handles to other addresses, made the host wait {} "
      "times and a stream {} times\n",
      run.allocator,
      count("grow_count"),
      count("handle_create_count"),
      count("remap_count"),
      count("host_wait_count"),
      count("stream_wait_count"));
}

/// Line by line: a table stays one.
std::string clean_lines(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (at != 0) out += '\n';
    out += clean_text(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string row(const AllocationTrace& trace, const AllocatorRun& run) {
  const std::string alloc =
      run.alloc_ns_median ? std::to_string(*run.alloc_ns_median) : std::string("-");
  std::string of_recorded = "-";
  if (trace.recorded_reserved_bytes != 0)
    of_recorded = fmt::format("{:.1f}",
                              100.0 * static_cast<double>(run.reserved_peak_bytes) /
                                  static_cast<double>(trace.recorded_reserved_bytes));
  if (!run.feasible)
    return fmt::format("{:<10} {:>9} {:>9.3f} {:>7} {:>9} {:>9}  out of memory\n",
                       run.allocator,
                       "",
                       gib(run.reserved_peak_bytes),
                       "",
                       of_recorded,
                       alloc);
  return fmt::format("{:<10} {:>9.3f} {:>9.3f} {:>7.2f} {:>9} {:>9}\n",
                     run.allocator,
                     gib(run.live_peak_bytes),
                     gib(run.reserved_peak_bytes),
                     100.0 * run.utilization,
                     of_recorded,
                     alloc);
}

}  // namespace

void add_allocator_fields(const AllocationTrace& trace, const AllocatorRun& run, Json* object) {
  Json& out = *object;
  out["allocator"] = run.allocator;
  out["live_peak_bytes"] = run.feasible ? run.live_peak_bytes : trace.live_peak_bytes;
  out["reserved_peak_bytes"] = run.feasible ? Json(run.reserved_peak_bytes) : Json(nullptr);
  out["utilization"] = run.feasible ? Json(run.utilization) : Json(nullptr);
  out["recorded_reserved_bytes"] = null_if_zero(trace.recorded_reserved_bytes);
  out["alloc_ns_median"] = run.alloc_ns_median ? Json(*run.alloc_ns_median) : Json(nullptr);
  out["allocations"] = run.alloc_count;
  out["frees"] = run.free_count;
  out["streams"] = trace.streams.size();
  Json counters = Json::object();
  for (const AllocatorCounter& counter : run.counters)
    counters[std::string(counter.name)] = counter.value;
  out["counters"] = std::move(counters);
  if (!run.feasible) out["out_of_memory"] = clean_lines(run.out_of_memory);
}

std::string render_allocators(const std::string& trace_name,
                              const AllocationTrace& trace,
                              const std::vector<AllocatorRun>& runs) {
  const auto allocs = std::count_if(
      trace.events.begin(), trace.events.end(), [](const ReplayEvent& e) { return e.is_alloc; });
  std::string out = fmt::format("{}  {}\n", clean_text(trace_name), trace.format);
  out += fmt::format(
      "{} blocks before the first event, {} allocations, {} frees, {} stream{}; live peak {}\n",
      trace.preexisting_count,
      allocs,
      static_cast<std::ptrdiff_t>(trace.events.size()) - allocs,
      trace.streams.size(),
      trace.streams.size() == 1 ? "" : "s",
      format_bytes(trace.live_peak_bytes));
  if (trace.recorded_reserved_bytes != 0)
    out += fmt::format("the recorded allocator held {} ({:.1f} % used at most)\n",
                       format_bytes(trace.recorded_reserved_bytes),
                       100.0 * static_cast<double>(trace.live_peak_bytes) /
                           static_cast<double>(trace.recorded_reserved_bytes));
  if (trace.recorded_expandable_segments)
    out += "it ran with expandable segments, which the pytorch model does not have\n";
  if (!runs.empty() && runs.front().budget_bytes != 0)
    out += fmt::format("budget {}\n", format_bytes(runs.front().budget_bytes));
  out += "\nallocator  live peak  reserved    used  recorded     alloc\n";
  out += "                 GiB       GiB       %     = 100        ns\n";
  for (const AllocatorRun& run : runs) out += row(trace, run);
  const bool timed = std::any_of(
      runs.begin(), runs.end(), [](const AllocatorRun& run) { return run.alloc_ns_median; });
  if (timed)
    out +=
        "\nalloc: median host time of one allocation, this machine's processor, simulated device\n";
  if (timed) out += "\n";
  for (const AllocatorRun& run : runs)
    if (!run.counters.empty()) out += effort(run);
  for (const AllocatorRun& run : runs)
    if (!run.feasible) out += "\n" + run.allocator + ": " + clean_lines(run.out_of_memory) + "\n";
  return out;
}

}  // namespace spillway
