// SPDX-License-Identifier: Apache-2.0
// Maximum flow and minimum cut (Dinic 1970): phases of shortest augmenting paths, without
// recursion. Capacities are 64-bit; kUnlimited is an edge that no finite cut contains.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace spillway {

class MaxFlow {
 public:
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max() / 4;

  explicit MaxFlow(std::uint32_t node_count) : first_(node_count, kNone) {}

  /// Returns the edge's index. Finite capacities must sum to less than kUnlimited.
  std::uint32_t add_edge(std::uint32_t from, std::uint32_t to, std::uint64_t capacity);

  /// The largest flow from source to sink; at least kUnlimited when no finite cut parts them. Once.
  std::uint64_t run(std::uint32_t source, std::uint32_t sink);

  /// After run: is `node` on the source's side of the minimum cut nearest to the source?
  [[nodiscard]] bool on_source_side(std::uint32_t node) const { return level_[node] != kNone; }
  [[nodiscard]] std::uint64_t flow_of(std::uint32_t edge) const {
    return edges_[2 * std::size_t{edge} + 1].left;
  }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  struct Edge {
    std::uint32_t to;
    std::uint32_t next;  // of the same origin
    std::uint64_t left;  // capacity that is not used yet
  };
  bool find_levels(std::uint32_t source, std::uint32_t sink);
  std::uint64_t augment(std::uint32_t source, std::uint32_t sink);

  std::vector<std::uint32_t> first_;  // per node: its last added edge
  std::vector<Edge> edges_;           // pairs: edge, its reverse
  std::vector<std::uint32_t> level_, arc_, queue_, path_;
};

}  // namespace spillway
