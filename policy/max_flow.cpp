// SPDX-License-Identifier: Apache-2.0
// Each phase: levels by breadth, then paths along rising levels, each edge given up once it leads
// nowhere.
#include "policy/max_flow.hpp"

#include <algorithm>

namespace spillway {

std::uint32_t MaxFlow::add_edge(std::uint32_t from, std::uint32_t to, std::uint64_t capacity) {
  const auto index = static_cast<std::uint32_t>(edges_.size());
  edges_.push_back({to, first_[from], capacity});
  first_[from] = index;
  edges_.push_back({from, first_[to], 0});
  first_[to] = index + 1;
  return index / 2;
}

bool MaxFlow::find_levels(std::uint32_t source, std::uint32_t sink) {
  level_.assign(first_.size(), kNone);
  level_[source] = 0;
  queue_.assign(1, source);
  for (std::size_t head = 0; head < queue_.size(); ++head) {
    const std::uint32_t node = queue_[head];
    for (std::uint32_t e = first_[node]; e != kNone; e = edges_[e].next) {
      if (edges_[e].left == 0 || level_[edges_[e].to] != kNone) continue;
      level_[edges_[e].to] = level_[node] + 1;
      queue_.push_back(edges_[e].to);
    }
  }
  return level_[sink] != kNone;
}

// One path from source to sink; 0 when there is none left in this phase. A capacity of kUnlimited
// never runs out: it is far above what all finite edges together carry.
std::uint64_t MaxFlow::augment(std::uint32_t source, std::uint32_t sink) {
  path_.clear();
  std::uint32_t node = source;
  while (node != sink) {
    std::uint32_t& e = arc_[node];
    while (e != kNone && (edges_[e].left == 0 || level_[edges_[e].to] != level_[node] + 1))
      e = edges_[e].next;
    if (e != kNone) {
      path_.push_back(e);
      node = edges_[e].to;
      continue;
    }
    if (path_.empty()) return 0;
    node = edges_[path_.back() ^ 1].to;
    path_.pop_back();
    arc_[node] = edges_[arc_[node]].next;
  }
  std::uint64_t amount = kUnlimited;
  for (const std::uint32_t e : path_) amount = std::min(amount, edges_[e].left);
  for (const std::uint32_t e : path_) {
    edges_[e].left -= amount;
    edges_[e ^ 1].left += amount;
  }
  return amount;
}

std::uint64_t MaxFlow::run(std::uint32_t source, std::uint32_t sink) {
  std::uint64_t total = 0;
  while (find_levels(source, sink)) {
    arc_ = first_;
    while (const std::uint64_t amount = augment(source, sink)) {
      total += amount;
      if (total >= kUnlimited) return total;
    }
  }
  return total;
}

}  // namespace spillway
