// SPDX-License-Identifier: Apache-2.0
// Families of settings, their choices, and the fastest that fits.
#include "policy/advise.hpp"

#include "policy/cuts.hpp"
#include "policy/lowering.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/torch_budget.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace spillway {
namespace {

using Kind = ToolSetting::Kind;

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

/// Does this forward op belong to the module that Megatron recomputes or offloads by that name?
/// By the op's kind, and by name where modules share kinds (names as the generator writes them).
bool is_recomputed_by(std::string_view module, const Op& op, std::string_view name) {
  if (op.tag.layer == kNoLayer) return false;
  const bool expert = starts_with(name, "expert") || starts_with(name, "router");
  if (module == "core_attn")
    return op.tag.kind == OpKind::kAttention || op.tag.kind == OpKind::kSoftmax;
  if (module == "layernorm") return op.tag.kind == OpKind::kNorm;
  if (module == "mlp") return starts_with(name, "mlp.") && op.tag.kind != OpKind::kDropout;
  if (module == "moe") return expert;
  if (module == "moe_act") return expert && op.tag.kind == OpKind::kElementwise;
  return false;
}

/// Fine-grained offload moves what a module reads.
bool is_offloaded_by(std::string_view module, const Op& op, std::string_view name) {
  if (op.tag.layer == kNoLayer) return false;
  if (module == "attn_norm") return op.tag.kind == OpKind::kNorm && starts_with(name, "ln1");
  if (module == "mlp_norm") return op.tag.kind == OpKind::kNorm && starts_with(name, "ln2");
  if (module == "qkv_linear") return starts_with(name, "attn.qkv");
  if (module == "core_attn") return op.tag.kind == OpKind::kAttention;
  if (module == "attn_proj") return starts_with(name, "attn.proj") || starts_with(name, "attn.out");
  if (module == "expert_fc1")
    return starts_with(name, "expert") && op.tag.kind == OpKind::kMatmul &&
           name.find("down") == std::string_view::npos;
  if (module == "moe_act")
    return starts_with(name, "expert") && op.tag.kind == OpKind::kElementwise;
  return false;
}

constexpr std::array<std::string_view, 5> kRecomputeModules = {
    "core_attn", "layernorm", "mlp", "moe_act", "moe"};
constexpr std::array<std::string_view, 7> kOffloadModules = {
    "attn_norm", "qkv_linear", "core_attn", "attn_proj", "mlp_norm", "expert_fc1", "moe_act"};

constexpr std::uint32_t kNoGroup = 0xffffffff;

/// Per forward op the group of layers that is checkpointed as one; kNoGroup: runs as usual.
std::vector<std::uint32_t> groups_of(const Profile& profile,
                                     const std::vector<std::uint32_t>& layers,
                                     std::uint32_t per_group) {
  std::vector<std::uint32_t> groups(profile.ops.size(), kNoGroup);
  for (std::size_t o = 0; o < groups.size(); ++o) {
    const OpTag& tag = profile.ops[o].tag;
    if (tag.phase != Phase::kForward || tag.layer == kNoLayer) continue;
    const auto at = std::lower_bound(layers.begin(), layers.end(), tag.layer);
    if (at != layers.end() && *at == tag.layer)
      groups[o] = static_cast<std::uint32_t>(at - layers.begin()) / per_group;
  }
  return groups;
}

bool is_forward(const Profile& profile, std::uint32_t op) {
  return profile.ops[op].tag.phase == Phase::kForward;
}

/// The action of each storage between forward and backward.
std::vector<Action> actions_of(const ToolSetting& setting, const Profile& profile) {
  std::vector<Action> actions(profile.storages.size(), Action::kKeep);
  const std::vector<std::uint32_t> all = blocks_of(profile);
  std::vector<std::uint32_t> layers = all;
  std::uint32_t per_group = 1;
  switch (setting.kind) {
    case Kind::kTorchBudget:
      return actions;
    case Kind::kTorchBlocks:
      layers = setting.blocks;
      break;
    case Kind::kMegatronBlock:
    case Kind::kTeOffload:
      layers.resize(std::min<std::size_t>(layers.size(), setting.count));
      break;
    case Kind::kMegatronUniform:
    case Kind::kDeepspeedEvery:
      per_group = std::max(1u, setting.count);
      break;
    case Kind::kMegatronSelective:
      break;
  }
  const std::vector<std::uint32_t> groups = groups_of(profile, layers, per_group);
  for (std::size_t s = 0; s < actions.size(); ++s) {
    const Storage& storage = profile.storages[s];
    if (!storage.created_by.valid() || !is_movable(storage)) continue;
    const std::uint32_t maker = storage.created_by.value;
    if (!is_forward(profile, maker)) continue;
    const Op& op = profile.ops[maker];
    if (setting.kind == Kind::kMegatronSelective) {
      const std::string_view name = profile.text(op.name);
      for (const std::string& module : setting.recompute_modules)
        if (is_recomputed_by(module, op, name)) actions[s] = Action::kRecompute;
      if (actions[s] != Action::kKeep) continue;
      for (const std::uint32_t user : profile.uses_of(storage)) {
        if (user == maker || !is_forward(profile, user)) continue;
        for (const std::string& module : setting.offload_modules)
          if (is_offloaded_by(module, profile.ops[user], profile.text(profile.ops[user].name)))
            actions[s] = Action::kOffload;
      }
      continue;
    }
    if (setting.kind == Kind::kTeOffload) {
      if (groups[maker] != kNoGroup) actions[s] = Action::kOffload;
      continue;
    }
    bool read_outside = false;
    bool read_by_other_group = false;
    for (const std::uint32_t user : profile.uses_of(storage)) {
      if (!is_forward(profile, user) || groups[user] == groups[maker]) continue;
      read_outside = true;
      read_by_other_group = read_by_other_group || groups[user] != kNoGroup;
    }
    if (groups[maker] != kNoGroup && !read_outside) actions[s] = Action::kRecompute;
    if (setting.cpu && read_by_other_group) actions[s] = Action::kOffload;
  }
  return actions;
}

class Search {
 public:
  Search(const Profile& profile,
         const ProfileSummary& summary,
         const DeviceModel& device,
         const PlanRequest& request,
         const Plan& ours,
         const GapTable& gaps,
         const Lowering& lowering)
      : profile_(profile),
        summary_(summary),
        device_(device),
        request_(request),
        ours_(ours),
        gaps_(gaps),
        lowering_(lowering),
        budget_bytes_(request.budget_bytes != 0 ? request.budget_bytes
                                                : summary.keep_all_peak_bytes) {}

  /// Tries a setting for a family; true when it is the family's best so far.
  bool enter(const ToolSetting& setting, Advice* best) const {
    const Choices choices = choices_of(setting, profile_, gaps_);
    const Lowered tight = lowering_.just_in_time(choices);
    bool better = false;
    // Prefetches moved ahead can meet recomputes that need the room.
    for (const bool ahead : {true, false}) {
      Plan plan = make_plan(profile_,
                            gaps_,
                            choices,
                            ahead ? lowering_.ahead(choices, budget_bytes_, tight) : tight,
                            "advice",
                            request_.budget_bytes);
      SimOptions options;
      options.budget_bytes = budget_bytes_;
      options.pinned_bytes = request_.pinned_bytes;
      auto sim = simulate(profile_, device_, plan, options);
      if (!sim.ok()) continue;
      const std::uint64_t need = sim.value().min_budget_bytes;
      const bool least = best->min_budget_bytes == 0 || need < best->min_budget_bytes;
      if (least) best->min_budget_bytes = need;
      const bool fits = sim.value().fits;
      const bool faster = fits && (!best->feasible || sim.value().step_ns < best->sim.step_ns);
      if (!faster && !(least && !best->feasible)) continue;
      best->setting = setting;
      best->feasible = fits;
      best->agreement = agreement_of(plan);
      best->plan = std::move(plan);
      best->sim = std::move(sim).value();
      better = true;
    }
    return better;
  }

  [[nodiscard]] std::size_t limit() const {
    return std::max<std::size_t>(8, candidate_limit(profile_) / 2);
  }

  /// Layers by the bytes that our plan moves out of them, most first.
  [[nodiscard]] std::vector<std::uint32_t> blocks_by_relief() const {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> order;
    for (const std::uint32_t layer : blocks_of(profile_)) order.emplace_back(0, layer);
    for (const StorageId id : activations(profile_, summary_)) {
      const Storage& storage = profile_.storages[id.index()];
      if (!storage.created_by.valid() || ours_.decisions.size() <= id.index() ||
          ours_.decisions[id.index()].action == Action::kKeep)
        continue;
      const std::uint16_t layer = profile_.ops[storage.created_by.index()].tag.layer;
      for (auto& [bytes, number] : order)
        if (number == layer) bytes += storage.bytes;
    }
    std::stable_sort(
        order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<std::uint32_t> layers;
    layers.reserve(order.size());
    for (const auto& entry : order) layers.push_back(entry.second);
    return layers;
  }

 private:
  [[nodiscard]] double agreement_of(const Plan& plan) const {
    std::uint64_t same = 0;
    std::uint64_t all = 0;
    for (const StorageId id : activations(profile_, summary_)) {
      const std::size_t s = id.index();
      const std::uint64_t bytes = profile_.storages[s].bytes;
      all += bytes;
      if (s < ours_.decisions.size() && s < plan.decisions.size() &&
          ours_.decisions[s].action == plan.decisions[s].action)
        same += bytes;
    }
    return all == 0 ? 1.0 : static_cast<double>(same) / static_cast<double>(all);
  }

  const Profile& profile_;
  const ProfileSummary& summary_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  const Plan& ours_;
  const GapTable& gaps_;
  const Lowering& lowering_;
  std::uint64_t budget_bytes_;
};

Advice torch_budget(const Search& search) {
  Advice best;
  constexpr int kSteps = 10;
  for (int i = kSteps; i >= 0; --i) {
    ToolSetting setting;
    setting.kind = Kind::kTorchBudget;
    setting.fraction = static_cast<double>(i) / kSteps;
    (void)search.enter(setting, &best);
  }
  return best;
}

Advice torch_blocks(const Search& search) {
  Advice best;
  const std::vector<std::uint32_t> order = search.blocks_by_relief();
  std::vector<std::uint32_t> counts =
      thinned(static_cast<std::uint32_t>(order.size()), search.limit());
  counts.insert(counts.begin(), 0);
  for (const std::uint32_t count : counts) {
    ToolSetting setting;
    setting.kind = Kind::kTorchBlocks;
    setting.blocks.assign(order.begin(), order.begin() + count);
    std::sort(setting.blocks.begin(), setting.blocks.end());
    (void)search.enter(setting, &best);
  }
  return best;
}

Advice counted(const Search& search, Kind kind, std::uint32_t most, bool cpu) {
  Advice best;
  for (const std::uint32_t count : thinned(most, search.limit())) {
    ToolSetting setting;
    setting.kind = kind;
    setting.count = count;
    setting.cpu = cpu;
    (void)search.enter(setting, &best);
  }
  return best;
}

/// Every set of modules that recompute, then offloaded modules one by one while they help.
Advice megatron_selective(const Search& search, const Profile& profile) {
  std::vector<std::string> present;
  for (const std::string_view module : kRecomputeModules)
    for (const Op& op : profile.ops)
      if (op.tag.phase == Phase::kForward && is_recomputed_by(module, op, profile.text(op.name))) {
        present.emplace_back(module);
        break;
      }
  Advice best;
  for (std::size_t set = 0; set < std::size_t{1} << present.size(); ++set) {
    ToolSetting setting;
    setting.kind = Kind::kMegatronSelective;
    for (std::size_t i = 0; i < present.size(); ++i)
      if ((set >> i & 1) != 0) setting.recompute_modules.push_back(present[i]);
    (void)search.enter(setting, &best);
  }
  for (std::size_t round = 0; round < kOffloadModules.size(); ++round) {
    const ToolSetting base = best.setting;
    bool helped = false;
    for (const std::string_view module : kOffloadModules) {
      if (std::find(base.offload_modules.begin(), base.offload_modules.end(), module) !=
          base.offload_modules.end())
        continue;
      // What offload takes on, recompute may leave: with each recomputed module given up, and none.
      const std::size_t drops = search.limit() < 30 ? 0 : base.recompute_modules.size();
      for (std::size_t drop = 0; drop <= drops; ++drop) {
        ToolSetting setting = base;
        setting.offload_modules.emplace_back(module);
        if (drop < drops)
          setting.recompute_modules.erase(setting.recompute_modules.begin() +
                                          static_cast<std::ptrdiff_t>(drop));
        helped = search.enter(setting, &best) || helped;
      }
    }
    if (!helped) break;
  }
  return best;
}

}  // namespace

std::string_view name_of(Tool tool) {
  constexpr std::array<std::string_view, kToolCount> kNames = {
      "torch", "megatron", "deepspeed", "te"};
  const auto i = static_cast<std::size_t>(tool);
  return i < kNames.size() ? kNames[i] : kNames[0];
}

Result<Tool> parse_tool(std::string_view text) {
  for (int i = 0; i < kToolCount; ++i)
    if (name_of(static_cast<Tool>(i)) == text) return static_cast<Tool>(i);
  return Status(Code::kInvalidArgument,
                "--advise: expected torch, megatron, deepspeed or te, found '" +
                    std::string(text.substr(0, 80)) + "'");
}

std::vector<std::uint32_t> blocks_of(const Profile& profile) {
  std::vector<std::uint32_t> layers;
  for (const Op& op : profile.ops)
    if (op.tag.phase == Phase::kForward && op.tag.layer != kNoLayer) layers.push_back(op.tag.layer);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

Choices choices_of(const ToolSetting& setting, const Profile& profile, const GapTable& gaps) {
  if (setting.kind == Kind::kTorchBudget)
    return keep_only(profile, gaps, torch_budget_saved(profile, gaps, setting.fraction));
  const std::vector<Action> actions = actions_of(setting, profile);
  Choices choices(gaps.gaps.size());
  for (std::size_t g = 0; g < choices.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    const bool crosses =
        gap.returns && is_forward(profile, gap.after_op) && !is_forward(profile, gap.before_op);
    if (!crosses) continue;
    const Action action = actions[gap.storage];
    if (action == Action::kRecompute && !gap.rebuildable) continue;
    choices[g].action = action;
  }
  return choices;
}

Result<std::vector<Advice>> advise(Tool tool,
                                   const Profile& profile,
                                   const ProfileSummary& summary,
                                   const DeviceModel& device,
                                   const PlanRequest& request,
                                   const Plan& ours) {
  const auto layers = static_cast<std::uint32_t>(blocks_of(profile).size());
  const std::string who = "--advise " + std::string(name_of(tool)) + ": expected a trace ";
  if (layers == 0 && tool != Tool::kTorch)
    return Status(Code::kInvalidArgument, who + "whose ops name their layers, found none");
  if (!profile.can_recompute && tool != Tool::kTe)
    return Status(Code::kInvalidArgument,
                  who + "whose ops have inputs and outputs, found lifetimes alone");
  const GapTable gaps = find_gaps(profile);
  const Lowering lowering(profile, device, gaps);
  const Search search(profile, summary, device, request, ours, gaps, lowering);
  std::vector<Advice> advice;
  switch (tool) {
    case Tool::kTorch:
      advice.push_back(torch_budget(search));
      if (layers > 0) advice.push_back(torch_blocks(search));
      break;
    case Tool::kMegatron:
      advice.push_back(megatron_selective(search, profile));
      advice.push_back(counted(search, Kind::kMegatronBlock, layers, false));
      advice.push_back(counted(search, Kind::kMegatronUniform, layers, false));
      break;
    case Tool::kDeepspeed:
      advice.push_back(counted(search, Kind::kDeepspeedEvery, layers, false));
      advice.push_back(counted(search, Kind::kDeepspeedEvery, layers, true));
      break;
    case Tool::kTe:
      advice.push_back(counted(search, Kind::kTeOffload, layers, false));
      break;
  }
  std::stable_sort(advice.begin(), advice.end(), [](const Advice& a, const Advice& b) {
    if (a.feasible != b.feasible) return a.feasible;
    return a.feasible ? a.sim.step_ns < b.sim.step_ns : a.min_budget_bytes < b.min_budget_bytes;
  });
  return advice;
}

}  // namespace spillway
