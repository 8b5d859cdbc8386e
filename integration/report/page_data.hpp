// SPDX-License-Identifier: Apache-2.0
// The JSON that the report page carries. Long number columns are stored as differences to the one
// before, times in ns, texts once each in `strings`; the page's scripts (integration/report/assets)
// are its only reader.
#pragma once

#include "integration/report/policy_result.hpp"

#include <nlohmann/json.hpp>

#include <vector>

namespace spillway {

/// How much of a big trace the page carries.
struct PageLimits {
  std::size_t memory_points = 4500;
  std::size_t keep_all_points = 3000;
  std::size_t tensor_rows = 8000;
  std::size_t lane_slices = 6000;  // per lane
  std::size_t stall_rows = 200;
  std::size_t stack_frames = 24;  // innermost ones of a tensor's stack
  std::size_t heat_rows = 64;
  std::size_t heat_columns = 160;
  std::size_t text_columns = 200;      // of one name
  std::size_t text_bytes = 1'200'000;  // of all names; later ones are cut to 40 columns
};

nlohmann::ordered_json page_data(const RunContext& context,
                                 const PolicyResult& chosen,
                                 const std::vector<PolicyResult>& all_policies,
                                 const std::vector<TradeOffPoint>& curve,
                                 const PageLimits& limits = {});

}  // namespace spillway
