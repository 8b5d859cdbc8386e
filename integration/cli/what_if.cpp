// SPDX-License-Identifier: Apache-2.0
// Plans again under each what-if, and lets today's plan compete there.
#include "integration/cli/what_if.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"

#include <fmt/core.h>

namespace spillway::cli {
namespace {

double overhead(const WhatIfRow& row, std::int64_t step_ns) {
  return row.keep_all_step_ns > 0
             ? static_cast<double>(step_ns) / static_cast<double>(row.keep_all_step_ns) - 1
             : 0.0;
}

}  // namespace

Result<std::vector<WhatIf>> parse_what_ifs(const std::vector<std::string>& texts) {
  constexpr std::size_t kMost = 64;
  if (texts.size() > kMost)
    return Status(Code::kInvalidArgument,
                  "--what-if: expected at most 64 of them, found " + std::to_string(texts.size()));
  std::vector<WhatIf> what_ifs;
  for (const std::string& text : texts) {
    SPW_ASSIGN_OR_RETURN(WhatIf what_if, parse_what_if(text));
    what_ifs.push_back(std::move(what_if));
  }
  return what_ifs;
}

Result<std::vector<WhatIfRow>> what_if_rows(const Study& study,
                                            const std::string& policy,
                                            const PolicyResult& now,
                                            const std::vector<WhatIf>& what_ifs,
                                            Progress& progress) {
  std::vector<WhatIfRow> rows(1);
  rows[0].text = "now";
  rows[0].result = now;
  rows[0].keep_all_step_ns = study.context().keep_all_step_ns;
  if (now.feasible) rows[0].unchanged_step_ns = now.sim.step_ns;
  for (const WhatIf& what_if : what_ifs) {
    progress.show("planning what-if " + clean_text(what_if.text));
    SPW_ASSIGN_OR_RETURN(const auto changed, study.under(what_if));
    WhatIfRow row;
    row.text = what_if.text;
    row.keep_all_step_ns = changed->context().keep_all_step_ns;
    SPW_ASSIGN_OR_RETURN(row.result, changed->evaluate(policy, changed->budget_bytes(), false));
    if (now.feasible) {
      SPW_ASSIGN_OR_RETURN(const PolicyResult unchanged,
                           changed->evaluate_plan(now.plan, changed->budget_bytes(), false));
      if (unchanged.feasible) {
        row.unchanged_step_ns = unchanged.sim.step_ns;
        if (!row.result.feasible || unchanged.sim.step_ns < row.result.sim.step_ns) {
          const PolicyResult planned = row.result;
          row.result = unchanged;
          row.result.plan_ms = planned.plan_ms;
          if (planned.feasible) {
            row.result.bound_ns = planned.bound_ns;
            row.result.bound_method = planned.bound_method;
          }
        }
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string what_if_text(const std::vector<WhatIfRow>& rows) {
  std::string out = fmt::format("\n{:<24}{:>11}{:>12}{:>12}{:>12}{:>12}\n",
                                "what if",
                                "budget",
                                "step",
                                "overhead",
                                "unchanged",
                                "bound");
  for (const WhatIfRow& row : rows) {
    std::string name = clean_text(row.text);
    if (name.size() > 60) name = name.substr(0, 57) + "...";
    // A long name has a line of its own.
    if (name.size() > 23) out += name + "\n", name.clear();
    const std::string budget =
        row.result.budget_bytes == 0 ? "none" : format_bytes(row.result.budget_bytes);
    out += fmt::format("{:<24}{:>11}", name, budget);
    if (!row.result.feasible) {
      out += fmt::format("  {}, needs {}\n",
                         row.result.gave_up ? "gave up" : "infeasible",
                         format_bytes(row.result.min_budget_bytes));
      continue;
    }
    const std::string unchanged = row.unchanged_step_ns
                                      ? format_percent(overhead(row, *row.unchanged_step_ns), true)
                                      : "no fit";
    out += fmt::format("{:>12}{:>12}{:>12}{:>12}\n",
                       format_ns(row.result.sim.step_ns),
                       format_percent(overhead(row, row.result.sim.step_ns), true),
                       unchanged,
                       format_percent(overhead(row, row.result.bound_ns), true));
  }
  out +=
      "  overhead over keep-all on the same machine; unchanged: the plan above run there; bound: "
      "no "
      "plan is faster\n";
  return out;
}

nlohmann::ordered_json what_if_json(const std::vector<WhatIfRow>& rows) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (std::size_t i = 1; i < rows.size(); ++i) {
    const WhatIfRow& row = rows[i];
    const PolicyResult& result = row.result;
    const bool fits = result.feasible;
    const auto if_fits = [fits](auto value) { return fits ? Json(value) : Json(nullptr); };
    Json object;
    object["what_if"] = clean_text(row.text);
    object["feasible"] = fits;
    object["gave_up"] = result.gave_up;
    object["min_budget_bytes"] = result.min_budget_bytes;
    object["budget_bytes"] = result.budget_bytes == 0 ? Json(nullptr) : Json(result.budget_bytes);
    object["peak_bytes"] = if_fits(result.sim.peak_bytes);
    object["keep_all_step_ns"] = row.keep_all_step_ns;
    object["step_ns"] = if_fits(result.sim.step_ns);
    object["overhead"] = if_fits(overhead(row, result.sim.step_ns));
    object["unchanged_step_ns"] =
        row.unchanged_step_ns ? Json(*row.unchanged_step_ns) : Json(nullptr);
    object["bound_ns"] = if_fits(result.bound_ns);
    list.push_back(std::move(object));
  }
  return list;
}

}  // namespace spillway::cli
