// SPDX-License-Identifier: Apache-2.0
// `plan --what-if`: the plan's price on this machine and on changed ones.
#pragma once

#include "core/status.hpp"
#include "integration/cli/progress.hpp"
#include "integration/cli/study.hpp"
#include "integration/report/policy_result.hpp"
#include "policy/sensitivity.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::cli {

/// One changed machine. The plan made for it is at least as good as the present one run there.
struct WhatIfRow {
  std::string text;     // as the user wrote it; "now" for the machine as it is
  PolicyResult result;  // planned anew
  std::int64_t keep_all_step_ns = 0;
  std::optional<std::int64_t> unchanged_step_ns;  // today's plan there; none: it does not fit
};

/// Reads every text before anything is planned; kInvalidArgument names the first wrong one.
Result<std::vector<WhatIf>> parse_what_ifs(const std::vector<std::string>& texts);

/// The present first, then each what-if, planned by `policy`; `now` is its result for the present.
Result<std::vector<WhatIfRow>> what_if_rows(const Study& study,
                                            const std::string& policy,
                                            const PolicyResult& now,
                                            const std::vector<WhatIf>& what_ifs,
                                            Progress& progress);

/// A table of at most 100 columns.
std::string what_if_text(const std::vector<WhatIfRow>& rows);

/// The list `what_if` of `plan --json`, without the row of the present.
nlohmann::ordered_json what_if_json(const std::vector<WhatIfRow>& rows);

}  // namespace spillway::cli
