// SPDX-License-Identifier: Apache-2.0
// joint: all levers weighed per gap by seconds of cost per byte-second relieved where the budget is
// exceeded. A portfolio of weights is tried; each result is trimmed, given prefetches ahead of
// time, and simulated; the fastest step wins.
#include "policy/lowering.hpp"
#include "policy/op_order.hpp"
#include "policy/planners/presets.hpp"
#include "policy/prefetch_ahead.hpp"
#include "policy/search/descent.hpp"
#include "policy/search/greedy.hpp"
#include "policy/simulator.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace spillway {
namespace {

// Above this many ops the greedy portfolio is cut down: the local search does the rest.
constexpr std::size_t kLongStepOps = 2048;
// Above this many it cannot come to an end in seconds: it only improves on the greedy's best.
constexpr std::size_t kHugeStepOps = 12'000;

/// What the request and the trace together allow.
struct Levers {
  bool offload = false;
  bool recompute = false;
  bool compress = false;  // and some storage has a codec that saves bytes
};

Levers usable_levers(const Profile& profile, const PlanRequest& request, const GapTable& gaps) {
  Levers levers;
  levers.offload = allows(request.actions, Action::kOffload);
  for (const Gap& gap : gaps.gaps) {
    levers.recompute = levers.recompute || gap.rebuildable;
    levers.compress = levers.compress || best_codec(profile.storages[gap.storage],
                                                    request.allow_lossy) != Codec::kNone;
  }
  levers.recompute = levers.recompute && allows(request.actions, Action::kRecompute);
  levers.compress = levers.compress && allows(request.actions, Action::kCompress);
  return levers;
}

/// Known placements: where the search may start, and what decides feasibility without offload.
std::vector<Choices> preset_pool(const Profile& profile,
                                 const PlanRequest& request,
                                 const GapTable& gaps,
                                 const Levers& levers) {
  std::vector<Choices> pool;
  if (levers.offload) pool.push_back(offload_every_gap(gaps));
  if (levers.recompute) {
    pool.push_back(recompute_every_gap(gaps));
    pool.push_back(selective_choices(profile, gaps));
    const auto sqrt_bytes = static_cast<double>(chen_sqrt_segment_bytes(profile));
    for (const double factor : {0.0, 0.25, 0.5, 1.0, 2.0})
      pool.push_back(chen_segments(profile, gaps, static_cast<std::uint64_t>(sqrt_bytes * factor)));
  }
  if (levers.compress) {
    Choices compressed(gaps.gaps.size());
    for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
      const Codec codec = best_codec(profile.storages[gaps.gaps[g].storage], request.allow_lossy);
      if (codec != Codec::kNone && gaps.gaps[g].returns) compressed[g] = {Action::kCompress, codec};
    }
    pool.push_back(std::move(compressed));
  }
  return pool;
}

std::vector<Weights> portfolio_of(const Levers& levers, std::size_t op_count) {
  std::vector<Weights> portfolio;
  const auto add = [&](double link, bool offload, bool recompute, bool coded) {
    Weights weights;
    weights.link = link;
    weights.offload = offload;
    weights.recompute_allowed = recompute;
    weights.compress = levers.compress;
    weights.code_offloads = coded;
    portfolio.push_back(weights);
  };
  // The price of the link matters only beside another lever.
  const bool rivals = levers.offload && (levers.recompute || levers.compress);
  if (rivals) {
    // Long steps get the middle of the range only.
    const bool brief = op_count > kLongStepOps;
    for (const double link : {0.0, 0.05, 0.3, 1.0, 3.0}) {
      if (brief && link != 0.05 && link != 0.3) continue;
      add(link, true, levers.recompute, false);
      if (levers.compress && !brief) add(link, true, levers.recompute, true);
    }
    if (levers.recompute && !brief) add(1.0, false, true, false);
  }
  if (!rivals || op_count <= kLongStepOps)
    add(1.0, levers.offload, levers.recompute && !rivals, false);
  return portfolio;
}

/// Keeps the fastest plan that fits, and what needed the least memory if none does.
class Contest {
 public:
  Contest(const Profile& profile,
          const DeviceModel& device,
          const PlanRequest& request,
          const GapTable& gaps,
          const Lowering& lowering)
      : profile_(profile), device_(device), request_(request), gaps_(gaps), lowering_(lowering) {}

  /// Choices that fit join the starts of the local search.
  void enter(const Choices& choices) {
    const Lowered tight = lowering_.just_in_time(choices);
    note_need(tight.min_budget_bytes(),
              [&] { return make_plan(profile_, gaps_, choices, tight, "joint", 0); });
    if (tight.min_budget_bytes() > request_.budget_bytes) return;
    const auto step_ns = enter(make_plan(profile_,
                                         gaps_,
                                         choices,
                                         lowering_.ahead(choices, request_.budget_bytes, tight),
                                         "joint",
                                         request_.budget_bytes));
    if (step_ns) starts_.emplace_back(*step_ns, choices);
  }

  /// The fastest choices that fit, best first.
  std::vector<Choices> starts(std::size_t count) {
    std::stable_sort(starts_.begin(), starts_.end(), [](const auto& a, const auto& b) {
      return a.first < b.first;
    });
    std::vector<Choices> best;
    for (std::size_t i = 0; i < std::min(count, starts_.size()); ++i)
      best.push_back(starts_[i].second);
    return best;
  }

  /// A program that fits, prefetches just in time.
  void enter(std::vector<Instruction> program) {
    Plan plan;
    plan.policy = "joint";
    plan.budget_bytes = request_.budget_bytes;
    plan.decisions = decisions_of(profile_, program);
    for (const double lead : {1.0, 1.5}) {
      plan.program = prefetch_ahead(profile_, device_, program, request_.budget_bytes, lead);
      (void)enter(plan);
    }
  }

  /// The step's time if the plan fits.
  std::optional<std::int64_t> enter(Plan plan) {
    SimOptions options;
    options.budget_bytes = request_.budget_bytes;
    options.pinned_bytes = request_.pinned_bytes;
    const auto sim = simulate(profile_, device_, plan, options);
    if (!sim.ok()) return std::nullopt;
    if (!sim.value().fits) {
      note_need(sim.value().min_budget_bytes, [&] { return plan; });
      return std::nullopt;
    }
    const auto key = std::pair(sim.value().step_ns, sim.value().offload_bytes);
    if (best_ && key >= key_) return key.first;
    key_ = key;
    best_ = std::move(plan);
    return key.first;
  }

  PlanOutcome outcome(const ProfileSummary& summary) {
    if (best_) return std::move(*best_);
    GaveUp gave_up;
    gave_up.best_budget_bytes = least_ ? least_bytes_ : summary.keep_all_peak_bytes;
    if (least_) gave_up.best = std::move(*least_);
    return gave_up;
  }

 private:
  template <typename Make>
  void note_need(std::uint64_t bytes, const Make& make) {
    if (best_ || (least_ && bytes >= least_bytes_)) return;
    least_bytes_ = bytes;
    least_ = make();
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  const GapTable& gaps_;
  const Lowering& lowering_;
  std::optional<Plan> best_;
  std::pair<std::int64_t, std::uint64_t> key_;
  std::vector<std::pair<std::int64_t, Choices>> starts_;
  std::optional<Plan> least_;
  std::uint64_t least_bytes_ = 0;
};

// Judged stages per run of the local search: linear in the step up to a second or so of time.
std::uint64_t default_work(std::size_t op_count) {
  if (op_count > kHugeStepOps) return 300'000;
  return std::clamp<std::uint64_t>(6 * op_count * op_count / 10, 20'000, 2'000'000);
}

/// One run of the local search: where it starts (nothing: keep-all), what it pays for the link, and
/// what it may use.
struct Job {
  std::optional<Choices> start;
  double link_price = 0;
  ActionSet actions = kAllActions;
  bool lossy = false;
};

// Fewer levers are searched too: what they find must not be missed for want of time.
std::vector<Job> jobs_of(const PlanRequest& request,
                         const Levers& levers,
                         std::size_t op_count,
                         Contest& contest) {
  std::vector<Job> jobs;
  const std::vector<Choices> starts = contest.starts(2);
  const auto add = [&](std::optional<Choices> start, double price) {
    jobs.push_back({std::move(start), price, request.actions, request.allow_lossy});
  };
  if (op_count > kHugeStepOps && !starts.empty()) {
    add(starts[0], 0.002);
    return jobs;
  }
  if (levers.offload) {
    // Both copy queues are part of the search; the price only decides between equals, and now and
    // then another road is the better one.
    add(std::nullopt, 0.002);
    if (!starts.empty()) add(starts[0], 0.002);
    add(std::nullopt, 0.03);
    if (request.allow_lossy) jobs.push_back({std::nullopt, 0.002, request.actions, false});
  } else {
    add(std::nullopt, 0);
    for (const Choices& start : starts) add(start, 0);
  }
  const ActionSet recompute_only = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
  if (levers.recompute && (levers.offload || levers.compress))
    jobs.push_back({std::nullopt, 0, recompute_only, false});
  return jobs;
}

void refine(const Profile& profile,
            const DeviceModel& device,
            const PlanRequest& request,
            const GapTable& gaps,
            const Levers& levers,
            Contest& contest) {
  const std::vector<Job> jobs = jobs_of(request, levers, profile.ops.size(), contest);
  const std::uint64_t work =
      request.work_limit != 0 ? request.work_limit : default_work(profile.ops.size());
  std::vector<std::vector<Instruction>> programs(jobs.size());
  tbb::parallel_for(std::size_t{0}, jobs.size(), [&](std::size_t i) {
    PlanRequest part = request;
    part.actions = jobs[i].actions;
    part.allow_lossy = jobs[i].lossy;
    const StepModel model(profile, device, part);
    Schedule schedule(model);
    schedule.set_link_price(jobs[i].link_price, jobs[i].link_price);
    if (jobs[i].start) schedule.load(gaps, *jobs[i].start);
    DescentOptions options;
    options.budget_bytes = request.budget_bytes;
    options.work_limit = work;
    options.seed = request.seed + i;
    Descent descent(model, schedule, options);
    (void)descent.run();
    programs[i] = schedule.program();
  });
  for (std::vector<Instruction>& program : programs) contest.enter(std::move(program));
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
  Contest contest(profile, device, request, gaps, lowering);
  std::vector<Choices> pool = preset_pool(profile, request, gaps, levers);
  const std::size_t presets = pool.size();
  // Recompute alone can fail to converge from nothing; a checkpointing to start from helps where
  // memory is very tight.
  std::vector<std::pair<Weights, const Choices*>> runs;
  for (const Weights& weights : portfolio_of(levers, profile.ops.size())) {
    runs.emplace_back(weights, &keep);
    if (levers.offload) continue;
    for (std::size_t i = 0; i < presets; ++i) runs.emplace_back(weights, &pool[i]);
  }
  std::vector<Choices> solved(runs.size());
  tbb::parallel_for(std::size_t{0}, runs.size(), [&](std::size_t i) {
    Greedy greedy(profile, summary, device, request, gaps, lowering);
    solved[i] = greedy.trim(runs[i].first, greedy.solve(runs[i].first, *runs[i].second));
  });
  pool.insert(pool.end(), solved.begin(), solved.end());
  const Greedy greedy(profile, summary, device, request, gaps, lowering);
  // Presets that fit may hold more back than they need to.
  for (std::size_t i = 0; i < presets; ++i) pool.push_back(greedy.trim(Weights{}, pool[i]));
  for (std::size_t i = 0; i < pool.size(); ++i)
    if (std::find(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(i), pool[i]) ==
        pool.begin() + static_cast<std::ptrdiff_t>(i))
      contest.enter(pool[i]);
  refine(profile, device, request, gaps, levers, contest);
  return contest.outcome(summary);
}

}  // namespace spillway
