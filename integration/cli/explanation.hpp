// SPDX-License-Identifier: Apache-2.0
// `plan --explain`: per tensor one line with what else could have been done and what it would cost.
#pragma once

#include "policy/explain.hpp"
#include "policy/profile.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace spillway::cli {

/// A heading and one line per storage.
std::string explanation_text(const Profile& profile, const ExplainedPlan& explained);

/// The object `explain` of `plan --json`: step_ns, budget_bytes, tensors.
nlohmann::ordered_json explanation_json(const Profile& profile, const ExplainedPlan& explained);

}  // namespace spillway::cli
