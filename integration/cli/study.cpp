// SPDX-License-Identifier: Apache-2.0
// Loading, device numbers, and the plan - simulate - judge sequence.
#include "integration/cli/study.hpp"

#include "device/calibration.hpp"
#include "integration/trace/small_file.hpp"
#include "policy/codec_choice.hpp"
#include "policy/curve.hpp"
#include "policy/profile_builder.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <sstream>

namespace spillway::cli {
namespace {

Result<Calibration> calibration_for(const StudyOptions& options, const Profile& profile) {
  if (!options.calibration_file.empty()) {
    SPW_ASSIGN_OR_RETURN(const std::string text, read_small_file(options.calibration_file));
    return parse_calibration(text, options.calibration_file);
  }
  if (!options.gpu.empty()) return load_calibration(options.gpu);
  if (!profile.gpu.empty()) {
    auto named = load_calibration(profile.gpu);
    if (named.ok()) return named;
  }
  return load_calibration("h200");
}

DeviceModel device_model_of(const Calibration& calibration) {
  DeviceModel device;
  device.name = calibration.name;
  device.calibration = calibration.kind;
  device.link_source = calibration.link_source;
  device.memory_bytes = calibration.memory_bytes;
  device.d2h_gbps = calibration.d2h_bytes_per_s / 1e9;
  device.h2d_gbps = calibration.h2d_bytes_per_s / 1e9;
  device.copy_latency_ns = calibration.copy_latency_ns;
  device.hbm_gbps = calibration.memory_bytes_per_s.achieved / 1e9;
  device.launch_ns = calibration.launch_latency_ns;
  return device;
}

BudgetBasis budget_basis(const ProfileSummary& summary, const DeviceModel& device) {
  BudgetBasis basis;
  basis.keep_all_peak_bytes = summary.keep_all_peak_bytes;
  basis.unmovable_bytes = summary.unmovable_bytes;
  basis.activation_bytes = summary.activation_bytes;
  basis.device_bytes = device.memory_bytes;
  return basis;
}

/// Passes a trace on to a profile builder, and counts what each device does.
class DeviceCount final : public TraceSink {
 public:
  explicit DeviceCount(const ProfileOptions& options)
      : builder_(std::make_unique<ProfileBuilder>(options)) {}

  void string(StringId id, std::string_view text) override { builder_->string(id, text); }
  void record(const Record& record) override {
    const bool counts = record.kind == RecordKind::kAlloc || record.kind == RecordKind::kOpBegin;
    if (counts) ++events_[record.device];
    builder_->record(record);
  }

  std::size_t devices() const { return events_.size(); }
  int busiest() const {
    return std::max_element(events_.begin(),
                            events_.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }
  ProfileBuilder& builder() { return *builder_; }

 private:
  std::unique_ptr<ProfileBuilder> builder_;
  std::map<std::uint16_t, std::uint64_t> events_;
};

Result<ActionSet> parse_actions(const std::string& text) {
  if (text.empty()) return kAllActions;
  ActionSet set = action_bit(Action::kKeep);
  std::stringstream list(text);
  std::string word;
  while (std::getline(list, word, ',')) {
    bool known = false;
    for (int i = 0; i < kActionCount; ++i) {
      const auto action = static_cast<Action>(i);
      if (name_of(action) != word) continue;
      set |= action_bit(action);
      known = true;
    }
    if (!known)
      return Status(
          Code::kInvalidArgument,
          "--actions: expected a list of keep,compress,offload,recompute, found '" + word + "'");
  }
  return set;
}

Result<double> parse_max_error(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0))
    return Status(Code::kInvalidArgument,
                  "--max-error: expected a number from 0 on, such as 0.01, found '" + text + "'");
  return value;
}

}  // namespace

void StudyOptions::add_to(::CLI::App& command, bool with_planning) {
  command.add_option("trace", trace, "trace file (any known format, also .gz)")
      ->required()
      ->type_name("TRACE");
  command.add_option(
      "--device", device, "device of a multi-device trace (default: the one with the most events)");
  command.add_option("--step", step, "training step (default: the steadiest)");
  if (!with_planning) return;
  command.add_option(
      "--budget", budget, "device bytes: 20GiB, 60% (of the keep-all peak), 40%act, 80%gpu");
  command.add_option(
      "--gpu", gpu, "GPU whose link and memory rates are used (default: the trace's, else h200)");
  command.add_option("--calibration", calibration_file, "calibration JSON of your own GPU");
  command.add_option("--pinned", pinned, "host bytes for offload (default: no limit)");
  command.add_option("--actions",
                     actions,
                     "levers that may be used: keep,compress,offload,recompute (default: all)");
  command.add_flag("--lossy", lossy, "allow codecs that change bits (default: exact)");
  command
      .add_option("--codec",
                  codecs,
                  "codec of storages by name: 'attn*=lossless12', '*=none'; repeats, the last that "
                  "may be followed counts")
      ->type_name("PATTERN=NAME")
      ->take_all()
      ->allow_extra_args(false);
  command
      .add_option("--max-error",
                  max_error,
                  "with --lossy: no codec with a larger relative error bound (docs/codecs.md)")
      ->type_name("NUMBER");
  command
      .add_option("--bound",
                  bound,
                  "work for the lower bound on the step: trivial, quick, best (default: quick; "
                  "compare: best)")
      ->check(::CLI::IsMember({"trivial", "quick", "best"}));
}

Result<std::unique_ptr<Study>> Study::load(const StudyOptions& options,
                                           const std::string& command_line,
                                           Progress& progress) {
  std::unique_ptr<Study> study(new Study());
  // Words first: a wrong budget should not cost the reading of a large file.
  Budget budget;
  if (!options.budget.empty()) {
    SPW_ASSIGN_OR_RETURN(budget, parse_budget(options.budget));
  }
  SPW_ASSIGN_OR_RETURN(study->request_.actions, parse_actions(options.actions));
  if (!options.pinned.empty()) {
    SPW_ASSIGN_OR_RETURN(study->request_.pinned_bytes, parse_bytes(options.pinned));
  }
  study->request_.allow_lossy = options.lossy;
  if (!options.max_error.empty()) {
    SPW_ASSIGN_OR_RETURN(study->request_.max_error, parse_max_error(options.max_error));
  }
  std::vector<CodecRule> codec_rules;
  for (const std::string& text : options.codecs) {
    SPW_ASSIGN_OR_RETURN(CodecRule rule, parse_codec_rule(text));
    codec_rules.push_back(std::move(rule));
  }
  if (options.bound == "trivial") study->bound_choice_ = BoundChoice::kTrivial;
  if (options.bound == "quick") study->bound_choice_ = BoundChoice::kQuick;
  if (options.bound == "best") study->bound_choice_ = BoundChoice::kBest;

  ProfileOptions profile_options;
  profile_options.step = options.step;
  ReadOptions read_options;
  read_options.device = options.device;
  read_options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
    progress.show("reading", done, total);
  };
  DeviceCount counted(profile_options);
  SPW_ASSIGN_OR_RETURN(study->info_, read_trace(options.trace, read_options, counted));
  if (options.device < 0 && counted.devices() > 1) {
    // One step is one device's. Only now is it known which of them has the most events.
    read_options.device = counted.busiest();
    counted = DeviceCount(profile_options);
    SPW_ASSIGN_OR_RETURN(study->info_, read_trace(options.trace, read_options, counted));
    study->info_.notes.push_back("device " + std::to_string(read_options.device) +
                                 " is shown, it has the most events; --device chooses another");
  }
  ProfileBuilder& builder = counted.builder();
  for (const std::string& line : study->info_.inferred) builder.add_inferred(line);
  for (const std::string& line : study->info_.notes) builder.add_note(line);
  auto profile = builder.finish();
  if (!profile.ok())
    return Status(profile.status().code(), options.trace + ": " + profile.status().message());
  study->profile_ = std::move(profile).value();
  study->summary_ = summarize(study->profile_);
  SPW_ASSIGN_OR_RETURN(study->request_.codecs,
                       resolve_codec_rules(study->profile_, codec_rules, study->request_));
  SPW_ASSIGN_OR_RETURN(const Calibration calibration, calibration_for(options, study->profile_));
  study->device_ = device_model_of(calibration);

  if (!options.budget.empty()) {
    SPW_ASSIGN_OR_RETURN(study->request_.budget_bytes,
                         resolve(budget, budget_basis(study->summary_, study->device_)));
    if (study->request_.budget_bytes == 0)
      return Status(Code::kInvalidArgument, "--budget: expected more than 0 bytes");
  }

  RunContext& context = study->context_;
  context.trace = options.trace;
  context.command = command_line;
  context.times_from =
      study->profile_.times_from.empty() ? "the trace" : study->profile_.times_from;
  context.link_from = study->device_.name + " (" + study->device_.calibration + ")";
  if (study->profile_.gpu.empty()) {
    context.warning = "times are from an unnamed GPU, link and codec rates from " +
                      context.link_from + ": overheads mix two machines";
  } else if (study->profile_.gpu != study->device_.name) {
    context.warning = "times are from " + study->profile_.gpu + ", link and codec rates from " +
                      context.link_from + ": overheads mix two machines";
  }
  SPW_RETURN_IF_ERROR(study->set_context());
  return study;
}

Status Study::set_context() {
  context_.profile = &profile_;
  context_.summary = &summary_;
  context_.device = &device_;
  SPW_ASSIGN_OR_RETURN(const PolicyResult keep_all, planned("keep-all", 0, false, false));
  context_.keep_all_step_ns = keep_all.sim.step_ns;
  return {};
}

Result<std::unique_ptr<Study>> Study::under(const WhatIf& what_if) const {
  SPW_ASSIGN_OR_RETURN(
      Scenario scenario,
      apply(what_if, profile_, device_, request_, budget_basis(summary_, device_)));
  std::unique_ptr<Study> other(new Study());
  other->info_ = info_;
  other->profile_ = std::move(scenario.profile);
  other->summary_ = summarize(other->profile_);
  other->device_ = std::move(scenario.device);
  other->request_ = std::move(scenario.request);
  other->context_ = context_;
  other->bound_choice_ = bound_choice_;
  other->best_bound_preferred_ = best_bound_preferred_;
  SPW_RETURN_IF_ERROR(other->set_context());
  return other;
}

Result<PolicyResult> Study::judged(PolicyResult result, bool timeline, Code on_violation) const {
  // Without a budget a plan runs in what keep-all needs, so that copies under way wait for room as
  // they would on a device; only a plan that needs more than that gets more.
  SimOptions sim_options;
  sim_options.budget_bytes =
      result.budget_bytes != 0 ? result.budget_bytes : summary_.keep_all_peak_bytes;
  sim_options.pinned_bytes = request_.pinned_bytes;
  sim_options.timeline = timeline;
  auto sim = simulate(profile_, device_, result.plan, sim_options);
  if (sim.ok() && result.budget_bytes == 0 && !sim.value().fits) {
    sim_options.budget_bytes = sim.value().min_budget_bytes;
    sim = simulate(profile_, device_, result.plan, sim_options);
  }
  if (!sim.ok())
    return Status(on_violation, "plan of " + result.policy + ": " + sim.status().message());
  if (!sim.value().fits) {
    result.feasible = false;
    result.min_budget_bytes = sim.value().min_budget_bytes;
    result.infeasible_at = sim.value().reason;
    result.holders = holders_at_min_budget(profile_, device_, result.plan, 8);
    result.plan = Plan{};
    return result;
  }
  const Status codecs = check_codecs(profile_, result.plan, request_);
  if (!codecs.ok())
    return Status(on_violation, "plan of " + result.policy + ": " + codecs.message());
  ValidateOptions validate_options;
  validate_options.budget_bytes = sim_options.budget_bytes;
  validate_options.pinned_bytes = request_.pinned_bytes;
  validate_options.allow_lossy = request_.allow_lossy;
  const Verdict verdict = validate(profile_, device_, result.plan, validate_options);
  if (!verdict.ok()) {
    const Violation& first = verdict.violations.front();
    return Status(on_violation,
                  "plan of " + result.policy + ": instruction " +
                      std::to_string(first.instruction) + ": " + std::string(name_of(first.law)) +
                      ": " + first.text);
  }
  if (verdict.peak_bytes != sim.value().peak_bytes || verdict.step_ns != sim.value().step_ns)
    return Status(Code::kInternal,
                  "plan of " + result.policy + ": simulator and validator disagree: peak " +
                      std::to_string(sim.value().peak_bytes) + " and " +
                      std::to_string(verdict.peak_bytes) + " bytes, step " +
                      std::to_string(sim.value().step_ns) + " and " +
                      std::to_string(verdict.step_ns) + " ns");
  result.sim = std::move(sim).value();
  result.feasible = true;
  if (result.min_budget_bytes == 0) result.min_budget_bytes = result.sim.min_budget_bytes;
  result.bytes = bytes_by_action(profile_, summary_, result.plan);
  return result;
}

void Study::prefer_best_bound() { best_bound_preferred_ = true; }

void Study::set_bound(PolicyResult* result, ActionSet actions) const {
  if (bound_choice_ == BoundChoice::kTrivial) return;
  const auto key = std::make_pair(result->budget_bytes, actions);
  auto known = bounds_.find(key);
  if (known == bounds_.end()) {
    PlanRequest request = request_;
    request.budget_bytes = result->budget_bytes;
    request.actions = actions;
    BoundOptions options;
    const bool best = bound_choice_ == BoundChoice::kBest ||
                      (bound_choice_ == BoundChoice::kDefault && best_bound_preferred_);
    if (best) options.effort = BoundEffort::kBest;
    known = bounds_.emplace(key, lower_bound(profile_, summary_, device_, request, options)).first;
  }
  result->bound_ns = known->second.bound_ns;
  result->bound_method = name_of(known->second.method);
}

Result<PolicyResult> Study::evaluate(const std::string& policy,
                                     std::uint64_t budget_bytes,
                                     bool timeline) const {
  return planned(policy, budget_bytes, timeline, true);
}

ActionSet Study::actions_of(const Planner& planner) const {
  // A preset uses its levers whatever `--actions` says; joint keeps to them.
  return planner.name == "joint" ? request_.actions
                                 : static_cast<ActionSet>(request_.actions | planner.uses);
}

Result<PolicyResult> Study::planned(const std::string& policy,
                                    std::uint64_t budget_bytes,
                                    bool timeline,
                                    bool bounded) const {
  PlanRequest request = request_;
  request.budget_bytes = budget_bytes;
  SPW_ASSIGN_OR_RETURN(const Planner* planner, find_planner(policy, &request));
  const auto begin = std::chrono::steady_clock::now();
  PlanOutcome outcome = planner->plan(profile_, summary_, device_, request);
  PolicyResult result;
  result.policy = policy;
  result.budget_bytes = budget_bytes;
  result.bound_ns = result.trivial_bound_ns = summary_.compute_ns;
  result.bound_method = name_of(BoundMethod::kKeepAll);
  result.plan_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  if (auto* infeasible = std::get_if<Infeasible>(&outcome)) {
    result.min_budget_bytes = infeasible->min_budget_bytes;
    result.infeasible_at = std::move(infeasible->at);
    result.holders = std::move(infeasible->holders);
    return result;
  }
  if (auto* gave_up = std::get_if<GaveUp>(&outcome)) {
    result.gave_up = true;
    result.min_budget_bytes = gave_up->best_budget_bytes;
    if (gave_up->best_budget_bytes <= budget_bytes)
      result.infeasible_at = "a host limit of " + std::to_string(request.pinned_bytes) +
                             " pinned bytes that no plan found keeps";
    result.holders = holders_at_min_budget(profile_, device_, gave_up->best, 8);
    return result;
  }
  result.plan = std::move(std::get<Plan>(outcome));
  if (bounded) set_bound(&result, actions_of(*planner));
  return judged(std::move(result), timeline, Code::kInternal);
}

Result<PolicyResult> Study::evaluate_plan(const Plan& plan,
                                          std::uint64_t budget_bytes,
                                          bool timeline) const {
  PolicyResult result;
  result.policy = plan.policy;
  result.budget_bytes = budget_bytes;
  result.bound_ns = result.trivial_bound_ns = summary_.compute_ns;
  result.bound_method = name_of(BoundMethod::kKeepAll);
  result.plan = plan;
  set_bound(&result, kAllActions);  // a file may hold whatever the judge accepts
  return judged(std::move(result), timeline, Code::kBadInput);
}

Result<std::vector<PolicyResult>> Study::curve(const std::string& policy,
                                               std::vector<std::uint64_t> budgets,
                                               bool bounded,
                                               Progress& progress) const {
  PlanRequest request = request_;
  SPW_ASSIGN_OR_RETURN(const Planner* planner, find_planner(policy, &request));
  std::vector<CurvePoint> points = trade_off_curve(
      profile_, summary_, device_, request, planner->plan, std::move(budgets), [&](std::uint64_t) {
        progress.show("trade-off curve: " + policy);
      });
  std::vector<PolicyResult> results;
  for (CurvePoint& point : points) {
    PolicyResult result;
    result.policy = policy;
    result.budget_bytes = point.budget_bytes;
    result.bound_ns = result.trivial_bound_ns = summary_.compute_ns;
    result.bound_method = name_of(BoundMethod::kKeepAll);
    if (!point.feasible) {
      result.gave_up = !point.proven_infeasible;
      result.min_budget_bytes = point.min_budget_bytes;
      results.push_back(std::move(result));
      continue;
    }
    result.plan = std::move(point.plan);
    if (bounded) set_bound(&result, actions_of(*planner));
    // Judged under the budget that it was timed in, which may be a smaller one.
    result.budget_bytes = point.run_budget_bytes;
    SPW_ASSIGN_OR_RETURN(result, judged(std::move(result), false, Code::kInternal));
    result.budget_bytes = point.budget_bytes;
    results.push_back(std::move(result));
  }
  // What no plan of a larger budget can beat, no plan of a smaller one can.
  for (std::size_t i = results.size(); i > 1; --i) {
    const PolicyResult& larger = results[i - 1];
    PolicyResult& smaller = results[i - 2];
    if (!smaller.feasible || larger.bound_ns <= smaller.bound_ns) continue;
    smaller.bound_ns = larger.bound_ns;
    smaller.bound_method = larger.bound_method;
  }
  return results;
}

Result<std::vector<TradeOffPoint>> Study::trade_off(Progress& progress) const {
  std::vector<TradeOffPoint> points;
  constexpr std::uint32_t kSweep = 8;
  for (const Planner& planner : planners()) {
    if ((planner.uses & ~request_.actions) != 0 && planner.name != "joint") continue;
    const std::string name(planner.name);
    progress.show("trade-off curve: " + name);
    std::vector<PolicyResult> results;
    if (planner.budgeted) {
      SPW_ASSIGN_OR_RETURN(results, curve(name, curve_budgets(summary_, kSweep), false, progress));
    } else {
      SPW_ASSIGN_OR_RETURN(PolicyResult result, planned(name, 0, false, false));
      results.push_back(std::move(result));
    }
    for (const PolicyResult& result : results) {
      if (!result.feasible) continue;
      points.push_back(
          {result.policy, result.budget_bytes, result.sim.peak_bytes, result.sim.step_ns});
    }
  }
  return points;
}

}  // namespace spillway::cli
