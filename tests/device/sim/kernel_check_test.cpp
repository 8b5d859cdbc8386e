// SPDX-License-Identifier: Apache-2.0
// Check mode: a kernel that does not do what it declares is told, whatever bytes happen to be
// there.
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>

namespace spillway::test {
namespace {

using sim::ReportKind;
using sim::Simulator;

constexpr std::uint64_t kPage = 4096;

// One body with a fault of choice: to[i] = from[i] + 1 for n bytes.
enum Fault : std::uint32_t {
  kRight,
  kReadsOnePast,      // the byte behind what it declares as read
  kWritesOnePast,     // the byte behind what it declares as written
  kWritesItsInput,    // changes what it declares as read
  kSkipsOne,          // leaves a byte that it declares as written
  kReadsItsOutput,    // adds to what it declares as written only
  kReadsAnotherPage,  // a page that it does not declare at all
  kWritesAnotherPage,
};

void body(const LaunchShape&,
          std::uint8_t* to,
          std::uint8_t* from,
          std::uint32_t fault,
          std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    if (fault == kSkipsOne && i == 3) continue;
    const std::uint8_t in = from[i];
    to[i] = static_cast<std::uint8_t>(fault == kReadsItsOutput ? to[i] + in : in + 1);
  }
  if (fault == kReadsOnePast) to[0] = static_cast<std::uint8_t>(to[0] ^ from[n]);
  if (fault == kWritesOnePast) to[n] = 1;
  if (fault == kWritesItsInput) from[0] = static_cast<std::uint8_t>(~from[0]);
  if (fault == kReadsAnotherPage) to[0] = static_cast<std::uint8_t>(to[0] ^ from[2 * kPage]);
  if (fault == kWritesAnotherPage) to[2 * kPage] = 1;
}
void accesses(AccessList& a,
              const LaunchShape&,
              std::uint8_t* to,
              std::uint8_t* from,
              std::uint32_t,
              std::uint64_t n) {
  a.reads(from, n);
  a.writes(to, n);
}
KernelCost cost(const LaunchShape&, std::uint8_t*, std::uint8_t*, std::uint32_t, std::uint64_t n) {
  return {0, 2 * n};
}

struct Outcome {
  bool undeclared = false;
  std::string text;
  std::uint8_t first = 0;
};

Outcome run(Simulator& sim, Fault fault, bool check) {
  register_kernel(make_kernel<body, accesses, cost>("maybe_wrong"));
  sim::Options options = lab_options(sim::Mode::kRandom, 3);
  options.check_kernels = check;
  REQUIRE(sim.reset(options).ok());
  Outcome outcome;
  sim.run([&] {
    Lab lab(sim);
    const cu::Stream s = lab.stream();
    cu::DevicePtr from = lab.device(4 * kPage);
    cu::DevicePtr to = lab.device(4 * kPage);
    std::uint8_t* host = lab.pinned(kPage);
    lab.fill(s, from, 5, 4 * kPage);
    lab.fill(s, to, 9, 4 * kPage);
    cu::Module module = nullptr;
    cu::Function function = nullptr;
    lab.note(lab.cu.cuModuleLoadData(&module, ".version 7.0\n"));
    lab.note(lab.cu.cuModuleGetFunction(&function, module, "maybe_wrong"));
    std::uint32_t which = fault;
    std::uint64_t n = 1000;  // not a whole page
    void* parameters[] = {&to, &from, &which, &n};
    lab.note(lab.cu.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, s, parameters, nullptr));
    lab.d2h(s, host, to, kPage);
    lab.sync(s);
    outcome.first = host[0];
    lab.note(lab.cu.cuModuleUnload(module));
    CHECK(lab.failure == cu::Result::kSuccess);
  });
  outcome.undeclared = sim.has_report(ReportKind::kUndeclared);
  outcome.text = sim.report_text();
  return outcome;
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("check mode finds a kernel that reads or writes what it does not declare") {
    auto made = Simulator::create(lab_options());
    REQUIRE(made.ok());
    Simulator& sim = *made.value();

    const Outcome right = run(sim, kRight, true);
    CHECK(right.text == "");
    CHECK(right.first == 6);

    for (const Fault fault : {kReadsOnePast,
                              kWritesOnePast,
                              kWritesItsInput,
                              kSkipsOne,
                              kReadsItsOutput,
                              kReadsAnotherPage,
                              kWritesAnotherPage}) {
      CAPTURE(static_cast<int>(fault));
      const Outcome wrong = run(sim, fault, true);
      CHECK(wrong.undeclared);
      CHECK(wrong.text.find("maybe_wrong") != std::string::npos);
    }
  }

  TEST_CASE("without check mode the same kernels run unseen") {
    auto made = Simulator::create(lab_options());
    REQUIRE(made.ok());
    for (const Fault fault : {kRight, kReadsOnePast, kSkipsOne, kWritesAnotherPage}) {
      CAPTURE(static_cast<int>(fault));
      CHECK_FALSE(run(*made.value(), fault, false).undeclared);
    }
  }

  TEST_CASE("the lab's own kernels do what they declare") {
    auto made = Simulator::create(lab_options());
    REQUIRE(made.ok());
    sim::Options options = lab_options();
    options.check_kernels = true;
    REQUIRE(made.value()->reset(options).ok());
    made.value()->run([&] {
      Lab lab(*made.value());
      const cu::Stream s = lab.stream();
      const cu::DevicePtr x = lab.device(3 * kPage);
      lab.fill(s, x + 10, 1, 5000);
      lab.copy(s, x + 6000, x + 10, 4000);
      lab.add(s, x + 6000, 2, 100);
      lab.read(s, x, 3 * kPage);
      lab.cu.cuCtxSynchronize();
    });
    CHECK(made.value()->report_text() == "");
  }
}

}  // namespace spillway::test
