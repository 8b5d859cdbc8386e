// SPDX-License-Identifier: Apache-2.0
// Recompute-only schedules written as the order in which ops run. The order says everything: each
// storage goes after its last use before it is made again, so planners that think in schedules
// (revolve, rotor, dtr, joint's search) need not place drops themselves.
#pragma once

#include "core/status.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway {

/// What a program did to each storage, for Plan::decisions: the action of the widest stretch of ops
/// for which it was away or encoded. kOffload carries the codec it went through, if any.
std::vector<Decision> decisions_of(const Profile& profile, const std::vector<Instruction>& program);

/// `order` names ops; the first time an op appears is the step's own run, every later time a
/// recompute. First times must ascend and cover all ops. Movable storages are dropped after their
/// last use before they are made again, and after their last use of all when `drop_tails`.
/// Temporaries that a recompute reads after their life has ended are retained. kInvalidArgument
/// when an op would run without an input, naming both.
Result<Plan> plan_of_order(const Profile& profile,
                           std::span<const std::uint32_t> order,
                           bool drop_tails,
                           std::string policy,
                           std::uint64_t budget_bytes);

}  // namespace spillway
