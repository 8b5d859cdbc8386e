// SPDX-License-Identifier: Apache-2.0
// DTR op logs: names, views, mutations and releases on small logs; the recorded ones against their
// published baselines.
#include "integration/trace/reader.hpp"
#include "tests/support/keep_all_judge.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace spillway {
namespace {

using test::KeepAllJudge;

const char* const kStart = R"({"INSTRUCTION":"ANNOTATE","ANNOTATION":"START"})"
                           "\n";

std::string constant(const std::string& name, const std::string& bytes) {
  return R"({"INSTRUCTION":"CONSTANT","NAME":")" + name + "\"}\n" +
         R"({"INSTRUCTION":"MEMORY","NAME":")" + name + R"(","MEMORY":")" + bytes + "\"}\n";
}
std::string call(const std::string& op,
                 const std::string& arg,
                 const std::string& result,
                 const std::string& bytes,
                 const std::string& alias = "-1",
                 const std::string& time = "10") {
  return R"({"INSTRUCTION":"CALL","NAME":")" + op + R"(","ARGS":[")" + arg + R"("],"RESULT":[")" +
         result + R"("],"TIME":")" + time + "\"}\n" + R"({"INSTRUCTION":"MEMORY","NAME":")" +
         result + R"(","MEMORY":")" + bytes + "\"}\n" + R"({"INSTRUCTION":"ALIAS","NAME":")" +
         result + R"(","ALIAS":")" + alias + "\"}\n";
}
std::string line(const std::string& instruction, const std::string& rest) {
  return R"({"INSTRUCTION":")" + instruction + "\"," + rest + "}\n";
}
std::string release(const std::string& name) {
  return line("RELEASE", R"("NAME":")" + name + "\"");
}

KeepAllJudge read(const std::string& text) {
  KeepAllJudge judge;
  const auto source = memory_source(text);
  const auto info = read_trace(*source, {}, judge);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(info.value().format == "dtr-log");
  CHECK(judge.complaints.empty());
  return judge;
}

std::string error_of(const std::string& text) {
  KeepAllJudge judge;
  const auto source = memory_source(text, "d.log");
  const auto info = read_trace(*source, {}, judge);
  return info.ok() ? "accepted" : info.status().message();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE(
    "a storage lives until the last name of its last tensor is released, a constant like any "
    "other") {
  const std::string head = std::string(kStart) + constant("w", "100") + call("mm", "w", "x", "40") +
                           call("view", "x", "v", "40", "0") +
                           line("COPY", R"("SRC":"v","DST":"v2")") + release("x") + release("v") +
                           release("nobody");
  const KeepAllJudge alive = read(head);
  CHECK(alive.live_bytes == 140);
  CHECK(alive.view_count == 1);
  const KeepAllJudge freed = read(head + release("v2"));
  CHECK(freed.live_bytes == 100);
  CHECK(read(head + release("v2") + release("w")).live_bytes == 0);
  CHECK(freed.peak_bytes == 140);
  CHECK(freed.compute_ns == 20);
  CHECK(freed.constant_bytes == 100);
  REQUIRE(freed.ops.size() == 3);
  CHECK(freed.ops[0].name == "constant");
  CHECK(freed.ops[0].duration_ns == 0);
  CHECK(freed.ops[1].tag.kind == OpKind::kMatmul);
  CHECK(freed.ops[2].reads == freed.ops[1].creates);
  CHECK(freed.meta.at("gpu") == "titan-v");
}

TEST_CASE("a mutation reads its arguments and makes a new storage, and the name moves to it") {
  const KeepAllJudge judge =
      read(std::string(kStart) + constant("w", "8") + call("conv", "w", "x", "40") +
           line("MUTATE", R"("NAME":"relu_","ARGS":["x","w"],"MUTATE":[0],"TIME":"5")") +
           call("add", "x", "y", "40") + release("x"));
  REQUIRE(judge.ops.size() == 4);
  CHECK(judge.ops[2].reads.size() == 2);
  CHECK(judge.ops[2].creates.size() == 1);
  CHECK(judge.ops[3].reads == judge.ops[2].creates);
  CHECK(judge.peak_bytes == 8 + 40 + 40);
  CHECK(judge.live_bytes == 8 + 40);
}

TEST_CASE("COPY_FROM lets go of the old tensor, also when both names are the same one's") {
  const std::string base = std::string(kStart) + constant("w", "1") + call("mm", "w", "a", "10") +
                           call("mm", "w", "b", "20");
  CHECK(read(base + line("COPY_FROM", R"("DST":"a","SRC":"b")")).live_bytes == 21);
  CHECK(read(base + line("COPY_FROM", R"("DST":"a","SRC":"b")") + release("b")).live_bytes == 21);
  CHECK(read(base + line("COPY_FROM", R"("DST":"a","SRC":"b")") + release("b") + release("a"))
            .live_bytes == 1);
  CHECK(read(base + line("COPY_FROM", R"("DST":"a","SRC":"a")")).live_bytes == 31);
}

TEST_CASE(
    "backward begins at its annotation or at the first op of two arguments that is named so") {
  const KeepAllJudge named =
      read(std::string(kStart) + constant("w", "1") + call("relu", "w", "a", "1") +
           call("max_pool2d_backward", "a", "p", "1") +
           call("threshold_backward", "p\",\"a", "b", "1") + call("add", "b", "c", "1"));
  CHECK(named.ops[1].tag.phase == Phase::kForward);
  CHECK(named.ops[2].tag.phase == Phase::kForward);
  CHECK(named.ops[3].tag.phase == Phase::kBackward);
  CHECK(named.ops[4].tag.phase == Phase::kBackward);
  const KeepAllJudge annotated =
      read(std::string(kStart) + constant("w", "1") +
           line("ANNOTATE", R"("ANNOTATION":"BACKWARD")") + call("ones_like", "w", "a", "1"));
  CHECK(annotated.ops[1].tag.phase == Phase::kBackward);
}

TEST_CASE("what is wrong in a log is named with its line's offset") {
  const std::string start = kStart;
  const std::string at = "d.log: offset " + std::to_string(start.size()) + ": ";
  CHECK(error_of(start + call("mm", "ghost", "x", "1")) ==
        at + "expected the name of a live tensor, found \"ghost\"");
  CHECK(error_of(start + constant("w", "-5"))
            .find("expected MEMORY to be a whole number from 0 to") != std::string::npos);
  CHECK(error_of(start + constant("w", "99999999999999999999")).find("expected MEMORY") !=
        std::string::npos);
  CHECK(error_of(start + constant("w", "1") + constant("w", "1"))
            .find("expected a new name, found \"w\" a second time") != std::string::npos);
  CHECK(error_of(start + constant("w", "1") + call("view", "w", "v", "1", "3"))
            .find("expected ALIAS to be -1 or the index") != std::string::npos);
  CHECK(error_of(start + constant("w", "1") + call("mm", "w", "x", "1", "-1", "soon"))
            .find("expected TIME") != std::string::npos);
  CHECK(error_of(start + line("MUTATE", R"("NAME":"m","ARGS":[],"MUTATE":[0],"TIME":"1")"))
            .find("expected MUTATE") != std::string::npos);
  CHECK(error_of(start + line("DANCE", "\"NAME\":\"x\"")) ==
        at + "expected an INSTRUCTION of a DTR log, found \"DANCE\"");
  CHECK(error_of(start + line("CONSTANT", "\"NAME\":\"x\""))
            .find("expected MEMORY of constant \"x\"") != std::string::npos);
  CHECK(error_of(start + "{\"INSTRUCTION\":{\"a\":1}}\n").find("expected a flat JSON object") !=
        std::string::npos);
  CHECK(error_of(start + "{\"INSTRUCTION\":\n").find("expected one JSON object on the line") !=
        std::string::npos);
  CHECK(error_of(start + std::string(100000, '[')).find("expected a flat JSON object") !=
        std::string::npos);
  CHECK(error_of(line("ANNOTATE", R"("ANNOTATION":"OTHER")"))
            .find("expected a line ANNOTATE START") != std::string::npos);
}

TEST_CASE("a name that is no UTF-8 is read with replacement characters") {
  KeepAllJudge judge =
      read(std::string(kStart) + constant("w\xff", "1") + call("m\xc3m", "w\xff", "x", "1"));
  CHECK(judge.ops[1].name == "m\xef\xbf\xbdm");
}

TEST_CASE("a log cut short at any byte is read up to there or refused, never more") {
  const std::string text =
      std::string(kStart) + constant("w", "100") + call("mm", "w", "x", "40") +
      line("MUTATE", R"("NAME":"relu_","ARGS":["x"],"MUTATE":[0],"TIME":"5")") + release("x");
  std::size_t refused = 0;
  for (std::size_t length = 0; length < text.size(); ++length)
    if (error_of(text.substr(0, length)) != "accepted") ++refused;
  CHECK(refused > text.size() / 2);
  CHECK(error_of(text) == "accepted");
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("golden");

TEST_CASE(
    "keep-all on the recorded logs gives the peaks, times and constants of the reference simulator "
    "exactly") {
  SPW_REQUIRE_SHARED_DATA(dir);
  std::ifstream table(dir / "dtr" / "simrd_baselines.csv");
  std::string row;
  std::getline(table, row);
  std::size_t checked = 0;
  while (std::getline(table, row)) {
    std::istringstream cells(row);
    std::string log, name, compute_ns, peak_bytes, constant_bytes;
    std::getline(cells, log, ',');
    std::getline(cells, name, ',');
    std::getline(cells, compute_ns, ',');
    std::getline(cells, peak_bytes, ',');
    std::getline(cells, constant_bytes, ',');
    if (!std::filesystem::exists(dir / "dtr" / log)) continue;
    CAPTURE(log);
    KeepAllJudge judge;
    const auto info = read_trace((dir / "dtr" / log).string(), {}, judge);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    CHECK(judge.complaints.empty());
    CHECK(std::to_string(judge.compute_ns) == compute_ns);
    CHECK(std::to_string(judge.peak_bytes) == peak_bytes);
    CHECK(std::to_string(judge.constant_bytes) == constant_bytes);
    ++checked;
  }
  CHECK(checked == 4);
}

TEST_SUITE_END();

}  // namespace spillway
