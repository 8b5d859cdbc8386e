// SPDX-License-Identifier: Apache-2.0
// What depends on what among the storages of a DTR log, as far as the step has come, and what the
// scores ask of it: cost of a storage, of the evicted storages around it, and of union-find
// components of them (DTR paper, section 4.1 and appendix C).
#pragma once

#include "policy/dtr/dtr_log.hpp"

#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

namespace spillway {

class DtrGraph {
 public:
  /// `with_components`: keep the union-find sets; only evicted_components() needs them. Walks
  /// through evicted storages end after `walk_limit` of them (0: never).
  DtrGraph(const DtrLog& log, bool with_components, std::size_t walk_limit);

  /// `op` is about to run for the first time: its outputs and their edges exist from now on.
  void add_op(std::uint32_t op);
  void evict(std::uint32_t storage);
  void bring_back(std::uint32_t storage);

  bool is_resident(std::uint32_t storage) const { return nodes_[storage].resident; }
  std::span<const std::uint32_t> tensors_of(std::uint32_t storage) const {
    return nodes_[storage].tensors;
  }
  /// ns of the distinct ops that made its tensors so far.
  std::int64_t cost_of(std::uint32_t storage) const { return nodes_[storage].cost_ns; }
  /// `sum_ns` plus the cost of every storage that `storage` follows from through evicted storages
  /// only. Ends early once `enough(sum)` holds.
  template <typename Enough>
  std::int64_t with_evicted_ancestors(std::uint32_t storage,
                                      std::int64_t sum_ns,
                                      const Enough& enough) {
    return reach(storage, &Node::parents, sum_ns, enough);
  }
  /// The same for every storage that follows from it through evicted storages only.
  template <typename Enough>
  std::int64_t with_evicted_descendants(std::uint32_t storage,
                                        std::int64_t sum_ns,
                                        const Enough& enough) {
    return reach(storage, &Node::children, sum_ns, enough);
  }
  /// Sum over the distinct components of its evicted neighbours. Storages that come back leave
  /// their component's sum, not the component: an approximation that keeps updates cheap.
  std::int64_t evicted_components(std::uint32_t storage);

 private:
  struct Node {
    std::vector<std::uint32_t> tensors, parents, children;
    std::int64_t cost_ns = 0;
    std::uint32_t last_op = DtrLog::kNone;
    std::uint32_t set = 0;  // index into sets_
    bool resident = false;
    bool computed = false;
  };
  struct Set {
    std::uint32_t parent = 0;
    std::int64_t cost_ns = 0;
  };

  template <typename Enough>
  std::int64_t reach(std::uint32_t from,
                     std::vector<std::uint32_t> Node::*edges,
                     std::int64_t sum_ns,
                     const Enough& enough) {
    if (enough(sum_ns)) return sum_ns;
    std::size_t walk_left = walk_limit_;
    ++stamp_;
    stamps_[from] = stamp_;
    stack_.assign(1, from);
    while (!stack_.empty()) {
      const std::uint32_t current = stack_.back();
      stack_.pop_back();
      for (const std::uint32_t next : nodes_[current].*edges) {
        const Node& node = nodes_[next];
        if (node.resident || !node.computed || stamps_[next] == stamp_) continue;
        stamps_[next] = stamp_;
        sum_ns += node.cost_ns;
        if (enough(sum_ns) || --walk_left == 0) return sum_ns;
        stack_.push_back(next);
      }
    }
    return sum_ns;
  }
  std::uint32_t find(std::uint32_t set);
  std::uint32_t new_set(std::int64_t cost_ns);

  const DtrLog& log_;
  bool with_components_;
  std::size_t walk_limit_;
  std::vector<Node> nodes_;
  std::vector<Set> sets_;
  std::unordered_set<std::uint64_t> edges_;  // parent << 32 | child, to keep lists free of doubles
  std::vector<std::uint32_t> stamps_, set_stamps_, stack_;
  std::uint32_t stamp_ = 0;
};

}  // namespace spillway
