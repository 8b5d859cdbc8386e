// SPDX-License-Identifier: Apache-2.0
// Assembles the page's JSON from the series, lanes and tensor lives.
#include "integration/report/page_data.hpp"

#include "core/version.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"
#include "integration/report/report_lanes.hpp"
#include "integration/report/report_series.hpp"
#include "integration/report/report_tensors.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>

namespace spillway {
namespace {

using Json = nlohmann::ordered_json;

/// Texts of the page, each once; cells hold indices.
class PageStrings {
 public:
  explicit PageStrings(const PageLimits& limits) : limits_(limits) { add(""); }

  std::size_t add(std::string_view text) {
    const std::size_t columns = bytes_ > limits_.text_bytes ? 40 : limits_.text_columns;
    // The cut comes before the cleaning: hostile names may be megabytes long, and a code point has
    // at most four bytes.
    std::string clean = shorten(clean_text(text.substr(0, 4 * columns)), columns);
    const auto found = index_.find(clean);
    if (found != index_.end()) return found->second;
    const std::size_t id = texts_.size();
    bytes_ += clean.size();
    texts_.push_back(clean);
    index_.emplace(std::move(clean), id);
    return id;
  }

  const std::vector<std::string>& texts() const { return texts_; }

 private:
  const PageLimits& limits_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, std::size_t> index_;
  std::size_t bytes_ = 0;
};

/// Differences to the value before; exact for what the page can hold (below 2^53).
class DeltaColumn {
 public:
  void add(std::uint64_t value) { add(static_cast<std::int64_t>(value)); }
  void add(std::int64_t value) {
    any_ = any_ || value != 0;
    values_.push_back(value - last_);
    last_ = value;
  }
  bool any() const { return any_; }
  Json json() const { return values_; }

 private:
  std::vector<std::int64_t> values_;
  std::int64_t last_ = 0;
  bool any_ = false;
};

class PageBuilder {
 public:
  PageBuilder(const RunContext& context, const PolicyResult& chosen, const PageLimits& limits)
      : context_(context),
        profile_(*context.profile),
        chosen_(chosen),
        limits_(limits),
        strings_(limits),
        axis_(step_axis(profile_, chosen.sim)),
        changes_(place_changes(profile_, chosen.sim, axis_)),
        lives_(tensor_lives(profile_, axis_, changes_)) {}

  Json build(const std::vector<PolicyResult>& all_policies,
             const std::vector<TradeOffPoint>& curve) {
    const MemorySeries series =
        memory_series(profile_, chosen_.sim, axis_, changes_, limits_.memory_points);
    Json page;
    page["schema"] = "spillway.report/1";
    page["meta"] = meta();
    page["result"] = result_json(context_, chosen_, "spillway.replay/1");
    page["extra"] = extra();
    page["axis"] = Json{{"end_ns", axis_.end_ns}, {"plan", axis_.from_timeline}};
    page["bands"] = band_lists();
    page["memory"] = memory(series);
    page["peak"] = peak(series.peak);
    page["tensors"] = tensors();
    page["lanes"] = lanes();
    page["stalls"] = stalls();
    page["heat"] = heat();
    page["tradeoff"] = tradeoff(all_policies, curve);
    page["strings"] = strings_.texts();
    return page;
  }

 private:
  std::string op_name(std::uint32_t op) const {
    if (op >= profile_.ops.size()) return {};
    const Op& it = profile_.ops[op];
    if (const std::string_view name = profile_.text(it.name); !name.empty())
      return std::string(name);
    // An op made up from an allocation goes by what it allocates.
    for (const Use use : profile_.uses_of(it)) {
      const std::string_view made =
          profile_.text(profile_.storages[profile_.storage_of(use).index()].name);
      if (use.creates() && !made.empty()) return std::string(made);
    }
    return (it.tag.kind == OpKind::kUnknown ? "op " : std::string(name_of(it.tag.kind)) + " op ") +
           std::to_string(op);
  }

  std::string storage_name(std::size_t s) const {
    if (s >= profile_.storages.size()) return {};
    const std::string_view name = profile_.text(profile_.storages[s].name);
    return name.empty() ? "tensor " + std::to_string(s) : std::string(name);
  }

  static Json layer_json(std::uint16_t layer) { return layer == kNoLayer ? Json(-1) : Json(layer); }

  Json lines(const std::vector<std::string>& all) const {
    constexpr std::size_t kMost = 100;
    Json list = Json::array();
    for (std::size_t i = 0; i < all.size() && i < kMost; ++i)
      list.push_back(shorten(clean_text(std::string_view(all[i]).substr(0, 2000)), 500));
    if (all.size() > kMost) list.push_back("and " + std::to_string(all.size() - kMost) + " more");
    return list;
  }

  Json meta() const {
    return Json{{"model", shorten(clean_text(profile_.model), 200)},
                {"source_format", clean_text(profile_.source_format)},
                {"step_number", profile_.step_number},
                {"step_count", profile_.step_count},
                {"ops", profile_.ops.size()},
                {"device_bytes", context_.device->memory_bytes},
                {"warning", clean_text(context_.warning)},
                {"notes", lines(profile_.notes)},
                {"command", shorten(clean_text(context_.command), 1000)},
                {"version", std::string(version_text())},
                {"revision", std::string(git_revision())}};
  }

  Json extra() const {
    const SimResult& sim = chosen_.sim;
    return Json{{"persistent_bytes", context_.summary->persistent_bytes},
                {"compute_ns", sim.compute_ns},
                {"recompute_ns", sim.recompute_ns},
                {"codec_ns", sim.codec_ns},
                {"pinned_peak_bytes", sim.pinned_peak_bytes},
                {"offload_bytes", sim.offload_bytes},
                {"prefetch_bytes", sim.prefetch_bytes},
                {"offload_busy_ns", sim.offload_busy_ns},
                {"prefetch_busy_ns", sim.prefetch_busy_ns}};
  }

  Json band_lists() const {
    const auto list = [](const std::vector<Band>& all) {
      Json out = Json::array();
      for (const Band& band : all)
        out.push_back(
            {band.begin_ns, band.end_ns, std::string(name_of(band.phase)), layer_json(band.layer)});
      return out;
    };
    return Json{{"phases", list(phase_bands(profile_, axis_, 300))},
                {"layers", list(layer_bands(profile_, axis_, 1200))}};
  }

  Json memory(const MemorySeries& series) const {
    DeltaColumn at;
    DeltaColumn host;
    std::array<DeltaColumn, kBufferKindCount> kinds;
    std::array<DeltaColumn, kPlaceCount> places;
    for (const MemorySample& sample : series.samples) {
      at.add(sample.at_ns);
      host.add(sample.host_bytes);
      for (std::size_t i = 0; i < kinds.size(); ++i) kinds[i].add(sample.by_kind[i]);
      for (std::size_t i = 0; i < places.size(); ++i) places[i].add(sample.by_place[i]);
    }
    Json out{{"t", at.json()},
             {"reduced", series.reduced},
             {"kinds", Json::array()},
             {"places", Json::array()}};
    for (std::size_t i = 0; i < kinds.size(); ++i)
      if (kinds[i].any())
        out["kinds"].push_back(
            {{"name", std::string(name_of(static_cast<BufferKind>(i)))}, {"d", kinds[i].json()}});
    for (std::size_t i = 0; i < places.size(); ++i)
      if (places[i].any())
        out["places"].push_back(
            {{"name", std::string(name_of(static_cast<Place>(i)))}, {"d", places[i].json()}});
    if (host.any()) out["host"] = host.json();
    DeltaColumn keep_at;
    DeltaColumn keep_bytes;
    for (const BytesPoint& point : keep_all_series(profile_, axis_, limits_.keep_all_points)) {
      keep_at.add(point.at_ns);
      keep_bytes.add(point.bytes);
    }
    out["keep_all"] = Json{{"t", keep_at.json()}, {"d", keep_bytes.json()}};
    return out;
  }

  /// [[label, bytes], ...], largest first, at most `count`; the rest as one entry.
  static Json ranked(const std::map<std::string, std::uint64_t>& bytes_of, std::size_t count) {
    std::vector<std::pair<std::string, std::uint64_t>> all(bytes_of.begin(), bytes_of.end());
    std::stable_sort(
        all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    Json out = Json::array();
    std::uint64_t rest = 0;
    std::size_t rest_count = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].second == 0) continue;
      if (out.size() < count) {
        out.push_back({shorten(clean_text(std::string_view(all[i].first).substr(0, 800)), 200),
                       all[i].second});
      } else {
        rest += all[i].second;
        ++rest_count;
      }
    }
    if (rest_count > 0) out.push_back({std::to_string(rest_count) + " more", rest, true});
    return out;
  }

  Json peak(const PeakInstant& instant) {
    std::map<std::string, std::uint64_t> kinds;
    std::map<std::string, std::uint64_t> layers;
    std::map<std::string, std::uint64_t> sources;
    std::vector<std::uint32_t> held;
    std::unordered_map<std::uint32_t, std::string> line_of_stack;
    const bool stacks =
        std::any_of(profile_.storages.begin(), profile_.storages.end(), [](const Storage& storage) {
          return storage.stack.valid() && storage.stack.value != 0;
        });
    for (std::uint32_t s = 0; s < instant.storage_bytes.size(); ++s) {
      const std::uint64_t bytes = instant.storage_bytes[s];
      if (bytes == 0) continue;
      const Storage& storage = profile_.storages[s];
      held.push_back(s);
      kinds[std::string(name_of(storage.tag.kind))] += bytes;
      layers[storage.tag.layer == kNoLayer ? "no layer"
                                           : "layer " + std::to_string(storage.tag.layer)] += bytes;
      const auto [entry, fresh] = line_of_stack.try_emplace(storage.stack.value);
      if (fresh) entry->second = std::string(source_line(profile_, storage.stack));
      // Without a stack the op that made it says the most.
      const std::string maker =
          storage.created_by.valid() ? op_name(storage.created_by.value) : "alive before the step";
      sources[entry->second.empty() ? maker : entry->second] += bytes;
    }
    if (instant.workspace_bytes > 0) {
      kinds["workspace"] += instant.workspace_bytes;
      layers["workspace of the running op"] += instant.workspace_bytes;
      sources["workspace of the running op"] += instant.workspace_bytes;
    }
    // The simulator also charges what no storage holds for long: codec payloads beside their
    // source, recompute scratch.
    const std::uint64_t scratch = chosen_.sim.timeline && chosen_.sim.peak_bytes > instant.bytes
                                      ? chosen_.sim.peak_bytes - instant.bytes
                                      : 0;
    if (scratch > 0)
      for (auto* map : {&kinds, &layers, &sources})
        (*map)["codec and recompute scratch"] += scratch;

    constexpr std::size_t kLargest = 10;
    const std::size_t shown = std::min(held.size(), kLargest);
    std::partial_sort(held.begin(),
                      held.begin() + static_cast<std::ptrdiff_t>(shown),
                      held.end(),
                      [&](std::uint32_t a, std::uint32_t b) {
                        const std::uint64_t x = instant.storage_bytes[a];
                        const std::uint64_t y = instant.storage_bytes[b];
                        return x != y ? x > y : a < b;
                      });
    Json largest = Json::array();
    for (std::size_t i = 0; i < shown; ++i)
      largest.push_back(
          {shorten(clean_text(std::string_view(storage_name(held[i])).substr(0, 800)), 200),
           instant.storage_bytes[held[i]],
           std::string(name_of(profile_.storages[held[i]].tag.kind))});

    std::uint32_t op = 0;
    while (op + 1 < profile_.ops.size() && axis_.op_begin_ns[op + 1] <= instant.at_ns) ++op;
    if (chosen_.sim.timeline) op = chosen_.sim.peak_op;
    return Json{{"at_ns", instant.at_ns},
                {"bytes", instant.bytes + scratch},
                {"op", strings_.add(op_name(op))},
                {"count", held.size()},
                {"stacks", stacks},
                {"kinds", ranked(kinds, 12)},
                {"layers", ranked(layers, 8)},
                {"lines", ranked(sources, 10)},
                {"largest", std::move(largest)}};
  }

  Json tensors() {
    std::vector<std::uint32_t> rows(profile_.storages.size());
    std::iota(rows.begin(), rows.end(), 0u);
    std::uint64_t rest_bytes = 0;
    if (rows.size() > limits_.tensor_rows) {
      const auto cut = rows.begin() + static_cast<std::ptrdiff_t>(limits_.tensor_rows);
      std::nth_element(rows.begin(), cut, rows.end(), [this](std::uint32_t a, std::uint32_t b) {
        const std::uint64_t x = profile_.storages[a].bytes;
        const std::uint64_t y = profile_.storages[b].bytes;
        return x != y ? x > y : a < b;
      });
      for (auto it = cut; it != rows.end(); ++it) rest_bytes += profile_.storages[*it].bytes;
      rows.erase(cut, rows.end());
      std::sort(rows.begin(), rows.end());
    }

    // Times in ticks: about seven digits whatever the length of the step.
    const std::int64_t tick_ns = std::max<std::int64_t>(1, axis_.end_ns >> 22);
    const auto ticks = [tick_ns](std::int64_t ns) {
      return ns < 0 ? std::int64_t{-1} : ns / tick_ns;
    };
    std::vector<std::uint32_t> ids;
    std::vector<std::size_t> names;
    std::vector<int> kinds;
    std::vector<int> layers;
    std::vector<int> dtypes;
    std::vector<std::uint64_t> bytes;
    std::vector<int> actions;
    std::vector<int> codecs;
    std::vector<std::int64_t> made;
    std::vector<std::int64_t> freed;
    std::vector<std::int64_t> first;
    std::vector<std::int64_t> last;
    std::vector<std::int64_t> evicted;
    std::vector<std::int64_t> back;
    std::vector<std::int64_t> host;
    std::vector<std::size_t> lines_at;
    std::vector<std::size_t> stacks;
    for (const std::uint32_t s : rows) {
      const Storage& storage = profile_.storages[s];
      const TensorLife& life = lives_[s];
      const Decision decision =
          s < chosen_.plan.decisions.size() ? chosen_.plan.decisions[s] : Decision{};
      const std::size_t stack = stack_index(storage.stack);
      ids.push_back(s);
      names.push_back(strings_.add(storage_name(s)));
      kinds.push_back(static_cast<int>(storage.tag.kind));
      layers.push_back(storage.tag.layer == kNoLayer ? -1 : static_cast<int>(storage.tag.layer));
      dtypes.push_back(static_cast<int>(storage.tag.dtype));
      bytes.push_back(storage.bytes);
      actions.push_back(static_cast<int>(decision.action));
      codecs.push_back(static_cast<int>(decision.codec));
      made.push_back(
          storage.created_by.valid() ? ticks(axis_.op_begin_ns[storage.created_by.index()]) : -1);
      freed.push_back(
          storage.freed_after.valid() ? ticks(axis_.op_end_ns[storage.freed_after.index()]) : -1);
      first.push_back(ticks(life.first_use_ns));
      last.push_back(ticks(life.last_use_ns));
      evicted.push_back(ticks(life.evicted_ns));
      back.push_back(ticks(life.back_ns));
      host.push_back(ticks(life.on_host_ns));
      lines_at.push_back(stack_lines_[stack]);
      stacks.push_back(stack);
    }
    const auto names_of = [](int count, auto name) {
      Json list = Json::array();
      for (int i = 0; i < count; ++i) list.push_back(name(i));
      return list;
    };
    Json out{{"total", profile_.storages.size()}, {"rest_bytes", rest_bytes}, {"tick_ns", tick_ns}};
    out["kind_names"] = names_of(
        kBufferKindCount, [](int i) { return std::string(name_of(static_cast<BufferKind>(i))); });
    out["dtype_names"] =
        names_of(11, [](int i) { return std::string(name_of(static_cast<Dtype>(i))); });
    out["action_names"] =
        names_of(kActionCount, [](int i) { return std::string(name_of(static_cast<Action>(i))); });
    out["codec_names"] =
        names_of(kCodecCount, [](int i) { return std::string(name_of(static_cast<Codec>(i))); });
    out["id"] = ids;
    out["name"] = names;
    out["kind"] = kinds;
    out["layer"] = layers;
    out["dtype"] = dtypes;
    out["bytes"] = bytes;
    out["action"] = actions;
    out["codec"] = codecs;
    out["made"] = made;
    out["freed"] = freed;
    out["first"] = first;
    out["last"] = last;
    out["evicted"] = evicted;
    out["back"] = back;
    out["host"] = host;
    out["line"] = lines_at;
    out["stack"] = stacks;
    out["stacks"] = stack_lists_;
    return out;
  }

  /// Index into the page's list of stacks; equal stacks are listed once.
  std::size_t stack_index(StackId stack) {
    const auto [entry, fresh] = stack_of_.try_emplace(stack.value, stack_lists_.size());
    if (!fresh) return entry->second;
    Json list = Json::array();
    for (const StringId frame : stack_frames(profile_, stack, limits_.stack_frames))
      list.push_back(strings_.add(profile_.text(frame)));
    stack_lists_.push_back(std::move(list));
    stack_lines_.push_back(strings_.add(source_line(profile_, stack)));
    return entry->second;
  }

  Json lane(Lane which) {
    std::vector<std::int64_t> gaps;  // from the end of the slice before
    std::vector<std::int64_t> lengths;
    std::vector<int> looks;
    std::vector<std::size_t> names;
    std::vector<int> layers;
    std::vector<std::uint32_t> merged;
    bool any_merged = false;
    std::int64_t last = 0;
    for (const DrawnSlice& slice :
         drawn_slices(profile_, chosen_.sim, axis_, which, limits_.lane_slices)) {
      const bool op =
          slice.kind == InstructionKind::kCompute || slice.kind == InstructionKind::kRecompute;
      gaps.push_back(slice.begin_ns - last);
      lengths.push_back(slice.end_ns - slice.begin_ns);
      last = slice.end_ns;
      looks.push_back(static_cast<int>(slice.look));
      names.push_back(strings_.add(op ? op_name(slice.target) : storage_name(slice.target)));
      const std::uint16_t layer = op && slice.target < profile_.ops.size()
                                      ? profile_.ops[slice.target].tag.layer
                                  : !op && slice.target < profile_.storages.size()
                                      ? profile_.storages[slice.target].tag.layer
                                      : kNoLayer;
      layers.push_back(layer == kNoLayer ? -1 : static_cast<int>(layer));
      merged.push_back(slice.merged);
      any_merged = any_merged || slice.merged > 1;
    }
    Json out{{"gap", gaps}, {"len", lengths}, {"look", looks}, {"name", names}, {"layer", layers}};
    if (any_merged) out["merged"] = merged;
    return out;
  }

  Json lanes() {
    return Json{{"looks",
                 {"forward",
                  "backward",
                  "optimizer",
                  "other",
                  "recompute",
                  "codec",
                  "offload",
                  "prefetch"}},
                {"compute", lane(Lane::kCompute)},
                {"offload", lane(Lane::kOffloadCopy)},
                {"prefetch", lane(Lane::kPrefetchCopy)}};
  }

  Json stalls() {
    Json causes = Json::array();
    for (int i = 0; i < kStallCauseCount; ++i)
      causes.push_back(std::string(name_of(static_cast<StallCause>(i))));
    Json strip = Json::array();
    for (const DrawnStall& stall : drawn_stalls(chosen_.sim, axis_.end_ns, 2000))
      strip.push_back({stall.begin_ns, stall.end_ns, static_cast<int>(stall.cause)});
    std::vector<Stall> longest;
    if (chosen_.sim.timeline) longest = chosen_.sim.timeline->stalls;
    const std::size_t count = longest.size();
    const std::size_t shown = std::min(count, limits_.stall_rows);
    std::partial_sort(longest.begin(),
                      longest.begin() + static_cast<std::ptrdiff_t>(shown),
                      longest.end(),
                      [](const Stall& a, const Stall& b) {
                        return a.ns != b.ns ? a.ns > b.ns : a.begin_ns < b.begin_ns;
                      });
    Json list = Json::array();
    for (std::size_t i = 0; i < shown; ++i) {
      const Stall& stall = longest[i];
      list.push_back(
          {stall.begin_ns,
           stall.ns,
           static_cast<int>(stall.cause),
           strings_.add(storage_name(stall.storage)),
           strings_.add(op_name(stall.op)),
           stall.storage < profile_.storages.size() ? profile_.storages[stall.storage].bytes : 0});
    }
    return Json{{"causes", std::move(causes)},
                {"count", count},
                {"strip", std::move(strip)},
                {"list", std::move(list)}};
  }

  Json heat() const {
    const HeatMap map =
        heat_map(profile_, axis_, changes_, chosen_.plan, limits_.heat_rows, limits_.heat_columns);
    Json rows = Json::array();
    for (const HeatMap::Row& row : map.rows) {
      std::string label = "no layer";
      if (row.first_layer != kNoLayer)
        label = row.first_layer == row.last_layer
                    ? std::to_string(row.first_layer)
                    : std::to_string(row.first_layer) + "\u2013" + std::to_string(row.last_layer);
      DeltaColumn cells;
      for (const std::uint64_t bytes : row.mean_bytes) cells.add((bytes + 512) / 1024);  // KiB
      rows.push_back({{"label", label}, {"kib", cells.json()}, {"actions", row.by_action}});
    }
    return Json{{"columns", map.columns}, {"rows", std::move(rows)}};
  }

  Json tradeoff(const std::vector<PolicyResult>& all,
                const std::vector<TradeOffPoint>& curve) const {
    Json policies = Json::array();
    for (const PolicyResult& result : all) {
      Json row{{"policy", shorten(clean_text(result.policy), 60)},
               {"feasible", result.feasible},
               {"gave_up", result.gave_up},
               {"min_budget_bytes", result.min_budget_bytes}};
      if (result.feasible) {
        row["peak_bytes"] = result.sim.peak_bytes;
        row["step_ns"] = result.sim.step_ns;
      } else {
        row["at"] = shorten(clean_text(result.infeasible_at), 200);
      }
      policies.push_back(std::move(row));
    }
    Json points = Json::array();
    for (const TradeOffPoint& point : curve)
      points.push_back({shorten(clean_text(point.policy), 60),
                        point.budget_bytes,
                        point.peak_bytes,
                        point.step_ns});
    return Json{{"policies", std::move(policies)}, {"curve", std::move(points)}};
  }

  const RunContext& context_;
  const Profile& profile_;
  const PolicyResult& chosen_;
  const PageLimits& limits_;
  PageStrings strings_;
  StepAxis axis_;
  std::vector<PlaceChange> changes_;
  std::vector<TensorLife> lives_;
  std::unordered_map<std::uint32_t, std::size_t> stack_of_;
  std::vector<std::size_t> stack_lines_;
  Json stack_lists_ = Json::array();
};

}  // namespace

nlohmann::ordered_json page_data(const RunContext& context,
                                 const PolicyResult& chosen,
                                 const std::vector<PolicyResult>& all_policies,
                                 const std::vector<TradeOffPoint>& curve,
                                 const PageLimits& limits) {
  return PageBuilder(context, chosen, limits).build(all_policies, curve);
}

}  // namespace spillway
