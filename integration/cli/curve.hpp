// SPDX-License-Identifier: Apache-2.0
// `plan --curve`: what each budget costs.
#pragma once

#include "integration/report/policy_result.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace spillway::cli {

/// A table: budget, peak, step, overhead, bound. `rows` by ascending budget.
std::string curve_text(const RunContext& context, const std::vector<PolicyResult>& rows);

/// {"schema": "spillway.curve/1", "trace", "policy", "keep_all_step_ns", "rows": [result_json]}.
nlohmann::ordered_json curve_json(const RunContext& context,
                                  const std::string& policy,
                                  const std::vector<PolicyResult>& rows);

}  // namespace spillway::cli
