// SPDX-License-Identifier: Apache-2.0
// One policy's answer for one trace and budget, and what all answers of a run share: the input of
// every output (JSON, table, HTML, Perfetto).
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

struct PolicyResult {
  std::string policy;
  bool feasible = false;
  bool gave_up = false;
  std::uint64_t budget_bytes = 0;      // 0: none was set
  std::uint64_t min_budget_bytes = 0;  // smallest budget under which this policy's plan runs
  std::string infeasible_at;           // the op that needs it, when not feasible
  std::vector<Holder> holders;         // who holds the bytes there, largest first
  Plan plan;                           // empty when not feasible
  SimResult sim;                       // predicted; timeline only where asked for
  ActionBytes bytes;
  // No plan within the budget is faster in the cost model, by the levers that this policy may use.
  std::int64_t bound_ns = 0;
  std::string bound_method;           // "keep-all", "knapsack", "lp"
  std::int64_t trivial_bound_ns = 0;  // the step's own ops: no plan of any budget is faster
  double plan_ms = 0;                 // time to decide
};

/// A point of the trade-off curve: what a policy reaches under a budget.
struct TradeOffPoint {
  std::string policy;
  std::uint64_t budget_bytes = 0;
  std::uint64_t peak_bytes = 0;
  std::int64_t step_ns = 0;
};

struct RunContext {
  std::string trace;  // path as the user gave it
  const Profile* profile = nullptr;
  const ProfileSummary* summary = nullptr;
  const DeviceModel* device = nullptr;
  std::int64_t keep_all_step_ns = 0;
  std::string times_from;  // one machine class each; they differ => `warning`
  std::string link_from;
  std::string warning;  // "" or one line
  std::string command;  // as typed, for the report's footer
};

/// step / keep-all step - 1.
inline double overhead_of(const RunContext& context, std::int64_t step_ns) {
  return context.keep_all_step_ns > 0
             ? static_cast<double>(step_ns) / static_cast<double>(context.keep_all_step_ns) - 1.0
             : 0.0;
}

}  // namespace spillway
