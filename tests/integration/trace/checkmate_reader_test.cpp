// SPDX-License-Identifier: Apache-2.0
// Checkmate graphs: a small one by hand, broken ones, and the published peaks and costs.
#include "integration/trace/reader.hpp"
#include "tests/support/keep_all_judge.hpp"
#include "tests/support/shared_data.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace spillway {
namespace {

using nlohmann::json;
using test::KeepAllJudge;

json node(
    int id, const char* kind, std::int64_t bytes, double cost_ms, const char* op = "aten::relu_") {
  return {{"id", id},
          {"kind", kind},
          {"op", op},
          {"fwd_id", nullptr},
          {"shape", {-1, 64}},
          {"mem_bytes", bytes},
          {"cost_ms", cost_ms},
          {"fixed_mem_bytes", 1000 + id},
          {"args", {{0}}}};
}
json small_graph() {
  return {{"model", "tiny"},
          {"loss", 2},
          {"edges", {{0, 1, 0}, {1, 2, 0}, {2, 3, 0}, {0, 3, 0}, {0, 3, 1}}},
          {"nodes",
           {node(0, "fwd", 100, 1.0),
            node(1, "fwd", 50, 0.5),
            node(2, "loss", 10, 0),
            node(3, "bwd", 0, 2.004)}}};
}

std::string error_of(const json& graph) {
  KeepAllJudge judge;
  const std::string text = graph.dump();
  const auto source = memory_source(text, "g.json");
  const auto info = read_trace(*source, {}, judge);
  return info.ok() ? "accepted" : info.status().message();
}
std::string error_with(const char* pointer, const json& value) {
  json graph = small_graph();
  graph[json::json_pointer(pointer)] = value;
  return error_of(graph);
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("a graph's nodes become ops that read along the edges and free after the last user") {
  KeepAllJudge judge;
  const std::string text = small_graph().dump(2);
  const auto source = memory_source(text);
  const auto info = read_trace(*source, {}, judge);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(info.value().format == "checkmate-graph");
  CHECK(judge.complaints.empty());
  CHECK(judge.peak_bytes == 1003 + 100 + 50 + 10);
  CHECK(judge.live_bytes == 1003);
  CHECK(judge.tags.at(1).kind == BufferKind::kParameter);
  REQUIRE(judge.ops.size() == 4);
  CHECK(judge.ops[3].reads.size() == 2);
  CHECK(judge.ops[3].duration_ns == 2000000);
  CHECK(judge.ops[2].tag.phase == Phase::kForward);
  CHECK(judge.ops[3].tag.phase == Phase::kBackward);
  CHECK(judge.meta.at("gpu") == "p100");
  CHECK(judge.meta.at("model") == "tiny");
}

TEST_CASE("a graph with wrong ids, edges or numbers is refused with the place") {
  CHECK(error_of(small_graph()) == "accepted");
  CHECK(error_with("/nodes/1/id", 0).find("expected node ids 0 to 3, each once, found 0") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/id", 7).find("expected node ids 0 to 3, each once") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/mem_bytes", -1).find("expected mem_bytes to be a whole number") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/mem_bytes", 1e30).find("expected mem_bytes to be a whole number") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/cost_ms", -0.5).find("expected cost_ms to be a number") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/kind", "sideways")
            .find("expected kind to be fwd, loss or bwd, found \"sideways\"") != std::string::npos);
  CHECK(error_with("/edges/0/0", 2)
            .find("expected an edge from an earlier node to a later one, found 2 to 1") !=
        std::string::npos);
  CHECK(error_with("/edges/0/1", 9).find("found 0 to 9") != std::string::npos);
  CHECK(error_with("/edges/0", json::array({1})).find("expected an edge [from, to]") !=
        std::string::npos);
  CHECK(error_with("/nodes", json::array()).find("expected a graph with nodes, found none") !=
        std::string::npos);
  json lacking = small_graph();
  lacking["nodes"][1].erase("mem_bytes");
  CHECK(error_of(lacking).find("expected a node with id, kind, mem_bytes and cost_ms") !=
        std::string::npos);
  CHECK(error_with("/nodes/1/mem_bytes", -1).rfind("g.json: offset ", 0) == 0);
}

TEST_CASE("deep nesting, cut files and bytes that are no UTF-8 hurt nothing") {
  const std::string text = small_graph().dump();
  const auto error_of_text = [](const std::string& bytes) {
    KeepAllJudge judge;
    const auto source = memory_source(bytes, "g.json");
    const auto info = read_trace(*source, {}, judge);
    return info.ok() ? "accepted" : info.status().message();
  };
  std::string deep = text;
  deep.insert(text.size() - 1, ",\"args\":" + std::string(1000000, '['));
  CHECK(error_of_text(deep).find("expected JSON of at most 64 levels") != std::string::npos);
  for (std::size_t length = 0; length < text.size(); ++length)
    if (error_of_text(text.substr(0, length)) == "accepted")
      FAIL_CHECK("accepted a file cut at " << length);
  std::string bent = text;
  bent.replace(bent.find("tiny"), 4, "\xff\xc3t\xe2\x82");
  KeepAllJudge judge;
  const auto source = memory_source(bent);
  REQUIRE(read_trace(*source, {}, judge).ok());
  CHECK(judge.meta.at("model") == "\xef\xbf\xbd\xef\xbf\xbdt\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("golden");

TEST_CASE("the published graphs have their published peaks and costs without recompute") {
  SPW_REQUIRE_SHARED_DATA(dir);
  struct Expected {
    const char* file;
    std::uint64_t peak_kb, cost_centi_ms, fixed_bytes;
  };
  for (const Expected& e : {Expected{"resnet50_184_graph.json", 22017072, 101898, 315457344},
                            Expected{"unet_11_graph.json", 18171296, 188252, 171560968}}) {
    CAPTURE(e.file);
    KeepAllJudge judge;
    const auto info = read_trace((dir / "checkmate" / e.file).string(), {}, judge);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    CHECK(judge.complaints.empty());
    CHECK(judge.peak_bytes - e.fixed_bytes == e.peak_kb * 1024);
    CHECK(judge.live_bytes == e.fixed_bytes);
    CHECK(judge.compute_ns == e.cost_centi_ms * 10000);
  }
  KeepAllJudge judge;
  const auto solutions =
      read_trace((dir / "checkmate" / "unet_11_checkmate_solutions.json").string(), {}, judge);
  REQUIRE_FALSE(solutions.ok());
  CHECK(solutions.status().message().find("offset 0: expected one of") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace spillway
