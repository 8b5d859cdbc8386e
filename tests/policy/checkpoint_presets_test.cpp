// SPDX-License-Identifier: Apache-2.0
// Presets that choose checkpoints by a rule: segments, the TensorFlow package's three modes and
// Chen's greedy walk. Which storages stay is counted on graphs small enough to do it by hand.
#include "policy/bottlenecks.hpp"
#include "policy/planner.hpp"
#include "policy/planners/chen_greedy.hpp"
#include "policy/simulator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace spillway;
using namespace spillway::test;

namespace {

Plan plan_by(const char* policy, const Profile& profile, std::uint64_t budget_bytes = 0) {
  PlanRequest request;
  const Planner* planner = find_planner(policy, &request).value();
  request.budget_bytes = budget_bytes;
  const PlanOutcome outcome = planner->plan(profile, summarize(profile), simple_device(), request);
  REQUIRE(std::holds_alternative<Plan>(outcome));
  return std::get<Plan>(outcome);
}

/// Activations that the plan recomputes, as ids of the maker (storage index in these profiles).
std::vector<std::uint32_t> recomputed(const Plan& plan) {
  std::vector<std::uint32_t> result;
  for (std::uint32_t s = 0; s < plan.decisions.size(); ++s)
    if (plan.decisions[s].action == Action::kRecompute) result.push_back(s);
  return result;
}

std::int64_t recompute_ns(const Profile& profile, const Plan& plan) {
  return simulate(profile, simple_device(), plan, {}).value().recompute_ns;
}

/// Residual blocks: x -> matmul m -> elementwise e -> x' = x + e. Backward reads m, e and x.
/// Storage ids: 0 the parameter; block i makes 3i+1 (m), 3i+2 (e), 3i+3 (x').
Profile residual_profile(std::uint32_t blocks, const char* name_of_third = nullptr) {
  ProfileMaker maker;
  maker.preexisting(0, 8, BufferKind::kParameter);
  constexpr std::uint64_t kBytes = 1 << 14;
  const auto x_of = [](std::uint32_t i) { return std::uint64_t{3} * i; };  // 0: none yet
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const OpKind kinds[] = {OpKind::kMatmul, OpKind::kElementwise, OpKind::kElementwise};
    for (std::uint64_t k = 0; k < 3; ++k) {
      maker.op_begin(Phase::kForward, kinds[k]);
      maker.create(x_of(i) + k + 1, kBytes, BufferKind::kActivation);
      if (k == 0) maker.read(0);
      if (k > 0) maker.read(x_of(i) + k);
      if (k != 1 && i > 0) maker.read(x_of(i));
      if (name_of_third != nullptr && k == 2 && i == 2)
        maker.record(RecordKind::kName, x_of(i) + 3, maker.string(name_of_third));
      maker.op_end(k == 0 ? 100 : 10);
    }
  }
  for (std::uint32_t i = blocks; i-- > 0;) {
    maker.op_begin(Phase::kBackward, OpKind::kMatmul);
    for (std::uint64_t k = 3; k >= 1; --k) maker.read(x_of(i) + k);
    if (i > 0) maker.read(x_of(i));
    maker.op_end(200);
    for (std::uint64_t k = 3; k >= 1; --k) maker.free(x_of(i) + k);
  }
  return maker.must_finish();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("bottlenecks of a residual net are the sums, and each op of a plain chain") {
    const Profile profile = residual_profile(4);
    const std::vector<char> found = bottleneck_ops(profile, 0);
    for (std::uint32_t op = 0; op < 12; ++op) {
      CAPTURE(op);
      // The first block has no sum: nothing skips it. The last output is read by backward alone.
      const bool expected = op < 3 || (op % 3 == 2 && op != 11);
      CHECK((found[op] != 0) == expected);
    }
    const Profile chain = chain_profile(5, 1000, 50, 10, 20);
    const std::vector<char> of_chain = bottleneck_ops(chain, 0);
    CHECK(std::vector<char>(of_chain.begin(), of_chain.begin() + 5) ==
          std::vector<char>{1, 1, 1, 1, 0});
    CHECK(bottleneck_ops(chain, 1000) == std::vector<char>(10, 0));
  }

  TEST_CASE("segments:K keeps the inputs of K segments and all of the last one") {
    // Ten layers, three segments of three; the last takes what is left: layers 6 to 9.
    const Profile profile = chain_profile(10, 1000, 50, 10, 20);
    const Plan plan = plan_by("segments:3", profile);
    CHECK(plan.policy == "segments:3");
    // Storage i is the output of layer i - 1; 3 and 6 are inputs of segments.
    CHECK(recomputed(plan) == std::vector<std::uint32_t>{1, 2, 4, 5});
    CHECK(recompute_ns(profile, plan) == 40);
    CHECK(recomputed(plan_by("segments:1", profile)).empty());
    CHECK(recomputed(plan_by("segments:10", profile)).empty());
    CHECK(recomputed(plan_by("segments:99", profile)).empty());
    // The square root of 10 is 3.
    CHECK(recomputed(plan_by("segments", profile)) == recomputed(plan));
  }

  TEST_CASE("speed keeps what matmuls make and recomputes the rest without running one again") {
    const Profile profile = residual_profile(5);
    const Plan plan = plan_by("speed", profile);
    // 12, 14 and 15 are needed at once when forward ends.
    CHECK(recomputed(plan) == std::vector<std::uint32_t>{2, 3, 5, 6, 8, 9, 11});
    for (const Instruction& instruction : plan.program)
      if (instruction.kind == InstructionKind::kRecompute)
        CHECK(profile.ops[instruction.target].tag.kind != OpKind::kMatmul);
  }

  TEST_CASE("memory keeps about the square root of the bottlenecks") {
    const Profile profile = residual_profile(12);
    const Plan plan = plan_by("memory", profile);
    // 36 candidates that backward reads, 13 bottlenecks among them: every third from the fourth on.
    std::vector<std::uint32_t> kept;
    const std::vector<std::uint32_t> gone = recomputed(plan);
    for (std::uint32_t s = 1; s <= 36; ++s)
      if (std::find(gone.begin(), gone.end(), s) == gone.end()) kept.push_back(s);
    CHECK(kept.size() >= 4);
    CHECK(kept.size() <= 7);  // with the last block's, which are needed at once
    CHECK(recompute_ns(profile, plan) <= 12 * 120);
  }

  TEST_CASE("memory falls back to speed where there is no bottleneck") {
    // Branches of one op each: no op of forward reads what another made.
    ProfileMaker maker;
    maker.preexisting(0, 8, BufferKind::kParameter);
    for (std::uint64_t i = 0; i < 8; ++i) {
      maker.op_begin(Phase::kForward, i < 2 ? OpKind::kMatmul : OpKind::kElementwise);
      maker.create(i + 1, 1 << 14, BufferKind::kActivation);
      maker.read(0);
      maker.op_end(10);
    }
    for (std::uint64_t i = 8; i >= 1; --i) {
      maker.op_begin(Phase::kBackward, OpKind::kMatmul);
      maker.read(i);
      maker.op_end(20);
      maker.free(i);
    }
    const Profile profile = maker.must_finish();
    CHECK(recomputed(plan_by("memory", profile)) == recomputed(plan_by("speed", profile)));
    CHECK(!recomputed(plan_by("speed", profile)).empty());
  }

  TEST_CASE("collection keeps layer boundaries where no tensor is named a checkpoint") {
    const Profile profile = chain_profile(8, 1000, 50, 10, 20);
    CHECK(recomputed(plan_by("collection", profile)) == recomputed(plan_by("full", profile)));
  }

  TEST_CASE("collection keeps the tensors whose name says checkpoint, and only those") {
    const Profile profile = residual_profile(5, "block2/Checkpoint");
    const std::vector<std::uint32_t> gone = recomputed(plan_by("collection", profile));
    CHECK(std::find(gone.begin(), gone.end(), 9u) == gone.end());
    for (const std::uint32_t s : {1u, 3u, 6u, 8u, 11u}) {
      CAPTURE(s);
      CHECK(std::find(gone.begin(), gone.end(), s) != gone.end());
    }
  }

  TEST_CASE("chen's greedy walk keeps an output whenever the limit is passed") {
    const Profile profile = chain_profile(9, 100, 50, 10, 20);
    const std::vector<char> any(profile.ops.size(), 1);
    // Limit 250: 100, 200, 300 > 250 -> keep layer 2's output (storage 3), then 6, then 9.
    std::vector<char> expected(10, 0);
    expected[3] = expected[6] = expected[9] = 1;
    CHECK(chen_greedy_checkpoints(profile, any, 250) == expected);
    std::vector<char> only_odd(profile.ops.size(), 0);
    for (std::size_t op = 1; op < only_odd.size(); op += 2) only_odd[op] = 1;
    expected.assign(10, 0);
    expected[4] = expected[8] = 1;
    CHECK(chen_greedy_checkpoints(profile, only_odd, 250) == expected);
  }

  TEST_CASE("chen-sqrt:greedy takes the cheapest limit that fits, strict keeps sums alone") {
    const Profile profile = residual_profile(16);
    const ProfileSummary summary = summarize(profile);
    std::int64_t before = 1'000'000;
    for (const std::uint64_t percent : {60u, 70u, 80u, 90u}) {
      CAPTURE(percent);
      const std::uint64_t budget = summary.keep_all_peak_bytes * percent / 100;
      const Plan greedy = plan_by("chen-sqrt:greedy", profile, budget);
      const std::int64_t ns = recompute_ns(profile, greedy);
      CHECK(ns <= before);
      before = ns;
      CHECK(ns <= recompute_ns(profile, plan_by("chen-sqrt:strict", profile, budget)));
    }
    const std::vector<char> bottleneck = bottleneck_ops(profile, 0);
    const Plan strict = plan_by("chen-sqrt:strict", profile);
    const std::vector<std::uint32_t> gone = recomputed(strict);
    CHECK(!gone.empty());
    for (std::uint32_t s = 1; s < 45; ++s) {
      if (std::find(gone.begin(), gone.end(), s) != gone.end()) continue;
      CAPTURE(s);
      CHECK(bottleneck[profile.storages[s].created_by.index()] != 0);
    }
  }
}
