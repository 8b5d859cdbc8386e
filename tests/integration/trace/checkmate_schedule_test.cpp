// SPDX-License-Identifier: Apache-2.0
// The schedules that a mixed-integer program found for the recorded graphs, as plans: the judge
// accepts them with the recorded peak and cost. And joint beside them, on the same budgets.
#include "integration/trace/reader.hpp"
#include "policy/bound.hpp"
#include "policy/op_order.hpp"
#include "policy/planner.hpp"
#include "policy/profile_builder.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/shared_data.hpp"
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace spillway {
namespace {

using nlohmann::json;
using Nodes = std::set<std::uint32_t>;

struct Graph {
  Profile profile;
  std::vector<std::vector<std::uint32_t>> inputs;  // per node
  std::vector<std::vector<std::uint32_t>> users;
  std::uint64_t fixed_bytes = 0;
  json solutions;
};

json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  REQUIRE(in.good());
  return json::parse(in);
}

Graph load(const std::filesystem::path& folder, const std::string& name) {
  Graph graph;
  const std::filesystem::path path = folder / "checkmate" / (name + "_graph.json");
  ProfileBuilder builder{ProfileOptions{}};
  REQUIRE(read_trace(path.string(), {}, builder).ok());
  auto profile = builder.finish();
  REQUIRE(profile.ok());
  graph.profile = std::move(profile).value();
  const json nodes = read_json(path);
  graph.inputs.resize(nodes["nodes"].size());
  graph.users.resize(nodes["nodes"].size());
  for (const json& edge : nodes["edges"]) {
    const auto from = edge[0].get<std::uint32_t>();
    const auto to = edge[1].get<std::uint32_t>();
    if (std::find(graph.inputs[to].begin(), graph.inputs[to].end(), from) != graph.inputs[to].end())
      continue;
    graph.inputs[to].push_back(from);
    graph.users[from].push_back(to);
  }
  graph.fixed_bytes = nodes["nodes"].back()["fixed_mem_bytes"].get<std::uint64_t>();
  graph.solutions =
      read_json(folder / "checkmate" / (name + "_checkmate_solutions.json"))["solutions"];
  return graph;
}

/// Node i makes storage i + 1: storage 0 is what was there before.
std::uint32_t storage_of(std::uint32_t node) { return node + 1; }

Nodes nodes_of(const json& runs) {
  Nodes nodes;
  for (const json& run : runs)
    for (std::uint32_t i = 0; i < run[1].get<std::uint32_t>(); ++i)
      nodes.insert(run[0].get<std::uint32_t>() + i);
  return nodes;
}

/// A recorded schedule with its own rule of when a value goes: once no later op of the stage reads
/// it and the next stage does not want it; a value that nothing reads stays until the stage ends.
std::vector<Instruction> program_of(const Graph& graph, const json& solution) {
  std::vector<Instruction> program;
  const auto emit = [&](InstructionKind kind, std::uint32_t target) {
    Instruction instruction;
    instruction.kind = kind;
    instruction.target = target;
    program.push_back(instruction);
  };
  const auto stage_count = static_cast<std::uint32_t>(graph.inputs.size());
  Nodes present;
  for (std::uint32_t t = 0; t < stage_count; ++t) {
    const Nodes runs = nodes_of(solution["R_runs"][t]);
    const Nodes wanted = t + 1 < stage_count ? nodes_of(solution["S_runs"][t + 1]) : Nodes{};
    for (const std::uint32_t node : runs) {
      if (node == t) {
        // What dies with this op but is wanted later is retained.
        for (const std::uint32_t i : present)
          if (!graph.users[i].empty() && graph.users[i].back() == t && wanted.count(i) != 0)
            emit(InstructionKind::kRetain, storage_of(i));
      }
      emit(node == t ? InstructionKind::kCompute : InstructionKind::kRecompute, node);
      present.insert(node);
      if (node == t) {
        for (auto i = present.begin(); i != present.end();) {
          // A value without a reader ends with its op, whatever the record wants of it.
          const bool unread = graph.users[*i].empty();
          const bool dies = unread ? *i == t : graph.users[*i].back() == t;
          i = dies && (unread || wanted.count(*i) == 0) ? present.erase(i) : std::next(i);
        }
      }
      for (const std::uint32_t i : graph.inputs[node]) {
        const bool read_again =
            std::any_of(graph.users[i].begin(), graph.users[i].end(), [&](std::uint32_t user) {
              return user > node && runs.count(user) != 0;
            });
        if (read_again || wanted.count(i) != 0 || present.count(i) == 0) continue;
        emit(InstructionKind::kDrop, storage_of(i));
        present.erase(i);
      }
    }
    for (auto i = present.begin(); i != present.end();) {
      if (wanted.count(*i) != 0) {
        ++i;
        continue;
      }
      emit(InstructionKind::kDrop, storage_of(*i));
      i = present.erase(i);
    }
  }
  return program;
}

DeviceModel any_device() {
  DeviceModel device;
  device.name = "p100";
  device.d2h_gbps = device.h2d_gbps = 12;
  device.hbm_gbps = 550;
  return device;
}

constexpr std::int64_t kUnitNs = 10'000;  // recorded costs are hundredths of a millisecond

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("recorded MILP schedules pass the judge with the recorded cost and peak") {
  SPW_REQUIRE_SHARED_DATA(folder);
  const DeviceModel device = any_device();
  for (const char* name : {"resnet50_184", "unet_11"}) {
    CAPTURE(name);
    const Graph graph = load(folder, name);
    REQUIRE(graph.solutions.size() == 6);
    for (const json& solution : graph.solutions) {
      const double gigabytes = solution["budget_gb"].get<double>();
      CAPTURE(gigabytes);
      Plan plan;
      plan.policy = "milp";
      plan.program = program_of(graph, solution);
      plan.decisions = decisions_of(graph.profile, plan.program);
      ValidateOptions options;
      options.budget_bytes = static_cast<std::uint64_t>(gigabytes * (1 << 30));
      const Verdict verdict = validate(graph.profile, device, plan, options);
      if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
      CHECK(verdict.step_ns == solution["runtime_expected_centi_ms"].get<std::int64_t>() * kUnitNs);
      // Recorded peaks are sums of sizes rounded to KiB, without what was there before.
      const auto peak_kib = static_cast<double>(verdict.peak_bytes - graph.fixed_bytes) / 1024;
      CHECK(std::abs(peak_kib - solution["u_max_kb"].get<double>()) <
            0.5 * static_cast<double>(graph.inputs.size()));
    }
  }
}

TEST_CASE("joint's recompute-only plans stay near the MILP's best, inside the budget") {
  SPW_REQUIRE_SHARED_DATA(folder);
  const DeviceModel device = any_device();
  double excess_sum = 0;
  double excess_worst = 0;
  int count = 0;
  for (const char* name : {"resnet50_184", "unet_11"}) {
    CAPTURE(name);
    const Graph graph = load(folder, name);
    const ProfileSummary summary = summarize(graph.profile);
    for (const json& solution : graph.solutions) {
      const double gigabytes = solution["budget_gb"].get<double>();
      CAPTURE(gigabytes);
      PlanRequest request;
      request.budget_bytes = static_cast<std::uint64_t>(gigabytes * (1 << 30));
      request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
      const auto planner = find_planner("joint", &request);
      REQUIRE(planner.ok());
      const PlanOutcome outcome = planner.value()->plan(graph.profile, summary, device, request);
      const Plan* plan = std::get_if<Plan>(&outcome);
      REQUIRE(plan != nullptr);
      ValidateOptions options;
      options.budget_bytes = request.budget_bytes;
      const Verdict verdict = validate(graph.profile, device, *plan, options);
      if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
      CHECK(verdict.peak_bytes <= request.budget_bytes);
      const double best =
          static_cast<double>(solution["runtime_expected_centi_ms"].get<std::int64_t>() * kUnitNs);
      const double excess = 100 * (static_cast<double>(verdict.step_ns) - best) /
                            static_cast<double>(summary.compute_ns);
      CHECK(excess <= 2.5);
      excess_sum += excess;
      excess_worst = std::max(excess_worst, excess);
      ++count;
    }
  }
  REQUIRE(count == 12);
  MESSAGE("excess over the MILP in points: mean " << excess_sum / count << ", worst "
                                                  << excess_worst);
  CHECK(excess_sum / count <= 0.7);
}

TEST_CASE(
    "the bound proves at least half of what the MILP proved, and never more than it reached") {
  SPW_REQUIRE_SHARED_DATA(folder);
  const DeviceModel device = any_device();
  for (const bool linear_program : {true, false}) {
    double share_sum = 0;
    int count = 0;
    for (const char* name : {"resnet50_184", "unet_11"}) {
      CAPTURE(name);
      const Graph graph = load(folder, name);
      const ProfileSummary summary = summarize(graph.profile);
      for (const json& solution : graph.solutions) {
        const double gigabytes = solution["budget_gb"].get<double>();
        CAPTURE(gigabytes);
        PlanRequest request;
        request.budget_bytes = static_cast<std::uint64_t>(gigabytes * (1 << 30));
        request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
        BoundOptions options;
        options.linear_program = linear_program;
        const Bound bound = lower_bound(graph.profile, summary, device, request, options);
        const std::int64_t reached_ns =
            solution["runtime_expected_centi_ms"].get<std::int64_t>() * kUnitNs;
        CHECK(bound.bound_ns <= reached_ns);
        // Where the solver finished there is no log line: its incumbent is proven.
        const bool logged = solution.contains("log") && solution["log"].is_object();
        const double proven_ns =
            logged ? solution["log"]["best_bound"].get<double>() * static_cast<double>(kUnitNs)
                   : static_cast<double>(reached_ns);
        share_sum += static_cast<double>(bound.bound_ns - summary.compute_ns) /
                     (proven_ns - static_cast<double>(summary.compute_ns));
        ++count;
      }
    }
    REQUIRE(count == 12);
    MESSAGE(std::string(linear_program && has_linear_program() ? "linear program" : "knapsack")
            << ": " << share_sum / count << " of the MILP's proven overhead on average");
    CHECK(share_sum / count >= 0.5);
  }
}

}  // namespace spillway
