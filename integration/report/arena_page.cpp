// SPDX-License-Identifier: Apache-2.0
// Columns of numbers for the page: differences where they rise, run lengths for the map.
#include "integration/report/arena_page.hpp"

#include "core/version.hpp"
#include "integration/report/allocator_report.hpp"
#include "integration/report/arena_map.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/page_template.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <unordered_map>

namespace spillway {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kScripts = {
    "arena_data.js", "format.js", "timeview.js", "arena.js"};
constexpr std::size_t kNameColumns = 80;

/// "12a3-": so many cells of one kind, row by row. '.' is not held, '-' a hole, a letter a kind.
std::string run_lengths(const std::vector<std::uint8_t>& cells) {
  std::string out;
  for (std::size_t i = 0; i < cells.size();) {
    std::size_t end = i + 1;
    while (end < cells.size() && cells[end] == cells[i]) ++end;
    out += std::to_string(end - i);
    out += cells[i] == ArenaMap::kNotHeld ? '.'
           : cells[i] == ArenaMap::kHole  ? '-'
                                         : static_cast<char>('a' + cells[i] - ArenaMap::kFirstKind);
    i = end;
  }
  return out;
}

class Strings {
 public:
  Strings() { add(""); }
  std::size_t add(std::string_view text) {
    std::string clean = shorten(clean_text(text.substr(0, 4 * kNameColumns)), kNameColumns);
    const auto [place, fresh] = index_.try_emplace(std::move(clean), texts_.size());
    if (fresh) texts_.push_back(place->first);
    return place->second;
  }
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
  std::unordered_map<std::string, std::size_t> index_;
};

class PageBuilder {
 public:
  PageBuilder(const AllocationTrace& trace, const ArenaPageLimits& limits)
      : trace_(trace), limits_(limits) {}

  Json build(const std::string& trace_name,
             const std::string& command,
             const std::vector<AllocatorRun>& runs) {
    Json page;
    page["schema"] = "spillway.arena/1";
    page["trace"] = clean_text(trace_name);
    page["command"] = shorten(clean_text(command), 1000);
    page["version"] = std::string(version_text());
    page["format"] = trace_.format;
    page["axis"] = Json{{"end_ns", trace_.events.size()}};  // the shared axis counts calls here
    page["bands"] = Json{{"phases", phases()}};
    page["before"] = trace_.preexisting_count;
    page["live_peak_bytes"] = trace_.live_peak_bytes;
    page["recorded_reserved_bytes"] = trace_.recorded_reserved_bytes;
    page["budget_bytes"] = runs.empty() ? 0 : runs.front().budget_bytes;
    page["inferred"] = texts(trace_.inferred);
    page["notes"] = texts(trace_.notes);
    Json kinds = Json::array();
    for (std::size_t kind = 0; kind < 8; ++kind)
      kinds.push_back(std::string(name_of(static_cast<BufferKind>(kind))));
    page["kinds"] = std::move(kinds);
    Json list = Json::array();
    for (const AllocatorRun& run : runs) list.push_back(run_json(run));
    page["runs"] = std::move(list);
    page["strings"] = strings_.texts();
    return page;
  }

 private:
  static Json texts(const std::vector<std::string>& lines) {
    Json list = Json::array();
    for (const std::string& line : lines) list.push_back(shorten(clean_text(line), 300));
    return list;
  }

  /// [begin, end, name]: calls of one phase. Too many of them say nothing.
  Json phases() const {
    Json list = Json::array();
    Phase now = Phase::kUnknown;
    std::size_t begin = 0;
    const auto close = [&](std::size_t end) {
      if (now != Phase::kUnknown && end > begin)
        list.push_back(Json::array({begin, end, std::string(name_of(now))}));
    };
    for (std::size_t i = 0; i < trace_.events.size(); ++i) {
      const ReplayEvent& event = trace_.events[i];
      const Phase phase = trace_.blocks[event.block].tag.phase;
      if (!event.is_alloc || phase == now || phase == Phase::kUnknown) continue;
      close(i);
      now = phase;
      begin = i;
    }
    close(trace_.events.size());
    return list.size() > limits_.phase_bands ? Json::array() : list;
  }

  Json run_json(const AllocatorRun& run) {
    Json out;
    add_allocator_fields(trace_, run, &out);
    out["held_peak_bytes"] = run.reserved_peak_bytes;
    out["feasible"] = run.feasible;
    out["done"] = run.events_done;
    Json at = Json::array();
    Json live = Json::array();
    Json held = Json::array();
    Json hole = Json::array();
    for (const FragmentationSample& sample : run.samples) {
      at.push_back(sample.event);
      live.push_back(sample.live_bytes);
      held.push_back(sample.reserved_bytes);
      hole.push_back(sample.largest_hole_bytes);
    }
    out["samples"] = Json{{"at", at}, {"live", live}, {"held", held}, {"hole", hole}};
    const HeldAddresses addresses(run);
    const ArenaMap map = draw_arena(trace_, run, addresses, limits_.map_columns, limits_.map_rows);
    out["map"] = Json{{"columns", map.columns},
                      {"rows", map.rows},
                      {"bytes", addresses.bytes()},
                      {"cells", run_lengths(map.cells)}};
    out["blocks"] = largest_blocks(run, addresses);
    return out;
  }

  /// Columns: place, bytes, born, died, kind, name.
  Json largest_blocks(const AllocatorRun& run, const HeldAddresses& addresses) {
    std::vector<std::uint32_t> order;
    for (std::uint32_t i = 0; i < run.placements.size(); ++i)
      if (run.placements[i].placed) order.push_back(i);
    const auto area = [&](std::uint32_t i) {
      const Placement& placement = run.placements[i];
      return static_cast<double>(trace_.blocks[i].bytes) *
             static_cast<double>(placement.died - placement.born);
    };
    const std::size_t count = std::min(order.size(), limits_.named_blocks);
    std::partial_sort(order.begin(),
                      order.begin() + static_cast<std::ptrdiff_t>(count),
                      order.end(),
                      [&](std::uint32_t a, std::uint32_t b) {
                        return area(a) != area(b) ? area(a) > area(b) : a < b;
                      });
    order.resize(count);
    Json columns;
    for (const char* name : {"place", "bytes", "born", "died", "kind", "name"})
      columns[name] = Json::array();
    for (const std::uint32_t i : order) {
      const Placement& placement = run.placements[i];
      columns["place"].push_back(addresses.place_of(placement.address));
      columns["bytes"].push_back(trace_.blocks[i].bytes);
      columns["born"].push_back(placement.born);
      columns["died"].push_back(placement.died);
      columns["kind"].push_back(static_cast<int>(trace_.blocks[i].shown_kind));
      columns["name"].push_back(strings_.add(trace_.blocks[i].name));
    }
    return columns;
  }

  const AllocationTrace& trace_;
  const ArenaPageLimits& limits_;
  Strings strings_;
};

}  // namespace

nlohmann::ordered_json arena_page_data(const std::string& trace_name,
                                       const std::string& command,
                                       const AllocationTrace& trace,
                                       const std::vector<AllocatorRun>& runs,
                                       const ArenaPageLimits& limits) {
  return PageBuilder(trace, limits).build(trace_name, command, runs);
}

std::string render_arena_page(const std::string& trace_name,
                              const std::string& command,
                              const AllocationTrace& trace,
                              const std::vector<AllocatorRun>& runs) {
  return render_page("arena.html", kScripts, arena_page_data(trace_name, command, trace, runs));
}

}  // namespace spillway
