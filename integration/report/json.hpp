// SPDX-License-Identifier: Apache-2.0
// Results for machines: the objects that `replay --json`, `plan --json` and `compare --json` print.
// Keys are an interface: add, never rename. Text from traces may be anything; dump_json prints what
// is not UTF-8 as U+FFFD.
#pragma once

#include "integration/report/policy_result.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// `schema` is "spillway.replay/1" or "spillway.plan/1". Not feasible: min_budget_bytes, holders
/// and `at` say why, what only a plan has is null, and the facts of the trace stay. REQUIRES:
/// context.profile, context.summary and context.device are set.
nlohmann::ordered_json result_json(const RunContext& context,
                                   const PolicyResult& result,
                                   std::string_view schema);

/// {"schema": "spillway.compare/1", "trace", "budget_bytes", "rows": [result_json, ...]}; budget 0
/// means none and prints null.
nlohmann::ordered_json compare_json(const RunContext& context,
                                    const std::vector<PolicyResult>& results,
                                    std::uint64_t budget_bytes);

/// Indented text with a final line feed; never throws on text that is not UTF-8.
std::string dump_json(const nlohmann::ordered_json& value);

}  // namespace spillway
