// SPDX-License-Identifier: Apache-2.0
// Whole programs against the emulated libraries: what they export, and that programs of the driver
// and runtime API live on them through threads, forks, exec and exit, without a word on stdout.
#include "device/cuda/load_driver.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/skip.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

std::filesystem::path folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "emulated";
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Outcome {
  ProgramRun run;
  bool has_report = false;
  std::string report;
};

/// Runs a program with the emulated libraries in its library path.
Outcome run_emulated(std::vector<std::string> arguments, std::vector<std::string> variables = {}) {
  const TempDir dir;
  const std::filesystem::path report = dir.path() / "report";
  std::vector<std::string> line = {"/usr/bin/env",
                                   "LD_LIBRARY_PATH=" + folder().string(),
                                   "SPILLWAY_SIM_REPORT=" + report.string()};
  line.insert(line.end(), variables.begin(), variables.end());
  line.insert(line.end(), arguments.begin(), arguments.end());
  Outcome outcome;
  outcome.run = run_program(line);
  outcome.has_report = std::filesystem::exists(report);
  outcome.report = read_text(report);
  return outcome;
}

Outcome run_scenario(const std::string& program,
                     const std::string& scenario,
                     std::vector<std::string> variables = {}) {
  return run_emulated({(folder() / program).string(), scenario}, std::move(variables));
}

void check_quiet_success(const Outcome& outcome) {
  CAPTURE(outcome.report);
  CHECK(outcome.run.out == "");
  CHECK(outcome.run.err == "");
  CHECK(outcome.run.exit_code == 0);
}

/// In every mode, and nothing found.
void check_clean(const std::string& program, const std::string& scenario) {
  for (const char* mode : {"eager", "lazy", "random", "pct", "timed"}) {
    CAPTURE(mode);
    const Outcome outcome = run_scenario(
        program, scenario, {std::string("SPILLWAY_SIM_MODE=") + mode, "SPILLWAY_SIM_SEED=7"});
    check_quiet_success(outcome);
    CHECK(outcome.has_report);
    CHECK(outcome.report == "");
  }
}

bool has_runtime() {
  if (std::filesystem::exists(folder() / "libcudart.so.13")) return true;
  report_skipped("a CUDA toolkit, 13.x");
  return false;
}

bool has_nvcc_program() {
  if (std::filesystem::exists(folder() / "runtime")) return true;
  report_skipped("nvcc of a CUDA toolkit, 13.x");
  return false;
}

/// The names that a library shows, without versions.
std::set<std::string> exported(const std::string& library) {
  const ProgramRun run =
      run_program({"/usr/bin/env", "nm", "-D", "--defined-only", (folder() / library).string()});
  REQUIRE(run.exit_code == 0);
  std::istringstream lines(run.out);
  std::set<std::string> names;
  for (std::string address, kind, name; lines >> address >> kind >> name;)
    if (kind != "A") names.insert(name.substr(0, name.find('@')));
  return names;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the emulated driver shows the driver's names and its hook, and nothing else") {
    const std::set<std::string> names = exported("libcuda.so.1");
    for (const std::string& name : names) {
      CAPTURE(name);
      const bool driver =
          name.size() > 2 && name.rfind("cu", 0) == 0 && name[2] >= 'A' && name[2] <= 'Z';
      CHECK((driver || name == "spw_emulated_register_kernel"));
    }
#define SPW_IS_EXPORTED(member, symbol, since, parameters) CHECK(names.count(#symbol) == 1);
    SPW_DRIVER_FUNCTIONS(SPW_IS_EXPORTED)
#undef SPW_IS_EXPORTED
    for (const char* name : {"cuGetProcAddress",
                             "cuMemcpy_ptds",
                             "cuMemcpyHtoD_v2_ptds",
                             "cuMemsetD32_v2_ptds",
                             "cuMemcpyDtoHAsync_v2_ptsz",
                             "cuMemAllocAsync_ptsz",
                             "cuLaunchKernelEx_ptsz",
                             "cuStreamBeginCapture_v2_ptsz",
                             "cuStreamGetCaptureInfo_v3",
                             "cuEventElapsedTime_v2"}) {
      CAPTURE(name);
      CHECK(names.count(name) == 1);
    }
  }

  TEST_CASE("the emulated runtime shows the runtime's names, in the version that nvcc asks for") {
    if (!has_runtime()) return;
    const std::set<std::string> names = exported("libcudart.so.13");
    for (const std::string& name : names) {
      CAPTURE(name);
      CHECK((name.rfind("cuda", 0) == 0 || name.rfind("__cuda", 0) == 0));
    }
    for (const char* name : {"cudaMalloc",
                             "cudaMallocAsync_ptsz",
                             "cudaMemcpy_ptds",
                             "cudaGetDriverEntryPointByVersion",
                             "__cudaRegisterFatBinary",
                             "__cudaGetKernel",
                             "__cudaLaunchKernel",
                             "__cudaPushCallConfiguration"}) {
      CAPTURE(name);
      CHECK(names.count(name) == 1);
    }
    const ProgramRun versions =
        run_program({"/usr/bin/env", "nm", "-D", (folder() / "libcudart.so.13").string()});
    CHECK(versions.out.find("cudaMalloc@@libcudart.so.13") != std::string::npos);
  }

  TEST_CASE("a C program that links the driver, and one that opens it, run") {
    check_clean("plain_linked", "");
    check_clean("plain_opened", "");
  }

  TEST_CASE("sixteen threads with a stream each allocate, copy and free") {
    check_clean("driver", "threads");
  }

  TEST_CASE("what one thread made, another may use: the program's locks are trusted") {
    check_clean("driver", "hand-over");
  }

  TEST_CASE("a fork before initialisation is free, after it the child has no CUDA") {
    check_clean("driver", "forks");
  }

  TEST_CASE("a program may start another with exec") { check_clean("driver", "executes"); }

  TEST_CASE("look-ups of both shapes give the flavour that was asked for") {
    check_clean("driver", "look-ups");
  }

  TEST_CASE("a kernel runs on the body that the program registered") {
    check_clean("driver", "kernels");
  }

  TEST_CASE("a program may end with work queued and a thread inside the driver") {
    for (const char* mode : {"eager", "lazy", "random"}) {
      CAPTURE(mode);
      const Outcome outcome =
          run_scenario("driver", "exits-with-work", {std::string("SPILLWAY_SIM_MODE=") + mode});
      check_quiet_success(outcome);
      CHECK(outcome.report.find("leak: still alive at the end: 1 device allocation, 1 stream") ==
            0);
    }
  }

  TEST_CASE("destructors before the end are served, those after it get error 4") {
    const Outcome outcome = run_scenario("driver", "destructors");
    check_quiet_success(outcome);
    CHECK(outcome.report.find("leak: still alive at the end: 1 device allocation\n") == 0);
  }

  TEST_CASE("host functions have a thread of their own, wait for others, and may not call CUDA") {
    for (const char* mode : {"eager", "lazy", "random", "timed"}) {
      CAPTURE(mode);
      const Outcome outcome =
          run_scenario("driver", "callbacks", {std::string("SPILLWAY_SIM_MODE=") + mode});
      check_quiet_success(outcome);
      CHECK(outcome.report.find("call in callback: cuMemAlloc") == 0);
    }
  }

  TEST_CASE("a stream waits for a value that another thread brings later") {
    for (const char* mode : {"eager", "lazy", "random"}) {
      CAPTURE(mode);
      check_quiet_success(
          run_scenario("driver", "waits-for-value", {std::string("SPILLWAY_SIM_MODE=") + mode}));
    }
  }

  TEST_CASE("a missing edge is in the report, with the command that repeats it") {
    const Outcome outcome = run_scenario("driver", "race", {"SPILLWAY_SIM_SEED=12"});
    check_quiet_success(outcome);
    CHECK(outcome.report.find("race: ") == 0);
    CHECK(outcome.report.find("SPILLWAY_SIM_SEED=12") != std::string::npos);
  }

  TEST_CASE("the environment chooses memory, mode, seed and faults, and is checked") {
    check_quiet_success(run_scenario("driver", "small-memory", {"SPILLWAY_SIM_MEMORY=8MiB"}));
    check_quiet_success(run_scenario(
        "driver", "fault", {"SPILLWAY_SIM_FAULTS=cuMemAlloc error=CUDA_ERROR_OUT_OF_MEMORY"}));
    for (const char* variable : {"SPILLWAY_SIM_MODE=hasty",
                                 "SPILLWAY_SIM_SEED=-1",
                                 "SPILLWAY_SIM_DEVICES=33",
                                 "SPILLWAY_SIM_MEMORY=much",
                                 "SPILLWAY_SIM_FAULTS=cuMemAllok nth=1 stuck"}) {
      CAPTURE(variable);
      const Outcome outcome = run_scenario("driver", "bad-options", {variable});
      check_quiet_success(outcome);
      const std::string name = std::string(variable).substr(0, std::string(variable).find('='));
      CHECK(outcome.report.find(name + ": ") == 0);
      CHECK(outcome.report.find("expected") != std::string::npos);
    }
  }

  TEST_CASE("a preloaded shim sees allocations by symbol and by look-up") {
    const TempDir dir;
    const std::filesystem::path log = dir.path() / "log";
    check_quiet_success(run_scenario(
        "driver",
        "shim",
        {"SPW_SHIM_LOG=" + log.string(), "LD_PRELOAD=" + (folder() / "shim.so").string()}));
    CHECK(read_text(log) == "symbol 1001\nlooked-up 1002\n");
  }

  TEST_CASE("doctor finds the emulated driver through the loader") {
    if (program_path().empty()) {
      report_skipped("the spillway program");
      return;
    }
    const Outcome outcome = run_emulated({program_path().string(), "doctor"});
    CHECK(outcome.run.exit_code == 0);
    CHECK(outcome.run.out.find("driver for 13.0; device 0: spillway simulated GPU") !=
          std::string::npos);
  }

  TEST_CASE("the loader fills its table from the emulated driver, which then serves calls") {
    LoadOptions options;
    options.library = (folder() / "libcuda.so.1").string();
    for (const DefaultStream stream : {DefaultStream::kLegacy, DefaultStream::kPerThread}) {
      options.default_stream = stream;
      const Result<Driver> driver = load_cuda_driver(options);
      REQUIRE(driver.ok());
      const Driver& d = driver.value();
      REQUIRE(d.cuInit(0) == cu::Result::kSuccess);
      cu::Context context = nullptr;
      REQUIRE(d.cuDevicePrimaryCtxRetain(&context, 0) == cu::Result::kSuccess);
      REQUIRE(d.cuCtxSetCurrent(context) == cu::Result::kSuccess);
      cu::DevicePtr memory = 0;
      REQUIRE(d.cuMemAlloc(&memory, 4096) == cu::Result::kSuccess);
      CHECK(d.cuMemsetD8Async(memory, 3, 4096, nullptr) == cu::Result::kSuccess);
      unsigned char got = 0;
      CHECK(d.cuMemcpyDtoH(&got, memory + 4095, 1) == cu::Result::kSuccess);
      CHECK(got == 3);
      CHECK(d.cuMemFree(memory) == cu::Result::kSuccess);
      CHECK(d.cuDevicePrimaryCtxRelease(0) == cu::Result::kSuccess);
    }
  }

  TEST_CASE("a program of the runtime for per-thread default streams runs") {
    if (has_runtime()) check_clean("per_thread", "");
  }

  TEST_CASE("a program of nvcc -cudart shared launches a kernel") {
    if (has_nvcc_program()) check_clean("runtime", "kernel");
  }

  TEST_CASE("a program of nvcc launches kernels from eight threads") {
    if (has_nvcc_program()) check_clean("runtime", "threads");
  }

  TEST_CASE("a program of nvcc uses every kind of memory") {
    if (has_nvcc_program()) check_clean("runtime", "memory-kinds");
  }

  TEST_CASE("a kernel that nobody registered is an invalid device function") {
    if (has_nvcc_program()) check_clean("runtime", "not-registered");
  }

  TEST_CASE("errors of the runtime are remembered by thread, those of a lost context for good") {
    if (!has_nvcc_program()) return;
    check_quiet_success(run_scenario("runtime", "errors"));
    check_quiet_success(
        run_scenario("runtime", "lost", {"SPILLWAY_SIM_FAULTS=cuMemsetD8Async error=700 late"}));
  }

  TEST_CASE("the child of a program of nvcc gets initialisation errors") {
    if (has_nvcc_program()) check_clean("runtime", "forks");
  }

  TEST_CASE("a global object that frees after the driver has ended gets error 4") {
    if (!has_nvcc_program()) return;
    const Outcome outcome = run_scenario("runtime", "destructor");
    check_quiet_success(outcome);
    CHECK(outcome.report.find("leak: still alive at the end: 1 device allocation\n") == 0);
  }
}

TEST_SUITE("conformance") {
  TEST_CASE("the conformance suite passes on the emulated driver as on a real one") {
    const std::filesystem::path tests = folder().parent_path() / "spillway_device_tests";
    for (const char* mode : {"eager", "lazy", "random"}) {
      CAPTURE(mode);
      const Outcome outcome = run_emulated({tests.string(), "--test-case=a real driver keeps*"},
                                           {std::string("SPILLWAY_SIM_MODE=") + mode});
      CAPTURE(outcome.run.out);
      CHECK(outcome.run.exit_code == 0);
      CHECK(outcome.run.out.find("needs a GPU") == std::string::npos);
      CHECK(outcome.run.out.find(" 0 passed") == std::string::npos);
    }
  }
}
