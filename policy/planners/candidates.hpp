// SPDX-License-Identifier: Apache-2.0
// What planners that try several programs share: each is simulated, the fastest that fits wins, and
// when none fits the smallest budget of any is named.
#pragma once

#include "policy/op_order.hpp"
#include "policy/planner.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// Where the set of programs does not depend on the budget, a larger budget never gives a slower
/// step. The programs of a planner that finds none that fits must not depend on it: then the budget
/// that Infeasible names is enough.
class Candidates {
 public:
  Candidates(const Profile& profile,
             const DeviceModel& device,
             const PlanRequest& request,
             std::string policy)
      : profile_(profile), device_(device), request_(request), policy_(std::move(policy)) {}

  /// Both return the smallest budget that the program runs in; what turns out not to be legal is
  /// left out, and needs more than anything.
  std::uint64_t add_order(std::span<const std::uint32_t> order);
  std::uint64_t add(Plan plan);
  [[nodiscard]] bool empty() const { return !smallest_ && !best_; }

  /// The fastest plan that fits (then the one that needs least), or Infeasible.
  PlanOutcome finish();

 private:
  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  std::string policy_;
  std::optional<Plan> best_;
  std::int64_t best_ns_ = 0;
  std::uint64_t best_bytes_ = 0;
  std::optional<Plan> smallest_;
  std::uint64_t smallest_bytes_ = 0;
  std::uint32_t smallest_op_ = 0;
};

/// The name that a plan of this request carries: "bptt:hidden", "every-k:4".
std::string policy_text(std::string_view name, const PlanRequest& request);

/// What a recompute-only planner does with a trace whose ops cannot run again: nothing.
PlanOutcome keep_all_as(const Profile& profile,
                        const DeviceModel& device,
                        const PlanRequest& request,
                        std::string_view policy);

/// How many programs of a step with that many ops can be tried in about half a second.
std::size_t candidate_limit(const Profile& profile);

/// 1..last, thinned to at most `count` values: dense at the small end, first and last included.
std::vector<std::uint32_t> thinned(std::uint32_t last, std::size_t count);

}  // namespace spillway
