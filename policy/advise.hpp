// SPDX-License-Identifier: Apache-2.0
// What other tools can be told: their settings as plans of ours. Each family of settings is tried
// on the same step and budget; the fastest that fits is the nearest to what a plan per tensor does.
#pragma once

#include "core/status.hpp"
#include "policy/device_model.hpp"
#include "policy/gaps.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

enum class Tool : std::uint8_t { kTorch, kMegatron, kDeepspeed, kTe };
inline constexpr int kToolCount = 4;
std::string_view name_of(Tool tool);
/// kInvalidArgument lists the known names.
Result<Tool> parse_tool(std::string_view text);

/// One setting of a tool, as it would be written there.
struct ToolSetting {
  enum class Kind : std::uint8_t {
    kTorchBudget,        // torch: activation_memory_budget = fraction
    kTorchBlocks,        // torch: torch.utils.checkpoint around `blocks`
    kMegatronSelective,  // --recompute-granularity selective, `recompute_modules`
    kMegatronBlock,      // full, --recompute-method block, the first `count` layers
    kMegatronUniform,    // full, --recompute-method uniform, chunks of `count` layers
    kDeepspeedEvery,     // checkpoint() around every `count` layers; `cpu`: cpu_checkpointing
    kTeOffload,          // get_cpu_offload_context(num_layers = count)
  };
  Kind kind = Kind::kTorchBudget;
  double fraction = 0;
  std::uint32_t count = 0;
  bool cpu = false;
  std::vector<std::uint32_t> blocks;           // layer numbers of the trace, ascending
  std::vector<std::string> recompute_modules;  // Megatron's names
  std::vector<std::string> offload_modules;    // Megatron's names, fine-grained offload
};

/// The best of one family.
struct Advice {
  ToolSetting setting;
  bool feasible = false;
  std::uint64_t min_budget_bytes = 0;  // the least budget of any setting of the family
  Plan plan;                           // feasible: what the setting does, in our model
  SimResult sim;
  double agreement = 0;  // share of activation bytes treated as `ours` treats them
};

/// The layers of the trace that forward ops name, ascending: what tools call blocks.
std::vector<std::uint32_t> blocks_of(const Profile& profile);

/// The decisions of a setting as choices per gap. A checkpointed block keeps what it reads from
/// outside and drops what it makes for itself; TE and cpu_checkpointing offload instead of keeping.
Choices choices_of(const ToolSetting& setting, const Profile& profile, const GapTable& gaps);

/// The best setting of each family of `tool` under `request`'s budget (0: keep-all's peak) and
/// pinned bytes; best family first. `ours` is the plan to compare decisions with; it also ranks the
/// blocks that torch should checkpoint. At most some hundred simulations, fewer in long steps.
/// kInvalidArgument when the tool cannot act on this trace: no layers, or ops without inputs.
Result<std::vector<Advice>> advise(Tool tool,
                                   const Profile& profile,
                                   const ProfileSummary& summary,
                                   const DeviceModel& device,
                                   const PlanRequest& request,
                                   const Plan& ours);

}  // namespace spillway
