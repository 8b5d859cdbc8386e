// SPDX-License-Identifier: Apache-2.0
// Results as plain text for a terminal: the `compare` table and the `replay` summary, at most 100
// columns wide.
#pragma once

#include "integration/report/policy_result.hpp"

#include <string>
#include <vector>

namespace spillway {

/// One row per policy in the given order, under a head of two or three lines. Ends with a line
/// feed. ANSI colour only with `color`.
std::string render_table(const RunContext& context,
                         const std::vector<PolicyResult>& results,
                         bool color = false);

/// What one policy does to the step, in about fifteen lines; when not feasible, who holds the bytes
/// of the smallest budget.
std::string render_summary(const RunContext& context,
                           const PolicyResult& result,
                           bool color = false);

}  // namespace spillway
