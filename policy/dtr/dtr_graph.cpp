// SPDX-License-Identifier: Apache-2.0
// Edges appear as ops run, so a storage's neighbours and cost grow during the step, as in the
// reference.
#include "policy/dtr/dtr_graph.hpp"

#include <limits>

namespace spillway {

DtrGraph::DtrGraph(const DtrLog& log, bool with_components, std::size_t walk_limit)
    : log_(log),
      with_components_(with_components),
      walk_limit_(walk_limit == 0 ? std::numeric_limits<std::size_t>::max() : walk_limit),
      nodes_(log.storages.size()),
      stamps_(log.storages.size(), 0) {
  if (!with_components) return;
  for (Node& node : nodes_) node.set = new_set(0);
}

void DtrGraph::add_op(std::uint32_t op_index) {
  const DtrLog::Op& op = log_.ops[op_index];
  for (std::uint32_t tensor = op.outputs_begin; tensor < op.outputs_end; ++tensor) {
    const std::uint32_t storage = log_.tensors[tensor].storage;
    Node& node = nodes_[storage];
    node.tensors.push_back(tensor);
    if (node.last_op != op_index) node.cost_ns += op.cost_ns;
    node.last_op = op_index;
    for (const std::uint32_t input : log_.inputs_of(op)) {
      const std::uint32_t parent = log_.tensors[input].storage;
      if (parent == storage) continue;
      if (!edges_.insert((std::uint64_t{parent} << 32) | storage).second) continue;
      node.parents.push_back(parent);
      nodes_[parent].children.push_back(storage);
    }
  }
}

void DtrGraph::evict(std::uint32_t storage) {
  Node& node = nodes_[storage];
  node.resident = false;
  if (!with_components_) return;
  node.set = new_set(node.cost_ns);
  for (const auto* neighbours : {&node.parents, &node.children}) {
    for (const std::uint32_t neighbour : *neighbours) {
      if (nodes_[neighbour].resident) continue;
      const std::uint32_t own = find(node.set);
      const std::uint32_t other = find(nodes_[neighbour].set);
      if (own == other) continue;
      sets_[own].parent = other;
      sets_[other].cost_ns += sets_[own].cost_ns;
    }
  }
}

void DtrGraph::bring_back(std::uint32_t storage) {
  Node& node = nodes_[storage];
  node.resident = true;
  node.computed = true;
  if (with_components_) sets_[find(node.set)].cost_ns -= node.cost_ns;
}

std::int64_t DtrGraph::evicted_components(std::uint32_t storage) {
  ++stamp_;
  std::int64_t sum = 0;
  for (const auto* neighbours : {&nodes_[storage].parents, &nodes_[storage].children}) {
    for (const std::uint32_t neighbour : *neighbours) {
      if (nodes_[neighbour].resident) continue;
      const std::uint32_t set = find(nodes_[neighbour].set);
      if (set_stamps_[set] == stamp_) continue;
      set_stamps_[set] = stamp_;
      sum += sets_[set].cost_ns;
    }
  }
  return sum;
}

std::uint32_t DtrGraph::find(std::uint32_t set) {
  while (sets_[set].parent != set) {
    sets_[set].parent = sets_[sets_[set].parent].parent;
    set = sets_[set].parent;
  }
  return set;
}

std::uint32_t DtrGraph::new_set(std::int64_t cost_ns) {
  const auto index = static_cast<std::uint32_t>(sets_.size());
  sets_.push_back({index, cost_ns});
  set_stamps_.push_back(0);
  return index;
}

}  // namespace spillway
