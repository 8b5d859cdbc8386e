// SPDX-License-Identifier: Apache-2.0
// The log is read a second time, as events: a profile no longer knows when names come and go.
#include "integration/cli/simrd.hpp"

#include "integration/report/clean_text.hpp"
#include "integration/trace/dtr_events.hpp"
#include "policy/dtr/dtr_engine.hpp"

#include <fmt/core.h>

#include <optional>

namespace spillway::cli {

Result<nlohmann::ordered_json> simrd_json(const std::string& trace,
                                          const std::string& policy,
                                          std::uint64_t budget_bytes) {
  std::optional<DtrScore> score;
  if (policy == "dtr") score = DtrScore::kDtr;
  if (policy.rfind("dtr:", 0) == 0) score = find_dtr_score(std::string_view(policy).substr(4));
  if (!score)
    return Status(Code::kInvalidArgument,
                  "--simrd: expected --policy dtr or dtr:SCORE, found '" + policy + "'");
  if (budget_bytes == 0)
    return Status(Code::kInvalidArgument, "--simrd: expected --budget with it, found none");
  SPW_ASSIGN_OR_RETURN(const DtrLog log, read_dtr_events(trace));
  SPW_ASSIGN_OR_RETURN(const DtrResult result, run_dtr(log, *score, budget_bytes));
  nlohmann::ordered_json object;
  object["log"] = clean_text(trace);
  object["heuristic"] = std::string(simulator_name_of(*score));
  object["budget_bytes"] = budget_bytes;
  object["result"] = std::string(name_of(result.end));
  object["clock_ns"] = result.clock_ns;
  object["overhead_clock_over_model_compute"] =
      result.log_ns > 0 ? static_cast<double>(result.clock_ns) / static_cast<double>(result.log_ns)
                        : 1.0;
  object["model_compute_ns"] = result.model_ns;
  object["remat_compute_ns"] = result.remat_ns;
  object["max_memory_bytes"] = result.peak_bytes;
  object["n_evictions_in_free"] = result.eviction_count;
  object["bytes_evicted_in_free"] = result.evicted_bytes;
  object["n_remat_calls"] = result.remat_count;
  return object;
}

std::string simrd_line(const nlohmann::ordered_json& simrd) {
  return fmt::format(
      "simrd {}: {}, clock {} ns ({:.4f} of compute), {} evictions of {} bytes, {} "
      "rematerialisations, peak {} bytes\n",
      simrd.at("heuristic").get<std::string>(),
      simrd.at("result").get<std::string>(),
      simrd.at("clock_ns").get<std::int64_t>(),
      simrd.at("overhead_clock_over_model_compute").get<double>(),
      simrd.at("n_evictions_in_free").get<std::uint64_t>(),
      simrd.at("bytes_evicted_in_free").get<std::uint64_t>(),
      simrd.at("n_remat_calls").get<std::uint64_t>(),
      simrd.at("max_memory_bytes").get<std::uint64_t>());
}

}  // namespace spillway::cli
