// SPDX-License-Identifier: Apache-2.0
// One builder for all rows, so that the keys of every command agree.
#include "integration/report/json.hpp"

#include "integration/report/clean_text.hpp"

#include <algorithm>

namespace spillway {
namespace {

using Json = nlohmann::ordered_json;

Json strings(const std::vector<std::string>& lines) {
  Json array = Json::array();
  for (const std::string& line : lines) array.push_back(clean_text(line));
  return array;
}

Json bytes_or_null(std::uint64_t bytes) { return bytes == 0 ? Json(nullptr) : Json(bytes); }

Json stalls_by_cause(const SimResult& sim) {
  Json causes = Json::object();
  for (int i = 0; i < kStallCauseCount; ++i) {
    std::string key(name_of(static_cast<StallCause>(i)));
    std::replace(key.begin(), key.end(), ' ', '_');
    causes[key] = sim.stall_ns[i];
  }
  return causes;
}

Json action_bytes(const ActionBytes& bytes) {
  return Json{{"keep", bytes.keep},
              {"compress", bytes.compress},
              {"offload", bytes.offload},
              {"recompute", bytes.recompute}};
}

Json holder_list(const std::vector<Holder>& holders) {
  Json array = Json::array();
  for (const Holder& holder : holders)
    array.push_back(Json{{"what", clean_text(holder.what)}, {"bytes", holder.bytes}});
  return array;
}

}  // namespace

nlohmann::ordered_json result_json(const RunContext& context,
                                   const PolicyResult& result,
                                   std::string_view schema) {
  const Profile& profile = *context.profile;
  const ProfileSummary& summary = *context.summary;
  const bool fits = result.feasible;
  const auto if_fits = [fits](auto value) { return fits ? Json(std::move(value)) : Json(nullptr); };

  Json object;
  object["schema"] = std::string(schema);
  object["trace"] = clean_text(context.trace);
  object["policy"] = clean_text(result.policy);
  object["feasible"] = fits;
  object["gave_up"] = result.gave_up;
  object["min_budget_bytes"] = result.min_budget_bytes;
  object["budget_bytes"] = bytes_or_null(result.budget_bytes);
  object["peak_bytes"] = if_fits(result.sim.peak_bytes);
  object["activation_peak_bytes"] = if_fits(result.sim.activation_peak_bytes);
  object["keep_all_peak_bytes"] = summary.keep_all_peak_bytes;
  object["activation_bytes"] = summary.activation_bytes;
  object["unmovable_bytes"] = summary.unmovable_bytes;
  object["step_ns"] = if_fits(result.sim.step_ns);
  object["keep_all_step_ns"] = context.keep_all_step_ns;
  object["bound_ns"] = if_fits(result.bound_ns);
  object["bound_method"] = if_fits(result.bound_method);
  object["trivial_bound_ns"] = if_fits(result.trivial_bound_ns);
  object["overhead"] = if_fits(overhead_of(context, result.sim.step_ns));
  object["gap"] =
      if_fits(overhead_of(context, result.sim.step_ns) - overhead_of(context, result.bound_ns));
  object["stall_ns"] = if_fits(result.sim.total_stall_ns());
  object["stall_ns_by_cause"] = if_fits(stalls_by_cause(result.sim));
  object["plan_ms"] = if_fits(result.plan_ms);
  object["tensors"] = profile.storages.size();
  object["measured"] = false;
  object["inferred"] = strings(profile.inferred);
  object["gpu"] = clean_text(context.device->name);
  object["calibration"] = clean_text(context.device->calibration);
  object["times_from"] = clean_text(context.times_from);
  object["link_from"] = clean_text(context.link_from);
  object["bytes"] = if_fits(action_bytes(result.bytes));
  if (!fits) {
    object["at"] = clean_text(result.infeasible_at);
    object["holders"] = holder_list(result.holders);
  }
  if (!context.warning.empty()) object["warning"] = clean_text(context.warning);
  return object;
}

nlohmann::ordered_json compare_json(const RunContext& context,
                                    const std::vector<PolicyResult>& results,
                                    std::uint64_t budget_bytes) {
  Json rows = Json::array();
  for (const PolicyResult& result : results)
    rows.push_back(result_json(context, result, "spillway.replay/1"));
  Json object;
  object["schema"] = "spillway.compare/1";
  object["trace"] = clean_text(context.trace);
  object["budget_bytes"] = bytes_or_null(budget_bytes);
  object["rows"] = std::move(rows);
  return object;
}

std::string dump_json(const nlohmann::ordered_json& value) {
  return value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace spillway
