// SPDX-License-Identifier: Apache-2.0
// chen-sqrt:greedy and chen-sqrt:strict: Chen et al. 2016 (arXiv 1604.06174), algorithm 3, on the
// graph itself: walk the ops adding up the bytes they make; past a limit b, keep the outputs of the
// next op that may be a checkpoint and begin anew. b is swept around sqrt(total bytes x largest).
#include "policy/planners/chen_greedy.hpp"

#include "policy/bottlenecks.hpp"
#include "policy/cuts.hpp"
#include "policy/lowering.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace spillway {

std::vector<char> chen_greedy_checkpoints(const Profile& profile,
                                          const std::vector<char>& may_keep,
                                          std::uint64_t limit_bytes) {
  std::vector<char> kept(profile.storages.size(), 0);
  std::uint64_t sum_bytes = 0;
  bool forward = false;
  for (std::size_t i = 0; i < profile.ops.size(); ++i) {
    const Op& op = profile.ops[i];
    if (op.tag.phase != Phase::kForward) {
      forward = false;
      continue;
    }
    if (!forward) sum_bytes = 0;  // the next round
    forward = true;
    for (const Use use : profile.uses_of(op)) {
      const Storage& storage = profile.storages[profile.storage_of(use).index()];
      if (use.creates() && storage.created_by.value == i && is_movable(storage))
        sum_bytes += storage.bytes;
    }
    if (sum_bytes <= limit_bytes || may_keep[i] == 0) continue;
    for (const Use use : profile.uses_of(op))
      if (use.creates()) kept[profile.storage_of(use).index()] = 1;
    sum_bytes = 0;
  }
  return kept;
}

PlanOutcome plan_chen_greedy(const Profile& profile,
                             const DeviceModel& device,
                             const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const Lowering lowering(profile, device, gaps);
  double total = 0;
  double largest = 1;
  for (const Storage& storage : profile.storages) {
    if (!is_movable(storage)) continue;
    total += static_cast<double>(storage.bytes);
    largest = std::max(largest, static_cast<double>(storage.bytes));
  }
  const double middle = std::sqrt(total * largest);
  std::vector<std::vector<char>> legal = {bottleneck_ops(profile, 0)};
  if (request.variant != "strict") legal.emplace_back(profile.ops.size(), char{1});
  std::optional<Choices> best;
  std::uint64_t best_bytes = 0;
  std::int64_t best_ns = 0;
  for (const std::vector<char>& may_keep : legal)
    for (int i = -6; i <= 6; ++i) {
      const auto limit = static_cast<std::uint64_t>(middle * std::pow(2.0, i / 2.0));
      Choices choices = keep_only(profile, gaps, chen_greedy_checkpoints(profile, may_keep, limit));
      const Lowered lowered = lowering.just_in_time(choices);
      const std::uint64_t bytes = lowered.min_budget_bytes();
      // Without a budget the method looks for the least memory.
      const bool fits = request.budget_bytes != 0 && bytes <= request.budget_bytes;
      const bool best_fits = request.budget_bytes != 0 && best_bytes <= request.budget_bytes;
      const bool better = !best               ? true
                          : fits != best_fits ? fits
                          : fits              ? lowered.recompute_ns < best_ns
                                              : bytes < best_bytes;
      if (!better) continue;
      best = std::move(choices);
      best_bytes = bytes;
      best_ns = lowered.recompute_ns;
    }
  return outcome_of(profile, device, request, gaps, *best, policy_text("chen-sqrt", request));
}

}  // namespace spillway
