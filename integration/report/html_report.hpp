// SPDX-License-Identifier: Apache-2.0
// The report page: one self-contained HTML file (no outside request, works from file://) that shows
// what a plan does to a step. Big traces are reduced here, keeping every maximum, so that the page
// stays small; names in it are data, never markup.
#pragma once

#include "integration/report/policy_result.hpp"

#include <string>
#include <vector>

namespace spillway {

/// The whole page. `chosen` is the plan the page is about; where it is feasible its sim.timeline
/// should be filled (the charts over time need it, the rest does not). `all_policies` and `curve`
/// fill the trade-off chart; both may be empty. REQUIRES: context.profile, context.summary and
/// context.device are set.
std::string render_html_report(const RunContext& context,
                               const PolicyResult& chosen,
                               const std::vector<PolicyResult>& all_policies,
                               const std::vector<TradeOffPoint>& curve);

}  // namespace spillway
