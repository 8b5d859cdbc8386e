// SPDX-License-Identifier: Apache-2.0
// torch-budget: what PyTorch's partitioner does with activation_memory_budget = b. b = 1: the
// values of least bytes that backward can be run from without repeating ops of its ban list (a
// minimum cut); b = 0: inputs alone. Between: which banned values stay is a knapsack of run time
// against bytes, the others may be repeated, and the cut is made again. b bounds the bytes saved,
// not the peak, so its plan may well not fit.
#include "policy/planners/torch_budget.hpp"

#include "policy/cuts.hpp"
#include "policy/knapsack.hpp"
#include "policy/lowering.hpp"
#include "policy/max_flow.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace spillway {
namespace {

constexpr std::uint32_t kUnused = std::numeric_limits<std::uint32_t>::max();

/// Ops whose repetition the partitioner never considers cheap.
bool is_compute_intensive(OpKind kind) {
  return kind == OpKind::kMatmul || kind == OpKind::kConv || kind == OpKind::kAttention;
}

/// Kinds that stand for its list of recomputable operators.
bool is_in_allow_list(OpKind kind) {
  return kind == OpKind::kElementwise || kind == OpKind::kNorm || kind == OpKind::kSoftmax ||
         kind == OpKind::kView || kind == OpKind::kLoss;
}

class Partitioner {
 public:
  explicit Partitioner(const Profile& profile, const GapTable& gaps)
      : profile_(profile),
        producers_(profile.storages.size(), kUnused),
        needed_(profile.storages.size(), 0),
        distance_(profile.storages.size(), kUnused),
        rebuildable_(profile.storages.size(), 0) {
    for (const Gap& gap : gaps.gaps) rebuildable_[gap.storage] = gap.rebuildable ? 1 : 0;
    find_values();
  }

  /// Values to keep for budget `b`, a mark per storage.
  std::vector<char> saved(double b);

 private:
  enum class Bans { kDefault, kAggressive };

  void find_values();
  [[nodiscard]] bool is_banned(std::uint32_t value, Bans bans) const;
  [[nodiscard]] std::vector<char> cut(Bans bans, const std::vector<char>& free_to_repeat) const;
  [[nodiscard]] std::uint64_t bytes_of(const std::vector<char>& marks) const;
  void prepare();

  const Profile& profile_;
  std::vector<std::uint32_t> values_;     // storages made in forward that may go
  std::vector<std::uint32_t> producers_;  // per storage: its forward op, if it is a value
  std::vector<char> needed_;              // read by backward
  std::vector<std::uint32_t> distance_;   // forward ops up to backward
  std::vector<char> rebuildable_;
  bool prepared_ = false;
  std::vector<char> runtime_optimal_, aggressive_;
  std::uint64_t most_bytes_ = 0;
  std::vector<std::uint32_t> items_;  // banned values that could be repeated
  std::vector<KnapsackItem> weights_;
  std::vector<Knapsack> knapsack_;
};

void Partitioner::find_values() {
  for (std::uint32_t s = 0; s < profile_.storages.size(); ++s) {
    const Storage& storage = profile_.storages[s];
    if (!storage.created_by.valid() ||
        profile_.ops[storage.created_by.index()].tag.phase != Phase::kForward)
      continue;
    for (const std::uint32_t op : profile_.uses_of(storage))
      needed_[s] = needed_[s] != 0 || profile_.ops[op].tag.phase != Phase::kForward ? 1 : 0;
    // What is not movable and stays for backward is there without being saved.
    if (!is_movable(storage) && needed_[s] != 0) continue;
    producers_[s] = storage.created_by.value;
    values_.push_back(s);
  }
  std::vector<std::uint32_t> by_op = values_;
  std::stable_sort(by_op.begin(), by_op.end(), [&](std::uint32_t a, std::uint32_t b) {
    return producers_[a] > producers_[b];
  });
  for (const std::uint32_t s : by_op) {
    if (needed_[s] != 0) {
      distance_[s] = 1;
      continue;
    }
    for (const std::uint32_t op : profile_.uses_of(profile_.storages[s])) {
      if (op == producers_[s]) continue;
      for (const Use use : profile_.uses_of(profile_.ops[op])) {
        if (!use.creates()) continue;
        const std::uint32_t user = profile_.storage_of(use).value;
        if (distance_[user] != kUnused) distance_[s] = std::min(distance_[s], distance_[user] + 1);
      }
    }
  }
}

bool Partitioner::is_banned(std::uint32_t s, Bans bans) const {
  const Op& op = profile_.ops[producers_[s]];
  if (op.tag.has(kOpRng) || op.tag.kind == OpKind::kDropout || is_compute_intensive(op.tag.kind))
    return true;
  if (bans == Bans::kDefault && !is_in_allow_list(op.tag.kind)) return true;
  // A reduction: saving what is small costs less than reading what is large again.
  std::uint64_t read_bytes = 0;
  for (const Use use : profile_.uses_of(op))
    if (use.reads()) read_bytes += profile_.storages[profile_.storage_of(use).index()].bytes;
  return profile_.storages[s].bytes < read_bytes / 4;
}

// Node pairs (in, out) per value; the pair's edge is the price of saving it. Source: what must not
// run again. Sink: what backward reads. What must run again for a value is tied to it for good.
std::vector<char> Partitioner::cut(Bans bans, const std::vector<char>& free_to_repeat) const {
  std::vector<std::uint32_t> node(profile_.storages.size(), kUnused);
  for (std::uint32_t i = 0; i < values_.size(); ++i) node[values_[i]] = 2 * i;
  const auto source = static_cast<std::uint32_t>(2 * values_.size());
  const std::uint32_t sink = source + 1;
  MaxFlow flow(sink + 1);
  for (const std::uint32_t s : values_) {
    const Storage& storage = profile_.storages[s];
    const Op& op = profile_.ops[producers_[s]];
    std::uint64_t price = MaxFlow::kUnlimited;  // a temporary cannot be kept
    if (is_movable(storage)) price = torch_save_price(storage.bytes, distance_[s]);
    flow.add_edge(node[s], node[s] + 1, price);
    if (needed_[s] != 0) flow.add_edge(node[s] + 1, sink, MaxFlow::kUnlimited);
    const bool cannot = !is_recomputable(profile_, op) ||
                        (is_movable(storage) && needed_[s] != 0 && rebuildable_[s] == 0);
    if (cannot || (free_to_repeat[s] == 0 && is_banned(s, bans)))
      flow.add_edge(source, node[s], MaxFlow::kUnlimited);
    for (const Use use : profile_.uses_of(op)) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      const std::uint32_t input = profile_.storage_of(use).value;
      if (node[input] != kUnused && input != s)
        flow.add_edge(node[input] + 1, node[s], MaxFlow::kUnlimited);
    }
  }
  std::vector<char> saved(profile_.storages.size(), 0);
  (void)flow.run(source, sink);
  for (const std::uint32_t s : values_)
    saved[s] = flow.on_source_side(node[s]) && !flow.on_source_side(node[s] + 1) ? 1 : 0;
  return saved;
}

std::uint64_t Partitioner::bytes_of(const std::vector<char>& marks) const {
  std::uint64_t bytes = 0;
  for (std::size_t s = 0; s < marks.size(); ++s)
    if (marks[s] != 0) bytes += profile_.storages[s].bytes;
  return bytes;
}

void Partitioner::prepare() {
  if (prepared_) return;
  prepared_ = true;
  const std::vector<char> none(profile_.storages.size(), 0);
  runtime_optimal_ = cut(Bans::kDefault, none);
  aggressive_ = cut(Bans::kAggressive, none);
  most_bytes_ = bytes_of(runtime_optimal_);
  for (const std::uint32_t s : values_) {
    const Op& op = profile_.ops[producers_[s]];
    if (!is_banned(s, Bans::kAggressive) || distance_[s] == kUnused ||
        !is_movable(profile_.storages[s]) || !is_recomputable(profile_, op))
      continue;
    items_.push_back(s);
  }
  // Largest first, so that ties fall the same way everywhere.
  std::stable_sort(items_.begin(), items_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return profile_.storages[a].bytes > profile_.storages[b].bytes;
  });
  for (const std::uint32_t s : items_)
    weights_.push_back({profile_.storages[s].bytes, profile_.ops[producers_[s]].duration_ns});
  // The partitioner's own table has 10,000 steps; beyond some thousand values that is too much.
  constexpr std::size_t kMaxBits = std::size_t{1} << 27;
  const std::size_t steps = std::min<std::size_t>(10'000, kMaxBits / (items_.size() + 1));
  if (steps >= 100)
    knapsack_.emplace_back(weights_, most_bytes_, static_cast<std::uint32_t>(steps));
}

std::vector<char> Partitioner::saved(double b) {
  if (b <= 0) return std::vector<char>(profile_.storages.size(), 0);
  prepare();
  if (b >= 1 || most_bytes_ == 0) return runtime_optimal_;
  const double limit = b * static_cast<double>(most_bytes_);
  if (static_cast<double>(bytes_of(aggressive_)) < limit) return aggressive_;
  const auto capacity = static_cast<std::uint64_t>(limit);
  const std::vector<char> taken =
      knapsack_.empty() ? greedy_knapsack(weights_, capacity) : knapsack_[0].take(capacity);
  std::vector<char> free_to_repeat(profile_.storages.size(), 0);
  for (std::size_t i = 0; i < items_.size(); ++i) free_to_repeat[items_[i]] = taken[i] != 0 ? 0 : 1;
  return cut(Bans::kAggressive, free_to_repeat);
}

}  // namespace

std::uint64_t torch_save_price(std::uint64_t bytes, std::uint32_t distance) {
  const double far = std::pow(1.1, std::clamp(distance, 1u, 100u));
  return static_cast<std::uint64_t>(static_cast<double>(bytes) * far);
}

std::vector<char> torch_budget_saved(const Profile& profile, const GapTable& gaps, double b) {
  return Partitioner(profile, gaps).saved(b);
}

PlanOutcome plan_torch_budget(const Profile& profile,
                              const ProfileSummary& /*summary*/,
                              const DeviceModel& device,
                              const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const std::string name = policy_text("torch-budget", request);
  if (!profile.can_recompute)
    return outcome_of(profile, device, request, gaps, Choices(gaps.gaps.size()), name);
  Partitioner partitioner(profile, gaps);
  double b = 1;
  if (!request.variant.empty() || request.budget_bytes == 0) {
    if (!request.variant.empty())
      std::from_chars(request.variant.data(), request.variant.data() + request.variant.size(), b);
    return outcome_of(
        profile, device, request, gaps, keep_only(profile, gaps, partitioner.saved(b)), name);
  }
  const Lowering lowering(profile, device, gaps);
  const auto tries = static_cast<int>(std::min<std::size_t>(candidate_limit(profile), 20));
  Choices best;
  std::uint64_t least_bytes = std::numeric_limits<std::uint64_t>::max();
  for (int i = tries; i >= 0; --i) {
    Choices choices = keep_only(profile, gaps, partitioner.saved(static_cast<double>(i) / tries));
    const std::uint64_t bytes = lowering.just_in_time(choices).min_budget_bytes();
    if (bytes < least_bytes) {
      least_bytes = bytes;
      best = std::move(choices);
    }
    if (least_bytes <= request.budget_bytes) break;
  }
  return outcome_of(profile, device, request, gaps, best, name);
}

}  // namespace spillway
