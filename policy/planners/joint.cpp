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
  std::vector<std::uint64_t> bytes_;  // instant bytes per op, as estimated since the last lowering
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

// Byte-seconds by which the excess over the budget shrinks.
double Greedy::relief(std::uint32_t g, const Decision& now, const Decision& then) const {
  const Gap& gap = gaps_.gaps[g];
  const Storage& storage = profile_.storages[gap.storage];
  const std::uint64_t held_then = held_bytes(storage, then);
  const std::uint64_t held_now = held_bytes(storage, now);
  double sum = 0;
  for (std::uint32_t op = gap.after_op + 1; op < gap.before_op; ++op) {
    if (bytes_[op] <= request_.budget_bytes) continue;
    // A recompute chain may have brought it back early; a copy does not come back before it is
    // asked for.
    const std::uint64_t holds = op >= back_at_[g] ? storage.bytes : held_now;
    if (holds <= held_then || (then.action == Action::kRecompute && op >= back_at_[g])) continue;
    const std::uint64_t excess = bytes_[op] - request_.budget_bytes;
    sum += static_cast<double>(std::min(excess, holds - held_then)) *
           static_cast<double>(profile_.ops[op].duration_ns + 1);
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
  constexpr int kRounds = 24;
  std::uint64_t best_bytes = UINT64_MAX;
  Choices best = choices_;
  for (int round = 0; round < kRounds; ++round) {
    Lowered lowered = lowering_.just_in_time(choices_);
    const std::uint64_t need_bytes = lowered.min_budget_bytes();
    if (need_bytes < best_bytes) {
      best_bytes = need_bytes;
      best = choices_;
    }
    if (need_bytes <= request_.budget_bytes) break;
    bytes_ = std::move(lowered.instant_bytes);
    back_at_ = std::move(lowered.back_at);
    offload_ns_ = 0;
    for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g)
      if (choices_[g].action == Action::kOffload)
        offload_ns_ +=
            static_cast<double>(device_.offload_ns(profile_.storages[gaps_.gaps[g].storage].bytes));

    std::priority_queue<Candidate, std::vector<Candidate>, WorseScore> queue;
    const auto offer = [&](std::uint32_t g, Decision decision) {
      if (decision == choices_[g]) return;
      const double s = score(weights, g, decision);
      if (s >= 0) queue.push({s, g, decision});
    };
    for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g) {
      const Gap& gap = gaps_.gaps[g];
      const Codec codec = weights.compress || weights.code_offloads
                              ? best_codec(profile_.storages[gap.storage], request_.allow_lossy)
                              : Codec::kNone;
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
      for (std::uint32_t op = gap.after_op + 1; op < gap.before_op; ++op) {
        const bool back = op >= back_at_[top.gap];
        if (back && top.decision.action == Action::kRecompute) continue;
        const std::uint64_t holds = back ? storage.bytes : held_now;
        bytes_[op] = bytes_[op] + held_then - std::min(bytes_[op] + held_then, holds);
      }
      if (top.decision.action != Action::kRecompute) back_at_[top.gap] = gap.before_op;
      if (top.decision.action == Action::kOffload)
        offload_ns_ += static_cast<double>(device_.offload_ns(storage.bytes));
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

}  // namespace

PlanOutcome plan_joint(const Profile& profile,
                       const ProfileSummary& summary,
                       const DeviceModel& device,
                       const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const Choices keep(gaps.gaps.size());
  if (request.budget_bytes == 0 || summary.keep_all_peak_bytes <= request.budget_bytes)
    return outcome_of(profile, device, request, gaps, keep, "joint");
  const bool may_offload = allows(request.actions, Action::kOffload);
  const bool may_recompute = allows(request.actions, Action::kRecompute) && profile.can_recompute;
  const bool may_compress = allows(request.actions, Action::kCompress);
  const Lowering lowering(profile, device, gaps);
  Greedy greedy(profile, summary, device, request, gaps, lowering);

  // The least memory each lever reaches; these also decide feasibility.
  std::vector<Choices> pool;
  if (may_offload) pool.push_back(offload_every_gap(gaps));
  if (may_recompute) {
    pool.push_back(recompute_every_gap(gaps));
    pool.push_back(selective_choices(profile, gaps));
    const std::uint64_t sqrt_bytes = chen_sqrt_segment_bytes(profile);
    for (const double factor : {0.0, 0.25, 0.5, 1.0, 2.0})
      pool.push_back(chen_segments(
          profile, gaps, static_cast<std::uint64_t>(static_cast<double>(sqrt_bytes) * factor)));
  }
  if (may_compress) {
    Choices compressed(gaps.gaps.size());
    for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
      const Codec codec = best_codec(profile.storages[gaps.gaps[g].storage], request.allow_lossy);
      if (codec != Codec::kNone && gaps.gaps[g].returns) compressed[g] = {Action::kCompress, codec};
    }
    pool.push_back(std::move(compressed));
  }
  const std::size_t presets = pool.size();
  std::vector<Weights> portfolio;
  for (const double link : {0.0, 0.05, 0.3, 1.0, 3.0}) {
    for (const bool coded : {false, true}) {
      if (coded && !may_compress) continue;
      Weights weights;
      weights.link = link;
      weights.offload = may_offload;
      weights.recompute_allowed = may_recompute;
      weights.compress = may_compress;
      weights.code_offloads = coded;
      portfolio.push_back(weights);
      if (!may_offload) break;
    }
    if (!may_offload) break;
  }
  if (may_recompute && may_offload) {
    Weights recompute_only;
    recompute_only.offload = false;
    recompute_only.compress = may_compress;
    portfolio.push_back(recompute_only);
    Weights offload_only;
    offload_only.recompute_allowed = false;
    offload_only.compress = may_compress;
    portfolio.push_back(offload_only);
  }
  for (const Weights& weights : portfolio) {
    pool.push_back(greedy.trim(weights, greedy.solve(weights, keep)));
    // Recompute alone can fail to converge from nothing; a checkpointing to start from helps where
    // memory is very tight.
    if (may_recompute && !may_offload)
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
  std::size_t least = 0;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    const Lowered tight = lowering.just_in_time(pool[i]);
    const std::uint64_t need_bytes = tight.min_budget_bytes();
    if (need_bytes < least_bytes) {
      least_bytes = need_bytes;
      least = i;
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
  PlanRequest none = request;
  none.budget_bytes = 0;
  if (may_offload && least_bytes > request.budget_bytes) {
    // Offloading every gap holds nothing that an op does not need: no plan does with less.
    return outcome_of(profile, device, request, gaps, offload_every_gap(gaps), "joint");
  }
  GaveUp gave_up;
  gave_up.best_budget_bytes = least_bytes;
  gave_up.best = std::get<Plan>(
      outcome_of(profile, device, none, gaps, pool.empty() ? keep : pool[least], "joint"));
  return gave_up;
}

}  // namespace spillway
