// SPDX-License-Identifier: Apache-2.0
// Small programs with one missing or misplaced edge, each with a repaired twin that differs in that
// edge only. The simulated GPU has to report the bug in every schedule, and must find nothing in
// the twin in any of a thousand.
#pragma once

#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

namespace spillway::test {

inline constexpr std::size_t kBugBytes = 256;

/// A lab that knows whether memory has bytes in this run, and announces what the host touches as
/// the product does.
class BugLab : public Lab {
 public:
  BugLab(sim::Simulator& simulator, bool has_bytes) : Lab(simulator), has_bytes_(has_bytes) {}

  [[nodiscard]] bool has_bytes() const { return has_bytes_; }

  void put(std::uint8_t* to, std::size_t n, std::uint8_t value) {
    observer().host_writes(to, n);
    touch(to, n, value);
  }
  /// The same without telling anybody: only page protection can see it.
  void touch(std::uint8_t* to, std::size_t n, std::uint8_t value) const {
    if (has_bytes_) std::memset(to, value, n);
  }
  [[nodiscard]] bool holds(const std::uint8_t* from, std::size_t n, std::uint8_t value) {
    observer().host_reads(from, n);
    return looks(from, n, value);
  }
  [[nodiscard]] bool looks(const std::uint8_t* from, std::size_t n, std::uint8_t value) const {
    if (!has_bytes_) return true;
    for (std::size_t i = 0; i < n; ++i)
      if (from[i] != value) return false;
    return true;
  }
  /// Waits for the device and looks.
  [[nodiscard]] bool device_holds(cu::DevicePtr from, std::size_t n, std::uint8_t value) {
    std::array<std::uint8_t, 4096> bytes{};
    note(cu.cuCtxSynchronize());
    note(cu.cuMemcpyDtoH(bytes.data(), from, n));
    return looks(bytes.data(), n, value);
  }
  /// A physical handle of one page mapped at a range of its own, with access for the device.
  cu::AllocationHandle handle() {
    cu::AllocationProp prop{};
    prop.type = cu::AllocationType::kPinned;
    prop.location = {cu::LocationType::kDevice, 0};
    cu::AllocationHandle made{};
    note(cu.cuMemCreate(&made, kPageBytes, &prop, 0));
    return made;
  }
  cu::DevicePtr reserve() {
    cu::DevicePtr made = 0;
    note(cu.cuMemAddressReserve(&made, kPageBytes, 0, 0, 0));
    return made;
  }
  void map(cu::DevicePtr at, cu::AllocationHandle handle) {
    note(cu.cuMemMap(at, kPageBytes, 0, handle, 0));
    const cu::AccessDesc access{{cu::LocationType::kDevice, 0}, cu::AccessFlags::kReadWrite};
    note(cu.cuMemSetAccess(at, kPageBytes, &access, 1));
  }
  void unmap(cu::DevicePtr at) { note(cu.cuMemUnmap(at, kPageBytes)); }
  void release(cu::AllocationHandle handle) { note(cu.cuMemRelease(handle)); }
  void give_back(cu::DevicePtr reserved) { note(cu.cuMemAddressFree(reserved, kPageBytes)); }

  static constexpr std::size_t kPageBytes = 4096;

 private:
  bool has_bytes_;
};

struct PlantedBug {
  sim::ReportKind kind = sim::ReportKind::kRace;
  // The report names both sides.
  const char* first = "";
  const char* second = "";
  // Page protection sees it, clocks do not: no report in virtual time.
  bool only_by_pages = false;
  // It depends on which thread comes first: then some of 200 seeds.
  bool only_some_schedules = false;
  // Drivers have been seen to wait in the call that is at fault.
  bool hidden_when_observed = false;
};

/// Makes the bug, or its repaired twin; whether the bytes are right at the end.
using BugProgram = bool (*)(BugLab& lab, bool repaired);

inline sim::Simulator& bug_simulator(sim::Contents contents) {
  const auto make = [](sim::Contents c) {
    sim::Options options = lab_options();
    options.contents = c;
    auto made = sim::Simulator::create(options);
    REQUIRE(made.ok());
    return std::move(made.value());
  };
  static const std::unique_ptr<sim::Simulator> kWithBytes = make(sim::Contents::kFull);
  static const std::unique_ptr<sim::Simulator> kWithout = make(sim::Contents::kNone);
  return contents == sim::Contents::kFull ? *kWithBytes : *kWithout;
}

inline bool reports_bug(const sim::Simulator& simulator, const PlantedBug& bug) {
  for (const sim::Report& report : simulator.reports())
    if (report.kind == bug.kind && report.text.find(bug.first) != std::string::npos &&
        report.text.find(bug.second) != std::string::npos)
      return true;
  return false;
}

/// Runs the buggy program once.
inline sim::Simulator& run_bug(const sim::Options& options, BugProgram program) {
  sim::Simulator& simulator = bug_simulator(options.contents);
  REQUIRE(simulator.reset(options).ok());
  simulator.run([&] {
    BugLab lab(simulator, options.contents == sim::Contents::kFull);
    static_cast<void>(program(lab, false));
  });
  return simulator;
}

/// One schedule of each kind.
inline std::vector<sim::Options> bug_schedules(sim::Strictness strictness) {
  std::vector<sim::Options> all;
  for (const sim::Mode mode : {sim::Mode::kEager,
                               sim::Mode::kLazy,
                               sim::Mode::kRandom,
                               sim::Mode::kPct,
                               sim::Mode::kTimed})
    all.push_back(lab_options(mode, 1));
  all.push_back(lab_options(sim::Mode::kTimed));
  all.back().contents = sim::Contents::kNone;
  for (sim::Options& options : all) options.strictness = strictness;
  return all;
}

inline void check_bug_is_reported(const PlantedBug& bug,
                                  BugProgram program,
                                  sim::Strictness strictness) {
  const bool hidden = bug.hidden_when_observed && strictness == sim::Strictness::kObserved;
  for (const sim::Options& options : bug_schedules(strictness)) {
    if (bug.only_by_pages && options.mode == sim::Mode::kTimed) continue;
    if (bug.only_some_schedules) continue;
    const sim::Simulator& simulator = run_bug(options, program);
    CAPTURE(std::string(sim::name_of(options.mode)));
    CAPTURE(static_cast<int>(options.contents));
    CAPTURE(static_cast<int>(strictness));
    CAPTURE(simulator.report_text());
    if (hidden)
      CHECK(simulator.reports().empty());
    else
      CHECK(reports_bug(simulator, bug));
  }
  if (!bug.only_some_schedules) return;
  for (const sim::Mode mode : {sim::Mode::kRandom, sim::Mode::kPct}) {
    bool found = false;
    for (std::uint64_t seed = 0; seed < 200 && !found; ++seed) {
      sim::Options options = lab_options(mode, seed);
      options.strictness = strictness;
      found = reports_bug(run_bug(options, program), bug);
    }
    CAPTURE(std::string(sim::name_of(mode)));
    CHECK(found);
  }
}

inline void check_twin_is_silent(BugProgram program) {
  const auto explore = [&](sim::Options options, std::uint64_t count) {
    sim::Simulator& simulator = bug_simulator(options.contents);
    const bool has_bytes = options.contents == sim::Contents::kFull;
    bool right = true;
    std::uint64_t runs = 0;
    std::uint64_t wrong_run = 0;
    cu::Result failure = cu::Result::kSuccess;
    const sim::Exploration found =
        sim::explore_seeds(simulator, options, 0, count, [&](sim::Simulator& s) {
          BugLab lab(s, has_bytes);
          const bool is_right = program(lab, true) || !has_bytes;
          if (right && !is_right) wrong_run = runs;
          right = right && is_right;
          ++runs;
          if (failure == cu::Result::kSuccess) failure = lab.failure;
        });
    CAPTURE(std::string(sim::name_of(options.mode)));
    CAPTURE(static_cast<int>(options.contents));
    CAPTURE(wrong_run);
    CHECK_MESSAGE(!found.failed, found.text);
    CHECK(right);
    CHECK(failure == cu::Result::kSuccess);
  };
  explore(lab_options(sim::Mode::kRandom), 1000);
  explore(lab_options(sim::Mode::kPct), 50);
  for (const sim::Strictness strictness :
       {sim::Strictness::kDocumented, sim::Strictness::kObserved}) {
    for (const sim::Options& options : bug_schedules(strictness)) explore(options, 1);
  }
}

inline void check_planted_bug(const PlantedBug& bug, BugProgram program) {
  check_bug_is_reported(bug, program, sim::Strictness::kDocumented);
  check_bug_is_reported(bug, program, sim::Strictness::kObserved);
  check_twin_is_silent(program);
}

}  // namespace spillway::test
