// SPDX-License-Identifier: Apache-2.0
// Hand-written layer tables: what a line becomes, and how mistakes are named.
#include "integration/trace/reader.hpp"
#include "tests/support/keep_all_judge.hpp"

#include <doctest/doctest.h>

#include <string>

namespace spillway {
namespace {

using test::KeepAllJudge;

TraceInfo read(const std::string& text, KeepAllJudge& judge) {
  const auto source = memory_source(text);
  auto info = read_trace(*source, {}, judge);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(judge.complaints.empty());
  return std::move(info).value();
}
std::string error_of(const std::string& text) {
  KeepAllJudge judge;
  const auto source = memory_source(text, "l.csv");
  const auto info = read_trace(*source, {}, judge);
  return info.ok() ? "accepted" : info.status().message();
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("each line is a forward op with one output and a backward op that reads it") {
  KeepAllJudge judge;
  const TraceInfo info = read(
      "# a net\nname,bytes,forward_us,backward_us\nconv1,100,1.5,3\nrelu, 1 KiB ,1,2\r\n\n\"fc, "
      "last\",50,2,4\n",
      judge);
  CHECK(info.format == "layer-csv");
  REQUIRE(judge.ops.size() == 6);
  CHECK(judge.ops[0].name == "conv1");
  CHECK(judge.ops[0].tag.kind == OpKind::kConv);
  CHECK(judge.ops[0].duration_ns == 1500);
  CHECK(judge.ops[2].name == "fc, last");
  CHECK(judge.ops[3].name == "fc, last backward");
  CHECK(judge.ops[3].tag.phase == Phase::kBackward);
  CHECK(judge.ops[3].tag.layer == 2);
  CHECK(judge.ops[1].reads == judge.ops[0].creates);
  CHECK(judge.compute_ns == 13500);
  // While relu's backward runs: both outputs that it reads and both gradients.
  CHECK(judge.peak_bytes == 100 + 1024 + 1024 + 100);
  CHECK(judge.live_bytes == 0);
}

TEST_CASE(
    "further columns add parameters, workspaces, kinds and randomness; unknown ones are noted") {
  KeepAllJudge judge;
  const TraceInfo info = read(
      "colour,name,bytes,forward_us,backward_us,dtype,params_bytes,workspace_bytes,kind,rng\n"
      "red,first,8,1,1,bf16,64,16,matmul,\nblue,drop,8,1,1,,,,dropout,\ngreen,noise,8,1,1,,,,"
      "elementwise,yes\n",
      judge);
  CHECK(info.notes == std::vector<std::string>{"column \"colour\" is not known and was left out"});
  CHECK(judge.live_bytes == 64);
  CHECK(judge.tags.at(1).kind == BufferKind::kParameter);
  CHECK(judge.tags.at(1).dtype == Dtype::kBf16);
  CHECK(judge.ops[0].workspace_bytes == 16);
  CHECK(judge.ops[0].tag.kind == OpKind::kMatmul);
  CHECK_FALSE(judge.ops[0].tag.has(kOpRng));
  CHECK(judge.ops[1].tag.has(kOpRng));
  CHECK(judge.ops[2].tag.has(kOpRng));
  CHECK_FALSE(judge.ops[3].tag.has(kOpRng));
}

TEST_CASE("a mistake is named with its offset, what was expected and what was found") {
  const std::string head = "name,bytes,forward_us,backward_us\n";
  CHECK(error_of(head + "a,12 parsecs,1,1\n") ==
        "l.csv: offset 36: expected bytes from 0 to 256 TiB, found \"12 parsecs\"");
  CHECK(error_of(head + "a,-1,1,1\n").find("expected bytes") != std::string::npos);
  CHECK(error_of(head + "a,1,-1,1\n").find("expected forward_us to be microseconds") !=
        std::string::npos);
  CHECK(error_of(head + "a,1,1,nan\n").find("expected backward_us to be microseconds") !=
        std::string::npos);
  CHECK(error_of(head + "a,1,1,1e99\n").find("expected backward_us") != std::string::npos);
  CHECK(error_of(head + "a,1,1\n") == "l.csv: offset 34: expected 4 cells, found 3");
  CHECK(error_of(head + "\"a,1,1,1\n").find("found an open quote") != std::string::npos);
  CHECK(error_of(head).find("expected at least one line below the header") != std::string::npos);
  CHECK(error_of("name,bytes,forward_us\na,1,1\n").find("expected a column \"backward_us\"") !=
        std::string::npos);
  CHECK(error_of("name,name,bytes,forward_us,backward_us\na,a,1,1,1\n")
            .find("expected each column once") != std::string::npos);
  CHECK(error_of("name,bytes,forward_us,backward_us,dtype\na,1,1,1,wood\n")
            .find("expected a dtype") != std::string::npos);
  CHECK(error_of("name,bytes,forward_us,backward_us,rng\na,1,1,1,maybe\n")
            .find("expected rng to be yes or no") != std::string::npos);
  CHECK(error_of("\xef\xbb\xbf" + head + "a,1,1,1\n") == "accepted");
}

TEST_CASE(
    "what is no trace at all is refused at its first byte, with the formats that would be read") {
  CHECK(error_of("hello\n").find("l.csv: offset 0: expected one of spwt") == 0);
  CHECK(error_of("") == "l.csv: offset 0: expected a trace, found an empty file");
  CHECK(error_of(std::string(100000, '\0')).find("offset 0: expected one of") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace spillway
