// SPDX-License-Identifier: Apache-2.0
// The rotor table against recorded optima and against schedules that are run step by step.
#include "policy/chain/rotor.hpp"

#include "core/random.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <numeric>

using namespace spillway;

namespace {

Chain random_chain(std::uint64_t seed, std::uint32_t length) {
  Random random(seed);
  Chain chain;
  for (std::uint32_t i = 0; i < length; ++i) {
    chain.forward_ns.push_back(1 + static_cast<std::int64_t>(random.below(20)));
    chain.backward_ns.push_back(1 + static_cast<std::int64_t>(random.below(40)));
    chain.input_bytes.push_back(1 + random.below(5));
    chain.forward_extra_bytes.push_back(random.below(3));
    chain.backward_extra_bytes.push_back(random.below(5));
  }
  chain.input_bytes.push_back(1 + random.below(5));
  for (std::uint32_t i = 0; i < length; ++i)
    chain.saved_bytes.push_back(chain.input_bytes[i + 1] + random.below(8));
  return chain;
}

std::uint64_t everything(const Chain& chain) {
  std::uint64_t bytes = 64;
  for (std::size_t i = 0; i < chain.length(); ++i)
    bytes += chain.saved_bytes[i] + chain.input_bytes[i];
  return bytes;
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("a rotor schedule is legal, takes the table's time and stays in its memory") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Random random(seed * 7);
      const Chain chain = random_chain(seed, 2 + static_cast<std::uint32_t>(random.below(9)));
      const std::uint64_t slot = 1 + random.below(3);
      const auto slots = static_cast<std::uint32_t>(everything(chain) / slot + chain.length() * 2);
      const RotorTable table(chain, slot, slots);
      std::int64_t before = -1;
      for (std::uint32_t m = 0; m <= slots; ++m) {
        CAPTURE(m);
        const auto time = table.time_ns(m);
        if (!time) {
          CHECK(before == -1);  // more memory never makes it impossible again
          CHECK(table.schedule(m).empty());
          continue;
        }
        CHECK((before == -1 || *time <= before));
        before = *time;
        const ChainReplay result = replay(chain, table.schedule(m));
        REQUIRE(result.legal);
        CHECK(result.time_ns == *time);
        CHECK(result.peak_bytes <= m * slot);
      }
      CHECK(before == chain.time_without_recompute());
    }
  }

  TEST_CASE("a cheaper run right before a stage's own backward is counted where it happens") {
    for (std::uint64_t seed = 200; seed < 240; ++seed) {
      CAPTURE(seed);
      Chain chain = random_chain(seed, 7);
      const auto bytes = static_cast<std::uint32_t>(everything(chain));
      const RotorTable plain(chain, 1, bytes);
      Random random(seed);
      for (const std::int64_t ns : chain.forward_ns)
        chain.forward_leaf_ns.push_back(
            static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(ns) + 1)));
      const RotorTable table(chain, 1, bytes);
      for (std::uint32_t m = 0; m <= bytes; ++m) {
        const auto time = table.time_ns(m);
        REQUIRE(time.has_value() == plain.time_ns(m).has_value());
        if (!time) continue;
        CHECK(*time <= *plain.time_ns(m));
        // The last stage's own run comes before its backward too, but its output was wanted: the
        // loss reads it.
        const ChainReplay result = replay(chain, table.schedule(m));
        REQUIRE(result.legal);
        CHECK(result.time_ns <= *time);
        CHECK(result.time_ns + chain.forward_ns.back() >= *time);
      }
    }
  }

  TEST_CASE("coarser slots never promise a faster schedule than bytes do") {
    for (std::uint64_t seed = 100; seed < 130; ++seed) {
      CAPTURE(seed);
      const Chain chain = random_chain(seed, 7);
      const auto bytes = static_cast<std::uint32_t>(everything(chain));
      const RotorTable fine(chain, 1, bytes);
      const RotorTable coarse(chain, 4, bytes / 4);
      for (std::uint32_t m = 0; m <= coarse.slots(); ++m) {
        const auto rough = coarse.time_ns(m);
        if (!rough) continue;
        const auto exact = fine.time_ns(m * 4);
        REQUIRE(exact);
        CHECK(*exact <= *rough);
      }
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("equal stages take the times of the reference implementation") {
    Chain chain;
    chain.forward_ns.assign(16, 1);
    chain.backward_ns.assign(16, 2);
    chain.input_bytes.assign(17, 1);
    chain.saved_bytes.assign(16, 4);
    chain.forward_extra_bytes.assign(16, 0);
    chain.backward_extra_bytes.assign(16, 0);
    const RotorTable table(chain, 1, 100);
    CHECK(table.time_ns(11) == 69);
    CHECK(table.time_ns(19) == 61);
    CHECK(table.time_ns(27) == 58);
    CHECK(table.time_ns(39) == 55);
    CHECK(table.time_ns(55) == 51);
    CHECK(table.time_ns(79) == 48);
    CHECK(!table.time_ns(3));
  }

  TEST_CASE("an empty chain takes no time") {
    Chain chain;
    chain.input_bytes = {1};
    const RotorTable table(chain, 1, 4);
    CHECK(table.time_ns(1) == 0);
    CHECK(table.schedule(1).empty());
  }
}

TEST_SUITE("shared_data") {
  TEST_CASE("rotor equals all 96 golden optima, those that do not fit included") {
    SPW_REQUIRE_SHARED_DATA(dir);
    std::ifstream file(dir / "golden" / "rotor_persistent_optima.json");
    const auto cases = nlohmann::json::parse(file);
    int compared = 0;
    for (const auto& item : cases) {
      Chain chain;
      chain.forward_ns = item["fw"].get<std::vector<std::int64_t>>();
      chain.backward_ns = item["bw"].get<std::vector<std::int64_t>>();
      chain.input_bytes = item["a"].get<std::vector<std::uint64_t>>();
      chain.saved_bytes = item["abar"].get<std::vector<std::uint64_t>>();
      chain.forward_extra_bytes = item["fwd_tmp"].get<std::vector<std::uint64_t>>();
      chain.backward_extra_bytes = item["bwd_tmp"].get<std::vector<std::uint64_t>>();
      REQUIRE(chain.consistent());
      CHECK(chain.time_without_recompute() == item["no_recompute_time"].get<std::int64_t>());
      std::uint32_t slots = 0;
      for (const auto& row : item["optimum_by_memory"])
        slots = std::max(slots, row[0].get<std::uint32_t>());
      const RotorTable table(chain, 1, slots);
      for (const auto& row : item["optimum_by_memory"]) {
        CAPTURE(item["name"].get<std::string>());
        CAPTURE(row.dump());
        const auto memory = row[0].get<std::uint32_t>();
        ++compared;
        if (row[1].is_null()) {
          CHECK(!table.time_ns(memory));
          continue;
        }
        CHECK(table.time_ns(memory) == row[1].get<std::int64_t>());
        const ChainReplay result = replay(chain, table.schedule(memory));
        CHECK(result.legal);
        CHECK(result.time_ns == row[1].get<std::int64_t>());
      }
    }
    CHECK(compared == 96);
  }
}
