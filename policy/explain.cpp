// SPDX-License-Identifier: Apache-2.0
// Back from a program to choices, then one choice changed at a time.
#include "policy/explain.hpp"

#include "policy/codec_choice.hpp"
#include "policy/lowering.hpp"
#include "policy/simulator.hpp"

#include <algorithm>
#include <optional>

namespace spillway {
namespace {

struct Price {
  bool fits = false;
  std::int64_t step_ns = 0;
  std::uint64_t min_budget_bytes = 0;
};

class Pricer {
 public:
  Pricer(const Profile& profile,
         const DeviceModel& device,
         const GapTable& gaps,
         std::uint64_t pinned_bytes)
      : profile_(profile),
        device_(device),
        gaps_(gaps),
        lowering_(profile, device, gaps),
        pinned_bytes_(pinned_bytes) {}

  /// The faster of prefetches ahead of time and just in time.
  [[nodiscard]] Price price(const Choices& choices, std::uint64_t budget_bytes) const {
    Price best;
    const Lowered tight = lowering_.just_in_time(choices);
    best.min_budget_bytes = tight.min_budget_bytes();
    if (best.min_budget_bytes > budget_bytes) return best;
    SimOptions options;
    options.budget_bytes = budget_bytes;
    options.pinned_bytes = pinned_bytes_;
    for (const bool ahead : {true, false}) {
      const Plan plan = make_plan(profile_,
                                  gaps_,
                                  choices,
                                  ahead ? lowering_.ahead(choices, budget_bytes, tight) : tight,
                                  "",
                                  budget_bytes);
      const auto sim = simulate(profile_, device_, plan, options);
      if (!sim.ok() || !sim.value().fits) continue;
      if (best.fits && sim.value().step_ns >= best.step_ns) continue;
      best.fits = true;
      best.step_ns = sim.value().step_ns;
    }
    return best;
  }

 private:
  const Profile& profile_;
  const DeviceModel& device_;
  const GapTable& gaps_;
  const Lowering lowering_;
  std::uint64_t pinned_bytes_;
};

std::optional<std::uint32_t> widest_gap(const GapTable& gaps, std::uint32_t storage) {
  std::optional<std::uint32_t> widest;
  for (std::uint32_t g = gaps.of_storage[storage]; g < gaps.of_storage[storage + 1]; ++g) {
    const Gap& gap = gaps.gaps[g];
    if (!gap.returns) continue;
    if (!widest ||
        gap.before_op - gap.after_op > gaps.gaps[*widest].before_op - gaps.gaps[*widest].after_op)
      widest = g;
  }
  return widest;
}

std::vector<Decision> decisions_for(const Profile& profile,
                                    const Gap& gap,
                                    const PlanRequest& request) {
  std::vector<Decision> decisions = {Decision()};
  const Codec codec = best_codec(profile, gap.storage, request);
  const bool compress = allows(request.actions, Action::kCompress) && codec != Codec::kNone;
  const bool offload = allows(request.actions, Action::kOffload);
  if (compress) decisions.push_back({Action::kCompress, codec});
  if (offload) decisions.push_back({Action::kOffload, Codec::kNone});
  if (offload && compress) decisions.push_back({Action::kOffload, codec});
  if (allows(request.actions, Action::kRecompute) && gap.rebuildable)
    decisions.push_back({Action::kRecompute, Codec::kNone});
  return decisions;
}

}  // namespace

Choices choices_of_program(const Profile& profile,
                           const GapTable& gaps,
                           const std::vector<Instruction>& program) {
  Choices choices(gaps.gaps.size());
  const auto gap_at = [&](std::uint32_t storage, std::uint32_t next_op) -> Decision* {
    if (storage >= profile.storages.size()) return nullptr;
    for (std::uint32_t g = gaps.of_storage[storage]; g < gaps.of_storage[storage + 1]; ++g)
      if (gaps.gaps[g].after_op < next_op && next_op <= gaps.gaps[g].before_op) return &choices[g];
    return nullptr;
  };
  std::uint32_t next_op = 0;
  for (const Instruction& instruction : program) {
    if (instruction.kind == InstructionKind::kCompute) {
      ++next_op;
      continue;
    }
    if (instruction.kind != InstructionKind::kDrop &&
        instruction.kind != InstructionKind::kCompress &&
        instruction.kind != InstructionKind::kOffload)
      continue;
    Decision* decision = gap_at(instruction.target, next_op);
    if (decision == nullptr) continue;
    if (instruction.kind == InstructionKind::kOffload) {
      // After an encoding the payload leaves: one decision.
      if (decision->action == Action::kKeep || decision->action == Action::kCompress)
        decision->action = Action::kOffload;
    } else if (decision->action == Action::kKeep) {
      *decision = instruction.kind == InstructionKind::kCompress
                      ? Decision{Action::kCompress, instruction.codec}
                      : Decision{Action::kRecompute, Codec::kNone};
    }
  }
  return choices;
}

ExplainedPlan explain(const Profile& profile,
                      const ProfileSummary& summary,
                      const DeviceModel& device,
                      const PlanRequest& request,
                      const Plan& plan,
                      const std::vector<std::uint32_t>& storages) {
  const GapTable gaps = find_gaps(profile);
  const Pricer pricer(profile, device, gaps, request.pinned_bytes);
  const Choices base = choices_of_program(profile, gaps, plan.program);
  ExplainedPlan explained;
  explained.budget_bytes =
      request.budget_bytes != 0 ? request.budget_bytes : summary.keep_all_peak_bytes;
  Price now = pricer.price(base, explained.budget_bytes);
  if (!now.fits && now.min_budget_bytes > explained.budget_bytes) {
    explained.budget_bytes = now.min_budget_bytes;
    now = pricer.price(base, explained.budget_bytes);
  }
  explained.step_ns = now.step_ns;
  for (const std::uint32_t storage : storages) {
    if (storage >= profile.storages.size()) continue;
    const auto gap = widest_gap(gaps, storage);
    if (!gap) continue;
    Explanation explanation;
    explanation.storage = storage;
    explanation.bytes = profile.storages[storage].bytes;
    explanation.chosen = base[*gap];
    for (const Decision& decision : decisions_for(profile, gaps.gaps[*gap], request)) {
      if (decision == base[*gap]) continue;
      Choices other = base;
      other[*gap] = decision;
      const Price price = pricer.price(other, explained.budget_bytes);
      explanation.alternatives.push_back(
          {decision, price.fits, price.step_ns, price.min_budget_bytes});
    }
    std::stable_sort(explanation.alternatives.begin(),
                     explanation.alternatives.end(),
                     [](const Alternative& a, const Alternative& b) {
                       if (a.fits != b.fits) return a.fits;
                       return a.fits && a.step_ns < b.step_ns;
                     });
    explained.explanations.push_back(std::move(explanation));
  }
  return explained;
}

std::vector<std::uint32_t> largest_storages(const Profile& profile,
                                            std::string_view part,
                                            std::size_t count) {
  const GapTable gaps = find_gaps(profile);
  std::vector<std::uint32_t> storages;
  for (std::uint32_t s = 0; s < profile.storages.size(); ++s)
    if (widest_gap(gaps, s) &&
        profile.text(profile.storages[s].name).find(part) != std::string_view::npos)
      storages.push_back(s);
  std::stable_sort(storages.begin(), storages.end(), [&](std::uint32_t a, std::uint32_t b) {
    return profile.storages[a].bytes > profile.storages[b].bytes;
  });
  if (storages.size() > count) storages.resize(count);
  return storages;
}

}  // namespace spillway
