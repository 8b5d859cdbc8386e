// SPDX-License-Identifier: Apache-2.0
// Files, memory, gzip and the window over them.
#include "integration/trace/byte_source.hpp"

#include "tests/support/gzip.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

namespace spillway {
namespace {

std::string some_text(std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "line " + std::to_string(text.size()) + "\n";
  text.resize(bytes);
  return text;
}

Result<std::string> read_all(ByteSource& source, std::size_t step_bytes) {
  std::string all;
  std::string piece(step_bytes, '\0');
  for (;;) {
    SPW_ASSIGN_OR_RETURN(const std::size_t count, source.read(piece.data(), piece.size()));
    if (count == 0) return all;
    all.append(piece, 0, count);
  }
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE(
    "a memory source gives back its bytes, plain or from several gzip members, whatever the read "
    "size") {
  const std::string text = some_text(300000);
  const std::string packed = test::gzip(text.substr(0, 7)) + test::gzip("") +
                             test::gzip(text.substr(7)) + std::string(600, '\0');
  for (std::size_t step_bytes : {1u, 7u, 65536u, 1000000u}) {
    CAPTURE(step_bytes);
    const auto plain = memory_source(text);
    const auto unpacked = memory_source(packed);
    const auto from_plain = read_all(*plain, step_bytes);
    const auto from_packed = read_all(*unpacked, step_bytes);
    REQUIRE(from_plain.ok());
    REQUIRE(from_packed.ok());
    CHECK((from_plain.value() == text));
    CHECK((from_packed.value() == text));
  }
}

TEST_CASE("a gzip stream cut short or damaged is an error that names the source") {
  const std::string packed = test::gzip(some_text(5000));
  for (std::size_t length = 3; length < packed.size(); ++length) {
    CAPTURE(length);
    const auto source = memory_source(std::string_view(packed).substr(0, length), "cut.gz");
    const auto all = read_all(*source, 512);
    REQUIRE_FALSE(all.ok());
    CHECK(all.status().code() == Code::kBadInput);
    CHECK(all.status().message().rfind("cut.gz: offset ", 0) == 0);
  }
  std::string damaged = packed;
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 0x55);
  const auto source = memory_source(damaged);
  CHECK_FALSE(read_all(*source, 512).ok());
  const std::string trailing_bytes = packed + "tail";
  const auto with_tail = memory_source(trailing_bytes);
  CHECK_FALSE(read_all(*with_tail, 512).ok());
}

TEST_CASE("a directory and a missing file are refused by name") {
  const auto folder = open_file_source(std::filesystem::temp_directory_path().string());
  REQUIRE_FALSE(folder.ok());
  CHECK(folder.status().code() == Code::kIo);
  CHECK(folder.status().message().find("a directory") != std::string::npos);
  const auto missing = open_file_source("/nonexistent/trace");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().code() == Code::kIo);
  CHECK(missing.status().message().find("/nonexistent/trace") == 0);
}

TEST_CASE("a file is read as it is, and as what it unpacks to") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("spillway_bytes_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string text = some_text(100000);
  for (const bool packed : {false, true}) {
    const std::string path = (folder / "file").string();
    std::ofstream(path, std::ios::binary) << (packed ? test::gzip(text) : text);
    auto source = open_file_source(path);
    REQUIRE(source.ok());
    CHECK(source.value()->total_bytes() == std::filesystem::file_size(path));
    const auto all = read_all(*source.value(), 4096);
    REQUIRE(all.ok());
    CHECK((all.value() == text));
    CHECK(source.value()->consumed_bytes() == std::filesystem::file_size(path));
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("lines come without their ends, and the last one needs none") {
  const auto source = memory_source("one\r\n\ntwo\nthree");
  BufferedInput input(*source, 16);
  std::string joined;
  while (!input.at_end().value()) joined += std::string(input.line().value()) + "|";
  CHECK(joined == "one||two|three|");
  CHECK(input.offset() == 15);
}

TEST_CASE("a line over the limit is refused, also when no end of line ever comes") {
  const std::string text(100000, 'x');
  const auto source = memory_source(text);
  BufferedInput input(*source, 64);
  const auto line = input.line(5000);
  REQUIRE_FALSE(line.ok());
  CHECK(line.status().message().find("offset 0: expected a line of at most 5000 bytes") !=
        std::string::npos);
}

TEST_CASE("the window moves over the input without losing or repeating a byte") {
  const std::string text = some_text(50000);
  const auto source = memory_source(text);
  BufferedInput input(*source, 100);
  std::string all;
  for (std::size_t step = 1; !input.at_end().value(); step = step % 777 + 1) {
    const auto head = input.peek(step);
    REQUIRE(head.ok());
    const std::size_t count = std::min(step, head.value().size());
    all.append(head.value().substr(0, count));
    input.consume(count);
  }
  CHECK((all == text));
}

TEST_CASE("taking more than is there names the offset and what was expected") {
  const auto source = memory_source("abcdef", "small");
  BufferedInput input(*source);
  REQUIRE(input.take(4, "a word").ok());
  const auto more = input.take(5, "a second word");
  REQUIRE_FALSE(more.ok());
  CHECK(more.status().message() ==
        "small: offset 4: expected 5 bytes of a second word, found the end of the file");
  CHECK_FALSE(input.take(std::size_t{1} << 40, "a giant").ok());
}

TEST_SUITE_END();

}  // namespace spillway
