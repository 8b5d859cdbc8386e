// SPDX-License-Identifier: Apache-2.0
// What a tool gets to see of a pool's blocks. NVTX looks for a tool once per process, so the test
// runs itself again with one.
#include "device/cuda/nvtx_observer.hpp"

#include "tests/support/run_program.hpp"
#include "tests/support/skip.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

using namespace spillway;

namespace {

constexpr const char* kName = "a tool sees an arena as a heap and its blocks as regions";

void use_an_arena() {
  const auto observer = make_nvtx_observer();
  CHECK(observer != nullptr);
  observer->arena_begin(0x70000000, 0x10000);
  observer->block_allocated(0x70000200, 0x400, nullptr);
  observer->block_allocated(0x70001000, 0x800, nullptr);
  observer->block_freed(0x70000200, nullptr);
  observer->block_allocated(0x60000000, 0x100, nullptr);  // of no arena: nothing to tell
  observer->arena_end(0x70000000, 0x10000);
  observer->block_freed(0x70001000, nullptr);  // gone with its arena
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a tool sees an arena as a heap and its blocks as regions") {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment.
    if (std::getenv("SPW_FAKE_NVTX_LOG") != nullptr) {
      use_an_arena();
      return;
    }
    if (nvtx_support() == NvtxSupport::kCompiledOut) {
      test::report_skipped("the NVTX headers of a CUDA toolkit");
      return;
    }
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
    const test::TempDir dir;
    const std::string log = (dir.path() / "log").string();
    const test::ProgramRun run = test::run_program(
        {"/usr/bin/env",
         "NVTX_INJECTION64_PATH=" + (self.parent_path() / "fake_drivers/nvtx_tool.so").string(),
         "SPW_FAKE_NVTX_LOG=" + log,
         self.string(),
         std::string("--test-case=") + kName});
    CAPTURE(run.out);
    REQUIRE(run.exit_code == 0);
    std::ostringstream text;
    text << std::ifstream(log).rdbuf();
    CHECK(text.str() ==
          "heap usage 1 type 1 0x70000000 65536 spillway arena\n"
          "region of 0x70000000: 0x70000200 1024\n"
          "region of 0x70000000: 0x70001000 2048\n"
          "region end by 1 0x70000200\n"
          "heap end 0x70000000\n");
  }
}
