// SPDX-License-Identifier: Apache-2.0
// joint: all levers per tensor and op. Searches with all levers and, where the step is short
// enough, with every part of them compete with the plans of the named methods. On tiny steps the
// searches are made for a fixed ladder of budgets, so that more memory never makes the step slower.
#include "policy/planners/presets.hpp"
#include "policy/search/contest.hpp"
#include "policy/search/lever_search.hpp"
#include "policy/simulator.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace spillway {
namespace {

// Up to this many ops the answer is monotone in the budget by construction.
constexpr std::size_t kTinyStepOps = 32;
// Up to this many ops every part of the levers is searched for itself.
constexpr std::size_t kShortStepOps = 200;
// Rungs of a tiny step's ladder: at least an eighth of the movable range apart or where the plan
// before ends, at most a sixteenth.
constexpr std::uint64_t kRungs = 8;

bool is_in(ActionSet part, ActionSet all) { return (part & ~all) == 0; }

/// Every choice of the usable levers, all of them last.
std::vector<PlanRequest> parts_of(const PlanRequest& request, const Levers& levers) {
  std::vector<PlanRequest> parts;
  for (unsigned bits = 1; bits < 8; ++bits) {
    Levers some;
    some.compress = (bits & 1) != 0;
    some.recompute = (bits & 2) != 0;
    some.offload = (bits & 4) != 0;
    if (!is_in(some.actions(), levers.actions())) continue;
    for (const bool lossy : {false, true}) {
      if (lossy && !(some.compress && levers.lossy)) continue;
      parts.push_back(request);
      parts.back().actions = some.actions();
      parts.back().allow_lossy = lossy;
    }
  }
  return parts;
}

/// The plans of one choice of levers for budgets that do not depend on the one asked for.
std::vector<Plan> ladder(const JointStep& step, const PlanRequest& part) {
  const std::uint64_t high = step.summary.keep_all_peak_bytes;
  const std::uint64_t low = step.summary.unmovable_bytes;
  const std::uint64_t range = high - low;
  const bool offload = allows(part.actions, Action::kOffload);
  SearchEffort effort;
  effort.work = std::min<std::uint64_t>(
      part.work_limit != 0 ? part.work_limit : default_work(step.profile.ops.size()), 2000);
  effort.brief = true;
  std::vector<Plan> plans;
  PlanRequest rung = part;
  rung.budget_bytes = high - 1;
  while (rung.budget_bytes >= low && rung.budget_bytes != 0) {
    Contest contest(step, rung);
    search_levers(step, rung, effort, &contest);
    const Plan* plan = contest.best();
    if (plan == nullptr) {
      if (contest.least() != nullptr) plans.push_back(*contest.least());
      break;
    }
    plans.push_back(*plan);
    if (rung.budget_bytes == low) break;
    const auto sim = simulate(step.profile, step.device, *plan, {});
    const std::uint64_t need = sim.ok() ? sim.value().min_budget_bytes : rung.budget_bytes;
    const std::uint64_t now = rung.budget_bytes;
    const std::uint64_t far = now - std::min(now, std::max<std::uint64_t>(1, range / kRungs));
    const std::uint64_t near =
        now - std::min(now, std::max<std::uint64_t>(1, range / (2 * kRungs)));
    rung.budget_bytes = std::min(near, std::max(need - std::min<std::uint64_t>(need, 1), far));
    // What no plan can do without is a rung of its own.
    if (offload && rung.budget_bytes < low) rung.budget_bytes = low;
  }
  return plans;
}

void search_tiny(const JointStep& step,
                 const PlanRequest& request,
                 const std::vector<PlanRequest>& parts,
                 Contest* contest) {
  std::vector<PlanRequest> runs;
  for (const PlanRequest& part : parts) {
    runs.push_back(part);
    runs.back().pinned_bytes = 0;
    if (request.pinned_bytes == 0 || !allows(part.actions, Action::kOffload)) continue;
    // A ladder of limits for the host too.
    std::uint64_t movable_bytes = 0;
    for (const Storage& storage : step.profile.storages)
      if (is_movable(storage)) movable_bytes += storage.bytes;
    for (const std::uint64_t divisor : {2u, 4u, 8u}) {
      if (movable_bytes / divisor == 0) break;
      runs.push_back(part);
      runs.back().pinned_bytes = movable_bytes / divisor;
    }
  }
  std::vector<std::vector<Plan>> found(runs.size());
  tbb::parallel_for(
      std::size_t{0}, runs.size(), [&](std::size_t i) { found[i] = ladder(step, runs[i]); });
  for (std::vector<Plan>& plans : found)
    for (Plan& plan : plans) (void)contest->enter(std::move(plan));
}

void search_parts(const JointStep& step,
                  const std::vector<PlanRequest>& parts,
                  const SearchEffort& effort,
                  Contest* contest) {
  std::vector<Contest> found;
  for (const PlanRequest& part : parts) found.emplace_back(step, part);
  tbb::parallel_for(std::size_t{0}, parts.size(), [&](std::size_t i) {
    search_levers(step, parts[i], effort, &found[i]);
  });
  for (const Contest& part : found) {
    if (part.best() != nullptr) (void)contest->enter(*part.best());
    if (part.best() == nullptr && part.least() != nullptr) (void)contest->enter(*part.least());
  }
}

/// Named methods, and the longest step in which each takes less time than joint does.
struct Method {
  std::string_view name;
  std::size_t ops_max;
  bool monotone;  // more memory never makes its step slower
};
constexpr std::array kMethods = {
    Method{"chen-sqrt", 20'000, true},
    Method{"every-k", 20'000, true},
    Method{"full", 20'000, true},
    Method{"selective", 20'000, true},
    Method{"segments", 20'000, true},
    Method{"collection", 20'000, true},
    Method{"speed", 20'000, true},
    Method{"memory", 20'000, true},
    Method{"revolve", 250, true},
    Method{"rotor", 250, true},
    Method{"bptt", 250, true},
    Method{"offload-all", 1000, true},
    Method{"torch-budget", 2000, false},
    Method{"pofo", 100, false},
    Method{"dtr", 5000, false},
    Method{"capuchin", 20'000, false},
};

std::vector<Rival> rivals_of(const JointStep& step, const PlanRequest& request) {
  std::vector<const Planner*> asked;
  const std::size_t op_count = step.profile.ops.size();
  for (const Planner& planner : planners())
    for (const Method& method : kMethods)
      if (method.name == planner.name && op_count <= method.ops_max &&
          is_in(planner.uses, request.actions) && (op_count > kTinyStepOps || method.monotone))
        asked.push_back(&planner);
  std::vector<PlanOutcome> outcomes(asked.size());
  tbb::parallel_for(std::size_t{0}, asked.size(), [&](std::size_t i) {
    PlanRequest plain = request;
    plain.k = 0;
    plain.variant.clear();
    outcomes[i] = asked[i]->plan(step.profile, step.summary, step.device, plain);
  });
  std::vector<Rival> rivals;
  for (std::size_t i = 0; i < asked.size(); ++i)
    if (Plan* plan = std::get_if<Plan>(&outcomes[i]))
      rivals.push_back({asked[i]->uses, std::move(*plan)});
  return rivals;
}

}  // namespace

PlanOutcome plan_joint(const Profile& profile,
                       const ProfileSummary& summary,
                       const DeviceModel& device,
                       const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const Choices keep(gaps.gaps.size());
  if (request.budget_bytes == 0 || summary.keep_all_peak_bytes <= request.budget_bytes)
    return outcome_of(profile, device, request, gaps, keep, "joint");
  const Levers levers = usable_levers(profile, request, gaps);
  const Lowering lowering(profile, device, gaps);
  if (levers.offload) {
    // Offloading every gap holds nothing that an op does not need: no plan does with less.
    const Choices least_memory = offload_every_gap(gaps);
    if (lowering.just_in_time(least_memory).min_budget_bytes() > request.budget_bytes)
      return outcome_of(profile, device, request, gaps, least_memory, "joint");
  }
  const JointStep step{profile, summary, device, gaps, lowering};
  Contest contest(step, request);
  const std::size_t op_count = profile.ops.size();
  const std::vector<Rival> rivals = rivals_of(step, request);
  SearchEffort effort;
  effort.work = request.work_limit != 0 ? request.work_limit : default_work(op_count);
  effort.rivals = rivals;
  if (op_count <= kTinyStepOps) {
    search_tiny(step, request, parts_of(request, levers), &contest);
    for (const Rival& rival : rivals) (void)contest.enter(rival.plan);
  } else if (op_count <= kShortStepOps) {
    search_parts(step, parts_of(request, levers), effort, &contest);
  } else {
    effort.parts = true;
    search_levers(step, request, effort, &contest);
  }
  return contest.outcome();
}

}  // namespace spillway
