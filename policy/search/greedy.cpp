// SPDX-License-Identifier: Apache-2.0
// Rounds of: lower, find where the budget is exceeded, pick gaps from a queue of scores that is
// brought up to date lazily.
#include "policy/search/greedy.hpp"

#include "policy/search/range_max.hpp"

#include <algorithm>
#include <queue>

namespace spillway {
namespace {

// Steps above this many ops are looked at more coarsely, so that time stays near linear.
constexpr std::size_t kShortStepOps = 2048;

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

}  // namespace

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
      return weights.recompute *
             (gap.returns ? static_cast<double>(rebuild_ns(profile_, gap)) : 0.0);
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
        if (keeps_values(choices_[g].codec, profile_.storages[storage].tag)) continue;
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
  points_.clear();
  const std::size_t op_count = instant_bytes_.size();
  const std::size_t points_max = op_count <= kShortStepOps ? 1024 : 96;
  const std::size_t stretch = (op_count + points_max - 1) / points_max;
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

// What the gap would cost by its cheapest lever but offload.
double Greedy::otherwise_ns(const Weights& weights, std::uint32_t g) const {
  double ns = 1e18;
  if (weights.recompute_allowed && gaps_.gaps[g].rebuildable)
    ns = std::min(ns, cost_ns(weights, g, {Action::kRecompute, Codec::kNone}));
  const Codec codec = weights.compress ? codec_for(gaps_.gaps[g].storage) : Codec::kNone;
  if (codec != Codec::kNone) ns = std::min(ns, cost_ns(weights, g, {Action::kCompress, codec}));
  return ns;
}

// Offloads for which the host has no room when those go first that save most per byte and op.
std::vector<std::uint32_t> Greedy::above_pinned(const Weights& weights,
                                                const Choices& choices) const {
  struct Offload {
    double worth;
    std::uint32_t gap;
    std::uint64_t bytes;
  };
  std::vector<Offload> offloads;
  for (std::uint32_t g = 0; g < choices.size(); ++g) {
    if (choices[g].action != Action::kOffload) continue;
    const Gap& gap = gaps_.gaps[g];
    const Storage& storage = profile_.storages[gap.storage];
    const Codec codec = choices[g].codec;
    const std::uint64_t bytes = codec == Codec::kNone
                                    ? storage.bytes
                                    : payload_bytes(codec, storage.tag.dtype, storage.bytes);
    const double area = static_cast<double>(bytes) * (gap.before_op - gap.after_op);
    offloads.push_back({otherwise_ns(weights, g) / std::max(area, 1.0), g, bytes});
  }
  std::sort(offloads.begin(), offloads.end(), [](const Offload& a, const Offload& b) {
    return a.worth != b.worth ? a.worth > b.worth : a.gap < b.gap;
  });
  RangeMax host(std::vector<std::uint64_t>(profile_.ops.size(), 0));
  std::vector<std::uint32_t> above;
  for (const Offload& offload : offloads) {
    const Gap& gap = gaps_.gaps[offload.gap];
    const std::size_t end = std::min<std::size_t>(gap.before_op + 1, profile_.ops.size());
    if (host.max(gap.after_op, end) + offload.bytes > request_.pinned_bytes)
      above.push_back(offload.gap);
    else
      host.add(gap.after_op, end, offload.bytes);
  }
  return above;
}

Choices Greedy::solve(const Weights& weights, Choices start) {
  no_offload_.assign(start.size(), 0);
  Choices choices = solve_rounds(weights, std::move(start));
  if (request_.pinned_bytes == 0) return choices;
  constexpr int kRounds = 4;
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<std::uint32_t> above = above_pinned(weights, choices);
    if (above.empty()) break;
    for (const std::uint32_t g : above) {
      choices[g] = Decision{};
      no_offload_[g] = 1;
    }
    // The last time what is on the host is all that goes there.
    if (round + 1 == kRounds)
      for (std::size_t g = 0; g < choices.size(); ++g)
        if (choices[g].action != Action::kOffload) no_offload_[g] = 1;
    choices = solve_rounds(weights, std::move(choices));
  }
  return choices;
}

Choices Greedy::solve_rounds(const Weights& weights, Choices start) {
  choices_ = std::move(start);
  exact_only_.assign(profile_.storages.size(), 0);
  const bool may_be_inexact =
      request_.allow_lossy ||
      std::any_of(profile_.storages.begin(), profile_.storages.end(), [](const Storage& storage) {
        return storage.tag.has(kSignOnly);
      });
  constexpr int kRounds = 24;
  std::uint64_t best_bytes = UINT64_MAX;
  Choices best = choices_;
  for (int round = 0; round < kRounds; ++round) {
    Lowered lowered = lowering_.just_in_time(choices_);
    while (may_be_inexact && keep_inputs_exact(lowered)) lowered = lowering_.just_in_time(choices_);
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
      if (weights.offload && no_offload_[g] == 0)
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
  RangeMax bytes(before.instant_bytes);
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
    if (gap.after_op + 1 < end && bytes.max(gap.after_op + 1, end) + more > request_.budget_bytes)
      continue;
    bytes.add(gap.after_op + 1, end, more);
    trimmed[g] = Decision{};
  }
  return lowering_.just_in_time(trimmed).min_budget_bytes() <= request_.budget_bytes ? trimmed
                                                                                     : choices;
}

}  // namespace spillway
