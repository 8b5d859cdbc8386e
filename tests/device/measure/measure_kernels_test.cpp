// SPDX-License-Identifier: Apache-2.0
// The measuring kernels: their PTX is PTX, and their simulated bodies do what the PTX says.
#include "device/measure/measure_kernels.hpp"

#include "core/random.hpp"
#include "device/capabilities.hpp"
#include "device/context.hpp"
#include "device/cuda/load_driver.hpp"
#include "device/driver_error.hpp"
#include "device/measure/gauge.hpp"
#include "device/pinned_buffer.hpp"
#include "device/sim/simulator.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/skip.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::measure;

namespace {

constexpr std::uint64_t kBytes = 64 * 1024 + 16;
constexpr unsigned int kThreads = 3 * kBlockThreads;
constexpr std::uint64_t kSumBytes = std::uint64_t{kThreads} * sizeof(float);
constexpr std::uint32_t kRounds = 3;

/// Copies random bytes by kernel and adds up what the arithmetic kernel promises; in the current
/// context. Ok is what both left.
Status run_kernels(const Driver& driver,
                   std::vector<std::uint8_t>* copied,
                   std::vector<float>* sums) {
  SPW_ASSIGN_OR_RETURN(const MeasureKernels kernels, MeasureKernels::load(driver));
  SPW_ASSIGN_OR_RETURN(const Stream stream, Stream::create(driver));
  SPW_ASSIGN_OR_RETURN(const PinnedBuffer host, PinnedBuffer::create(driver, 2 * kBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory from, DeviceMemory::create(driver, kBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory to, DeviceMemory::create(driver, kBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory out, DeviceMemory::create(driver, kSumBytes));
  auto* const bytes = static_cast<std::uint8_t*>(host.data());
  Random random(5);
  for (std::uint64_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::uint8_t>(random.next());
  const cu::Stream handle = stream.handle();
  SPW_CU_TRY(driver.cuMemcpyHtoDAsync(from.pointer(), bytes, kBytes, handle));
  SPW_RETURN_IF_ERROR(kernels.copy.launch(
      stream.ref(), copy_shape(kBytes), to.pointer(), from.pointer(), kBytes / 16));
  SPW_CU_TRY(driver.cuMemcpyDtoHAsync(bytes + kBytes, to.pointer(), kBytes, handle));
  SPW_RETURN_IF_ERROR(synchronize(driver, stream.ref()));
  copied->assign(bytes + kBytes, bytes + 2 * kBytes);
  for (std::uint64_t i = 0; i < kBytes; ++i) {
    if ((*copied)[i] != bytes[i]) return Status(Code::kInternal, "the copy differs");
  }
  LaunchShape three;
  three.grid[0] = 3;
  three.block[0] = kBlockThreads;
  SPW_RETURN_IF_ERROR(kernels.arithmetic.launch(stream.ref(), three, out.pointer(), kRounds));
  SPW_RETURN_IF_ERROR(kernels.wait.launch(stream.ref(), three, std::uint64_t{1000}));
  SPW_RETURN_IF_ERROR(kernels.nothing.launch(stream.ref(), three));
  SPW_CU_TRY(driver.cuMemcpyDtoHAsync(bytes, out.pointer(), kSumBytes, handle));
  SPW_RETURN_IF_ERROR(synchronize(driver, stream.ref()));
  sums->resize(kThreads);
  std::memcpy(sums->data(), bytes, kSumBytes);
  return {};
}

void check_kernels(const Driver& driver) {
  std::vector<std::uint8_t> copied;
  std::vector<float> sums;
  const Status ran = run_kernels(driver, &copied, &sums);
  REQUIRE_MESSAGE(ran.ok(), ran.message());
  CHECK(copied.size() == kBytes);
  // Eight chains that start at 1 to 8; each step multiplies by 1 - 2^-23 and adds 2^-23.
  float expected[8];
  for (int i = 0; i < 8; ++i) {
    float x = static_cast<float>(i + 1);
    for (std::uint32_t step = 0; step < 4 * kRounds; ++step)
      x = std::fma(x, 1.0f - 0x1p-23f, 0x1p-23f);
    expected[i] = x;
  }
  for (int stride = 1; stride < 8; stride *= 2) {
    for (int i = 0; i < 8; i += 2 * stride) expected[i] += expected[i + stride];
  }
  REQUIRE(sums.size() == kThreads);
  for (const float sum : sums) CHECK(sum == expected[0]);
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("the measuring kernels compute what they say on the simulated GPU") {
    sim::Options options;
    options.mode = sim::Mode::kRandom;
    options.check_kernels = true;
    for (options.seed = 1; options.seed <= 5; ++options.seed) {
      CAPTURE(options.seed);
      auto made = sim::Simulator::create(options);
      REQUIRE(made.ok());
      made.value()->run([&] {
        const Driver& driver = made.value()->driver();
        REQUIRE(init_driver(driver).ok());
        const auto context = Context::retain_primary(driver, 0);
        REQUIRE(context.ok());
        const auto scope = ScopedContext::enter(context.value());
        REQUIRE(scope.ok());
        check_kernels(driver);
      });
      CAPTURE(made.value()->report_text());
      CHECK(made.value()->reports().empty());
    }
  }
}

TEST_SUITE("gpu") {
  TEST_CASE("the measuring kernels compute the same on a real GPU") {
    const Result<Driver> driver = load_cuda_driver();
    const Status usable = driver.ok() ? init_driver(driver.value()).status() : driver.status();
    if (!usable.ok()) {
      test::report_skipped_without_gpu(usable.message());
      return;
    }
    const auto context = Context::retain_primary(driver.value(), 0);
    REQUIRE(context.ok());
    const auto scope = ScopedContext::enter(context.value());
    REQUIRE(scope.ok());
    check_kernels(driver.value());
  }
}

TEST_SUITE("unit") {
  TEST_CASE("the PTX holds the four kernels and no mark that was to be replaced") {
    const std::string ptx = measure_ptx();
    for (const char* name : {"nothing", "wait", "copy", "arithmetic"})
      CHECK(ptx.find(".visible .entry spw_measure_" + std::string(name) + "(") !=
            std::string::npos);
    CHECK(ptx.find("SPW_CHAINS") == std::string::npos);
    std::size_t steps = 0;
    for (std::size_t at = ptx.find("fma.rn"); at != std::string::npos;
         at = ptx.find("fma.rn", at + 1))
      ++steps;
    CHECK(2 * steps == kFlopsPerRound);
    CHECK(copy_shape(16).threads() >= 1);
    CHECK(copy_shape(1 << 20).threads() == (1 << 20) / 16);
  }

  TEST_CASE("an assembler takes the PTX for every GPU that it knows of ours") {
    const char* const ptxas = "/usr/local/cuda/bin/ptxas";
    if (!std::filesystem::exists(ptxas)) {
      test::report_skipped("ptxas of a CUDA toolkit");
      return;
    }
    const test::TempDir folder;
    const std::string path = (folder.path() / "measure.ptx").string();
    std::ofstream(path) << measure_ptx();
    for (const std::string arch : {"sm_80", "sm_90", "sm_100"}) {
      CAPTURE(arch);
      const test::ProgramRun run =
          test::run_program({ptxas, "-arch=" + arch, path, "-o", (folder.path() / "out").string()});
      CAPTURE(run.err);
      CHECK(run.exit_code == 0);
    }
  }
}
