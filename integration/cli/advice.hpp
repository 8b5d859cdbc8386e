// SPDX-License-Identifier: Apache-2.0
// `plan --advise`: another tool's settings in its own words, what they cost in our model, and what
// the plan per tensor gains over them.
#pragma once

#include "integration/report/policy_result.hpp"
#include "policy/advise.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace spillway::cli {

/// The setting as it is written for the tool: flags, a line of Python, or a piece of configuration.
std::string setting_text(const ToolSetting& setting, const Profile& profile);

/// The settings, best first, and what `ours` gains over the best.
std::string advice_text(const RunContext& context,
                        Tool tool,
                        const PolicyResult& ours,
                        const std::vector<Advice>& advice);

/// The object `advice` of `plan --json`.
nlohmann::ordered_json advice_json(const RunContext& context,
                                   Tool tool,
                                   const PolicyResult& ours,
                                   const std::vector<Advice>& advice);

}  // namespace spillway::cli
