// SPDX-License-Identifier: Apache-2.0
// What replay, plan and compare share: a trace loaded into a profile, the device's numbers, and one
// policy after another planned, simulated and judged.
#pragma once

#include "core/status.hpp"
#include "core/units.hpp"
#include "integration/cli/progress.hpp"
#include "integration/report/policy_result.hpp"
#include "integration/trace/reader.hpp"
#include "policy/bound.hpp"
#include "policy/planner.hpp"
#include "policy/sensitivity.hpp"

#include <CLI/App.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace spillway::cli {

struct StudyOptions {
  std::string trace;
  int device = -1;
  std::int64_t step = -1;
  std::string gpu;               // calibration name; "" follows the trace, else h200
  std::string calibration_file;  // a JSON of the same form as the built-in ones
  std::string budget;            // "" means none
  std::string pinned;            // "" means no limit
  std::string actions;           // "keep,compress,offload,recompute"; "" means all
  bool lossy = false;
  std::vector<std::string> codecs;  // "PATTERN=NAME"
  std::string max_error;            // "" means no limit
  std::string bound;                // "trivial", "quick", "best"; "" follows the command

  /// Adds the options to a command; `with_budget` also those that only planning needs.
  void add_to(::CLI::App& command, bool with_planning);
};

/// A loaded trace and everything that is the same for all policies.
class Study {
 public:
  static Result<std::unique_ptr<Study>> load(const StudyOptions& options,
                                             const std::string& command_line,
                                             Progress& progress);

  /// Plans by `policy` ("joint", "every-k:4") under `budget_bytes` (0: none), simulates and judges.
  /// A plan that the judge refuses is a bug of ours: kInternal.
  Result<PolicyResult> evaluate(const std::string& policy,
                                std::uint64_t budget_bytes,
                                bool timeline) const;
  /// The same for a plan that is already there (from a file); a refused plan is kBadInput.
  Result<PolicyResult> evaluate_plan(const Plan& plan,
                                     std::uint64_t budget_bytes,
                                     bool timeline) const;

  /// The same step under other rates or limits, with its own keep-all. kInvalidArgument as
  /// spillway::apply.
  Result<std::unique_ptr<Study>> under(const WhatIf& what_if) const;

  const Profile& profile() const { return profile_; }
  const ProfileSummary& summary() const { return summary_; }
  const DeviceModel& device() const { return device_; }
  const TraceInfo& info() const { return info_; }
  const RunContext& context() const { return context_; }
  const PlanRequest& request() const { return request_; }
  ActionSet actions() const { return request_.actions; }
  /// Bytes of the budget asked for; 0 when none was.
  std::uint64_t budget_bytes() const { return request_.budget_bytes; }
  /// For commands that are about comparing: `--bound` decides, else seconds are spent on it.
  void prefer_best_bound();
  /// `policy` at each budget, ascending, with plans of smaller budgets carried on
  /// (policy/curve.hpp): no step is slower than that of a smaller budget. `bounded`: with bounds,
  /// which never rise either.
  Result<std::vector<PolicyResult>> curve(const std::string& policy,
                                          std::vector<std::uint64_t> budgets,
                                          bool bounded,
                                          Progress& progress) const;
  /// Points of every policy for the trade-off curve: one per preset, a sweep of budgets for those
  /// that decide by the budget.
  Result<std::vector<TradeOffPoint>> trade_off(Progress& progress) const;

 private:
  Study() = default;
  /// Points the context at this study's own data and times keep-all.
  Status set_context();
  Result<PolicyResult> planned(const std::string& policy,
                               std::uint64_t budget_bytes,
                               bool timeline,
                               bool bounded) const;
  Result<PolicyResult> judged(PolicyResult result, bool timeline, Code on_violation) const;
  /// The levers that a bound for `planner`'s plans must allow.
  ActionSet actions_of(const Planner& planner) const;
  /// Fills in the bound of a plan that may use `actions`; computed once per budget and levers.
  void set_bound(PolicyResult* result, ActionSet actions) const;

  TraceInfo info_;
  Profile profile_;
  ProfileSummary summary_;
  DeviceModel device_;
  PlanRequest request_;
  RunContext context_;
  enum class BoundChoice : std::uint8_t { kDefault, kTrivial, kQuick, kBest };
  BoundChoice bound_choice_ = BoundChoice::kDefault;
  bool best_bound_preferred_ = false;
  mutable std::map<std::pair<std::uint64_t, ActionSet>, Bound> bounds_;
};

}  // namespace spillway::cli
