// SPDX-License-Identifier: Apache-2.0
// Measuring the simulated GPU gives back the calibration that it runs on: the strongest test of
// both, as neither knows of the other.
#include "device/calibration.hpp"
#include "device/context.hpp"
#include "device/measure/measurements.hpp"
#include "device/sim/simulator.hpp"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>

using namespace spillway;
using namespace spillway::measure;

namespace {

/// To bytes, bytes per second, flops per second, nanoseconds, counts.
double factor_of(const std::string& unit) {
  static const std::map<std::string, double> kFactors = {{"B", 1},
                                                         {"MiB", 1048576},
                                                         {"GiB", 1073741824},
                                                         {"GB/s", 1e9},
                                                         {"TB/s", 1e12},
                                                         {"us", 1e3},
                                                         {"ms", 1e6},
                                                         {"us/GiB", 1e3},
                                                         {"ms/GiB", 1e6},
                                                         {"TFLOPS", 1e12},
                                                         {"SMs", 1},
                                                         {"engines", 1},
                                                         {"launches", 1},
                                                         {"major.minor", 1}};
  const auto found = kFactors.find(unit);
  REQUIRE(found != kFactors.end());
  return found->second;
}

/// The numbers of a device of `card`, simulated in virtual time.
Result<Measurements> measure_simulated(const Calibration& card, std::string* complaints) {
  sim::Options options;
  options.mode = sim::Mode::kTimed;
  options.contents = sim::Contents::kNone;
  options.memory_bytes = card.memory_bytes;
  options.granularity_bytes = card.page_bytes;
  options.calibration = &card;
  auto made = sim::Simulator::create(options);
  if (!made.ok()) return made.status();
  sim::Simulator& simulator = *made.value();
  Result<Measurements> out = Status(Code::kInternal, "not run");
  simulator.run([&] {
    out = [&]() -> Result<Measurements> {
      const Driver& driver = simulator.driver();
      SPW_RETURN_IF_ERROR(init_driver(driver).status());
      SPW_ASSIGN_OR_RETURN(const DeviceCapabilities device, query_device(driver, 0));
      SPW_ASSIGN_OR_RETURN(const Context context, Context::retain_primary(driver, 0));
      SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context));
      MeasureOptions quick;
      quick.quick = true;
      return measure_device(driver, simulator.clock(), device, quick, [](const char*) {});
    }();
  });
  *complaints = simulator.report_text();
  return out;
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("measuring a simulated GPU gives back its calibration within 2 %") {
    for (const std::string name : {"h100", "h200", "a100-80", "rtx4090"}) {
      CAPTURE(name);
      const auto card = load_calibration(name);
      REQUIRE(card.ok());
      std::string complaints;
      const auto measured = measure_simulated(card.value(), &complaints);
      CAPTURE(complaints);
      REQUIRE_MESSAGE(measured.ok(), measured.status().message());
      CHECK(complaints.empty());
      std::map<std::string, const SourcedNumber*> expected;
      for (const SourcedNumber& one : card.value().numbers) expected[one.key] = &one;
      for (const Measured& one : measured.value().numbers()) {
        CAPTURE(one.key);
        CAPTURE(one.value);
        CAPTURE(one.unit);
        REQUIRE(expected.count(one.key) == 1);
        const SourcedNumber& number = *expected[one.key];
        CAPTURE(number.value);
        CAPTURE(number.unit);
        CHECK_FALSE(one.how.empty());
        const double found = one.value * factor_of(one.unit);
        const double wanted = number.value * factor_of(number.unit);
        if (wanted == 0) {
          CHECK(found < 1000);  // 1 us a GiB
        } else {
          CHECK(found > wanted * 0.98);
          CHECK(found < wanted * 1.02);
        }
      }
      CHECK(measured.value().numbers().size() >= 60);
      CHECK(measured.value().observations().size() >= 30);
    }
  }
}
