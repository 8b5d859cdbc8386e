// SPDX-License-Identifier: Apache-2.0
// chen-sqrt: segments of about sqrt(n) layers (Chen et al. 2016, arXiv 1604.06174). With a budget,
// the greedy form: walk the candidates adding up activation bytes, checkpoint whenever the sum
// passes a limit; sweep the limit, take the cheapest that fits.
#include "policy/cuts.hpp"
#include "policy/lowering.hpp"
#include "policy/planners/chen_greedy.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace spillway {
namespace {

/// Bytes of movable storages made by ops up to and including each op.
std::vector<std::uint64_t> made_bytes(const Profile& profile) {
  std::vector<std::uint64_t> made(profile.ops.size(), 0);
  for (const Storage& storage : profile.storages)
    if (is_movable(storage)) made[storage.created_by.index()] += storage.bytes;
  for (std::size_t i = 1; i < made.size(); ++i) made[i] += made[i - 1];
  return made;
}

}  // namespace

std::uint64_t chen_sqrt_segment_bytes(const Profile& profile) {
  const std::vector<Cut> cuts = layer_cuts(profile);
  const std::vector<std::uint64_t> made = made_bytes(profile);
  const double segments =
      std::max(1.0, std::round(std::sqrt(static_cast<double>(cuts.size() + 1))));
  return made.empty() ? 0 : static_cast<std::uint64_t>(static_cast<double>(made.back()) / segments);
}

Choices chen_segments(const Profile& profile, const GapTable& gaps, std::uint64_t segment_bytes) {
  const std::vector<std::uint64_t> made = made_bytes(profile);
  std::vector<Cut> cuts;
  std::uint64_t last = 0;
  for (const Cut& cut : layer_cuts(profile)) {
    if (made[cut.after_op] - last < segment_bytes) continue;
    cuts.push_back(cut);
    last = made[cut.after_op];
  }
  return checkpoint_at(profile, gaps, cuts);
}

PlanOutcome plan_chen_sqrt(const Profile& profile,
                           const ProfileSummary& /*summary*/,
                           const DeviceModel& device,
                           const PlanRequest& request) {
  if (!request.variant.empty()) return plan_chen_greedy(profile, device, request);
  const GapTable gaps = find_gaps(profile);
  const std::uint64_t sqrt_bytes = chen_sqrt_segment_bytes(profile);
  const Choices fixed = chen_segments(profile, gaps, sqrt_bytes);
  if (request.budget_bytes == 0)
    return outcome_of(profile, device, request, gaps, fixed, "chen-sqrt");
  const Lowering lowering(profile, device, gaps);
  Choices best = fixed;
  Lowered best_lowered = lowering.just_in_time(fixed);
  constexpr std::array<double, 8> kFactors = {0.25, 0.35, 0.5, 0.7, 1.41, 2.0, 2.83, 4.0};
  for (const double factor : kFactors) {
    const Choices choices = chen_segments(
        profile, gaps, static_cast<std::uint64_t>(static_cast<double>(sqrt_bytes) * factor));
    Lowered lowered = lowering.just_in_time(choices);
    const bool fits = lowered.min_budget_bytes() <= request.budget_bytes;
    const bool best_fits = best_lowered.min_budget_bytes() <= request.budget_bytes;
    const bool better = fits != best_fits ? fits
                        : fits            ? lowered.recompute_ns < best_lowered.recompute_ns
                               : lowered.min_budget_bytes() < best_lowered.min_budget_bytes();
    if (!better) continue;
    best = choices;
    best_lowered = std::move(lowered);
  }
  return outcome_of(profile, device, request, gaps, best, "chen-sqrt");
}

}  // namespace spillway
