// SPDX-License-Identifier: Apache-2.0
// spillway plan: decide, and write the plan file.
#include "integration/cli/advice.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/curve.hpp"
#include "integration/cli/explanation.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/cli/study.hpp"
#include "integration/cli/what_if.hpp"
#include "integration/report/json.hpp"
#include "integration/report/text.hpp"
#include "integration/trace/plan_file.hpp"
#include "policy/curve.hpp"

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

namespace spillway::cli {
namespace {

struct PlanOptions {
  StudyOptions study;
  std::string policy = "joint";
  std::string output;
  std::vector<std::string> what_if;
  std::string advise;
  std::string explain;  // part of a tensor's name; "" any
  bool wants_explain = false;
  bool curve = false;
  bool json = false;
};

/// The curve alone: a row per budget, `--budget` among them.
Status print_curve(const PlanOptions& options, Session& session) {
  constexpr std::uint32_t kSteps = 8;
  Progress progress;
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(options.study, session.command_line, progress));
  std::vector<std::uint64_t> budgets = curve_budgets(study->summary(), kSteps);
  if (study->budget_bytes() != 0) budgets.push_back(study->budget_bytes());
  SPW_ASSIGN_OR_RETURN(const std::vector<PolicyResult> rows,
                       study->curve(options.policy, std::move(budgets), true, progress));
  progress.clear();
  if (options.json) {
    fmt::print("{}", dump_json(curve_json(study->context(), options.policy, rows)));
  } else {
    fmt::print("{}", curve_text(study->context(), rows));
  }
  session.exit_code = kNoPlan;
  for (const PolicyResult& row : rows)
    if (row.feasible) session.exit_code = kDone;
  return {};
}

Status plan(const PlanOptions& options, Session& session) {
  if (options.curve) return print_curve(options, session);
  Progress progress;
  std::optional<Tool> tool;
  if (!options.advise.empty()) {
    SPW_ASSIGN_OR_RETURN(tool, parse_tool(options.advise));
  }
  SPW_ASSIGN_OR_RETURN(const std::vector<WhatIf> what_ifs, parse_what_ifs(options.what_if));
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(options.study, session.command_line, progress));
  progress.show("planning");
  SPW_ASSIGN_OR_RETURN(const PolicyResult result,
                       study->evaluate(options.policy, study->budget_bytes(), false));
  std::vector<WhatIfRow> rows;
  if (!what_ifs.empty()) {
    SPW_ASSIGN_OR_RETURN(rows, what_if_rows(*study, options.policy, result, what_ifs, progress));
  }
  std::vector<Advice> advice;
  if (tool) {
    progress.show("trying settings of " + options.advise);
    SPW_ASSIGN_OR_RETURN(advice,
                         advise(*tool,
                                study->profile(),
                                study->summary(),
                                study->device(),
                                study->request(),
                                result.plan));
  }
  std::optional<ExplainedPlan> explained;
  if (options.wants_explain && result.feasible) {
    // Each price is a run over the whole step.
    constexpr std::size_t kLongStep = 10'000;
    const std::size_t count = study->profile().ops.size() > kLongStep ? 4 : 20;
    progress.show("pricing alternatives");
    explained = explain(study->profile(),
                        study->summary(),
                        study->device(),
                        study->request(),
                        result.plan,
                        largest_storages(study->profile(), options.explain, count));
  }
  progress.clear();
  if (result.feasible && !options.output.empty()) {
    SPW_ASSIGN_OR_RETURN(const std::string path, expand_output_name(options.output));
    SPW_RETURN_IF_ERROR(write_plan_file(path, study->profile(), study->device(), result.plan));
  }
  if (options.json) {
    nlohmann::ordered_json object = result_json(study->context(), result, "spillway.plan/1");
    if (!rows.empty()) object["what_if"] = what_if_json(rows);
    if (tool) object["advice"] = advice_json(study->context(), *tool, result, advice);
    if (explained) object["explain"] = explanation_json(study->profile(), *explained);
    fmt::print("{}", dump_json(object));
  } else {
    fmt::print("{}", render_summary(study->context(), result, ::isatty(STDOUT_FILENO) == 1));
    if (!rows.empty()) fmt::print("{}", what_if_text(rows));
    if (explained) fmt::print("{}", explanation_text(study->profile(), *explained));
    if (tool) fmt::print("{}", advice_text(study->context(), *tool, result, advice));
  }
  if (!result.feasible) session.exit_code = kNoPlan;
  return {};
}

}  // namespace

void add_plan(::CLI::App& app, Session& session) {
  auto options = std::make_shared<PlanOptions>();
  ::CLI::App* command = app.add_subcommand("plan", "decide for a recorded step and write the plan");
  options->study.add_to(*command, true);
  command->add_option("--policy", options->policy, "policy that decides (see compare)")
      ->default_val("joint");
  ::CLI::Option* output =
      command->add_option("-o,--output", options->output, "plan file to write (.spwp)")
          ->type_name("FILE");
  ::CLI::Option* what_if =
      command
          ->add_option(
              "--what-if",
              options->what_if,
              "price the plan on a changed machine too: link=2x, hbm=0.5x, compute=2x, "
              "pinned=64GiB, budget=60%, link=26GB/s; several with commas hold together; may "
              "be given again")
          ->type_name("CHANGE")
          ->expected(1)
          ->take_all();
  ::CLI::Option* advise_option =
      command
          ->add_option(
              "--advise",
              options->advise,
              "also print the nearest settings of a tool, what they cost and what the plan "
              "gains: torch, megatron, deepspeed, te")
          ->type_name("TOOL");
  ::CLI::Option* explain_option =
      command
          ->add_option("--explain",
                       options->explain,
                       "also print what the largest tensors' other ways would cost; of those whose "
                       "name contains NAME, with one")
          ->type_name("[NAME]")
          ->expected(0, 1);
  command
      ->add_flag("--curve",
                 options->curve,
                 "instead of one plan: peak, step and overhead at nine budgets, and --budget's")
      ->excludes(output)
      ->excludes(what_if)
      ->excludes(advise_option)
      ->excludes(explain_option);
  command->add_flag("--json", options->json, "one JSON object on stdout");
  command->callback([options, explain_option, &session] {
    options->wants_explain = explain_option->count() > 0;
    session.report(plan(*options, session));
  });
}

}  // namespace spillway::cli
