// SPDX-License-Identifier: Apache-2.0
// The greedy form of chen-sqrt for graphs (Chen et al. 2016, arXiv 1604.06174, algorithm 3).
#pragma once

#include "policy/planner.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Marks per storage: kept as checkpoint. Walks forward ops adding up the movable bytes they make;
/// once the sum passes `limit_bytes`, the outputs of the next op with a mark in `may_keep` are kept
/// and the sum begins anew.
std::vector<char> chen_greedy_checkpoints(const Profile& profile,
                                          const std::vector<char>& may_keep,
                                          std::uint64_t limit_bytes);

/// Thirteen limits, with bottlenecks as the only checkpoints (variant "strict") and also with any
/// op ("greedy"): the cheapest that fits; without a budget the one that needs least.
PlanOutcome plan_chen_greedy(const Profile& profile,
                             const DeviceModel& device,
                             const PlanRequest& request);

}  // namespace spillway
