// SPDX-License-Identifier: Apache-2.0
// The trade-off curve as a table and as JSON.
#include "integration/cli/curve.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"

#include <fmt/core.h>

namespace spillway::cli {

std::string curve_text(const RunContext& context, const std::vector<PolicyResult>& rows) {
  std::string out = fmt::format(
      "{}\nkeep-all peak {}, step {}; predicted for {} "
      "({})\n\n{:>11}{:>9}{:>12}{:>12}{:>12}{:>12}\n",
      clean_text(context.trace),
      format_bytes(context.summary->keep_all_peak_bytes),
      format_ns(context.keep_all_step_ns),
      clean_text(context.device->name),
      clean_text(context.device->calibration),
      "budget",
      "of peak",
      "peak",
      "step",
      "overhead",
      "bound");
  const auto keep_all_peak = static_cast<double>(context.summary->keep_all_peak_bytes);
  for (const PolicyResult& row : rows) {
    const double part =
        keep_all_peak > 0 ? static_cast<double>(row.budget_bytes) / keep_all_peak : 0.0;
    out += fmt::format("{:>11}{:>9}", format_bytes(row.budget_bytes), format_percent(part));
    if (row.feasible) {
      out += fmt::format("{:>12}{:>12}{:>12}{:>12}\n",
                         format_bytes(row.sim.peak_bytes),
                         format_ns(row.sim.step_ns),
                         format_percent(overhead_of(context, row.sim.step_ns), true),
                         format_percent(overhead_of(context, row.bound_ns), true));
    } else {
      out += fmt::format("  {}, needs {}\n",
                         row.gave_up ? "gave up" : "infeasible",
                         format_bytes(row.min_budget_bytes));
    }
  }
  return out;
}

nlohmann::ordered_json curve_json(const RunContext& context,
                                  const std::string& policy,
                                  const std::vector<PolicyResult>& rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const PolicyResult& row : rows) list.push_back(result_json(context, row, "spillway.plan/1"));
  nlohmann::ordered_json object;
  object["schema"] = "spillway.curve/1";
  object["trace"] = clean_text(context.trace);
  object["policy"] = clean_text(policy);
  object["keep_all_step_ns"] = context.keep_all_step_ns;
  object["rows"] = std::move(list);
  return object;
}

}  // namespace spillway::cli
