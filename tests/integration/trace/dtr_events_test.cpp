// SPDX-License-Identifier: Apache-2.0
// DTR logs through the engine: made-up logs against results of a second implementation of the rules
// (written separately, in Python), recorded ones against the authors' simulator.
#include "integration/trace/dtr_events.hpp"

#include "policy/dtr/dtr_engine.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace spillway {
namespace {

std::vector<std::vector<std::string>> read_csv(const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> rows;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::vector<std::string> cells;
    std::stringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
    rows.push_back(std::move(cells));
  }
  return rows;
}

/// Logs by path, each read once.
class Logs {
 public:
  const DtrLog& at(const std::filesystem::path& path) {
    const auto found = logs_.find(path.string());
    if (found != logs_.end()) return found->second;
    auto log = read_dtr_events(path.string());
    REQUIRE_MESSAGE(log.ok(), log.status().message());
    return logs_.emplace(path.string(), std::move(log).value()).first->second;
  }

 private:
  std::map<std::string, DtrLog> logs_;
};

std::string row_of(const DtrResult& r) {
  std::ostringstream text;
  text << name_of(r.end) << ' ' << r.clock_ns << ' ' << r.model_ns << ' ' << r.remat_ns << ' '
       << r.peak_bytes << ' ' << r.eviction_count << ' ' << r.evicted_bytes << ' ' << r.remat_count;
  return text.str();
}

}  // namespace

TEST_SUITE_BEGIN("golden");

TEST_CASE("made-up logs give what a second implementation of the rules gives, all scores") {
  const std::filesystem::path dir = test::source_dir() / "tests/integration/trace/dtr_samples";
  const auto rows = read_csv(dir / "expected.csv");
  REQUIRE(rows.size() == 96);
  Logs logs;
  for (const auto& row : rows) {
    REQUIRE(row.size() == 11);
    CAPTURE(row[0]);
    CAPTURE(row[1]);
    CAPTURE(row[2]);
    const DtrLog& log = logs.at(dir / (row[0] + ".log"));
    const auto score = find_dtr_score(row[1]);
    REQUIRE(score.has_value());
    const auto result = run_dtr(log, *score, std::stoull(row[2]));
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    std::string expected = row[3];
    for (std::size_t i = 4; i < row.size(); ++i) expected += ' ' + row[i];
    CHECK(row_of(result.value()) == expected);
  }
}

TEST_CASE("recorded logs give every number of the authors' simulator exactly") {
  SPW_REQUIRE_SHARED_DATA(dir);
  const auto rows = read_csv(dir / "dtr" / "simrd_expected.csv");
  Logs logs;
  std::size_t checked = 0;
  for (const auto& row : rows) {
    REQUIRE(row.size() >= 13);
    if (!std::filesystem::exists(dir / "dtr" / row[0])) continue;
    CAPTURE(row[0]);
    CAPTURE(row[1]);
    CAPTURE(row[2]);
    std::optional<DtrScore> score;
    for (int i = 0; i < kDtrScoreCount; ++i)
      if (simulator_name_of(static_cast<DtrScore>(i)) == row[1]) score = static_cast<DtrScore>(i);
    REQUIRE(score.has_value());
    const auto result = run_dtr(logs.at(dir / "dtr" / row[0]), *score, std::stoull(row[3]));
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    std::string expected = row[4] + ' ' + row[5];
    for (std::size_t i = 7; i < 13; ++i) expected += ' ' + row[i];
    CHECK(row_of(result.value()) == expected);
    ++checked;
  }
  CHECK(checked == rows.size());
  CHECK(checked >= 231);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("unit");

TEST_CASE("a file that is no DTR log is refused with what was expected") {
  const std::string text = "spillway 1\n";
  const auto source = memory_source(text, "x.spwt");
  const auto log = read_dtr_events(*source);
  REQUIRE(!log.ok());
  CHECK(log.status().code() == Code::kBadInput);
  CHECK(log.status().message().find("x.spwt: offset 0: expected a DTR log") == 0);
  CHECK(!read_dtr_events("/nowhere/at/all.log").ok());
}

TEST_CASE("names that are left at the end are results, once per tensor") {
  const std::string text =
      R"({"INSTRUCTION":"ANNOTATE","ANNOTATION":"START"})"
      "\n"
      R"({"INSTRUCTION":"CONSTANT","NAME":"w"})"
      "\n"
      R"({"INSTRUCTION":"MEMORY","NAME":"w","MEMORY":"8"})"
      "\n"
      R"({"INSTRUCTION":"COPY","DST":"w2","SRC":"w"})"
      "\n"
      R"({"INSTRUCTION":"MUTATE","NAME":"relu_","ARGS":["w2"],"MUTATE":[0],"TIME":"3"})"
      "\n"
      R"({"INSTRUCTION":"COPY","DST":"a","SRC":"w2"})"
      "\n"
      R"({"INSTRUCTION":"RELEASE","NAME":"w"})"
      "\n";
  const auto source = memory_source(text);
  const auto log = read_dtr_events(*source);
  REQUIRE_MESSAGE(log.ok(), log.status().message());
  CHECK(check_invariants(log.value()).ok());
  CHECK(log.value().ops.size() == 2);
  CHECK(log.value().storages.size() == 2);
  CHECK(log.value().storages[1].bytes == 8);
  CHECK(log.value().results == std::vector<std::uint32_t>{1});
}

TEST_SUITE_END();

}  // namespace spillway
