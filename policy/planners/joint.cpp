// SPDX-License-Identifier: Apache-2.0
// joint: all levers weighed per gap by seconds of cost per byte-second relieved where the budget is
// exceeded. A portfolio of weights is tried; each result is trimmed, given prefetches ahead of
// time, and simulated; the fastest step wins.
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"

#include <algorithm>
#include <array>
#include <queue>

namespace spillway {
namespace {

/// One point of the portfolio.
struct Weights {
  double link = 1.0;       // price of a second of copy that hides under compute
  double recompute = 1.0;  // price of a second of recompute
  bool offload = true;
  bool recompute_allowed = true;
  bool compress = true;
  bool code_offloads = false;  // compress what is offloaded where a codec applies
};

struct Candidate {
  double score;
  std::uint32_t gap;
  Decision decision;
};
struct WorseScore {
  bool operator()(const Candidate& a, const Candidate& b) const {
    if (a.score != b.score) return a.score > b.score;
    if (a.gap != b.gap) return a.gap > b.gap;
    return a.decision.action > b.decision.action;
  }
};

/// An op at which the budget is exceeded, and for how long its neighbourhood exceeds it.
struct Point {
  std::uint32_t op = 0;
  std::uint64_t bytes = 0;
  double weight = 0;
};

class Greedy {
 public:
  Greedy(const Profile& profile,
         const ProfileSummary& summary,
         const DeviceModel& device,
         const PlanRequest& request,
         const GapTable& gaps,
         const Lowering& lowering)
      : profile_(profile),
        summary_(summary),
        device_(device),
        request_(request),
        gaps_(gaps),
        lowering_(lowering) {}

  /// Choices whose just-in-time program fits the budget, or the best it came to.
  Choices solve(const Weights& weights, Choices choices);
  /// Takes back what is not needed to stay under the budget, dearest first.
  Choices trim(const Weights& weights, Choices choices) const;

 private:
  double cost_ns(const Weights& weights, std::uint32_t gap, const Decision& decision) const;
  bool keep_inputs_exact(const Lowered& lowered);
  Codec codec_for(std::uint32_t storage) const {
    return best_codec(profile_.storages[storage],
                      request_.allow_lossy && exact_only_[storage] == 0);
  }
  double copy_out_ns(std::uint32_t storage, const Decision& decision) const {
    const Storage& info = profile_.storages[storage];
    return static_cast<double>(
        device_.offload_ns(payload_bytes(decision.codec, info.tag.dtype, info.bytes)));
  }
  void find_points();
  std::size_t first_point_after(std::uint32_t op) const;
  double relief(std::uint32_t gap, const Decision& now, const Decision& then) const;
  double score(const Weights& weights, std::uint32_t gap, const Decision& then) const;
  std::int64_t rebuild_ns(std::uint32_t gap) const;

  const Profile& profile_;
  const ProfileSummary& summary_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  const GapTable& gaps_;
  const Lowering& lowering_;
  Choices choices_;
  std::vector<std::uint64_t> instant_bytes_;  // per op, of the last lowering
  std::vector<char> exact_only_;              // per storage: a recompute reads it, no lossy codec
  std::vector<Point> points_;                 // with bytes as estimated since then
  std::vector<std::uint32_t> back_at_;
  double offload_ns_ = 0;  // copies chosen so far
};

// Run time of the producer, and of producers of inputs whose life is over. Dropped inputs that
// still live pay for themselves.
std::int64_t Greedy::rebuild_ns(std::uint32_t g) const {
  const Gap& gap = gaps_.gaps[g];
  if (!gap.returns) return 0;
  std::int64_t ns = 0;
  std::vector<std::uint32_t> ops;
  std::vector<std::uint32_t> worklist = {gap.storage};
  while (!worklist.empty()) {
    const std::uint32_t producer = profile_.storages[worklist.back()].created_by.value;
    worklist.pop_back();
    if (std::find(ops.begin(), ops.end(), producer) != ops.end()) continue;
    ops.push_back(producer);
    ns += static_cast<std::int64_t>(profile_.ops[producer].duration_ns);
    for (const Use use : profile_.uses_of(profile_.ops[producer])) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      const Storage& input = profile_.storages[profile_.storage_of(use).index()];
      if (input.freed_after.valid() && input.freed_after.value < gap.before_op &&
          input.created_by.valid())
        worklist.push_back(profile_.storage_of(use).value);
    }
  }
  return ns;
}

double Greedy::cost_ns(const Weights& weights, std::uint32_t g, const Decision& decision) const {
  const Gap& gap = gaps_.gaps[g];
  const Storage& storage = profile_.storages[gap.storage];
  const auto codec_ns = [&](Codec codec) {
    const auto once =
        static_cast<double>(device_.codec_ns(codec, storage.tag.dtype, storage.bytes));
    return gap.returns ? 2 * once : once;
  };
  switch (decision.action) {
    case Action::kKeep:
      return 0;
    case Action::kCompress:
      return codec_ns(decision.codec);
    case Action::kRecompute:
      return weights.recompute * static_cast<double>(rebuild_ns(g));
    case Action::kOffload: {
      const std::uint64_t bytes =
          decision.codec == Codec::kNone
              ? storage.bytes
              : payload_bytes(decision.codec, storage.tag.dtype, storage.bytes);
      const double copy_ns = static_cast<double>(
          gap.returns ? std::max(device_.offload_ns(bytes), device_.prefetch_ns(bytes))
                      : device_.offload_ns(bytes));
      // Copies hide under the forward pass; what does not fit there is paid in full.
      const double window_ns = static_cast<double>(summary_.forward_ns);
      const double exposed_ns = std::clamp(offload_ns_ + copy_ns - window_ns, 0.0, copy_ns);
      return weights.link * copy_ns + exposed_ns +
             (decision.codec == Codec::kNone ? 0.0 : codec_ns(decision.codec));
    }
  }
  return 0;
}

// What a recompute reads must be exact. Storages that the program reads so take exact codecs from
// now on; true when a choice had to change.
bool Greedy::keep_inputs_exact(const Lowered& lowered) {
  bool changed = false;
  for (const Instruction& instruction : lowered.program) {
    if (instruction.kind != InstructionKind::kRecompute) continue;
    for (const Use use : profile_.uses_of(profile_.ops[instruction.target])) {
      const std::uint32_t storage = profile_.storage_of(use).value;
      if (exact_only_[storage] != 0) continue;
      exact_only_[storage] = 1;
      for (std::uint32_t g = gaps_.of_storage[storage]; g < gaps_.of_storage[storage + 1]; ++g) {
        if (is_lossless(choices_[g].codec)) continue;
        choices_[g].codec = codec_for(storage);
        if (choices_[g].codec == Codec::kNone && choices_[g].action == Action::kCompress)
          choices_[g].action = Action::kKeep;
        changed = true;
      }
    }
  }
  return changed;
}

// The ops that matter: of every stretch of the step the op that exceeds the budget most, weighted
// by the time for which the stretch exceeds it. Exact for short steps, a sample for long ones; each
// round lowers again and sees every op.
void Greedy::find_points() {
  constexpr std::size_t kPointsMax = 1024;
  points_.clear();
  const std::size_t op_count = instant_bytes_.size();
  const std::size_t stretch = (op_count + kPointsMax - 1) / kPointsMax;
  for (std::size_t begin = 0; begin < op_count; begin += stretch) {
    Point point;
    for (std::size_t op = begin; op < std::min(begin + stretch, op_count); ++op) {
      if (instant_bytes_[op] <= request_.budget_bytes) continue;
      point.weight += static_cast<double>(profile_.ops[op].duration_ns + 1);
      if (instant_bytes_[op] <= point.bytes) continue;
      point.op = static_cast<std::uint32_t>(op);
      point.bytes = instant_bytes_[op];
    }
    if (point.bytes > 0) points_.push_back(point);
  }
}

std::size_t Greedy::first_point_after(std::uint32_t op) const {
  return static_cast<std::size_t>(
      std::upper_bound(points_.begin(),
                       points_.end(),
                       op,
                       [](std::uint32_t o, const Point& p) { return o < p.op; }) -
      points_.begin());
}

// Byte-seconds by which the excess over the budget shrinks.
double Greedy::relief(std::uint32_t g, const Decision& now, const Decision& then) const {
  const Gap& gap = gaps_.gaps[g];
  const Storage& storage = profile_.storages[gap.storage];
  const std::uint64_t held_then = held_bytes(storage, then);
  const std::uint64_t held_now = held_bytes(storage, now);
  double sum = 0;
  for (std::size_t i = first_point_after(gap.after_op); i < points_.size(); ++i) {
    const Point& point = points_[i];
    if (point.op >= gap.before_op) break;
    if (point.bytes <= request_.budget_bytes) continue;
    // A recompute chain may have brought it back early; a copy comes back only when asked for.
    const bool back = point.op >= back_at_[g];
    const std::uint64_t holds = back ? storage.bytes : held_now;
    if (holds <= held_then || (back && then.action == Action::kRecompute)) continue;
    sum += static_cast<double>(std::min(point.bytes - request_.budget_bytes, holds - held_then)) *
           point.weight;
  }
  return sum;
}

double Greedy::score(const Weights& weights, std::uint32_t g, const Decision& then) const {
  const double gained = relief(g, choices_[g], then);
  if (gained <= 0) return -1;
  const double cost = std::max(cost_ns(weights, g, then) - cost_ns(weights, g, choices_[g]), 1.0);
  return cost / gained;
}

Choices Greedy::solve(const Weights& weights, Choices start) {
  choices_ = std::move(start);
  exact_only_.assign(profile_.storages.size(), 0);
  constexpr int kRounds = 24;
  std::uint64_t best_bytes = UINT64_MAX;
  Choices best = choices_;
  for (int round = 0; round < kRounds; ++round) {
    Lowered lowered = lowering_.just_in_time(choices_);
    while (request_.allow_lossy && keep_inputs_exact(lowered))
      lowered = lowering_.just_in_time(choices_);
    const std::uint64_t need_bytes = lowered.min_budget_bytes();
    if (need_bytes < best_bytes) {
      best_bytes = need_bytes;
      best = choices_;
    }
    if (need_bytes <= request_.budget_bytes) break;
    instant_bytes_ = std::move(lowered.instant_bytes);
    find_points();
    back_at_ = std::move(lowered.back_at);
    offload_ns_ = 0;
    for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g)
      if (choices_[g].action == Action::kOffload)
        offload_ns_ += copy_out_ns(gaps_.gaps[g].storage, choices_[g]);

    std::priority_queue<Candidate, std::vector<Candidate>, WorseScore> queue;
    const auto offer = [&](std::uint32_t g, Decision decision) {
      if (decision == choices_[g]) return;
      const double s = score(weights, g, decision);
      if (s >= 0) queue.push({s, g, decision});
    };
    for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g) {
      const Gap& gap = gaps_.gaps[g];
      const Codec codec =
          weights.compress || weights.code_offloads ? codec_for(gap.storage) : Codec::kNone;
      if (weights.compress && codec != Codec::kNone && gap.returns)
        offer(g, {Action::kCompress, codec});
      if (weights.offload)
        offer(g, {Action::kOffload, weights.code_offloads && gap.returns ? codec : Codec::kNone});
      if (weights.recompute_allowed && gap.rebuildable)
        offer(g, {Action::kRecompute, Codec::kNone});
    }
    bool picked = false;
    while (!queue.empty()) {
      Candidate top = queue.top();
      queue.pop();
      const double fresh = score(weights, top.gap, top.decision);
      if (fresh < 0) continue;
      if (!queue.empty() && fresh > top.score * 1.0001 && fresh > queue.top().score) {
        top.score = fresh;
        queue.push(top);
        continue;
      }
      const Gap& gap = gaps_.gaps[top.gap];
      const Storage& storage = profile_.storages[gap.storage];
      const std::uint64_t held_now = held_bytes(storage, choices_[top.gap]);
      const std::uint64_t held_then = held_bytes(storage, top.decision);
      for (std::size_t i = first_point_after(gap.after_op); i < points_.size(); ++i) {
        Point& point = points_[i];
        if (point.op >= gap.before_op) break;
        const bool back = point.op >= back_at_[top.gap];
        if (back && top.decision.action == Action::kRecompute) continue;
        const std::uint64_t holds = back ? storage.bytes : held_now;
        point.bytes = point.bytes + held_then - std::min(point.bytes + held_then, holds);
      }
      if (top.decision.action != Action::kRecompute) back_at_[top.gap] = gap.before_op;
      if (top.decision.action == Action::kOffload)
        offload_ns_ += copy_out_ns(gap.storage, top.decision);
      choices_[top.gap] = top.decision;
      picked = true;
    }
    if (!picked) break;
  }
  return best;
}

Choices Greedy::trim(const Weights& weights, Choices choices) const {
  const Lowered before = lowering_.just_in_time(choices);
  if (before.min_budget_bytes() > request_.budget_bytes) return choices;
  std::vector<std::uint64_t> bytes = before.instant_bytes;
  std::vector<std::pair<double, std::uint32_t>> order;
  for (std::uint32_t g = 0; g < choices.size(); ++g)
    if (choices[g].action != Action::kKeep) order.emplace_back(-cost_ns(weights, g, choices[g]), g);
  std::sort(order.begin(), order.end());
  Choices trimmed = choices;
  for (const auto& [cost, g] : order) {
    const Gap& gap = gaps_.gaps[g];
    const Storage& storage = profile_.storages[gap.storage];
    const std::uint64_t more =
        storage.bytes - std::min(storage.bytes, held_bytes(storage, choices[g]));
    const std::uint32_t end = std::min(before.back_at[g], gap.before_op);
    bool fits = true;
    for (std::uint32_t op = gap.after_op + 1; op < end && fits; ++op)
      fits = bytes[op] + more <= request_.budget_bytes;
    if (!fits) continue;
    for (std::uint32_t op = gap.after_op + 1; op < end; ++op) bytes[op] += more;
    trimmed[g] = Decision{};
  }
  return lowering_.just_in_time(trimmed).min_budget_bytes() <= request_.budget_bytes ? trimmed
                                                                                     : choices;
}

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

std::vector<Weights> portfolio_of(const Levers& levers) {
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
    for (const double link : {0.0, 0.05, 0.3, 1.0, 3.0}) {
      add(link, true, levers.recompute, false);
      if (levers.compress) add(link, true, levers.recompute, true);
    }
    if (levers.recompute) add(1.0, false, true, false);
  }
  add(1.0, levers.offload, levers.recompute && !rivals, false);
  return portfolio;
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
  Greedy greedy(profile, summary, device, request, gaps, lowering);
  std::vector<Choices> pool = preset_pool(profile, request, gaps, levers);
  const std::size_t presets = pool.size();
  for (const Weights& weights : portfolio_of(levers)) {
    pool.push_back(greedy.trim(weights, greedy.solve(weights, keep)));
    // Recompute alone can fail to converge from nothing; a checkpointing to start from helps where
    // memory is very tight.
    if (levers.offload) continue;
    for (std::size_t i = 0; i < presets; ++i)
      pool.push_back(greedy.trim(weights, greedy.solve(weights, pool[i])));
  }
  // Presets that fit may hold more back than they need to.
  for (std::size_t i = 0; i < presets; ++i) pool.push_back(greedy.trim(Weights{}, pool[i]));

  bool found = false;
  std::int64_t best_ns = 0;
  std::uint64_t best_moved_bytes = 0;
  Plan best;
  std::uint64_t least_bytes = UINT64_MAX;
  const Choices* least = &keep;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    if (std::find(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(i), pool[i]) !=
        pool.begin() + static_cast<std::ptrdiff_t>(i))
      continue;
    const Lowered tight = lowering.just_in_time(pool[i]);
    const std::uint64_t need_bytes = tight.min_budget_bytes();
    if (need_bytes < least_bytes) {
      least_bytes = need_bytes;
      least = &pool[i];
    }
    if (need_bytes > request.budget_bytes) continue;
    Plan plan = make_plan(profile,
                          gaps,
                          pool[i],
                          lowering.ahead(pool[i], request.budget_bytes, tight),
                          "joint",
                          request.budget_bytes);
    SimOptions options;
    options.budget_bytes = request.budget_bytes;
    options.pinned_bytes = request.pinned_bytes;
    const auto sim = simulate(profile, device, plan, options);
    if (!sim.ok() || !sim.value().fits) continue;
    const std::uint64_t moved_bytes = sim.value().offload_bytes;
    if (found && (sim.value().step_ns > best_ns ||
                  (sim.value().step_ns == best_ns && moved_bytes >= best_moved_bytes)))
      continue;
    found = true;
    best_ns = sim.value().step_ns;
    best_moved_bytes = moved_bytes;
    best = std::move(plan);
  }
  if (found) return best;
  PlanRequest unlimited = request;
  unlimited.budget_bytes = 0;
  GaveUp gave_up;
  gave_up.best_budget_bytes = least_bytes == UINT64_MAX ? summary.keep_all_peak_bytes : least_bytes;
  gave_up.best = std::get<Plan>(outcome_of(profile, device, unlimited, gaps, *least, "joint"));
  return gave_up;
}

}  // namespace spillway
