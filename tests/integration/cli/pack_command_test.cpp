// SPDX-License-Identifier: Apache-2.0
// spillway pack as a user meets it.
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/shared_data.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

using namespace spillway::test;
using nlohmann::json;

namespace {

ProgramRun run_pack(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {program_path().string(), "pack"});
  return run_program(arguments);
}

json json_of(const ProgramRun& run) {
  REQUIRE_MESSAGE(json::accept(run.out), run.out << run.err);
  return json::parse(run.out);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Loads 12 at most, and 12 is enough.
struct Table {
  TempDir dir;
  std::string path = (dir.path() / "in.csv").string();
  std::string out = (dir.path() / "out.csv").string();
  explicit Table(const std::string& text =
                     "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n") {
    std::ofstream(path, std::ios::binary) << text;
  }
};

void check_one_line(const ProgramRun& run, const std::string& text, int exit_code) {
  CHECK(run.exit_code == exit_code);
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  CHECK(run.err.rfind("spillway: ", 0) == 0);
  CHECK_MESSAGE(run.err.find(text) != std::string::npos, run.err);
}

}  // namespace

TEST_SUITE("unit: pack command") {
  TEST_CASE("--json prints one object, -o writes the offsets that it speaks of") {
    const Table table;
    const ProgramRun run = run_pack({table.path, "--json", "-o", table.out});
    CHECK(run.exit_code == 0);
    CHECK(run.err.empty());
    const json result = json_of(run);
    CHECK(result["schema"] == "spillway.pack/1");
    CHECK(result["buffers"] == 5);
    CHECK(result["height"] == 12);
    CHECK(result["load_bound"] == 12);
    CHECK(result["valid"] == true);
    CHECK(result["optimal"] == true);
    CHECK(result["fits"] == true);
    CHECK(result["capacity"].is_null());
    CHECK(result["seconds"].get<double>() >= 0);
    const std::string written = read(table.out);
    CHECK(written.rfind("id,lower,upper,size,offset\nb1,0,3,4,", 0) == 0);
    CHECK(std::count(written.begin(), written.end(), '\n') == 6);
    // Its own output is input, and as laws it is as high as it was.
    const json again = json_of(run_pack({table.out, "--json", "--fixed"}));
    CHECK(again["height"] == 12);
    CHECK(again["valid"] == true);
  }

  TEST_CASE("without --json there is a short table") {
    const Table table;
    const ProgramRun run = run_pack({table.path, "--capacity", "1KiB"});
    CHECK(run.exit_code == 0);
    CHECK(run.out.find("height       12 B") != std::string::npos);
    CHECK(run.out.find("capacity     1024 B, fits") != std::string::npos);
    CHECK(run.out.find("valid        yes") != std::string::npos);
  }

  TEST_CASE("an alignment holds for every offset") {
    const Table table;
    const json result =
        json_of(run_pack({table.path, "--json", "--alignment", "512", "-o", table.out}));
    CHECK(result["height"] == 3 * 512);
    CHECK(result["load_bound"] == 3 * 512);
    CHECK(read(table.out).rfind("id,lower,upper,size,alignment,offset\n", 0) == 0);
  }

  TEST_CASE("a capacity that is not reached ends with 3, the result is printed all the same") {
    const Table table;
    const ProgramRun run = run_pack({table.path, "--json", "--capacity", "11"});
    check_one_line(run, "no packing is below 12 bytes, the capacity is 11", 3);
    CHECK(json_of(run)["fits"] == false);
    CHECK(json_of(run)["capacity"] == 11);
    CHECK(json_of(run)["height"] == 12);
  }

  TEST_CASE("seeds and threads are options, the packing is the same for every number of threads") {
    const Table table;
    const ProgramRun one = run_pack({table.path, "--seed", "7", "--threads", "1", "-o", table.out});
    const std::string first = read(table.out);
    const ProgramRun two = run_pack({table.path, "--seed", "7", "--threads", "2", "-o", table.out});
    CHECK(one.exit_code == 0);
    CHECK(two.exit_code == 0);
    CHECK(read(table.out) == first);
    CHECK(run_pack({table.path, "--seconds", "0.5"}).exit_code == 0);
  }

  TEST_CASE("bad input is 2 and names its line, bad usage is 1; nothing is written") {
    const Table negative("id,lower,upper,size\na,0,3,-1\n");
    check_one_line(run_pack({negative.path, "-o", negative.out}), "in.csv: line 2: ", 2);
    CHECK_FALSE(std::filesystem::exists(negative.out));
    const Table huge("id,lower,upper,size\na,0,3,18446744073709551615\n");
    check_one_line(run_pack({huge.path}), "sizes add up to 2^62 bytes or more", 2);
    check_one_line(run_pack({huge.path + ".gone"}), "in.csv.gone", 2);
    const Table table;
    check_one_line(run_pack({table.path, "--capacity", "0"}), "--capacity", 1);
    check_one_line(run_pack({table.path, "--capacity", "many"}), "many", 1);
    check_one_line(run_pack({table.path, "--alignment", "0"}), "--alignment", 1);
    check_one_line(run_pack({table.path, "--seconds", "-1"}), "--seconds", 1);
    check_one_line(run_pack({}), "file", 1);
    CHECK(run_pack({table.path, "-o", "/nowhere/at/all.csv"}).exit_code == 2);
  }

  TEST_CASE("recorded tables of others are read") {
    SPW_REQUIRE_SHARED_DATA(dir);
    const json result =
        json_of(run_pack({(dir / "idealloc" / "iree_mobilebert.csv").string(), "--json"}));
    CHECK(result["height"] == 1'674'240);
    CHECK(result["valid"] == true);
    CHECK(json_of(run_pack({(dir / "idealloc" / "iree_mobilebert.csv").string(),
                            "--json",
                            "--fixed"}))["height"] == 2'408'448);
  }
}
