// SPDX-License-Identifier: Apache-2.0
// Fault rules: their text, when they strike, and what a program sees of each kind.
#include "device/sim/faults.hpp"

#include "device/sim/engine.hpp"
#include "tests/support/sim_lab.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway::test {
namespace {

using sim::FaultRule;
using sim::Mode;
using R = cu::Result;

constexpr R kErrors[] = {R::kOutOfMemory,
                         R::kEccUncorrectable,
                         R::kNvlinkUncorrectable,
                         R::kContained,
                         R::kNotReady,
                         R::kIllegalAddress,
                         R::kHardwareStackError,
                         R::kLaunchFailed,
                         R::kNotPermitted,
                         R::kSystemNotReady,
                         R::kStreamCaptureUnsupported};

std::vector<sim::Options> schedules(const std::string& rules) {
  std::vector<sim::Options> all = {
      lab_options(Mode::kEager), lab_options(Mode::kLazy), lab_options(Mode::kTimed)};
  for (std::uint64_t seed = 0; seed < 50; ++seed) all.push_back(lab_options(Mode::kRandom, seed));
  for (std::uint64_t seed = 0; seed < 10; ++seed) all.push_back(lab_options(Mode::kPct, seed));
  auto parsed = sim::parse_faults(rules, "test");
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
  for (sim::Options& options : all) options.faults = parsed.value();
  return all;
}

/// One machine for each test case: its fault handler must lie over the one that doctest installs at
/// the beginning of every case.
class Bench {
 public:
  Bench() {
    auto created = sim::Simulator::create(lab_options());
    REQUIRE(created.ok());
    the_machine = std::move(created).value();
  }
  ~Bench() { the_machine.reset(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  static sim::Simulator& machine() { return *the_machine; }

 private:
  static inline std::unique_ptr<sim::Simulator> the_machine;
};
sim::Simulator& machine() { return Bench::machine(); }

void run(const sim::Options& options, const std::function<void(Lab&)>& body) {
  REQUIRE(machine().reset(options).ok());
  machine().run([&] {
    Lab lab(machine());
    body(lab);
  });
}

void everywhere(const std::string& rules, const std::function<void(Lab&)>& body) {
  for (const sim::Options& options : schedules(rules)) {
    CAPTURE(rules);
    CAPTURE(std::string(sim::name_of(options.mode)));
    CAPTURE(options.seed);
    run(options, body);
    CHECK(!machine().has_report(sim::ReportKind::kDeadlock));
  }
}

std::string message(const std::string& text) {
  const auto parsed = sim::parse_faults(text, "f");
  return parsed.ok() ? "parsed" : parsed.status().message();
}

TEST_CASE("the text of a rule says what it means") {
  const auto parsed = sim::parse_faults(
      "# three\n\ncuMemCreate nth=3 error=CUDA_ERROR_OUT_OF_MEMORY\n"
      "\tcuMemcpyHtoDAsync bytes>=1MiB probability=0.25 error=719 late # comment\r\n"
      "* slow=2.5; cuMemcpyDtoHAsync stuck;;cuMemCreate take=1GiB",
      "test");
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
  const std::vector<FaultRule>& rules = parsed.value();
  REQUIRE(rules.size() == 5);
  CHECK(rules[0].api == static_cast<int>(sim::Api::cuMemCreate));
  CHECK(rules[0].nth == 3);
  CHECK(rules[0].effect == FaultRule::Effect::kFail);
  CHECK(rules[0].error == 2);
  CHECK(rules[1].bytes_min == 1u << 20);
  CHECK(rules[1].probability == 0.25);
  CHECK(rules[1].effect == FaultRule::Effect::kFailLate);
  CHECK(rules[1].error == 719);
  CHECK(rules[2].api == -1);
  CHECK(rules[2].effect == FaultRule::Effect::kSlow);
  CHECK(rules[2].factor == 2.5);
  CHECK(rules[3].effect == FaultRule::Effect::kStuck);
  CHECK(rules[4].effect == FaultRule::Effect::kTakeMemory);
  CHECK(rules[4].bytes == 1u << 30);
}

TEST_CASE("a malformed rule is refused with its line, what was expected and what was found") {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"cuMemCreat error=2",
       "f: line 1: expected a function of the driver or `*`, found `cuMemCreat`; did you mean "
       "`cuMemCreate`?"},
      {"# a\n\nqqqqqqqqqqqqqqqq error=2",
       "f: line 3: expected a function of the driver or `*`, found `qqqqqqqqqqqqqqqq`"},
      {"*", "f: line 1: expected one of error=, slow=, stuck and take=, found none"},
      {"* slow=2 stuck", "f: line 1: expected one effect, found `stuck` after another"},
      {"* nth=0 slow=2", "f: line 1: expected a whole number from 1 after nth=, found `0`"},
      {"* nth=-1 slow=2", "f: line 1: expected a whole number from 1 after nth=, found `-1`"},
      {"* nth=1x slow=2", "f: line 1: expected a whole number from 1 after nth=, found `1x`"},
      {"* nth=99999999999999999999 slow=2",
       "f: line 1: expected a whole number from 1 after nth=, found `99999999999999999999`"},
      {"* nth=1 nth=2 slow=2", "f: line 1: expected `nth=` once, found `nth=2`"},
      {"* bytes>=many slow=2", "f: line 1: expected a size like 1MiB after bytes>=, found `many`"},
      {"* bytes=4 slow=2",
       "f: line 1: expected nth=, bytes>=, probability=, error=, late, slow=, stuck or take=, "
       "found `bytes=4`; did you mean `bytes>=`?"},
      {"* probability=1.5 slow=2",
       "f: line 1: expected a number from 0 to 1 after probability=, found `1.5`"},
      {"* probability=nan slow=2",
       "f: line 1: expected a number from 0 to 1 after probability=, found `nan`"},
      {"* error=0", "f: line 1: expected an error from 1 to 999 after error=, found `0`"},
      {"* error=1000", "f: line 1: expected an error from 1 to 999 after error=, found `1000`"},
      {"* error=CUDA_ERROR_OUT_OF_MEMROY",
       "f: line 1: expected a name of cuda.h or a number after error=, found "
       "`CUDA_ERROR_OUT_OF_MEMROY`; did you mean `CUDA_ERROR_OUT_OF_MEMORY`?"},
      {"* error=", "f: line 1: expected a name of cuda.h or a number after error=, found ``"},
      {"* late", "f: line 1: expected one of error=, slow=, stuck and take=, found none"},
      {"* slow=2 late", "f: line 1: expected error= before `late`, found none"},
      {"* error=2 late",
       "f: line 1: expected an error that arises on the device, such as 700 or 719, with `late`, "
       "found 2"},
      {"* slow=0.5", "f: line 1: expected a factor from 1 to 1000000 after slow=, found `0.5`"},
      {"* slow=inf", "f: line 1: expected a factor from 1 to 1000000 after slow=, found `inf`"},
      {"* take=", "f: line 1: expected a size like 1MiB after take=, found ``"},
      {"cuMemCreate stuck",
       "f: line 1: expected a function that enqueues work with late, slow= or stuck, found "
       "`cuMemCreate`"},
      {"* stuk",
       "f: line 1: expected nth=, bytes>=, probability=, error=, late, slow=, stuck or take=, "
       "found `stuk`; did you mean `stuck`?"},
      {"* \x01\xff",
       "f: line 1: expected nth=, bytes>=, probability=, error=, late, slow=, stuck or take=, "
       "found `??`"},
  };
  for (const auto& c : cases) CHECK(message(c.text) == c.message);
  CHECK(message("") == "parsed");
  CHECK(message(";;\n#x\n \t") == "parsed");
}

TEST_CASE("rules come from the environment, as text or as a file") {
  const TempDir dir;
  const std::string path = (dir.path() / "rules.txt").string();
  const std::string missing = (dir.path() / "none.txt").string();
  std::FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fputs("* slow=2\ncuMemFree error=1\nbad\n", file);
  std::fclose(file);
  setenv("SPILLWAY_SIM_FAULTS", "* slow=2; * stuck", 1);
  const auto inline_rules = sim::faults_from_environment();
  setenv("SPILLWAY_SIM_FAULTS", path.c_str(), 1);
  const auto file_rules = sim::faults_from_environment();
  setenv("SPILLWAY_SIM_FAULTS", missing.c_str(), 1);
  const auto no_file = sim::faults_from_environment();
  unsetenv("SPILLWAY_SIM_FAULTS");
  const auto no_rules = sim::faults_from_environment();
  REQUIRE(inline_rules.ok());
  CHECK(inline_rules.value().size() == 2);
  REQUIRE(!file_rules.ok());
  CHECK(file_rules.status().message().find("line 3: expected a function") != std::string::npos);
  REQUIRE(!no_file.ok());
  CHECK(no_file.status().code() == Code::kIo);
  REQUIRE(no_rules.ok());
  CHECK(no_rules.value().empty());
}

TEST_CASE_FIXTURE(Bench, "each error strikes the nth call, and only those of a lost context stay") {
  for (const R error : kErrors) {
    const std::string rules = "cuMemAlloc nth=2 error=" + std::to_string(static_cast<int>(error));
    everywhere(rules, [error](Lab& lab) {
      cu::DevicePtr p = 0, q = 0, r = 0;
      CHECK(lab.cu.cuMemAlloc(&p, 4096) == R::kSuccess);
      CHECK(lab.cu.cuMemAlloc(&q, 4096) == error);
      CHECK(q == 0);
      const R then = cu::is_sticky(error) ? error : R::kSuccess;
      CHECK(lab.cu.cuMemAlloc(&r, 4096) == then);
      CHECK(lab.cu.cuCtxSynchronize() == then);
      if (then == R::kSuccess) {
        lab.note(lab.cu.cuMemFree(p));
        lab.note(lab.cu.cuMemFree(r));
        CHECK(lab.failure == R::kSuccess);
      }
    });
  }
}

TEST_CASE_FIXTURE(Bench, "an error of a copy shows at a later call, not at the copy's own") {
  for (const char* rules : {"cuMemcpyHtoDAsync error=CUDA_ERROR_LAUNCH_FAILED",
                            "cuMemcpyHtoDAsync error=719 late",
                            "cuLaunchKernel error=719 late"}) {
    everywhere(rules, [](Lab& lab) {
      const cu::Stream s = lab.stream();
      const cu::DevicePtr p = lab.device(4096);
      std::uint8_t* host = lab.pinned(4096);
      CHECK(lab.failure == R::kSuccess);
      CHECK(lab.cu.cuMemcpyHtoDAsync(p, host, 4096, s) == R::kSuccess);
      lab.fill(s, p, 1, 4096);
      CHECK(lab.cu.cuStreamSynchronize(s) == R::kLaunchFailed);
      CHECK(lab.cu.cuMemAlloc(nullptr, 0) == R::kLaunchFailed);
      CHECK(lab.cu.cuStreamQuery(s) == R::kLaunchFailed);
    });
  }
}

TEST_CASE_FIXTURE(Bench, "mapping can fail half way, and the program can take back what it has") {
  everywhere("cuMemMap nth=2 error=2", [](Lab& lab) {
    const cu::AllocationProp prop{cu::AllocationType::kPinned,
                                  cu::HandleType::kNone,
                                  {cu::LocationType::kDevice, 0},
                                  nullptr,
                                  {}};
    cu::DevicePtr at = 0;
    lab.note(lab.cu.cuMemAddressReserve(&at, 8192, 0, 0, 0));
    cu::AllocationHandle handles[2] = {};
    for (cu::AllocationHandle& handle : handles)
      lab.note(lab.cu.cuMemCreate(&handle, 4096, &prop, 0));
    lab.note(lab.cu.cuMemMap(at, 4096, 0, handles[0], 0));
    CHECK(lab.cu.cuMemMap(at + 4096, 4096, 0, handles[1], 0) == R::kOutOfMemory);
    lab.note(lab.cu.cuMemUnmap(at, 4096));
    for (const cu::AllocationHandle handle : handles) lab.note(lab.cu.cuMemRelease(handle));
    lab.note(lab.cu.cuMemAddressFree(at, 8192));
    CHECK(lab.failure == R::kSuccess);
  });
  CHECK(machine().report_text() == "");
}

TEST_CASE_FIXTURE(Bench, "size and probability pick the calls") {
  const auto failures = [](const std::string& rules) {
    sim::Options options = lab_options(Mode::kRandom, 7);
    options.faults = sim::parse_faults(rules, "test").value();
    int failed = 0;
    run(options, [&failed](Lab& lab) {
      for (int i = 0; i < 400; ++i) {
        cu::DevicePtr p = 0;
        const std::size_t bytes = i % 2 == 0 ? 4096 : 8192;
        if (lab.cu.cuMemAlloc(&p, bytes) == R::kSuccess)
          lab.note(lab.cu.cuMemFree(p));
        else
          ++failed;
      }
    });
    return failed;
  };
  CHECK(failures("cuMemAlloc bytes>=8192 error=2") == 200);
  CHECK(failures("cuMemAlloc bytes>=8193 error=2") == 0);
  CHECK(failures("cuMemAlloc probability=0 error=2") == 0);
  const int some = failures("cuMemAlloc probability=0.25 error=2");
  CHECK(some > 50);
  CHECK(some < 150);
  CHECK(failures("cuMemAlloc probability=0.25 error=2") == some);
}

TEST_CASE_FIXTURE(Bench, "memory that the query promised can be gone at the allocation") {
  everywhere("cuMemAlloc take=15MiB", [](Lab& lab) {
    std::size_t free_bytes = 0, total = 0;
    lab.note(lab.cu.cuMemGetInfo(&free_bytes, &total));
    CHECK(free_bytes == 16u << 20);
    cu::DevicePtr p = 0;
    CHECK(lab.cu.cuMemAlloc(&p, free_bytes) == R::kOutOfMemory);
    lab.note(lab.cu.cuMemGetInfo(&free_bytes, &total));
    CHECK(free_bytes == 1u << 20);
    CHECK(total == 16u << 20);
  });
}

TEST_CASE_FIXTURE(
    Bench, "work that never ends runs into the device's time-out, for waiting and for polling") {
  everywhere("cuMemcpyDtoHAsync stuck", [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr p = lab.device(4096);
    std::uint8_t* host = lab.pinned(4096);
    lab.d2h(s, host, p, 4096);
    CHECK(lab.failure == R::kSuccess);
    CHECK(lab.cu.cuStreamSynchronize(s) == R::kLaunchTimeout);
    CHECK(lab.cu.cuCtxSynchronize() == R::kLaunchTimeout);
  });
  everywhere("cuMemcpyDtoHAsync stuck", [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::Stream behind = lab.stream();
    const cu::DevicePtr p = lab.device(4096);
    std::uint8_t* host = lab.pinned(4096);
    lab.d2h(s, host, p, 4096);
    lab.order(s, behind);
    int polls = 0;
    R last = R::kNotReady;
    while (last == R::kNotReady && ++polls < 100000) last = lab.cu.cuStreamQuery(behind);
    CHECK(last == R::kLaunchTimeout);
  });
}

TEST_CASE_FIXTURE(Bench, "a slow copy takes its factor longer in virtual time") {
  const auto duration = [](const std::string& rules) {
    sim::Options options = lab_options(Mode::kTimed);
    options.faults = sim::parse_faults(rules, "test").value();
    float ms = 0;
    run(options, [&ms](Lab& lab) {
      const cu::Stream s = lab.stream();
      const cu::DevicePtr p = lab.device(8u << 20);
      std::uint8_t* host = lab.pinned(8u << 20);
      const cu::Event before = lab.event(cu::kEventDefault);
      const cu::Event after = lab.event(cu::kEventDefault);
      lab.record(before, s);
      lab.h2d(s, p, host, 8u << 20);
      lab.record(after, s);
      lab.sync(s);
      lab.note(lab.cu.cuEventElapsedTime(&ms, before, after));
      CHECK(lab.failure == R::kSuccess);
    });
    return ms;
  };
  const float healthy = duration("");
  const float slow = duration("cuMemcpyHtoDAsync slow=10");
  CHECK(healthy > 0);
  CHECK(slow > 8 * healthy);
  CHECK(slow < 12 * healthy);
}

TEST_CASE_FIXTURE(Bench, "rules strike only where their behaviour is switched on") {
  sim::Options options = lab_options();
  options.faults = sim::parse_faults("cuMemAlloc error=2; cuMemAlloc take=16MiB", "test").value();
  const auto outcome = [&options](sim::Semantic off) {
    sim::Options less = options;
    less.semantics.switch_off(off);
    std::size_t free_bytes = 0, total = 0;
    R result = R::kSuccess;
    run(less, [&](Lab& lab) {
      cu::DevicePtr p = 0;
      result = lab.cu.cuMemAlloc(&p, 4096);
      if (result == R::kSuccess) lab.note(lab.cu.cuMemFree(p));
      lab.note(lab.cu.cuMemGetInfo(&free_bytes, &total));
    });
    return std::make_pair(result, free_bytes);
  };
  options.faults.pop_back();
  CHECK(outcome(sim::Semantic::kOtherTenant).first == R::kOutOfMemory);
  CHECK(outcome(sim::Semantic::kFaults).first == R::kSuccess);
  options.faults = sim::parse_faults("cuMemAlloc take=16MiB", "test").value();
  CHECK(outcome(sim::Semantic::kFaults).second == 0);
  CHECK(outcome(sim::Semantic::kOtherTenant).second == 16u << 20);
}

}  // namespace
}  // namespace spillway::test
