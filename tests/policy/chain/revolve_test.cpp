// SPDX-License-Identifier: Apache-2.0
// Revolve against its closed form, its recurrence, and values from outside.
#include "policy/chain/revolve.hpp"

#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <fstream>

using namespace spillway;

namespace {

Chain equal_stages(std::uint32_t length) {
  Chain chain;
  chain.forward_ns.assign(length, 1);
  chain.backward_ns.assign(length, 0);
  chain.input_bytes.assign(length + 1, 1);
  chain.saved_bytes.assign(length, 0);
  chain.forward_extra_bytes.assign(length, 0);
  chain.backward_extra_bytes.assign(length, 0);
  return chain;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("revolve gives the step counts that its authors print") {
    CHECK(revolve_forward_steps(10, 3) == 15);
    CHECK(revolve_forward_steps(50, 5) == 122);
    CHECK(revolve_forward_steps(100, 5) == 316);
    CHECK(revolve_forward_steps(100, 10) == 222);
    CHECK(revolve_forward_steps(128, 8) == 329);
    CHECK(revolve_forward_steps(1000, 10) == 3636);
    CHECK(revolve_forward_steps(1, 1) == 0);
    CHECK(revolve_forward_steps(7, 1) == 21);
  }

  TEST_CASE("revolve's closed form and its recurrence agree up to 80 stages and 8 checkpoints") {
    for (std::uint32_t c = 1; c <= 8; ++c)
      for (std::uint32_t l = 1; l <= 80; ++l) {
        CAPTURE(c);
        CAPTURE(l);
        REQUIRE(revolve_forward_steps(l, c) == revolve_forward_steps_by_table(l, c));
      }
  }

  TEST_CASE("a revolve schedule is legal, takes the least steps and holds no more checkpoints") {
    for (const std::uint32_t c : {1u, 2u, 3u, 5u, 9u})
      for (std::uint32_t l = 1; l <= 70; ++l) {
        CAPTURE(c);
        CAPTURE(l);
        const ChainSchedule schedule = revolve_schedule(l, c);
        const ChainReplay result = replay(equal_stages(l), schedule);
        REQUIRE(result.legal);
        CHECK(result.forward_runs == revolve_forward_steps(l, c));
        std::size_t held = 0;
        std::size_t most = 0;
        for (const ChainStep& step : schedule) {
          if (step.kind == ChainStepKind::kForwardKeep) most = std::max(most, ++held);
          if (step.kind == ChainStepKind::kRestore) --held;
        }
        CHECK(most <= c);
      }
  }

  TEST_CASE("a long chain with few checkpoints is scheduled without recursion") {
    const ChainReplay result = replay(equal_stages(3000), revolve_schedule(3000, 12));
    CHECK(result.legal);
    CHECK(result.forward_runs == revolve_forward_steps(3000, 12));
  }

  TEST_CASE("more checkpoints than stages cost one forward run of all stages but the last") {
    CHECK(revolve_forward_steps(9, 40) == 8);
    CHECK(replay(equal_stages(9), revolve_schedule(9, 40)).forward_runs == 8);
  }
}

TEST_SUITE("shared_data") {
  TEST_CASE("revolve equals every golden value, by formula, by table and by schedule") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::ifstream file(dir / "golden" / "revolve_forward_steps.json");
    const auto rows = nlohmann::json::parse(file);
    REQUIRE(rows.size() >= 80);
    for (const auto& row : rows) {
      const auto l = row[0].get<std::uint32_t>();
      const auto c = row[1].get<std::uint32_t>();
      const auto steps = row[2].get<std::uint64_t>();
      CAPTURE(l);
      CAPTURE(c);
      CHECK(revolve_forward_steps(l, c) == steps);
      CHECK(revolve_forward_steps_by_table(l, c) == steps);
      if (l <= 256) CHECK(replay(equal_stages(l), revolve_schedule(l, c)).forward_runs == steps);
    }
  }
}
