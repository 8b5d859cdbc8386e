// SPDX-License-Identifier: Apache-2.0
// spillway replay: what would happen to a recorded step under a budget - as a summary, JSON, an
// HTML report, a Perfetto trace.
#include "integration/cli/allocator_replay.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/cli/simrd.hpp"
#include "integration/cli/study.hpp"
#include "integration/report/html_report.hpp"
#include "integration/report/json.hpp"
#include "integration/report/perfetto.hpp"
#include "integration/report/text.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/plan_file.hpp"

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <unistd.h>

namespace spillway::cli {
namespace {

struct ReplayOptions {
  StudyOptions study;
  std::string policy = "joint";
  std::string plan_file;
  std::string html;
  std::string perfetto;
  std::string allocator;
  std::string snapshot;
  bool simrd = false;
  bool json = false;
};

Status write_output(const std::string& pattern, const std::string& bytes) {
  SPW_ASSIGN_OR_RETURN(const std::string path, expand_output_name(pattern));
  return write_file(path, bytes);
}

Status write_report(const Study& study,
                    const PolicyResult& result,
                    const std::string& pattern,
                    Progress& progress) {
  std::vector<PolicyResult> all;
  for (const Planner& planner : planners()) {
    progress.show("comparing: " + std::string(planner.name));
    SPW_ASSIGN_OR_RETURN(PolicyResult row,
                         study.evaluate(std::string(planner.name), result.budget_bytes, false));
    all.push_back(std::move(row));
  }
  SPW_ASSIGN_OR_RETURN(const auto curve, study.trade_off(progress));
  return write_output(pattern, render_html_report(study.context(), result, all, curve));
}

Status replay_calls(const ReplayOptions& options, Session& session) {
  if (!options.plan_file.empty() || !options.perfetto.empty())
    return {Code::kInvalidArgument,
            "--allocator replays the recorded calls: --plan and --perfetto do not go with it"};
  AllocatorReplayOptions allocator_options;
  allocator_options.allocator = options.allocator;
  allocator_options.html = options.html;
  allocator_options.snapshot = options.snapshot;
  allocator_options.json = options.json;
  return replay_allocator(allocator_options, options.study, session);
}

Status replay(const ReplayOptions& options, Session& session) {
  if (!options.allocator.empty()) return replay_calls(options, session);
  Progress progress;
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(options.study, session.command_line, progress));
  std::optional<nlohmann::ordered_json> simrd;
  if (options.simrd) {
    progress.show("simulating");
    SPW_ASSIGN_OR_RETURN(simrd,
                         simrd_json(options.study.trace, options.policy, study->budget_bytes()));
  }
  progress.show("planning");
  PolicyResult result;
  if (options.plan_file.empty()) {
    SPW_ASSIGN_OR_RETURN(result, study->evaluate(options.policy, study->budget_bytes(), true));
  } else {
    SPW_ASSIGN_OR_RETURN(const Plan plan, read_plan_file(options.plan_file, study->profile()));
    const std::uint64_t budget =
        options.study.budget.empty() ? plan.budget_bytes : study->budget_bytes();
    SPW_ASSIGN_OR_RETURN(result, study->evaluate_plan(plan, budget, true));
  }
  if (!options.html.empty())
    SPW_RETURN_IF_ERROR(write_report(*study, result, options.html, progress));
  if (!options.perfetto.empty())
    SPW_RETURN_IF_ERROR(write_output(options.perfetto, render_perfetto(study->context(), result)));
  progress.clear();
  if (options.json) {
    nlohmann::ordered_json object = result_json(study->context(), result, "spillway.replay/1");
    if (simrd) object["simrd"] = std::move(*simrd);
    fmt::print("{}", dump_json(object));
  } else {
    fmt::print("{}", render_summary(study->context(), result, ::isatty(STDOUT_FILENO) == 1));
    if (simrd) fmt::print("{}", simrd_line(*simrd));
  }
  if (!result.feasible) session.exit_code = kNoPlan;
  return {};
}

}  // namespace

void add_replay(::CLI::App& app, Session& session) {
  auto options = std::make_shared<ReplayOptions>();
  ::CLI::App* command =
      app.add_subcommand("replay", "what would happen to a recorded step under a budget");
  options->study.add_to(*command, true);
  ::CLI::Option* policy =
      command->add_option("--policy", options->policy, "policy that decides (see compare)")
          ->default_val("joint");
  command->add_option("--plan", options->plan_file, "replay this plan file instead of planning")
      ->type_name("FILE");
  command->add_option("--html", options->html, "write the report page")->type_name("FILE");
  command
      ->add_option("--perfetto", options->perfetto, "write a Perfetto trace of the predicted step")
      ->type_name("FILE");
  ::CLI::Option* allocator =
      command
          ->add_option("--allocator",
                       options->allocator,
                       "run the trace's own allocations and frees over an allocator instead: "
                       "pool, planned, pytorch, best-fit, first-fit, or all")
          ->type_name("NAME");
  allocator->excludes(policy);
  command
      ->add_option("--snapshot",
                   options->snapshot,
                   "write what the allocator did as a memory snapshot in PyTorch's form")
      ->type_name("FILE")
      ->needs(allocator);
  command
      ->add_flag("--simrd",
                 options->simrd,
                 "also run a DTR log as the DTR authors' simulator does (with --policy dtr:SCORE "
                 "and --budget)")
      ->needs(policy)
      ->excludes(allocator);
  command->add_flag("--json", options->json, "one JSON object on stdout");
  command->callback([options, &session] { session.report(replay(*options, session)); });
}

}  // namespace spillway::cli
