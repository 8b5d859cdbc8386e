// SPDX-License-Identifier: Apache-2.0
// The combinatorial bound: a fractional knapsack at one op. What is needed later and cannot all be
// there while the op runs is away by its cheapest lever; chains of recompute count their last link
// only.
#pragma once

#include "policy/bound/bound_step.hpp"

#include <cstdint>

namespace spillway {

/// Least time beyond the step's own ops that any program under `budget_bytes` spends because of
/// what is away while `op` runs, in ns, rounded down. Linear in the step, times a constant.
std::int64_t knapsack_extra_ns(const BoundStep& step, std::uint32_t op, std::uint64_t budget_bytes);

}  // namespace spillway
