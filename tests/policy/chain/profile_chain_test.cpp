// SPDX-License-Identifier: Apache-2.0
// From a step to a chain and back: the chain's numbers, and orders that are always legal.
#include "policy/chain/profile_chain.hpp"

#include "policy/chain/bptt.hpp"
#include "policy/chain/revolve.hpp"
#include "policy/chain/rotor.hpp"
#include "policy/op_order.hpp"
#include "policy/simulator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <numeric>

using namespace spillway;
using namespace spillway::test;

TEST_SUITE("unit") {
  TEST_CASE("a chain of equal layers becomes a chain of equal stages") {
    const Profile profile = chain_profile(6, 100, 50, 10, 20);
    const ProfileChain found = chain_of(profile, 100);
    REQUIRE(found.rounds.size() == 1);
    const ChainRound& round = found.rounds[0];
    REQUIRE(round.stages.size() == 6);
    REQUIRE(round.chain.consistent());
    for (std::size_t s = 0; s < 6; ++s) {
      CAPTURE(s);
      CHECK(round.chain.forward_ns[s] == 10);
      CHECK(round.chain.backward_ns[s] == 20);
      CHECK(round.chain.saved_bytes[s] == 100);
      CHECK(round.chain.input_bytes[s] == (s == 0 ? 0 : 100));
      CHECK(round.stages[s].backward_end == 12 - s);
    }
  }

  TEST_CASE("too many stages are joined where little crosses") {
    const Profile profile = chain_profile(64, 100, 50, 10, 20);
    const ProfileChain found = chain_of(profile, 8);
    CHECK(found.rounds[0].stages.size() <= 9);
    CHECK(found.rounds[0].stages.size() >= 7);
    CHECK(found.rounds[0].stages.back().end_op == 64);
  }

  TEST_CASE("save all everywhere is the step itself") {
    const Profile profile = random_profile(3, 30);
    const ProfileChain found = chain_of(profile, 100);
    std::vector<ChainSchedule> schedules;
    for (const ChainRound& round : found.rounds)
      schedules.push_back(save_all_schedule(round.stages.size()));
    std::vector<std::uint32_t> expected(profile.ops.size());
    std::iota(expected.begin(), expected.end(), 0u);
    CHECK(order_of(profile, found, schedules) == expected);
  }

  TEST_CASE("a revolve order of equal layers runs as many forwards as the formula says") {
    const Profile profile = chain_profile(20, 100, 50, 10, 20);
    const ProfileChain found = chain_of(profile, 100);
    for (const std::uint32_t c : {1u, 2u, 4u, 7u}) {
      CAPTURE(c);
      const auto order = order_of(profile, found, {revolve_schedule(20, c)});
      const auto plan = plan_of_order(profile, order, true, "test", 0);
      REQUIRE(plan.ok());
      const auto sim = simulate(profile, simple_device(), plan.value(), {});
      REQUIRE(sim.ok());
      // Forward runs: those of the formula and one of each stage in "save all" mode, less the
      // step's own.
      const auto steps = static_cast<std::int64_t>(revolve_forward_steps(20, c));
      CHECK(sim.value().recompute_ns == steps * 10);
    }
  }
}

TEST_SUITE("property") {
  TEST_CASE("the order of any schedule of any step is legal and runs every op") {
    for (std::uint64_t seed = 1; seed <= 150; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const Profile profile =
          random_profile(seed, 4 + static_cast<std::uint32_t>(random.below(50)));
      const ProfileChain found =
          chain_of(profile, 2 + static_cast<std::uint32_t>(random.below(20)));
      for (int kind = 0; kind < 3; ++kind) {
        CAPTURE(kind);
        std::vector<ChainSchedule> schedules;
        for (const ChainRound& round : found.rounds) {
          REQUIRE(round.chain.consistent());
          const auto n = static_cast<std::uint32_t>(round.stages.size());
          const auto slots = 1 + static_cast<std::uint32_t>(random.below(2 * n));
          if (kind == 0) schedules.push_back(revolve_schedule(n, slots));
          if (kind == 1)
            schedules.push_back(BpttTable(BpttStates::kMixed, n, slots, 2).schedule(slots));
          if (kind == 2) {
            const RotorTable table(round.chain, 4096, 600);
            schedules.push_back(table.schedule(50 + static_cast<std::uint32_t>(random.below(550))));
          }
        }
        const auto order = order_of(profile, found, schedules);
        const auto plan = plan_of_order(profile, order, random.below(2) == 0, "test", 0);
        REQUIRE_MESSAGE(plan.ok(), plan.status().message());
        const auto sim = simulate(profile, simple_device(), plan.value(), {});
        REQUIRE_MESSAGE(sim.ok(), sim.status().message());
      }
    }
  }
}
