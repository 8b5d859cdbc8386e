// SPDX-License-Identifier: Apache-2.0
// Every byte column of a table shares one unit and every time column another, so that rows compare
// at a glance.
#include "integration/report/text.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace spillway {
namespace {

constexpr std::size_t kWidth = 100;

enum class Tone { kPlain, kBold, kDim, kGood, kBad };

std::string paint(const std::string& text, Tone tone, bool color) {
  if (!color || tone == Tone::kPlain) return text;
  const char* code = tone == Tone::kBold   ? "1"
                     : tone == Tone::kDim  ? "2"
                     : tone == Tone::kGood ? "32"
                                           : "31";
  return "\x1b[" + std::string(code) + "m" + text + "\x1b[0m";
}

std::string number(double value, int digits) {
  std::array<char, 48> buffer{};
  const bool wide =
      std::fabs(value) >= 1e6;  // hostile inputs only; a column holds eight characters
  std::snprintf(buffer.data(), buffer.size(), wide ? "%.*e" : "%.*f", wide ? 1 : digits, value);
  // "-0.0" would claim a direction that rounding has removed.
  if (buffer[0] == '-' &&
      std::string_view(buffer.data()).find_first_not_of("-0.") == std::string_view::npos)
    return buffer.data() + 1;
  return buffer.data();
}

struct Unit {
  const char* name;
  double factor;
};

constexpr std::array<Unit, 7> kByteUnits = {{{"B", 1},
                                             {"KiB", 0x1p10},
                                             {"MiB", 0x1p20},
                                             {"GiB", 0x1p30},
                                             {"TiB", 0x1p40},
                                             {"PiB", 0x1p50},
                                             {"EiB", 0x1p60}}};
constexpr std::array<Unit, 4> kTimeUnits = {{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}};

/// A unit in which `largest` is at least 1 where there is one, and digits that show three figures
/// of it.
struct Scale {
  Unit unit;
  int digits = 0;

  std::string print(double value) const {
    const double scaled = value / unit.factor;
    const std::string text = number(scaled, digits);
    // A small amount is not nothing.
    if (value > 0 && number(0, digits) == text) return "<" + number(std::pow(10, -digits), digits);
    return text;
  }
  std::string print_or_dash(std::uint64_t value) const {
    return value == 0 ? "-" : print(static_cast<double>(value));
  }
};

template <std::size_t N>
Scale scale_for(const std::array<Unit, N>& units, double largest) {
  Scale scale{units[0], 0};
  for (const Unit& unit : units)
    if (largest >= unit.factor) scale.unit = unit;
  if (scale.unit.factor > 1) scale.digits = largest / scale.unit.factor >= 99.95 ? 1 : 2;
  return scale;
}

struct Column {
  const char* head;
  std::string unit;
  std::size_t width = 0;
};

/// A row of a table, or one line of words in place of its figures.
struct Row {
  std::vector<std::string> cells;
  std::string words;
  bool best = false;
};

std::string padded(const std::string& text, std::size_t width, bool left) {
  const std::size_t columns = columns_of(text);
  const std::string space(width > columns ? width - columns : 0, ' ');
  return left ? text + space : space + text;
}

/// Why there is no row of figures, in at most `columns`: as many holders as fit whole.
std::string needs_text(const PolicyResult& result, std::size_t columns) {
  if (result.min_budget_bytes == 0) return result.gave_up ? "gave up: no plan found" : "no plan";
  const std::string bytes = format_bytes(result.min_budget_bytes);
  if (result.gave_up) return "gave up: the best plan found needs " + bytes;
  std::string text = "infeasible, needs " + bytes;
  const char* between = ": ";
  for (const Holder& holder : result.holders) {
    const std::string next = between + clean_text(holder.what) + " " + format_bytes(holder.bytes);
    if (columns_of(text) + columns_of(next) > columns) break;
    text += next;
    between = ", ";
  }
  return text;
}

double saving_of(const RunContext& context, const PolicyResult& result) {
  const auto keep_all = static_cast<double>(context.summary->keep_all_peak_bytes);
  return keep_all > 0 ? 1 - static_cast<double>(result.sim.peak_bytes) / keep_all : 0;
}

/// Percentage points of overhead above `bound_ns`.
std::string points_above(const RunContext& context,
                         const PolicyResult& result,
                         std::int64_t bound_ns) {
  if (bound_ns <= 0) return "-";
  return number(100 * (overhead_of(context, result.sim.step_ns) - overhead_of(context, bound_ns)),
                1);
}

std::string points_to_bound(const RunContext& context, const PolicyResult& result) {
  return points_above(context, result, result.bound_ns);
}

/// How far the plan is from the bound, and from a step that never waits.
std::string bound_words(const RunContext& context, const PolicyResult& result) {
  std::string words = points_to_bound(context, result) + " points of overhead below this plan";
  if (!result.bound_method.empty()) words += " (" + result.bound_method + ")";
  if (result.trivial_bound_ns > 0)
    words += "; " + points_above(context, result, result.trivial_bound_ns) + " to keep-all's ops";
  return words;
}

std::string join_words(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    if (!text.empty()) text += between;
    text += part;
  }
  return text;
}

/// Breaks at blanks so that no line is longer than kWidth; later lines start with `indent` blanks.
std::string wrapped(const std::string& text, std::size_t indent) {
  std::string out;
  std::string line;
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = text.find(' ', at);
    if (end == std::string::npos) end = text.size();
    const std::string word = shorten(text.substr(at, end - at), kWidth - indent);
    at = end + 1;
    const bool starts_line = line.find_first_not_of(' ') == std::string::npos;
    if (!starts_line && columns_of(line) + 1 + columns_of(word) > kWidth) {
      out += line + "\n";
      line.assign(indent, ' ');
      line += word;
    } else {
      if (!starts_line || (line.empty() && !out.empty())) line += " ";
      line += word;
    }
  }
  return out + line + "\n";
}

std::string device_line(const RunContext& context) {
  std::vector<std::string> parts = {"predicted for " + clean_text(context.device->name) + " (" +
                                    clean_text(context.device->calibration) + ")"};
  if (!context.times_from.empty()) parts.push_back("times from " + clean_text(context.times_from));
  if (!context.link_from.empty()) parts.push_back("link from " + clean_text(context.link_from));
  return join_words(parts, "; ");
}

std::string budget_text(const RunContext& context, std::uint64_t budget_bytes) {
  if (budget_bytes == 0) return "no budget";
  const auto keep_all = static_cast<double>(context.summary->keep_all_peak_bytes);
  std::string text = "budget of " + format_bytes(budget_bytes);
  if (keep_all > 0)
    text += " (" + format_percent(static_cast<double>(budget_bytes) / keep_all) + " of keep-all)";
  return text;
}

std::string table_head(const RunContext& context, const std::vector<PolicyResult>& results) {
  const ProfileSummary& summary = *context.summary;
  std::string model = clean_text(context.profile->model);
  if (!model.empty()) model = "  model " + shorten(model, 30);
  std::string head =
      shorten(clean_text(context.trace), kWidth - columns_of(model), true) + model + "\n";
  head += join_words(
              {results.empty() ? std::string() : budget_text(context, results.front().budget_bytes),
               "keep-all peak " + format_bytes(summary.keep_all_peak_bytes),
               "activations " + format_bytes(summary.activation_bytes),
               "unmovable " + format_bytes(summary.unmovable_bytes)},
              "; ") +
          "\n";
  head += wrapped(device_line(context), 2);
  if (!context.warning.empty()) head += wrapped("warning: " + clean_text(context.warning), 2);
  return head;
}

}  // namespace

std::string render_table(const RunContext& context,
                         const std::vector<PolicyResult>& results,
                         bool color) {
  double most_bytes = static_cast<double>(context.summary->keep_all_peak_bytes);
  double most_activation_bytes = static_cast<double>(context.summary->activation_bytes);
  std::int64_t fastest_ns = -1;
  for (const PolicyResult& result : results) {
    if (!result.feasible) continue;
    most_bytes = std::max(most_bytes, static_cast<double>(result.sim.peak_bytes));
    most_activation_bytes =
        std::max(most_activation_bytes, static_cast<double>(result.sim.activation_peak_bytes));
    if (fastest_ns < 0 || result.sim.step_ns < fastest_ns) fastest_ns = result.sim.step_ns;
  }
  const Scale bytes = scale_for(kByteUnits, most_bytes);
  const Scale part = scale_for(kByteUnits, most_activation_bytes);
  // The unit suits the fastest step, so that it too shows three figures.
  const Scale time = scale_for(
      kTimeUnits, static_cast<double>(fastest_ns > 0 ? fastest_ns : context.keep_all_step_ns));

  std::vector<Column> columns = {{"policy", ""},
                                 {"peak", bytes.unit.name},
                                 {"saving", "%"},
                                 {"activ.", part.unit.name},
                                 {"step", time.unit.name},
                                 {"overhead", "%"},
                                 {"stalls", time.unit.name},
                                 {"keep", part.unit.name},
                                 {"compress", part.unit.name},
                                 {"offload", part.unit.name},
                                 {"recompute", part.unit.name},
                                 {"to bound", "points"}};
  std::vector<Row> rows;
  for (const PolicyResult& result : results) {
    Row row;
    row.cells.push_back(shorten(clean_text(result.policy), 16));
    if (!result.feasible) {
      row.words = needs_text(result, kWidth - 18);
    } else {
      const auto stall_ns =
          static_cast<std::uint64_t>(std::max<std::int64_t>(0, result.sim.total_stall_ns()));
      row.best = result.sim.step_ns == fastest_ns;
      row.cells.insert(row.cells.end(),
                       {bytes.print(static_cast<double>(result.sim.peak_bytes)),
                        number(100 * saving_of(context, result), 1),
                        part.print(static_cast<double>(result.sim.activation_peak_bytes)),
                        time.print(static_cast<double>(result.sim.step_ns)),
                        number(100 * overhead_of(context, result.sim.step_ns), 1),
                        time.print_or_dash(stall_ns),
                        part.print_or_dash(result.bytes.keep),
                        part.print_or_dash(result.bytes.compress),
                        part.print_or_dash(result.bytes.offload),
                        part.print_or_dash(result.bytes.recompute),
                        points_to_bound(context, result)});
    }
    rows.push_back(std::move(row));
  }

  std::size_t total = 0;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    columns[i].width = std::max(columns_of(columns[i].head), columns_of(columns[i].unit));
    for (const Row& row : rows)
      if (i < row.cells.size())
        columns[i].width = std::max(columns[i].width, columns_of(row.cells[i]));
    total += columns[i].width;
  }
  const std::size_t gap = total + 2 * (columns.size() - 1) <= kWidth ? 2 : 1;
  const std::size_t wanted = total + gap * (columns.size() - 1);
  if (wanted > kWidth) {
    columns[0].width -= std::min(columns[0].width, wanted - kWidth);
    for (Row& row : rows) row.cells[0] = shorten(row.cells[0], columns[0].width);
  }

  const auto line = [&](const auto& cell_of) {
    std::string text;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) text += std::string(gap, ' ');
      text += padded(cell_of(i), columns[i].width, i == 0);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  std::string out = table_head(context, results) + "\n";
  out +=
      paint(line([&](std::size_t i) { return std::string(columns[i].head); }), Tone::kBold, color) +
      "\n";
  out += paint(line([&](std::size_t i) { return columns[i].unit; }), Tone::kDim, color) + "\n";
  for (const Row& row : rows) {
    if (row.words.empty()) {
      const std::string text = line([&](std::size_t i) { return row.cells[i]; });
      out += paint(text, row.best ? Tone::kGood : Tone::kPlain, color) + "\n";
    } else {
      const std::string name = padded(row.cells[0], columns[0].width, true) + std::string(gap, ' ');
      out += name + paint(shorten(row.words, kWidth - columns_of(name)), Tone::kBad, color) + "\n";
    }
  }
  return out;
}

std::string render_summary(const RunContext& context, const PolicyResult& result, bool color) {
  const Profile& profile = *context.profile;
  const ProfileSummary& summary = *context.summary;
  const SimResult& sim = result.sim;
  const std::string policy = shorten(clean_text(result.policy), 24);
  std::string out = shorten(clean_text(context.trace), kWidth, true) + "\n";
  out +=
      shorten(join_words({clean_text(profile.model),
                          profile.step_count > 1 ? "step " + std::to_string(profile.step_number) +
                                                       " of " + std::to_string(profile.step_count)
                                                 : std::string(),
                          std::to_string(profile.ops.size()) + " ops",
                          std::to_string(profile.storages.size()) + " tensors"},
                         ", "),
              kWidth) +
      "\n\n";

  const auto row = [&out](const char* head, const std::string& figure, const std::string& words) {
    out += shorten("  " + padded(head, 13, true) + padded(figure, 10, false) +
                       (words.empty() ? "" : "  " + words),
                   kWidth) +
           "\n";
  };
  if (!result.feasible) {
    const std::string verdict =
        result.gave_up ? policy + " gave up under the " + budget_text(context, result.budget_bytes)
                       : policy + " does not fit the " + budget_text(context, result.budget_bytes);
    out += paint(verdict, Tone::kBad, color) + "\n\n";
    if (result.min_budget_bytes > 0)
      row(result.gave_up ? "best found" : "smallest",
          format_bytes(result.min_budget_bytes),
          result.infeasible_at.empty() ? "" : "at " + clean_text(result.infeasible_at));
    row("keep-all", format_bytes(summary.keep_all_peak_bytes), "peak when nothing moves");
    row("unmovable",
        format_bytes(summary.unmovable_bytes),
        "of it " + format_bytes(summary.persistent_bytes) +
            " parameters, gradients, optimizer state, constants");
    row("activations", format_bytes(summary.activation_bytes), "what a plan can move");
    if (!result.holders.empty()) out += "\n  held at the smallest budget\n";
    for (const Holder& holder : result.holders)
      out += "  " + padded(format_bytes(holder.bytes), 23, false) + "  " +
             shorten(clean_text(holder.what), kWidth - 27) + "\n";
  } else {
    const std::string verdict =
        result.budget_bytes == 0
            ? policy + " runs without a budget"
            : policy + " fits the " + budget_text(context, result.budget_bytes);
    out += paint(verdict, Tone::kGood, color) + "\n\n";
    row("peak",
        format_bytes(sim.peak_bytes),
        "keep-all " + format_bytes(summary.keep_all_peak_bytes) + ", saving " +
            format_percent(saving_of(context, result)));
    row("step",
        format_ns(sim.step_ns),
        "keep-all " + format_ns(context.keep_all_step_ns) + ", overhead " +
            format_percent(overhead_of(context, sim.step_ns), true));
    if (result.bound_ns > 0) row("bound", format_ns(result.bound_ns), bound_words(context, result));
    const ActionBytes& by = result.bytes;
    row("activations",
        format_bytes(summary.activation_bytes),
        "keep " + format_bytes(by.keep) + ", compress " + format_bytes(by.compress) + ", offload " +
            format_bytes(by.offload) + ", recompute " + format_bytes(by.recompute));
    row("unmovable",
        format_bytes(summary.unmovable_bytes),
        "of it " + format_bytes(summary.persistent_bytes) +
            " parameters, gradients, optimizer state, constants");
    std::vector<std::string> causes;
    for (int i = 0; i < kStallCauseCount; ++i)
      if (sim.stall_ns[i] > 0)
        causes.push_back(std::string(name_of(static_cast<StallCause>(i))) + " " +
                         format_ns(sim.stall_ns[i]));
    row("stalls", format_ns(sim.total_stall_ns()), join_words(causes, ", "));
    if (sim.recompute_ns > 0) row("recompute", format_ns(sim.recompute_ns), "");
    if (sim.codec_ns > 0) row("codecs", format_ns(sim.codec_ns), "");
    if (sim.offload_bytes > 0)
      row("copies",
          format_bytes(sim.offload_bytes),
          "out, " + format_bytes(sim.prefetch_bytes) + " back, pinned peak " +
              format_bytes(sim.pinned_peak_bytes));
  }
  std::array<char, 48> plan_ms{};
  std::snprintf(plan_ms.data(), plan_ms.size(), "%.1f ms", result.plan_ms);
  if (result.plan_ms > 0) row("planned in", plan_ms.data(), "");
  out += "\n" + wrapped(device_line(context), 2);
  const double fixed_share = static_cast<double>(summary.persistent_bytes) /
                             std::max(1.0, static_cast<double>(summary.keep_all_peak_bytes));
  if (fixed_share >= 0.75)
    out += wrapped("note: " + format_percent(fixed_share) +
                       " of the peak is parameters, gradients, optimizer state and constants: "
                       "activations are not the problem here",
                   2);
  if (!context.warning.empty())
    out += paint(wrapped("warning: " + clean_text(context.warning), 2), Tone::kBold, color);
  for (const std::string& line : profile.inferred)
    out += wrapped("inferred: " + clean_text(line), 2);
  return out;
}

}  // namespace spillway
