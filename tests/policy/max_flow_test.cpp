// SPDX-License-Identifier: Apache-2.0
// Flow equals cut, and the cut is the least of all cuts of small graphs.
#include "policy/max_flow.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <array>

using namespace spillway;

namespace {

struct TestEdge {
  std::uint32_t from, to;
  std::uint64_t capacity;
};

std::uint64_t least_cut(std::uint32_t nodes, const std::vector<TestEdge>& edges) {
  std::uint64_t least = ~std::uint64_t{0};
  for (std::uint32_t side = 0; side < 1u << nodes; ++side) {
    if ((side & 1) == 0 || (side >> (nodes - 1) & 1) != 0) continue;  // 0 the source, last the sink
    std::uint64_t cut = 0;
    for (const TestEdge& edge : edges)
      if ((side >> edge.from & 1) != 0 && (side >> edge.to & 1) == 0) cut += edge.capacity;
    least = std::min(least, cut);
  }
  return least;
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("the largest flow is the least cut of random graphs") {
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const auto nodes = static_cast<std::uint32_t>(2 + random.below(7));
      std::vector<TestEdge> edges;
      for (std::uint64_t i = 0; i < random.below(25); ++i)
        edges.push_back({static_cast<std::uint32_t>(random.below(nodes)),
                         static_cast<std::uint32_t>(random.below(nodes)),
                         random.below(20)});
      MaxFlow flow(nodes);
      for (const TestEdge& edge : edges) flow.add_edge(edge.from, edge.to, edge.capacity);
      const std::uint64_t value = flow.run(0, nodes - 1);
      CHECK(value == least_cut(nodes, edges));
      std::uint64_t cut = 0;
      std::vector<std::int64_t> balance(nodes, 0);
      for (std::uint32_t e = 0; e < edges.size(); ++e) {
        const std::uint64_t here = flow.flow_of(e);
        CHECK(here <= edges[e].capacity);
        balance[edges[e].from] -= static_cast<std::int64_t>(here);
        balance[edges[e].to] += static_cast<std::int64_t>(here);
        if (flow.on_source_side(edges[e].from) && !flow.on_source_side(edges[e].to))
          cut += edges[e].capacity;
      }
      CHECK(cut == value);
      for (std::uint32_t n = 1; n + 1 < nodes; ++n) CHECK(balance[n] == 0);
      CHECK(balance[nodes - 1] == static_cast<std::int64_t>(value));
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("no finite cut is said as such, and none is needed where no path is") {
    MaxFlow open(3);
    open.add_edge(0, 1, MaxFlow::kUnlimited);
    open.add_edge(1, 2, MaxFlow::kUnlimited);
    CHECK(open.run(0, 2) >= MaxFlow::kUnlimited);
    MaxFlow apart(3);
    apart.add_edge(0, 1, 5);
    CHECK(apart.run(0, 2) == 0);
  }

  TEST_CASE("a path of 200000 nodes needs no recursion") {
    constexpr std::uint32_t kNodes = 200'000;
    MaxFlow flow(kNodes);
    for (std::uint32_t n = 0; n + 1 < kNodes; ++n) flow.add_edge(n, n + 1, 7 + n % 3);
    CHECK(flow.run(0, kNodes - 1) == 7);
  }
}
