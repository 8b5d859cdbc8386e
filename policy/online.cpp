// SPDX-License-Identifier: Apache-2.0
// Prices change where something leaves or returns, so only the neighbours there are priced anew.
// Storages further away keep a price that is too low or too high until they come up as a victim,
// where it is checked.
#include "policy/online.hpp"

#include <algorithm>
#include <limits>

namespace spillway {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
// A victim whose price has risen goes back into the index; after so many the next one is taken.
constexpr int kChecksMax = 8;
constexpr std::uint64_t kMemorySteps = 64;
constexpr double kLoud = 2;

}  // namespace

OnlinePolicy::OnlinePolicy(const OnlineOptions& options) : options_(options) {
  out_.gbps = options.d2h_gbps;
  back_.gbps = options.h2d_gbps;
}

void OnlinePolicy::begin_step() {
  ++step_;
  if (step_ % kMemorySteps == 0) {
    for (auto entry = memory_.begin(); entry != memory_.end();)
      entry = entry->second.made_in_step + kMemorySteps < step_ ? memory_.erase(entry)
                                                                : std::next(entry);
  }
  compared_ += index_.compared();
  nodes_.clear();
  sets_.clear();
  index_ = VictimIndex();
}

std::uint32_t OnlinePolicy::made(const OnlineStorage& storage,
                                 std::span<const std::uint32_t> inputs) {
  const auto id = static_cast<std::uint32_t>(nodes_.size());
  Node node;
  node.info = storage;
  node.locks = 1;
  for (const std::uint32_t input : inputs) {
    const bool known =
        std::find(node.parents.begin(), node.parents.end(), input) != node.parents.end();
    if (input >= id || known) continue;
    node.parents.push_back(input);
    nodes_[input].children.push_back(id);
  }
  Memory& memory = memory_[storage.key];
  memory.made_in_step = step_;
  if (storage.op_ns >= 0)
    memory.time = observed(memory.time, storage.bytes, storage.op_ns, options_.feedback);
  nodes_.push_back(std::move(node));
  return id;
}

void OnlinePolicy::lock(std::uint32_t id) {
  if (nodes_[id].locks++ == 0) index_.erase(id);
}

void OnlinePolicy::unlock(std::uint32_t id, std::int64_t now_ns) {
  Node& node = nodes_[id];
  node.last_use_ns = now_ns;
  if (node.locks == 0 || --node.locks != 0) return;
  if (node.place != Place::kResident) return;
  const double own_price = price(id);
  if (own_price < kNever) index_.insert(id, own_price, node.info.bytes, now_ns);
}

double OnlinePolicy::op_ns(const Node& node) const {
  const auto known = memory_.find(node.info.key);
  if (known == memory_.end() || known->second.time.count == 0) return 0;
  return expected_ns(known->second.time, node.info.bytes);
}

double OnlinePolicy::recompute_price(std::uint32_t id) {
  const Node& node = nodes_[id];
  if (!node.info.recomputable) return kNever;
  double sum = op_ns(node);
  std::uint32_t seen[8];  // distinct sets; more than these are rare and may count twice
  std::size_t seen_count = 0;
  for (const auto* neighbours : {&node.parents, &node.children}) {
    for (const std::uint32_t neighbour : *neighbours) {
      const Place place = nodes_[neighbour].place;
      if (place != Place::kDropped && place != Place::kOnHost) continue;
      const std::uint32_t set = find(nodes_[neighbour].set);
      if (std::find(seen, seen + seen_count, set) != seen + seen_count) continue;
      if (seen_count < std::size(seen)) seen[seen_count++] = set;
      sum += sets_[set].ns;
    }
  }
  return std::max(sum, 0.0);
}

double OnlinePolicy::offload_price(const Node& node) const {
  if (!node.info.offloadable || out_.gbps <= 0 || back_.gbps <= 0) return kNever;
  const auto out_ns = static_cast<double>(copy_ns(out_, node.info.bytes));
  const auto known = memory_.find(node.info.key);
  const bool measured = known != memory_.end() && known->second.copied;
  // Not tried yet: the whole way back may be waited for.
  const double late_ns =
      measured ? known->second.late_ns : static_cast<double>(copy_ns(back_, node.info.bytes));
  return out_ns + late_ns;
}

// The cheaper lever's, also where habit still holds to the other: otherwise a tensor whose lever
// has become dear would never be evicted, and never be seen to have a cheaper one.
double OnlinePolicy::price(std::uint32_t id) {
  return std::min(recompute_price(id), offload_price(nodes_[id]));
}

Action OnlinePolicy::choose(std::uint32_t id) {
  const double again = recompute_price(id);
  const double copy = offload_price(nodes_[id]);
  Memory& memory = memory_of(nodes_[id]);
  const bool offloads = memory.lever.action == Action::kOffload;
  const double own = offloads ? copy : again;
  const double other = offloads ? again : copy;
  // Later evictions in the same step are no further evidence, unless they say it loudly.
  const bool asked = memory.lever.made && memory.priced_in_step == step_;
  if (asked && own < kNever && own <= kLoud * other) return memory.lever.action;
  const LeverChoice before = memory.lever;
  memory.lever = decided(before, again, copy, options_.feedback);
  memory.priced_in_step = step_;
  if (before.made && before.action != memory.lever.action) ++switch_count_;
  return memory.lever.action;
}

std::optional<Eviction> OnlinePolicy::victim(std::int64_t now_ns) {
  for (int check = 0;; ++check) {
    const std::optional<std::uint32_t> best = index_.best(now_ns);
    if (!best) return std::nullopt;
    const double now_price = price(*best);
    if (check < kChecksMax &&
        VictimIndex::class_of(now_price, nodes_[*best].info.bytes) > index_.class_of(*best)) {
      index_.reprice(*best, now_price);
      continue;
    }
    const Action action = choose(*best);
    index_.erase(*best);
    const bool offloads = action == Action::kOffload;
    leave(*best,
          offloads ? Place::kOnHost : Place::kDropped,
          offloads ? static_cast<double>(copy_ns(back_, nodes_[*best].info.bytes))
                   : op_ns(nodes_[*best]));
    return Eviction{*best, action};
  }
}

void OnlinePolicy::dropped(std::uint32_t id) {
  index_.erase(id);
  if (nodes_[id].place == Place::kResident) leave(id, Place::kDropped, op_ns(nodes_[id]));
}

void OnlinePolicy::leave(std::uint32_t id, Place place, double set_ns) {
  Node& node = nodes_[id];
  node.place = place;
  node.set = static_cast<std::uint32_t>(sets_.size());
  node.set_ns = set_ns;
  sets_.push_back({node.set, set_ns});
  // What lies on the host ends a chain of recomputes, so it joins no other's set.
  if (place == Place::kDropped) {
    for (const auto* neighbours : {&node.parents, &node.children}) {
      for (const std::uint32_t neighbour : *neighbours) {
        if (nodes_[neighbour].place != Place::kDropped) continue;
        const std::uint32_t own = find(node.set);
        const std::uint32_t other = find(nodes_[neighbour].set);
        if (own == other) continue;
        sets_[own].parent = other;
        sets_[other].ns += sets_[own].ns;
      }
    }
  }
  reprice_neighbours(id);
}

void OnlinePolicy::returned(std::uint32_t id, std::int64_t measured_op_ns) {
  Node& node = nodes_[id];
  if (node.place == Place::kDropped || node.place == Place::kOnHost)
    sets_[find(node.set)].ns -= node.set_ns;
  node.place = Place::kResident;
  ++node.locks;
  if (measured_op_ns >= 0) {
    Memory& memory = memory_of(node);
    memory.time = observed(memory.time, node.info.bytes, measured_op_ns, options_.feedback);
  }
  reprice_neighbours(id);
}

void OnlinePolicy::gone(std::uint32_t id) {
  Node& node = nodes_[id];
  index_.erase(id);
  if (node.place == Place::kDropped || node.place == Place::kOnHost)
    sets_[find(node.set)].ns -= node.set_ns;
  node.place = Place::kGone;
  reprice_neighbours(id);
}

void OnlinePolicy::reprice_neighbours(std::uint32_t id) {
  for (const auto* neighbours : {&nodes_[id].parents, &nodes_[id].children})
    for (const std::uint32_t neighbour : *neighbours)
      if (index_.contains(neighbour)) index_.reprice(neighbour, price(neighbour));
}

std::uint32_t OnlinePolicy::find(std::uint32_t set) {
  while (sets_[set].parent != set) {
    sets_[set].parent = sets_[sets_[set].parent].parent;
    set = sets_[set].parent;
  }
  return set;
}

void OnlinePolicy::copied_out(std::uint64_t bytes, std::int64_t ns) {
  out_ = observed(out_, bytes, ns, options_.feedback);
}

void OnlinePolicy::copied_back(std::uint64_t bytes, std::int64_t ns) {
  back_ = observed(back_, bytes, ns, options_.feedback);
}

void OnlinePolicy::arrived(std::uint32_t id,
                           std::int64_t late_ns,
                           std::int64_t early_ns,
                           std::int64_t lead_ns_max) {
  Memory& memory = memory_of(nodes_[id]);
  const double weight = memory.copied ? options_.feedback.time_weight : 1.0;
  memory.late_ns +=
      weight * (static_cast<double>(std::max<std::int64_t>(late_ns, 0)) - memory.late_ns);
  memory.copied = true;
  if (back_.gbps <= 0) return;
  memory.lead = corrected(memory.lead,
                          copy_ns(back_, nodes_[id].info.bytes),
                          late_ns,
                          early_ns,
                          lead_ns_max,
                          options_.feedback);
}

std::int64_t OnlinePolicy::prefetch_ahead_ns(std::uint32_t id) const {
  if (back_.gbps <= 0) return 0;
  const auto known = memory_.find(nodes_[id].info.key);
  const std::int64_t lead_ns = known == memory_.end() ? 0 : known->second.lead.ns;
  return copy_ns(back_, nodes_[id].info.bytes) + lead_ns;
}

std::optional<Action> OnlinePolicy::lever_of(std::uint64_t key) const {
  const auto known = memory_.find(key);
  if (known == memory_.end() || !known->second.lever.made) return std::nullopt;
  return known->second.lever.action;
}

}  // namespace spillway
