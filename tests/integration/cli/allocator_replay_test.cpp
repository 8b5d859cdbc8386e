// SPDX-License-Identifier: Apache-2.0
// replay --allocator as a user meets it.
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;
using nlohmann::json;

namespace {

ProgramRun replay(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {program_path().string(), "replay"});
  return run_program(arguments);
}

std::string sample_trace() {
  return (source_dir() / "integration" / "examples" / "sample.spwt").string();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("one allocator prints the replay object with what it held") {
    const ProgramRun run = replay({sample_trace(), "--allocator", "best-fit", "--json"});
    REQUIRE_MESSAGE(run.exit_code == 0, run.err);
    const json object = json::parse(run.out);
    CHECK(object["schema"] == "spillway.replay/1");
    CHECK(object["policy"] == "keep-all");
    CHECK(object["allocator"] == "best-fit");
    CHECK(object["feasible"] == true);
    CHECK(object["measured"] == false);
    CHECK(object["recorded_reserved_bytes"].is_null());
    CHECK(object["alloc_ns_median"].is_null());
    const auto live = object["live_peak_bytes"].get<double>();
    const auto reserved = object["reserved_peak_bytes"].get<double>();
    CHECK(live <= reserved);
    CHECK(object["utilization"].get<double>() == doctest::Approx(live / reserved));
    CHECK(object["live_peak_bytes"] == object["keep_all_peak_bytes"]);
  }

  TEST_CASE("all allocators are rows of one table or one object") {
    const ProgramRun table = replay({sample_trace(), "--allocator", "all"});
    CHECK(table.exit_code == 0);
    const ProgramRun run = replay({sample_trace(), "--allocator", "all", "--json"});
    const json object = json::parse(run.out);
    CHECK(object["schema"] == "spillway.allocators/1");
    REQUIRE(object["rows"].size() >= 3);
    for (const json& row : object["rows"])
      CHECK(table.out.find(row["allocator"].get<std::string>()) != std::string::npos);
  }

  TEST_CASE("a budget that does not do is a result with exit code 3 and the smallest that does") {
    const ProgramRun run =
        replay({sample_trace(), "--allocator", "pytorch", "--budget", "60%", "--json"});
    CHECK(run.exit_code == 3);
    const json object = json::parse(run.out);
    CHECK(object["feasible"] == false);
    CHECK(object["utilization"].is_null());
    CHECK(object["peak_bytes"].is_null());
    CHECK(object["out_of_memory"].get<std::string>().find("out of memory") == 0);
    const auto enough = std::to_string(object["min_budget_bytes"].get<std::uint64_t>());
    CHECK(replay({sample_trace(), "--allocator", "pytorch", "--budget", enough}).exit_code == 0);
  }

  TEST_CASE("the pool's own table of holders survives in JSON and in text") {
    const ProgramRun run =
        replay({sample_trace(), "--allocator", "pool", "--budget", "60%", "--json"});
    CHECK(run.exit_code == 3);
    const json object = json::parse(run.out);
    const auto table = object["out_of_memory"].get<std::string>();
    CHECK(std::count(table.begin(), table.end(), '\n') > 3);
    CHECK(object["at"].get<std::string>().find('\n') == std::string::npos);
    const ProgramRun text = replay({sample_trace(), "--allocator", "pool", "--budget", "60%"});
    CHECK(text.exit_code == 3);
    CHECK(text.out.find(table.substr(0, table.find('\n'))) != std::string::npos);
  }

  TEST_CASE("words that do not go together are refused") {
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{"--allocator", "slab"},
                                               {"--allocator", "pytorch", "--policy", "joint"},
                                               {"--allocator", "pytorch", "--plan", "x.spwp"}}) {
      std::vector<std::string> arguments = {sample_trace()};
      arguments.insert(arguments.end(), words.begin(), words.end());
      const ProgramRun run = replay(arguments);
      CHECK(run.exit_code == 1);
      CHECK(run.out.empty());
      CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    }
  }
}
