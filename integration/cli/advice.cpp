// SPDX-License-Identifier: Apache-2.0
// Settings in the words of torch, Megatron, DeepSpeed and Transformer Engine.
#include "integration/cli/advice.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace spillway::cli {
namespace {

/// "0-3,7": runs of numbers.
std::string ranges(const std::vector<std::uint32_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (end > i) text += "-" + std::to_string(numbers[end]);
    i = end + 1;
  }
  return text.empty() ? "none" : text;
}

std::string words(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& word : list) text += " " + word;
  return text;
}

}  // namespace

std::string setting_text(const ToolSetting& setting, const Profile& profile) {
  using Kind = ToolSetting::Kind;
  const std::size_t layers = blocks_of(profile).size();
  switch (setting.kind) {
    case Kind::kTorchBudget:
      return fmt::format("torch._functorch.config.activation_memory_budget = {:.1f}",
                         setting.fraction);
    case Kind::kTorchBlocks:
      return "torch.utils.checkpoint around blocks " + ranges(setting.blocks);
    case Kind::kMegatronSelective: {
      std::string text;
      if (!setting.recompute_modules.empty())
        text = "--recompute-granularity selective --recompute-modules" +
               words(setting.recompute_modules);
      if (!setting.offload_modules.empty())
        text += std::string(text.empty() ? "" : " ") +
                "--fine-grained-activation-offloading --offload-modules" +
                words(setting.offload_modules);
      return text.empty() ? "no recompute flags" : text;
    }
    case Kind::kMegatronBlock:
      return fmt::format(
          "--recompute-granularity full --recompute-method block --recompute-num-layers {}",
          setting.count);
    case Kind::kMegatronUniform:
      return fmt::format(
          "--recompute-granularity full --recompute-method uniform --recompute-num-layers {}",
          setting.count);
    case Kind::kDeepspeedEvery:
      return fmt::format(
          "\"activation_checkpointing\": {{\"cpu_checkpointing\": {}, \"number_checkpoints\": {}}} "
          "with checkpoint() around every {} layer(s)",
          setting.cpu,
          (layers + setting.count - 1) / std::max<std::uint32_t>(1, setting.count),
          setting.count);
    case Kind::kTeOffload:
      return fmt::format(
          "get_cpu_offload_context(enabled=True, num_layers={}, model_layers={}, "
          "offload_activations=True, offload_weights=False)",
          setting.count,
          layers);
  }
  return "";
}

std::string advice_text(const RunContext& context,
                        Tool tool,
                        const PolicyResult& ours,
                        const std::vector<Advice>& advice) {
  std::string out =
      fmt::format("\nnearest settings of {}, in the same model and budget\n", name_of(tool));
  for (const Advice& one : advice) {
    out += "  " + setting_text(one.setting, *context.profile) + "\n";
    if (one.feasible) {
      out += fmt::format(
          "      step {}, overhead {}, peak {}; {} of activation bytes treated as {} does\n",
          format_ns(one.sim.step_ns),
          format_percent(overhead_of(context, one.sim.step_ns), true),
          format_bytes(one.sim.peak_bytes),
          format_percent(one.agreement),
          clean_text(ours.policy));
    } else {
      out += fmt::format("      does not fit: no setting of this kind needs less than {}\n",
                         format_bytes(one.min_budget_bytes));
    }
  }
  if (!ours.feasible) return out + "  no plan of ours fits either\n";
  out += fmt::format("  {}: step {}, overhead {}",
                     clean_text(ours.policy),
                     format_ns(ours.sim.step_ns),
                     format_percent(overhead_of(context, ours.sim.step_ns), true));
  if (advice.empty() || !advice.front().feasible) return out + "; none of these fits\n";
  const double points = 100 * (overhead_of(context, advice.front().sim.step_ns) -
                               overhead_of(context, ours.sim.step_ns));
  return out + fmt::format(", {:.1f} points less than the best of these\n", points);
}

nlohmann::ordered_json advice_json(const RunContext& context,
                                   Tool tool,
                                   const PolicyResult& ours,
                                   const std::vector<Advice>& advice) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const Advice& one : advice) {
    const bool fits = one.feasible;
    const auto if_fits = [fits](auto value) { return fits ? Json(value) : Json(nullptr); };
    Json object;
    object["setting"] = setting_text(one.setting, *context.profile);
    object["feasible"] = fits;
    object["min_budget_bytes"] = one.min_budget_bytes;
    object["peak_bytes"] = if_fits(one.sim.peak_bytes);
    object["step_ns"] = if_fits(one.sim.step_ns);
    object["overhead"] = if_fits(overhead_of(context, one.sim.step_ns));
    object["agreement"] = if_fits(one.agreement);
    list.push_back(std::move(object));
  }
  Json object;
  object["tool"] = std::string(name_of(tool));
  object["settings"] = std::move(list);
  const bool both = ours.feasible && !advice.empty() && advice.front().feasible;
  object["gain"] = both ? Json(overhead_of(context, advice.front().sim.step_ns) -
                               overhead_of(context, ours.sim.step_ns))
                        : Json(nullptr);
  return object;
}

}  // namespace spillway::cli
