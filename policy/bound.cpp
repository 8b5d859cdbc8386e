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
  std::size_t looks;            // ops for the knapsack
  std::size_t single_programs;  // linear programs over one op each
  std::size_t points;           // ops of the largest linear program
  std::size_t entries;          // coefficients of the largest linear program
  std::uint64_t work;           // columns times simplex steps for the first program
  std::uint64_t more_work;      // the same for all others together
};

Effort effort_of(const BoundOptions& options, std::size_t ops) {
  // The knapsack takes some hundred passes over the step for each op that it looks at.
  const std::size_t passes = std::max<std::size_t>(1, 100'000 / std::max<std::size_t>(1, ops));
  Effort effort =
      options.effort == BoundEffort::kBest
          ? Effort{std::min<std::size_t>(24, passes), 5, 8, 1'000'000, 100'000'000, 100'000'000}
          : Effort{std::min<std::size_t>(4, passes), 2, 4, 100'000, 40'000'000, 1'500'000};
  if (options.points != 0) effort.points = options.points;
  if (options.work_limit != 0) effort.work = effort.more_work = options.work_limit;
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
  --count;
  if (count == 0) return points;
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

/// Tries ways to prove more, one after another, and keeps the best.
class Search {
 public:
  Search(const BoundStep& step, std::uint64_t budget_bytes, const Effort& effort, Bound* bound)
      : step_(step), budget_bytes_(budget_bytes), effort_(effort), bound_(bound) {}

  /// Ops worth a linear program, best first.
  std::vector<std::uint32_t> knapsacks();
  void linear_programs(const std::vector<std::uint32_t>& ops, std::uint64_t excess_bytes);
  [[nodiscard]] std::int64_t extra_ns() const { return extra_ns_; }

 private:
  /// False when it was too large, or the work ran out.
  bool linear_program(const std::vector<std::uint32_t>& points);
  void offer(std::int64_t extra_ns, BoundMethod method, std::size_t points) {
    if (extra_ns <= extra_ns_) return;
    extra_ns_ = extra_ns;
    bound_->method = method;
    bound_->points = static_cast<std::uint32_t>(points);
  }

  const BoundStep& step_;
  std::uint64_t budget_bytes_;
  Effort effort_;
  Bound* bound_;
  std::vector<char> small_;
  std::int64_t extra_ns_ = 0;
};

std::vector<std::uint32_t> Search::knapsacks() {
  std::vector<std::uint32_t> ops = choose_points(step_, budget_bytes_, effort_.looks);
  std::vector<std::int64_t> proven(step_.ops.size(), 0);
  for (const std::uint32_t op : ops) {
    proven[op] = knapsack_extra_ns(step_, op, budget_bytes_);
    offer(proven[op], BoundMethod::kKnapsack, 1);
  }
  // The op that wants most comes first: the knapsack does not see chains and windows, and that op
  // is rarely a bad choice.
  if (ops.empty()) return ops;
  const auto worst = std::max_element(ops.begin(), ops.end(), [this](auto a, auto b) {
    return step_.wanted_bytes[a] < step_.wanted_bytes[b];
  });
  std::rotate(ops.begin(), worst, worst + 1);
  std::stable_sort(ops.begin() + 1, ops.end(), [&proven](std::uint32_t a, std::uint32_t b) {
    return proven[a] > proven[b];
  });
  return ops;
}

bool Search::linear_program(const std::vector<std::uint32_t>& points) {
  const auto relaxation = relax(step_, points, budget_bytes_, small_, effort_.entries);
  if (!relaxation) return false;
  const LinearProgram& program = relaxation->program;
  const std::uint64_t columns = std::max<std::size_t>(1, program.columns());
  const LpPrices prices = solve(program, effort_.work / columns);
  effort_.work -= std::min(effort_.work, columns * prices.steps);
  const double value = program.proven_by(prices.prices) * relaxation->unit_ns * (1 - 1e-9);
  offer(static_cast<std::int64_t>(
            std::floor(std::clamp(value, 0.0, static_cast<double>(relaxation->most_ns)))),
        BoundMethod::kLp,
        points.size());
  return prices.finished;
}

void Search::linear_programs(const std::vector<std::uint32_t>& ops, std::uint64_t excess_bytes) {
  small_ = small_items(step_, excess_bytes);
  for (std::size_t n = 0; n < std::min(ops.size(), effort_.single_programs); ++n) {
    const bool finished = linear_program({ops[n]});
    if (n == 0) {
      bound_->gave_up = !finished;
      effort_.work = effort_.more_work;
    }
    if (!finished) return;
  }
  // Few ops give long intervals, in which chains count whole; many see more of the memory. Neither
  // is always better.
  for (const std::size_t count : {2u, 3u, 4u, 6u, 8u, 12u, 16u, 24u, 32u}) {
    if (count > effort_.points) return;
    const auto points = choose_points(step_, budget_bytes_, count);
    if (!linear_program(points)) return;
    if (points.size() < count) return;  // these were all
  }
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

  Search search(step, budget_bytes, effort_of(options, step.ops.size()), &bound);
  const std::vector<std::uint32_t> ops = search.knapsacks();
  if (options.linear_program && has_linear_program()) search.linear_programs(ops, excess_bytes);
  bound.bound_ns += search.extra_ns();
  return bound;
}

}  // namespace spillway
