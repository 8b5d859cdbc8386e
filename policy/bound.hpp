// SPDX-License-Identifier: Apache-2.0
// A lower bound on the cost model's step time: no program that the validator accepts under the
// request's budget and levers is faster. docs/policy.md, "The bound and why it is valid".
#pragma once

#include "policy/device_model.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <string_view>

namespace spillway {

enum class BoundMethod : std::uint8_t {
  kKeepAll,   // the step's own ops: the budget asks for nothing more, or nothing more was proven
  kKnapsack,  // what must be away while one op runs, each storage by its cheapest lever
  kLp,        // linear relaxation over several ops
};
std::string_view name_of(BoundMethod method);

enum class BoundEffort : std::uint8_t {
  kQuick,  // beside one plan: tens of milliseconds on hundreds of ops
  kBest,   // for tables and studies: seconds
};

struct BoundOptions {
  BoundEffort effort = BoundEffort::kQuick;
  // Columns times simplex steps, for the first linear program and for all others together; 0: by
  // effort.
  std::uint64_t work_limit = 0;
  std::uint32_t points = 0;    // most ops looked at by the linear program; 0: by effort
  bool linear_program = true;  // false: the combinatorial bound only
};

/// `bound_ns` is valid however the search for it ended.
struct Bound {
  std::int64_t bound_ns = 0;  // at least ProfileSummary::compute_ns
  BoundMethod method = BoundMethod::kKeepAll;
  bool gave_up = false;      // the work limit ended the linear program, or it was too large
  std::uint32_t points = 0;  // ops at which the budget was looked at
};

/// Is a library for linear programs (CLP) part of this build?
bool has_linear_program();

/// For PlanRequest::budget_bytes (0: keep-all's peak), actions, allow_lossy and pinned_bytes.
/// Deterministic. When no plan fits the budget at all, any value is valid and keep-all's is
/// returned.
Bound lower_bound(const Profile& profile,
                  const ProfileSummary& summary,
                  const DeviceModel& device,
                  const PlanRequest& request,
                  const BoundOptions& options);

}  // namespace spillway
