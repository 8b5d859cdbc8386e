// SPDX-License-Identifier: Apache-2.0
// replay --simrd: the step as the DTR authors' simulator runs it, beside spillway's own plan.
#pragma once

#include "core/status.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace spillway::cli {

/// The columns of the reference's table for `trace` in `budget_bytes`, as an object. `policy` is
/// dtr or dtr:SCORE, else kInvalidArgument; a trace that is no DTR log is kBadInput.
Result<nlohmann::ordered_json> simrd_json(const std::string& trace,
                                          const std::string& policy,
                                          std::uint64_t budget_bytes);

/// One line for people.
std::string simrd_line(const nlohmann::ordered_json& simrd);

}  // namespace spillway::cli
