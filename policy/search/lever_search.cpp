// SPDX-License-Identifier: Apache-2.0
// Greedy runs differ in the price of the link, local searches in where they start and what they may
// use. Results are entered in a fixed order, so timing decides nothing.
#include "policy/search/lever_search.hpp"

#include "policy/codec_choice.hpp"
#include "policy/planners/presets.hpp"
#include "policy/search/descent.hpp"
#include "policy/search/greedy.hpp"

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

/// Known placements: where the search may start, and what decides feasibility without offload.
std::vector<Choices> preset_pool(const JointStep& step,
                                 const PlanRequest& request,
                                 const Levers& levers,
                                 bool brief) {
  const GapTable& gaps = step.gaps;
  std::vector<Choices> pool;
  if (levers.offload) pool.push_back(offload_every_gap(gaps));
  if (levers.recompute) {
    pool.push_back(recompute_every_gap(gaps));
    if (!brief) {
      pool.push_back(selective_choices(step.profile, gaps));
      const auto sqrt_bytes = static_cast<double>(chen_sqrt_segment_bytes(step.profile));
      for (const double factor : {0.0, 0.25, 0.5, 1.0, 2.0})
        pool.push_back(
            chen_segments(step.profile, gaps, static_cast<std::uint64_t>(sqrt_bytes * factor)));
    }
  }
  if (levers.compress) {
    Choices compressed(gaps.gaps.size());
    for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
      const Codec codec = best_codec(step.profile, gaps.gaps[g].storage, request);
      if (codec != Codec::kNone && gaps.gaps[g].returns) compressed[g] = {Action::kCompress, codec};
    }
    pool.push_back(std::move(compressed));
  }
  return pool;
}

std::vector<Weights> portfolio_of(const Levers& levers, bool brief, bool few) {
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
    for (const double link : {0.0, 0.05, 0.3, 1.0, 3.0}) {
      if (brief && link != 0.05 && link != 0.3) continue;
      add(link, true, levers.recompute, false);
      if (levers.compress && !brief) add(link, true, levers.recompute, true);
    }
    if (levers.recompute && !brief) add(1.0, false, true, false);
  }
  if (!rivals || !brief || few) add(1.0, levers.offload, levers.recompute && !rivals, false);
  return portfolio;
}

/// One run of the local search: where it starts (nothing: keep-all), what it pays for the link, and
/// what it may use.
struct Job {
  std::optional<Choices> start;
  double link_price = 0;
  const Plan* rival = nullptr;  // where it starts, in place of choices
  ActionSet actions = kAllActions;
  bool lossy = false;
};

// Fewer levers are searched too: what they find must not be missed for want of time.
std::vector<Job> jobs_of(const PlanRequest& request,
                         const Levers& levers,
                         const SearchEffort& effort,
                         std::size_t op_count,
                         const Plan* rival,
                         Contest& contest) {
  std::vector<Job> jobs;
  const std::vector<Choices> starts = contest.starts(effort.brief ? 1 : 2);
  const auto add = [&](std::optional<Choices> start, double price) {
    jobs.push_back({std::move(start), price, nullptr, request.actions, request.allow_lossy});
  };
  const auto add_rival = [&] {
    if (rival != nullptr)
      jobs.push_back({std::nullopt,
                      levers.offload ? 0.002 : 0.0,
                      rival,
                      request.actions,
                      request.allow_lossy});
  };
  if (op_count > kHugeStepOps && (rival != nullptr || !starts.empty())) {
    if (rival == nullptr) add(starts[0], 0.002);
    add_rival();
    return jobs;
  }
  if (levers.offload) {
    // Both copy queues are part of the search; the price only decides between equals, and now and
    // then another road is the better one.
    add(std::nullopt, 0.002);
    if (!starts.empty()) add(starts[0], 0.002);
    if (!effort.brief) add(std::nullopt, 0.03);
    if (effort.parts && request.allow_lossy)
      jobs.push_back({std::nullopt, 0.002, nullptr, request.actions, false});
  } else {
    add(std::nullopt, 0);
    for (const Choices& start : starts) add(start, 0);
  }
  const ActionSet recompute_only = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
  if (effort.parts && levers.recompute && (levers.offload || levers.compress))
    jobs.push_back({std::nullopt, 0, nullptr, recompute_only, false});
  add_rival();  // last: the seeds of the others stay as they are
  return jobs;
}

void refine(const JointStep& step,
            const PlanRequest& request,
            const Levers& levers,
            const SearchEffort& effort,
            const Plan* rival,
            Contest* contest) {
  const std::vector<Job> jobs =
      jobs_of(request, levers, effort, step.profile.ops.size(), rival, *contest);
  std::vector<std::vector<Instruction>> programs(jobs.size());
  tbb::parallel_for(std::size_t{0}, jobs.size(), [&](std::size_t i) {
    PlanRequest part = request;
    part.actions = jobs[i].actions;
    part.allow_lossy = jobs[i].lossy;
    const StepModel model(step.profile, step.device, part);
    Schedule schedule(model);
    schedule.set_link_price(jobs[i].link_price, jobs[i].link_price);
    if (jobs[i].start) schedule.load(step.gaps, *jobs[i].start);
    if (jobs[i].rival != nullptr) (void)schedule.load(jobs[i].rival->program);
    DescentOptions options;
    options.budget_bytes = request.budget_bytes;
    options.work_limit = effort.work;
    options.seed = request.seed + i;
    Descent descent(model, schedule, options);
    (void)descent.run();
    programs[i] = schedule.program();
  });
  for (std::vector<Instruction>& program : programs) contest->enter(std::move(program));
}

}  // namespace

ActionSet Levers::actions() const {
  const auto bit = [](bool on, Action action) { return on ? action_bit(action) : ActionSet{0}; };
  return static_cast<ActionSet>(action_bit(Action::kKeep) | bit(offload, Action::kOffload) |
                                bit(recompute, Action::kRecompute) |
                                bit(compress, Action::kCompress));
}

Levers usable_levers(const Profile& profile, const PlanRequest& request, const GapTable& gaps) {
  Levers levers;
  levers.offload = allows(request.actions, Action::kOffload);
  for (const Gap& gap : gaps.gaps) {
    levers.recompute = levers.recompute || gap.rebuildable;
    const Codec codec = best_codec(profile, gap.storage, request);
    levers.compress = levers.compress || codec != Codec::kNone;
    levers.lossy = levers.lossy || !is_lossless(codec);
  }
  levers.recompute = levers.recompute && allows(request.actions, Action::kRecompute);
  levers.compress = levers.compress && allows(request.actions, Action::kCompress);
  levers.lossy = levers.lossy && levers.compress;
  return levers;
}

std::uint64_t default_work(std::size_t op_count) {
  if (op_count > kHugeStepOps) return 300'000;
  return std::clamp<std::uint64_t>(6 * op_count * op_count / 10, 20'000, 2'000'000);
}

void search_levers(const JointStep& step,
                   const PlanRequest& request,
                   const SearchEffort& effort,
                   Contest* contest) {
  const Levers levers = usable_levers(step.profile, request, step.gaps);
  const Choices keep(step.gaps.gaps.size());
  std::vector<Choices> pool = preset_pool(step, request, levers, effort.brief);
  const std::size_t presets = pool.size();
  const bool long_step = step.profile.ops.size() > kLongStepOps;
  // Recompute alone can fail to converge from nothing; a checkpointing to start from helps where
  // memory is very tight.
  std::vector<std::pair<Weights, const Choices*>> runs;
  for (const Weights& weights :
       portfolio_of(levers, effort.brief || long_step, effort.brief && !long_step)) {
    runs.emplace_back(weights, &keep);
    if (levers.offload) continue;
    for (std::size_t i = 0; i < presets; ++i) runs.emplace_back(weights, &pool[i]);
  }
  std::vector<Choices> solved(runs.size());
  tbb::parallel_for(std::size_t{0}, runs.size(), [&](std::size_t i) {
    Greedy greedy(step.profile, step.summary, step.device, request, step.gaps, step.lowering);
    solved[i] = greedy.trim(runs[i].first, greedy.solve(runs[i].first, *runs[i].second));
  });
  pool.insert(pool.end(), solved.begin(), solved.end());
  const Greedy greedy(step.profile, step.summary, step.device, request, step.gaps, step.lowering);
  // Presets that fit may hold more back than they need to.
  for (std::size_t i = 0; i < presets; ++i) pool.push_back(greedy.trim(Weights{}, pool[i]));
  for (std::size_t i = 0; i < pool.size(); ++i)
    if (std::find(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(i), pool[i]) ==
        pool.begin() + static_cast<std::ptrdiff_t>(i))
      contest->enter(pool[i]);
  // A method that is ahead by now gives a start too.
  const Plan* ahead = nullptr;
  for (const Rival& rival : effort.rivals) {
    if ((rival.uses & ~request.actions) != 0) continue;
    const bool any = contest->best() != nullptr;
    const std::int64_t before_ns = any ? contest->best_ns() : 0;
    const auto step_ns = contest->enter(rival.plan);
    if (step_ns && (!any || *step_ns < before_ns)) ahead = &rival.plan;
  }
  refine(step, request, levers, effort, ahead, contest);
}

}  // namespace spillway
