// SPDX-License-Identifier: Apache-2.0
// spillway compare: every policy side by side on one trace and budget.
#include "integration/cli/command.hpp"
#include "integration/cli/study.hpp"
#include "integration/report/json.hpp"
#include "integration/report/text.hpp"

#include <fmt/core.h>

#include <memory>
#include <sstream>
#include <unistd.h>

namespace spillway::cli {
namespace {

struct CompareOptions {
  StudyOptions study;
  std::string policies;
  bool json = false;
};

std::uint64_t budget_for(const Study& study,
                         const std::string& name,
                         const std::vector<PolicyResult>& rows) {
  if (study.budget_bytes() != 0 || name != "joint") return study.budget_bytes();
  std::uint64_t least_bytes = 0;
  for (const PolicyResult& row : rows)
    if (row.feasible && (least_bytes == 0 || row.sim.peak_bytes < least_bytes))
      least_bytes = row.sim.peak_bytes;
  return least_bytes;
}

Status compare(const CompareOptions& options, Session& session) {
  Progress progress;
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(options.study, session.command_line, progress));
  study->prefer_best_bound();
  std::vector<std::string> names;
  if (options.policies.empty()) {
    // joint keeps to the levers it is given; the others are what they are.
    for (const Planner& planner : planners())
      if (planner.name == "joint" || (planner.uses & ~study->actions()) == 0)
        names.emplace_back(planner.name);
  } else {
    std::stringstream list(options.policies);
    std::string name;
    while (std::getline(list, name, ',')) names.push_back(name);
  }
  std::vector<PolicyResult> rows;
  bool any = false;
  for (const std::string& name : names) {
    progress.show("planning " + name);
    SPW_ASSIGN_OR_RETURN(PolicyResult row,
                         study->evaluate(name, budget_for(*study, name, rows), false));
    any = any || row.feasible;
    rows.push_back(std::move(row));
  }
  progress.clear();
  if (options.json) {
    fmt::print("{}", dump_json(compare_json(study->context(), rows, study->budget_bytes())));
  } else {
    fmt::print("{}", render_table(study->context(), rows, ::isatty(STDOUT_FILENO) == 1));
  }
  if (!any) session.exit_code = kNoPlan;
  return {};
}

}  // namespace

void add_compare(::CLI::App& app, Session& session) {
  auto options = std::make_shared<CompareOptions>();
  std::string policies = "Policies:\n";
  for (const Planner& planner : planners())
    policies += fmt::format("  {:<12} {} ({})\n", planner.name, planner.summary, planner.source);
  ::CLI::App* command =
      app.add_subcommand("compare", "every policy side by side on one trace and budget");
  options->study.add_to(*command, true);
  command->add_option("--policies", options->policies, "comma-separated names (default: all)");
  command->add_flag("--json", options->json, "one JSON object on stdout");
  command->footer(policies);
  command->callback([options, &session] { session.report(compare(*options, session)); });
}

}  // namespace spillway::cli
