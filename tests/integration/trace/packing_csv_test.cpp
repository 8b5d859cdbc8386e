// SPDX-License-Identifier: Apache-2.0
// Packing tables: any column order, every number checked, errors that name their line.
#include "integration/trace/packing_csv.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;

namespace {

Result<PackingFile> read(const std::string& text) {
  const auto source = memory_source(text, "table.csv");
  BufferedInput input(*source, 64);
  return read_packing_csv(input);
}

std::string error_of(const std::string& text) {
  const Result<PackingFile> file = read(text);
  REQUIRE_FALSE(file.ok());
  CHECK(file.status().code() == Code::kBadInput);
  return file.status().message();
}

}  // namespace

TEST_SUITE("unit: packing csv") {
  TEST_CASE("columns are found by name, in any order, with what is missing left at its default") {
    const auto file = read("size,upper,id,lower\n7, 20 ,x,10\n\n# note\n8,3,\"a,b\",3\n");
    REQUIRE(file.ok());
    const PackingFile& read = file.value();
    CHECK(read.ids == std::vector<std::string>{"x", "a,b"});
    REQUIRE(read.problem.buffers.size() == 2);
    CHECK(read.problem.buffers[0].begin == 10);
    CHECK(read.problem.buffers[0].end == 20);
    CHECK(read.problem.buffers[0].bytes == 7);
    CHECK(read.problem.buffers[0].alignment == 1);
    CHECK_FALSE(read.problem.buffers[0].hint_offset.has_value());
    CHECK(read.offsets.empty());
    CHECK(read.notes.empty());
  }

  TEST_CASE("offsets are hints where no hint is given, and are kept apart") {
    const auto file = read(
        "id,lower,upper,size,alignment,hint,gaps,offset,colour\n"
        "a,0,5,7,8,16,,24,red\nb,0,5,7,,,1-2,32,red\nc,0,5,7,8,,,,red\n");
    REQUIRE(file.ok());
    const PackingFile& read = file.value();
    CHECK(read.problem.buffers[0].hint_offset == 16);
    CHECK(read.problem.buffers[1].hint_offset == 32);
    CHECK_FALSE(read.problem.buffers[2].hint_offset.has_value());
    CHECK_FALSE(read.problem.buffers[0].fixed_offset.has_value());
    REQUIRE(read.offsets.size() == 3);
    CHECK(read.offsets[0] == 24);
    CHECK_FALSE(read.offsets[2].has_value());
    CHECK(read.problem.buffers[1].alignment == 1);
    REQUIRE(read.notes.size() == 2);
    CHECK(read.notes[0] == "column \"colour\" is not known and was left out");
    CHECK(read.notes[1].find("gaps") != std::string::npos);
  }

  TEST_CASE("a header alone is a problem without buffers") {
    const auto file = read("\xef\xbb\xbfid,lower,upper,size");
    REQUIRE(file.ok());
    CHECK(file.value().ids.empty());
  }

  TEST_CASE("every error names the line and what was expected") {
    CHECK(error_of("") ==
          "table.csv: line 1: expected a header with id,lower,upper,size, found the end of the "
          "file");
    CHECK(error_of("1,2,3\n") ==
          "table.csv: line 1: expected a header with a column \"id\", found \"1\" and others");
    CHECK(error_of("id,lower,id\n") ==
          "table.csv: line 1: expected each column once, found \"id\" again");
    const std::string header = "id,lower,upper,size,alignment\n";
    CHECK(error_of(header + "a,1,2,3,4\nb,1,2,-3,4\n") ==
          "table.csv: line 3: expected size to be a whole number from 0 to 2^64 - 1, found \"-3\"");
    CHECK(error_of(header + "a,1,2,18446744073709551616,4\n") ==
          "table.csv: line 2: expected size to be a whole number from 0 to 2^64 - 1, found "
          "\"18446744073709551616\"");
    CHECK(error_of(header + "a,1,2,3.5,4\n").find("found \"3.5\"") != std::string::npos);
    CHECK(error_of(header + "a,1,,3,4\n").find("expected upper") != std::string::npos);
    CHECK(error_of(header + "a,1,2,3\n") == "table.csv: line 2: expected 5 cells, found 4");
    CHECK(error_of(header + "a,5,2,3,1\n") ==
          "table.csv: line 2: expected lower to be at most upper, found 5 and 2");
    CHECK(error_of(header + "a,1,2,3,0\n") ==
          "table.csv: line 2: expected an alignment above 0, found \"0\"");
    CHECK(error_of(header + "a,1,2,3,1\n\na,1,2,3,1\n") ==
          "table.csv: line 4: expected each id once, found \"a\" again");
    CHECK(error_of(header + ",1,2,3,1\n").find("expected an id of 1 to 256") != std::string::npos);
    CHECK(error_of(header + "\"a,1,2,3,1\n").find("open quote") != std::string::npos);
    CHECK(error_of(std::string(70'000, 'x')).find("table.csv") == 0);
  }

  TEST_CASE("what is written is read back, ids of any text included") {
    PackingFile file;
    for (const char* id : {"plain", "a,b", "say \"x\"", " blank ", "#no"}) {
      PackBuffer buffer;
      buffer.begin = file.ids.size();
      buffer.end = ~std::uint64_t{0};
      buffer.bytes = 5;
      file.problem.buffers.push_back(buffer);
      file.ids.emplace_back(id);
    }
    StringSink sink;
    REQUIRE(write_packing_csv(file, {0, 5, 10, 15, 20}, sink).ok());
    CHECK(sink.bytes().rfind("id,lower,upper,size,offset\nplain,0,18446744073709551615,5,0\n", 0) ==
          0);
    const auto back = read(sink.bytes());
    REQUIRE(back.ok());
    CHECK(back.value().ids == file.ids);
    CHECK(back.value().offsets[4] == 20);
    file.problem.buffers[1].alignment = 5;
    StringSink aligned;
    REQUIRE(write_packing_csv(file, {0, 5, 10, 15, 20}, aligned).ok());
    CHECK(aligned.bytes().rfind("id,lower,upper,size,alignment,offset\n", 0) == 0);
    const auto again = read(aligned.bytes());
    REQUIRE(again.ok());
    CHECK(again.value().problem.buffers[1].alignment == 5);
  }
}
