// SPDX-License-Identifier: Apache-2.0
// The conformance suite on the simulated GPU, in every mode of its scheduler. Cases misuse the
// driver on purpose, so reports of misuse are theirs; a race, a leak or a bad access is not: each
// case is a correct program whatever the schedule.
#include "device/kernel_registry.hpp"
#include "device/sim/simulator.hpp"
#include "tests/device/conformance/cases.hpp"
#include "tests/device/conformance/kernels.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace spillway::conformance {
namespace {

using Words = std::uint32_t*;

void fill_body(const LaunchShape& /*shape*/, Words out, std::uint32_t value, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) out[i] = value;
}
void fill_accesses(AccessList& list,
                   const LaunchShape& /*shape*/,
                   Words out,
                   std::uint32_t /*value*/,
                   std::uint64_t n) {
  list.writes(out, n * 4);
}
KernelCost fill_cost(const LaunchShape& /*shape*/,
                     Words /*out*/,
                     std::uint32_t /*value*/,
                     std::uint64_t n) {
  return {0, n * 4};
}

void copy_body(const LaunchShape& /*shape*/, Words to, Words from, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) to[i] = from[i];
}
void copy_accesses(
    AccessList& list, const LaunchShape& /*shape*/, Words to, Words from, std::uint64_t n) {
  list.reads(from, n * 4);
  list.writes(to, n * 4);
}
KernelCost copy_cost(const LaunchShape& /*shape*/, Words /*to*/, Words /*from*/, std::uint64_t n) {
  return {0, n * 8};
}

void increment_body(const LaunchShape& /*shape*/, Words data, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) ++data[i];
}
void increment_accesses(AccessList& list,
                        const LaunchShape& /*shape*/,
                        Words data,
                        std::uint64_t n) {
  list.updates(data, n * 4);
}
KernelCost increment_cost(const LaunchShape& /*shape*/, Words /*data*/, std::uint64_t n) {
  return {static_cast<double>(n), n * 8};
}

void spin_body(const LaunchShape& /*shape*/, std::uint64_t /*cycles*/) {}
void spin_accesses(AccessList& /*list*/, const LaunchShape& /*shape*/, std::uint64_t /*cycles*/) {}
KernelCost spin_cost(const LaunchShape& /*shape*/, std::uint64_t cycles) {
  return {0, 0, static_cast<std::int64_t>(cycles / 2)};  // of a clock of 2 GHz
}

[[maybe_unused]] const bool kRegistered = [] {
  register_kernel(make_kernel<fill_body, fill_accesses, fill_cost>(kFillName));
  register_kernel(make_kernel<copy_body, copy_accesses, copy_cost>(kCopyName));
  register_kernel(make_kernel<increment_body, increment_accesses, increment_cost>(kIncrementName));
  register_kernel(make_kernel<spin_body, spin_accesses, spin_cost>(kSpinName));
  return true;
}();

bool is_the_cases_fault(sim::ReportKind kind) {
  return kind != sim::ReportKind::kMisuse && kind != sim::ReportKind::kCapture;
}

void run_simulated(const char* group, int devices = 1) {
  std::unique_ptr<sim::Simulator> simulator;
  struct Run {
    sim::Mode mode;
    std::uint64_t seed;
  };
  std::vector<Run> runs = {{sim::Mode::kEager, 0}, {sim::Mode::kLazy, 0}, {sim::Mode::kTimed, 0}};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    runs.push_back({sim::Mode::kRandom, seed});
    runs.push_back({sim::Mode::kPct, seed});
  }
  for (const Run& run : runs) {
    for (const Case& which : cases()) {
      if (std::strcmp(which.group, group) != 0) continue;
      sim::Options options;
      options.mode = run.mode;
      options.seed = run.seed;
      options.devices = devices;
      if (simulator == nullptr) {
        auto made = sim::Simulator::create(options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        simulator = std::move(made).value();
      } else {
        REQUIRE(simulator->reset(options).ok());
      }
      const std::string name = std::string(sim::name_of(run.mode)) + ", seed " +
                               std::to_string(run.seed) + ", " + which.group + ": " + which.text;
      INFO(name);
      const Provider provider{&simulator->driver(), nullptr};
      simulator->run([&] { CHECK(run_case(which, provider)); });
      for (const sim::Report& report : simulator->reports()) {
        if (!is_the_cases_fault(report.kind)) continue;
        FAIL_CHECK(report.text);
      }
    }
  }
}

}  // namespace
}  // namespace spillway::conformance

using spillway::conformance::run_simulated;

TEST_SUITE("sim") {
  TEST_CASE("the simulated GPU keeps the rules of streams") { run_simulated("streams"); }
  TEST_CASE("the simulated GPU keeps the rules of events") { run_simulated("events"); }
  TEST_CASE("the simulated GPU keeps the rules of memory") { run_simulated("memory"); }
  TEST_CASE("the simulated GPU keeps the rules of host memory") { run_simulated("host memory"); }
  TEST_CASE("the simulated GPU keeps the rules of pools") { run_simulated("pools"); }
  TEST_CASE("the simulated GPU keeps the rules of virtual memory") { run_simulated("vmm"); }
  TEST_CASE("the simulated GPU keeps the rules of capture") { run_simulated("capture"); }
  TEST_CASE("the simulated GPU keeps the rules of contexts") { run_simulated("contexts"); }
  TEST_CASE("the simulated GPU keeps the rules of launches") { run_simulated("launch"); }
  TEST_CASE("the simulated GPU keeps the rules of errors") { run_simulated("errors"); }
  TEST_CASE("the simulated GPU keeps the rules of look-ups") { run_simulated("look-up"); }
  TEST_CASE("the simulated GPU keeps the rules of peers") {
    run_simulated("peer");
    run_simulated("peer", 2);
  }
  TEST_CASE("the simulated GPU keeps the rules of sharing between processes") {
    run_simulated("ipc");
  }
}
