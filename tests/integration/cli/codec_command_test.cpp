// SPDX-License-Identifier: Apache-2.0
// spillway codec as a user meets it.
#include "core/codec.hpp"
#include "core/random.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;
using nlohmann::json;

namespace {

ProgramRun run_codec(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {program_path().string(), "codec"});
  return run_program(arguments);
}

struct Values {
  TempDir dir;
  std::string path = (dir.path() / "values.bin").string();

  template <typename Word>
  explicit Values(const std::vector<Word>& words) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(words.data()),
               static_cast<std::streamsize>(words.size() * sizeof(Word)));
  }
};

/// By name.
std::map<std::string, json> codecs_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = arguments;
  all.insert(all.end(), {"--json", "--threads", "1"});
  const ProgramRun run = run_codec(all);
  CHECK(run.exit_code == 0);
  CHECK(run.err.empty());
  REQUIRE_MESSAGE(json::accept(run.out), run.out << run.err);
  std::map<std::string, json> rows;
  const json object = json::parse(run.out);
  CHECK(object["schema"] == "spillway.codec/1");
  for (const json& row : object["codecs"]) {
    for (const char* speed : {"encode_gbps", "decode_gbps", "memcpy_gbps"})
      CHECK(row[speed].get<double>() > 0);
    rows[row["name"]] = row;
  }
  return rows;
}

std::uint16_t bf16_of(double value) {
  const auto single = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &single, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

double number_of(std::uint16_t bf16) {
  const std::uint32_t bits = static_cast<std::uint32_t>(bf16) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return static_cast<double>(value);
}

/// Sums of uniform numbers: near enough to a bell.
std::vector<std::uint16_t> bell(std::size_t count) {
  Random random(7);
  std::vector<std::uint16_t> words(count);
  for (std::uint16_t& word : words) {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += random.unit();
    word = bf16_of(sum - 6);
  }
  return words;
}

void check_one_line(const ProgramRun& run, const std::string& text, int exit_code) {
  CHECK(run.exit_code == exit_code);
  CHECK(run.out.empty());
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  CHECK(run.err.rfind("spillway: ", 0) == 0);
  CHECK_MESSAGE(run.err.find(text) != std::string::npos, run.err);
}

}  // namespace

TEST_SUITE("unit: codec command") {
  TEST_CASE("every codec of the dtype is tried on the file's values, errors stay under the bound") {
    const std::vector<std::uint16_t> words = bell(10000);
    const Values values(words);
    const auto rows = codecs_of({values.path, "--dtype", "bf16"});
    CHECK(rows.size() == 8);
    double largest = 0;
    for (const std::uint16_t word : words) largest = std::max(largest, std::fabs(number_of(word)));
    for (const auto& entry : rows) {
      const std::string& name = entry.first;
      const json& row = entry.second;
      CAPTURE(name);
      const Codec codec = parse_codec(name);
      const std::uint64_t bytes = payload_bytes(codec, Dtype::kBf16, 20000);
      CHECK(row["payload_bytes"] == bytes);
      CHECK(row["ratio"].get<double>() == 20000.0 / static_cast<double>(bytes));
      CHECK(row["above_bound"] == 0);
      CHECK(row["fits"] == (name != "sparse"));
      if (row["comes_back"] != "rounded") continue;
      const CodecErrorBound bound = error_bound(codec);
      CHECK(row["error_bound"].get<double>() ==
            std::max(bound.relative, bound.of_group_max) * largest);
      CHECK(row["max_error"].get<double>() > 0);
      CHECK(row["max_error"].get<double>() <= row["error_bound"].get<double>());
      CHECK(row["bit_exact"] == false);
      CHECK(row["snr_db"].get<double>() > 10);
    }
    CHECK(rows.at("copy")["bit_exact"] == true);
    CHECK(rows.at("lossless12")["bit_exact"] == true);
    CHECK(rows.at("lossless12")["max_error"] == 0);
    CHECK(rows.at("lossless12")["snr_db"].is_null());
    CHECK(rows.at("mask1")["comes_back"] == "sign");
    CHECK(rows.at("mask1")["max_error"].is_null());
    CHECK(rows.at("sparse")["misfit_tiles"] == 5);
    CHECK(rows.at("sparse")["comes_back"] == "no");
    CHECK(rows.at("int8")["snr_db"].get<double>() > rows.at("fp8-e4m3")["snr_db"].get<double>());
  }

  TEST_CASE("escapes of lossless12 are values outside the window; too many of them do not fit") {
    std::vector<std::uint16_t> words(2 * kCodecTileValues, bf16_of(1));
    for (std::size_t i = 0; i < 8; ++i) words[i * 100] = bf16_of(0x1.0p-15);
    words[9] = 0;                    // zeros have a code of their own
    words[10] = bf16_of(0x1.0p-14);  // the last that is inside
    auto rows = codecs_of({Values(words).path, "--dtype", "bf16"});
    CHECK(rows.at("lossless12")["escapes"] == 8);
    CHECK(rows.at("lossless12")["fits"] == true);
    CHECK(rows.at("lossless12")["bit_exact"] == true);
    words[11] = bf16_of(0x1.0p-15);
    words[kCodecTileValues] = 0x7fc1;  // a NaN too
    const Values more(words);
    rows = codecs_of({more.path, "--dtype", "bf16"});
    CHECK(rows.at("lossless12")["escapes"] == 10);
    CHECK(rows.at("lossless12")["misfit_tiles"] == 1);
    CHECK(rows.at("lossless12")["fits"] == false);
    CHECK(rows.at("lossless12")["bit_exact"] == false);
    CHECK(rows.at("lossless12")["max_error"].is_null());
    const ProgramRun text = run_codec({more.path, "--dtype", "bf16"});
    CHECK(text.exit_code == 0);
    CHECK(text.out.find("lossless12 does not fit: 1 tiles") != std::string::npos);
    CHECK(text.out.find("1 with NaN or Inf") != std::string::npos);
    CHECK(text.out.find("this machine's processor") != std::string::npos);
  }

  TEST_CASE("sparse fits what its capacity holds, and fp32, fp16 and bool have their codecs") {
    std::vector<std::uint32_t> words(kCodecTileValues, 0);
    for (std::size_t i = 0; i < kCodecTileValues / 16; ++i) words[i * 16] = 0x3f800000;
    const Values values(words);
    auto rows = codecs_of({values.path, "--dtype", "fp32", "--sparse-capacity", "1"});
    CHECK(rows.at("sparse")["bit_exact"] == true);
    CHECK(rows.at("sparse")["payload_bytes"] == 64 + 256 + 128 * 4);
    CHECK(rows.count("lossless12") == 1);
    rows = codecs_of({values.path, "--dtype", "fp16"});
    CHECK(rows.size() == 7);
    CHECK(rows.count("lossless12") == 0);

    const Values flags(std::vector<std::uint8_t>{1, 0, 0, 1, 1});
    rows = codecs_of({flags.path, "--dtype", "bool"});
    CHECK(rows.size() == 2);
    CHECK(rows.at("mask1")["bit_exact"] == true);
    const Values wrong(std::vector<std::uint8_t>{1, 0, 2});
    rows = codecs_of({wrong.path, "--dtype", "bool"});
    CHECK(rows.at("mask1")["misfit_tiles"] == 1);
    CHECK(rows.at("mask1")["bit_exact"] == false);
  }

  TEST_CASE("--offset skips a header, and more values than a chunk make the same figures") {
    const std::vector<std::uint16_t> words = bell(4096);
    std::vector<std::uint16_t> with_header(words.size() + 3, 0x7f80);
    std::copy(words.begin(), words.end(), with_header.begin() + 3);
    const auto plain = codecs_of({Values(words).path, "--dtype", "bf16"});
    const auto skipped = codecs_of({Values(with_header).path, "--dtype", "bf16", "--offset", "6"});
    for (const auto& entry : plain) {
      const std::string& name = entry.first;
      const json& row = entry.second;
      CAPTURE(name);
      CHECK(skipped.at(name)["max_error"] == row["max_error"]);
      CHECK(skipped.at(name)["snr_db"] == row["snr_db"]);
      CHECK(skipped.at(name)["escapes"] == row["escapes"]);
    }
    // More than one chunk, mostly a hole in the file.
    const Values large(words);
    std::filesystem::resize_file(large.path, (std::uint64_t{33} << 20) + 2);
    const auto rows = codecs_of({large.path, "--dtype", "bf16"});
    CHECK(rows.at("int8")["max_error"] == plain.at("int8")["max_error"]);
    CHECK(rows.at("lossless12")["bit_exact"] == true);
    CHECK(rows.at("sparse")["misfit_tiles"] == 2);
  }

  TEST_CASE("a file that holds no values is one line and exit code 2") {
    const Values values(std::vector<std::uint8_t>{1, 2, 3, 4, 5});
    check_one_line(run_codec({values.path, "--dtype", "bf16"}), "offset 4: expected a bf16", 2);
    check_one_line(run_codec({values.path, "--dtype", "fp32", "--offset", "2"}), "offset 2:", 2);
    check_one_line(
        run_codec({values.path, "--dtype", "bool", "--offset", "5"}), "end of a file", 2);
    check_one_line(
        run_codec({values.path, "--dtype", "bool", "--offset", "16EiB"}), "more than 2^63", 1);
    check_one_line(run_codec({values.dir.path().string(), "--dtype", "bf16"}), "a directory", 2);
    check_one_line(run_codec({values.path + "x", "--dtype", "bf16"}), "expected to open", 2);
    check_one_line(run_codec({"/dev/zero", "--dtype", "bf16"}), "regular file", 2);
    const Values empty(std::vector<std::uint8_t>{});
    check_one_line(run_codec({empty.path, "--dtype", "bf16"}), "a file of 0 bytes", 2);
    check_one_line(run_codec({values.path, "--dtype", "int8"}), "--dtype", 1);
    check_one_line(run_codec({values.path}), "--dtype", 1);
    check_one_line(run_codec({values.path, "--dtype", "bool", "--sparse-capacity", "17"}),
                   "--sparse-capacity",
                   1);
  }
}
