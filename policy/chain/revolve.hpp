// SPDX-License-Identifier: Apache-2.0
// Revolve: binomial checkpointing of a chain of equal stages with a number of stored states
// (Griewank & Walther 2000, TOMS 799). The number of checkpoints counts the chain's own input;
// forward steps exclude the one run in "save all" mode that each backward step does.
#pragma once

#include "policy/chain/schedule.hpp"

#include <cstdint>

namespace spillway {

/// beta(c, r) = C(c + r, c): the longest chain that c checkpoints reverse with no stage run forward
/// more than r times. Saturates at 2^62.
std::uint64_t revolve_reach(std::uint32_t checkpoints, std::uint32_t repeats);

/// Least forward steps, closed form: r l - beta(c + 1, r - 1) with r the least such that
/// beta(c, r) >= l. REQUIRES: length >= 1, checkpoints >= 1.
std::uint64_t revolve_forward_steps(std::uint32_t length, std::uint32_t checkpoints);

/// The same by dynamic programming, P(l, c) = min over m of m + P(l - m, c - 1) + P(m, c): what the
/// closed form is checked against. O(length^2 checkpoints).
std::uint64_t revolve_forward_steps_by_table(std::uint32_t length, std::uint32_t checkpoints);

/// A schedule with that many forward steps. Empty for length 0; checkpoints of 0 count as 1.
ChainSchedule revolve_schedule(std::uint32_t length, std::uint32_t checkpoints);

}  // namespace spillway
