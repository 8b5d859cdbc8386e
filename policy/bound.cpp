// SPDX-License-Identifier: Apache-2.0
// Which ops to look at, how much work to spend, and the best of what each way proves.
#include "policy/bound.hpp"

#include "policy/bound/bound_step.hpp"
#include "policy/bound/knapsack.hpp"
#include "policy/bound/linear_program.hpp"
#include "policy/bound/relaxation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace spillway {
namespace {

struct Effort {
  std::uint32_t points;
  std::uint32_t knapsack_points;
  std::size_t entries;  // largest linear program
  std::uint64_t work;   // columns times simplex steps
};

Effort effort_of(const BoundOptions& options) {
  Effort effort = options.effort == BoundEffort::kBest ? Effort{12, 24, 2'000'000, 200'000'000}
                                                       : Effort{3, 6, 40'000, 4'000'000};
  if (options.points != 0) effort.points = options.points;
  if (options.work_limit != 0) effort.work = options.work_limit;
  return effort;
}

/// Ops that want more than the budget: the worst one, and others spread evenly over the rest by
/// duration and excess.
std::vector<std::uint32_t> choose_points(const BoundStep& step,
                                         std::uint64_t budget_bytes,
                                         std::size_t count) {
  std::vector<std::uint32_t> over;
  std::uint32_t worst = 0;
  for (std::uint32_t o = 0; o < step.ops.size(); ++o) {
    if (step.wanted_bytes[o] <= budget_bytes) continue;
    if (over.empty() || step.wanted_bytes[o] > step.wanted_bytes[worst]) worst = o;
    over.push_back(o);
  }
  if (over.empty()) return over;
  std::vector<std::uint32_t> points = {worst};
  if (over.size() <= count) return over;
  double total = 0;
  const auto weight = [&](std::uint32_t o) {
    return static_cast<double>(step.wanted_bytes[o] - budget_bytes);
  };
  for (const std::uint32_t o : over) total += weight(o);
  double sum = 0;
  std::size_t next = 0;
  for (const std::uint32_t o : over) {
    sum += weight(o);
    if (sum < total * (static_cast<double>(next) + 0.5) / static_cast<double>(count)) continue;
    while (next < count &&
           sum >= total * (static_cast<double>(next) + 0.5) / static_cast<double>(count))
      ++next;
    points.push_back(o);
  }
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

/// The smallest storages, as many as add up to little of what must be away, are taken to need no
/// memory: fewer columns for hardly less of a bound.
std::vector<char> small_items(const BoundStep& step, std::uint64_t excess_bytes) {
  std::vector<std::uint32_t> order(step.items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&step](std::uint32_t a, std::uint32_t b) {
    return step.items[a].bytes < step.items[b].bytes;
  });
  std::vector<char> small(step.items.size(), 0);
  std::uint64_t sum = 0;
  for (const std::uint32_t item : order) {
    sum += step.items[item].bytes;
    if (sum > excess_bytes / 500) break;
    small[item] = 1;
  }
  return small;
}

}  // namespace

std::string_view name_of(BoundMethod method) {
  switch (method) {
    case BoundMethod::kKeepAll:
      return "keep-all";
    case BoundMethod::kKnapsack:
      return "knapsack";
    case BoundMethod::kLp:
      return "lp";
  }
  return "keep-all";
}

Bound lower_bound(const Profile& profile,
                  const ProfileSummary& summary,
                  const DeviceModel& device,
                  const PlanRequest& request,
                  const BoundOptions& options) {
  Bound bound;
  bound.bound_ns = summary.compute_ns;
  if (profile.ops.empty() || summary.compute_ns <= 0) return bound;
  const std::uint64_t budget_bytes =
      request.budget_bytes != 0 ? request.budget_bytes : summary.keep_all_peak_bytes;
  const BoundStep step(profile, device, request);
  std::uint64_t excess_bytes = 0;
  for (std::size_t o = 0; o < step.ops.size(); ++o) {
    if (step.fixed_bytes[o] > budget_bytes) return bound;  // no plan at all
    if (step.wanted_bytes[o] > budget_bytes)
      excess_bytes = std::max(excess_bytes, step.wanted_bytes[o] - budget_bytes);
  }
  if (excess_bytes == 0) return bound;

  const Effort effort = effort_of(options);
  std::int64_t best_ns = 0;
  const auto looked_at = choose_points(step, budget_bytes, effort.knapsack_points);
  for (const std::uint32_t op : looked_at) {
    const std::int64_t extra_ns = knapsack_extra_ns(step, op, budget_bytes);
    if (extra_ns <= best_ns) continue;
    best_ns = extra_ns;
    bound.method = BoundMethod::kKnapsack;
    bound.points = static_cast<std::uint32_t>(looked_at.size());
  }

  if (options.linear_program && has_linear_program()) {
    const std::vector<char> small = small_items(step, excess_bytes);
    for (std::size_t count = effort.points; count > 0; count /= 2) {
      const auto points = choose_points(step, budget_bytes, count);
      const auto relaxation = relax(step, points, budget_bytes, small, effort.entries);
      bound.gave_up = !relaxation.has_value();
      if (!relaxation) continue;
      const LinearProgram& program = relaxation->program;
      const LpPrices prices =
          solve(program, effort.work / std::max<std::size_t>(1, program.columns()));
      bound.gave_up = !prices.finished;
      const double value = program.proven_by(prices.prices) * relaxation->unit_ns * (1 - 1e-9);
      const auto extra_ns = static_cast<std::int64_t>(
          std::floor(std::clamp(value, 0.0, static_cast<double>(relaxation->most_ns))));
      if (extra_ns > best_ns) {
        best_ns = extra_ns;
        bound.method = BoundMethod::kLp;
        bound.points = static_cast<std::uint32_t>(points.size());
      }
      break;
    }
  }
  bound.bound_ns += best_ns;
  return bound;
}

}  // namespace spillway
