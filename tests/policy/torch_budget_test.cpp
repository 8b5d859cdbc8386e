// SPDX-License-Identifier: Apache-2.0
// The partitioner's cut against every set of saved values, and what the budget b does to bytes and
// repeated work.
#include "policy/planners/torch_budget.hpp"

#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

using namespace spillway;
using namespace spillway::test;

namespace {

/// A random forward graph of matmuls and elementwise ops; backward reads some outputs.
struct Graph {
  Profile profile;
  std::vector<std::vector<std::uint32_t>> inputs;  // per value, earlier values
  std::vector<bool> matmul, needed;
};

Graph random_graph(std::uint64_t seed, std::uint32_t count) {
  Random random(seed);
  Graph graph;
  ProfileMaker maker;
  maker.preexisting(0, 4, BufferKind::kParameter);
  for (std::uint32_t i = 0; i < count; ++i) {
    graph.matmul.push_back(random.below(2) == 0);
    graph.needed.push_back(random.below(2) == 0 || i + 1 == count);
    graph.inputs.emplace_back();
    for (std::uint32_t j = 0; j < i; ++j)
      if (random.below(i + 1) < 2) graph.inputs[i].push_back(j);
    maker.op_begin(Phase::kForward, graph.matmul[i] ? OpKind::kMatmul : OpKind::kElementwise);
    maker.create(i + 1, 1000 + random.below(1000), BufferKind::kActivation);
    maker.read(0);
    for (const std::uint32_t j : graph.inputs[i]) maker.read(j + 1);
    maker.op_end(10 + random.below(100));
  }
  maker.op_begin(Phase::kForward, OpKind::kOther);  // so that every value has a gap
  maker.read(0);
  maker.op_end(1);
  for (std::uint32_t i = count; i-- > 0;) {
    maker.op_begin(Phase::kBackward, OpKind::kMatmul);
    maker.read(0);
    if (graph.needed[i]) maker.read(i + 1);
    maker.op_end(50);
    maker.free(i + 1);
  }
  graph.profile = maker.must_finish();
  return graph;
}

bool is_banned(const Graph& graph, std::uint32_t i) {
  if (graph.matmul[i]) return true;
  std::uint64_t read = graph.profile.storages[0].bytes;
  for (const std::uint32_t j : graph.inputs[i]) read += graph.profile.storages[j + 1].bytes;
  return graph.profile.storages[i + 1].bytes < read / 4;
}

std::vector<std::uint32_t> distances(const Graph& graph) {
  std::vector<std::uint32_t> distance(graph.inputs.size(), ~0u);
  for (std::size_t i = distance.size(); i-- > 0;) {
    if (graph.needed[i]) distance[i] = 1;
    for (const std::uint32_t j : graph.inputs[i])
      if (distance[i] != ~0u) distance[j] = std::min(distance[j], distance[i] + 1);
  }
  return distance;
}

/// Is every value that backward reads saved, or rebuilt from saved ones without a banned op?
bool is_enough(const Graph& graph, std::uint32_t saved) {
  std::vector<bool> have(graph.inputs.size());
  for (std::uint32_t i = 0; i < have.size(); ++i) {
    have[i] = (saved >> i & 1) != 0;
    bool can = !is_banned(graph, i);
    for (const std::uint32_t j : graph.inputs[i]) can = can && have[j];
    have[i] = have[i] || can;
    if (graph.needed[i] && !have[i]) return false;
  }
  return true;
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("with b = 1 the saved values are the cheapest that repeat no banned op") {
    for (std::uint64_t seed = 1; seed <= 120; ++seed) {
      CAPTURE(seed);
      const std::uint32_t count = 2 + static_cast<std::uint32_t>(seed % 8);
      const Graph graph = random_graph(seed, count);
      const std::vector<std::uint32_t> distance = distances(graph);
      const auto price = [&](std::uint32_t set) {
        std::uint64_t sum = 0;
        for (std::uint32_t i = 0; i < count; ++i)
          if ((set >> i & 1) != 0)
            sum += torch_save_price(graph.profile.storages[i + 1].bytes, distance[i]);
        return sum;
      };
      std::uint64_t least = ~std::uint64_t{0};
      for (std::uint32_t set = 0; set < 1u << count; ++set)
        if (is_enough(graph, set)) least = std::min(least, price(set));
      const std::vector<char> saved =
          torch_budget_saved(graph.profile, find_gaps(graph.profile), 1);
      std::uint32_t set = 0;
      for (std::uint32_t i = 0; i < count; ++i)
        set |= static_cast<std::uint32_t>(saved[i + 1]) << i;
      CHECK(is_enough(graph, set));
      CHECK(price(set) == least);
    }
  }

  TEST_CASE("b = 0 saves nothing, and no b saves more bytes than b = 1") {
    for (std::uint64_t seed = 200; seed <= 260; ++seed) {
      CAPTURE(seed);
      const Graph graph = random_graph(seed, 24);
      const GapTable gaps = find_gaps(graph.profile);
      const auto bytes = [&](double b) {
        const std::vector<char> saved = torch_budget_saved(graph.profile, gaps, b);
        std::uint64_t sum = 0;
        for (std::size_t s = 0; s < saved.size(); ++s)
          if (saved[s] != 0) sum += graph.profile.storages[s].bytes;
        return sum;
      };
      const std::uint64_t all = bytes(1);
      CHECK(all > 0);
      CHECK(bytes(0) == 0);
      for (const double b : {0.25, 0.5, 0.75}) {
        CAPTURE(b);
        CHECK(bytes(b) <= all);
      }
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("torch-budget:1 repeats no matmul, torch-budget:0 repeats whatever can be") {
    const Graph graph = random_graph(5, 30);
    PlanRequest request;
    const Planner* planner = find_planner("torch-budget:1", &request).value();
    const ProfileSummary summary = summarize(graph.profile);
    const Plan careful =
        std::get<Plan>(planner->plan(graph.profile, summary, simple_device(), request));
    CHECK(careful.policy == "torch-budget:1");
    for (const Instruction& instruction : careful.program)
      if (instruction.kind == InstructionKind::kRecompute)
        CHECK(graph.profile.ops[instruction.target].tag.kind != OpKind::kMatmul);
    CHECK(find_planner("torch-budget:0", &request).ok());
    const Plan all =
        std::get<Plan>(planner->plan(graph.profile, summary, simple_device(), request));
    for (std::uint32_t s = 1; s <= 30; ++s)
      if (graph.needed[s - 1]) CHECK(all.decisions[s].action == Action::kRecompute);
  }

  TEST_CASE("a b that needs more than the budget is infeasible, for it bounds no peak") {
    const Graph graph = random_graph(6, 30);
    const ProfileSummary summary = summarize(graph.profile);
    PlanRequest request;
    const Planner* planner = find_planner("torch-budget:1", &request).value();
    request.budget_bytes = summary.unmovable_bytes;
    const PlanOutcome outcome = planner->plan(graph.profile, summary, simple_device(), request);
    REQUIRE(std::holds_alternative<Infeasible>(outcome));
    CHECK(std::get<Infeasible>(outcome).min_budget_bytes > request.budget_bytes);
    CHECK(!find_planner("torch-budget:1.5", &request).ok());
    CHECK(!find_planner("torch-budget:x", &request).ok());
  }
}
