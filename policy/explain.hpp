// SPDX-License-Identifier: Apache-2.0
// Why a tensor is treated as it is: the price of each other decision, all else unchanged.
#pragma once

#include "policy/device_model.hpp"
#include "policy/gaps.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace spillway {

struct Alternative {
  Decision decision;
  bool fits = false;
  std::int64_t step_ns = 0;            // when it fits
  std::uint64_t min_budget_bytes = 0;  // when it does not: what it would need
};

/// One storage in its widest gap between two uses.
struct Explanation {
  std::uint32_t storage = 0;
  std::uint64_t bytes = 0;
  Decision chosen;
  std::vector<Alternative> alternatives;  // cheapest first, those that do not fit last
};

struct ExplainedPlan {
  // The plan's decisions lowered anew: what alternatives are compared with. A searched program can
  // be a little faster, or smaller.
  std::int64_t step_ns = 0;
  std::uint64_t budget_bytes =
      0;  // under which prices hold: the plan's, or what the decisions need
  std::vector<Explanation> explanations;
};

/// What `program` does in each gap: the first way in which the storage leaves there.
Choices choices_of_program(const Profile& profile,
                           const GapTable& gaps,
                           const std::vector<Instruction>& program);

/// Prices for `storages` (those without a gap are left out). Each price is a lowering and a
/// simulation of the whole step: linear in storages times ops. Only levers of `request`.
ExplainedPlan explain(const Profile& profile,
                      const ProfileSummary& summary,
                      const DeviceModel& device,
                      const PlanRequest& request,
                      const Plan& plan,
                      const std::vector<std::uint32_t>& storages);

/// The `count` largest storages with a gap whose name contains `part` ("": all), largest first.
std::vector<std::uint32_t> largest_storages(const Profile& profile,
                                            std::string_view part,
                                            std::size_t count);

}  // namespace spillway
