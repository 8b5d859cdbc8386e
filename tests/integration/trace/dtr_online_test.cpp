// SPDX-License-Identifier: Apache-2.0
// The online policy on whole DTR logs, made up and recorded: near the DTR authors' own results
// under noise, without looking at every candidate.
#include "integration/trace/dtr_events.hpp"
#include "policy/dtr/dtr_engine.hpp"
#include "policy/online.hpp"
#include "tests/policy/online_lab.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

namespace spillway {
namespace {

using test::LabOptions;
using test::LabResult;

std::uint64_t first_seed() {
  const char* text = std::getenv("SPILLWAY_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

DtrLog log_at(const std::filesystem::path& path) {
  auto log = read_dtr_events(path.string());
  REQUIRE_MESSAGE(log.ok(), log.status().message());
  return std::move(log).value();
}

std::uint64_t peak_of(const DtrLog& log) {
  const auto all = run_dtr(log, DtrScore::kLru, std::uint64_t{1} << 60);
  REQUIRE(all.ok());
  return all.value().peak_bytes;
}

struct Ratios {
  double online = 0;  // clock over first runs, mean over steps
  double engine = 0;  // clock over the log's time, h_eq
  double compared_per_search = 0;
  double candidates_per_search = 0;
};

Ratios compare(const DtrLog& log, double part, double noise, std::uint64_t seed) {
  Ratios ratios;
  LabOptions options;
  options.budget_bytes = static_cast<std::uint64_t>(part * static_cast<double>(peak_of(log)));
  options.noise = noise;
  Random random(seed);
  OnlinePolicy policy;
  std::uint64_t searches = 0;
  std::uint64_t candidates = 0;
  constexpr int kSteps = 4;
  for (int step = 0; step < kSteps; ++step) {
    const LabResult result = run_online(log, policy, random, options);
    REQUIRE(result.done);
    ratios.online +=
        static_cast<double>(result.clock_ns) / static_cast<double>(result.first_ns) / kSteps;
    searches += result.drops;
    candidates += result.candidates;
  }
  const auto engine = run_dtr(log, DtrScore::kEq, options.budget_bytes);
  REQUIRE(engine.ok());
  REQUIRE(engine.value().end == DtrEnd::kOk);
  ratios.engine =
      static_cast<double>(engine.value().clock_ns) / static_cast<double>(log.model_ns());
  ratios.compared_per_search =
      static_cast<double>(policy.compared()) / static_cast<double>(searches);
  ratios.candidates_per_search = static_cast<double>(candidates) / static_cast<double>(searches);
  return ratios;
}

}  // namespace

TEST_SUITE_BEGIN("property");

TEST_CASE("online, recorded steps with noise cost what DTR's h_eq costs with none, or near it") {
  SPW_REQUIRE_SHARED_DATA(dir);
  const std::uint64_t seed = first_seed();
  MESSAGE("SPILLWAY_TEST_SEED=", seed);
  for (const auto& entry : std::filesystem::directory_iterator(dir / "dtr" / "logs")) {
    CAPTURE(entry.path().filename().string());
    const DtrLog log = log_at(entry.path());
    for (const double part : {0.8, 0.6}) {
      CAPTURE(part);
      const Ratios ratios = compare(log, part, 0.15, seed);
      MESSAGE("online ",
              ratios.online,
              ", engine ",
              ratios.engine,
              "; compared ",
              ratios.compared_per_search,
              " of ",
              ratios.candidates_per_search);
      CHECK(ratios.online - 1 <= (ratios.engine - 1) * 1.5 + 0.01);
      CHECK(ratios.compared_per_search < 80);
    }
  }
}

TEST_CASE("a made-up step with noise costs near what the engine's h_eq costs") {
  const std::uint64_t seed = first_seed();
  MESSAGE("SPILLWAY_TEST_SEED=", seed);
  for (const char* name : {"residual.log", "recurrent.log"}) {
    CAPTURE(std::string(name));
    const DtrLog log = log_at(test::source_dir() / "tests/integration/trace/dtr_samples" / name);
    const Ratios ratios = compare(log, 0.7, 0.2, seed);
    MESSAGE("online ", ratios.online, ", engine ", ratios.engine);
    CHECK(ratios.online - 1 <= (ratios.engine - 1) * 1.5 + 0.02);
  }
}

TEST_SUITE_END();

}  // namespace spillway
