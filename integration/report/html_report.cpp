// SPDX-License-Identifier: Apache-2.0
// The report page: which scripts it runs.
#include "integration/report/html_report.hpp"

#include "integration/report/page_data.hpp"
#include "integration/report/page_template.hpp"

#include <array>
#include <string_view>

namespace spillway {
namespace {

/// Scripts in the order in which the page runs them; they share one scope.
constexpr std::array<std::string_view, 11> kScripts = {"data.js",
                                                       "format.js",
                                                       "header.js",
                                                       "timeview.js",
                                                       "memory.js",
                                                       "lanes.js",
                                                       "heat.js",
                                                       "peak.js",
                                                       "table.js",
                                                       "tradeoff.js",
                                                       "main.js"};

}  // namespace

std::string render_html_report(const RunContext& context,
                               const PolicyResult& chosen,
                               const std::vector<PolicyResult>& all_policies,
                               const std::vector<TradeOffPoint>& curve) {
  return render_page("report.html", kScripts, page_data(context, chosen, all_policies, curve));
}

}  // namespace spillway
