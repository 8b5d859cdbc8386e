// SPDX-License-Identifier: Apache-2.0
// What is written down stays true: the bytes and the table of kinds in docs/trace_format.md, and a
// packed trace made by the first version of the format with its text twin.
#include "core/trace.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_text_writer.hpp"
#include "integration/trace/spwt_writer.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/trace_tape.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace spillway {
namespace {

using test::TraceTape;

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string source_file(const std::string& name) {
  return content((test::source_dir() / name).string());
}

/// The lines between ```LANGUAGE and ``` in the format's description.
std::string block_of_doc(const std::string& language) {
  const std::string doc = source_file("docs/trace_format.md");
  const std::string open = "```" + language + "\n";
  const std::size_t begin = doc.find(open);
  REQUIRE(begin != std::string::npos);
  const std::size_t end = doc.find("\n```", begin);
  REQUIRE(end != std::string::npos);
  return doc.substr(begin + open.size(), end + 1 - begin - open.size());
}

/// The bytes of lines like "001c  14 00 00 00 | payload bytes", whose offsets must count on.
std::string bytes_of_hex(const std::string& block) {
  std::string bytes;
  std::istringstream lines(block);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    CHECK(std::strtoul(line.substr(0, 4).c_str(), nullptr, 16) == bytes.size());
    std::istringstream words(line.substr(4, line.find('|') - 4));
    for (std::string word; words >> word;)
      bytes += static_cast<char>(std::strtoul(word.c_str(), nullptr, 16));
  }
  return bytes;
}

TraceTape read(const std::string& bytes) {
  const auto source = memory_source(bytes);
  TraceTape tape;
  const auto info = read_trace(*source, {}, tape);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  return tape;
}

template <typename Writer>
std::string write(const TraceTape& tape) {
  StringSink out;
  Writer writer(out);
  tape.replay(writer);
  REQUIRE(writer.finish().ok());
  return out.bytes();
}

TEST_SUITE_BEGIN("golden");

TEST_CASE("the worked example of the description is what the code reads and writes, byte by byte") {
  const std::string bytes = bytes_of_hex(block_of_doc("hex"));
  const std::string text = block_of_doc("spwt-text");
  CHECK(read(bytes) == read(text));
  CHECK(write<SpwtWriter>(read(text)) == bytes);
  CHECK(write<SpwtTextWriter>(read(bytes)) == text);
}

TEST_CASE("the description lists every kind of record with its number") {
  const std::string doc = source_file("docs/trace_format.md");
  std::size_t kind_count = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string row = "\n| " + std::to_string(byte) + " | `";
    const bool listed = doc.find(row) != std::string::npos;
    const auto name = std::string(name_of(static_cast<RecordKind>(byte)));
    if (name.empty()) continue;
    ++kind_count;
    CAPTURE(name);
    CHECK(listed);
    CHECK(doc.find(row + name + "`") != std::string::npos);
  }
  CHECK(kind_count == test::all_record_kinds().size());
}

TEST_CASE("a packed trace of version 1.0 is still read, and says what its text twin says") {
  const std::string packed = source_file("tests/integration/trace/data/step.spwt");
  const std::string text = source_file("tests/integration/trace/data/step.txt");
  CHECK(write<SpwtTextWriter>(read(packed)) == text);
  CHECK(read(write<SpwtWriter>(read(text))) == read(text));
}

TEST_SUITE_END();

}  // namespace
}  // namespace spillway
