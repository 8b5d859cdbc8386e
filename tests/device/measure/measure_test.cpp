// SPDX-License-Identifier: Apache-2.0
// Measuring the simulated GPU gives back the calibration that it runs on: the strongest test of
// both, as neither knows of the other.
#include "device/calibration.hpp"
#include "device/context.hpp"
#include "device/measure/calibration_text.hpp"
#include "device/measure/measurements.hpp"
#include "device/sim/faults.hpp"
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

struct Simulated {
  Result<Measurements> measured = Status(Code::kInternal, "not run");
  DeviceCapabilities device;
  std::string complaints;
};

sim::Options options_of(const Calibration& card) {
  sim::Options options;
  options.mode = sim::Mode::kTimed;
  options.contents = sim::Contents::kNone;
  options.memory_bytes = card.memory_bytes;
  options.granularity_bytes = card.page_bytes;
  options.calibration = &card;
  return options;
}

/// The numbers of a device that is simulated in virtual time.
Simulated measure_simulated(const sim::Options& options) {
  Simulated out;
  auto made = sim::Simulator::create(options);
  REQUIRE(made.ok());
  sim::Simulator& simulator = *made.value();
  simulator.run([&] {
    out.measured = [&]() -> Result<Measurements> {
      const Driver& driver = simulator.driver();
      SPW_RETURN_IF_ERROR(init_driver(driver).status());
      SPW_ASSIGN_OR_RETURN(out.device, query_device(driver, 0));
      SPW_ASSIGN_OR_RETURN(const Context context, Context::retain_primary(driver, 0));
      SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context));
      MeasureOptions quick;
      quick.quick = true;
      return measure_device(driver, simulator.clock(), out.device, quick, [](const char*) {});
    }();
  });
  out.complaints = simulator.report_text();
  return out;
}

/// Every measured number within 2 % of the card's.
void check_agrees(const Measurements& measured, const Calibration& card) {
  std::map<std::string, const SourcedNumber*> expected;
  for (const SourcedNumber& one : card.numbers) expected[one.key] = &one;
  for (const Measured& one : measured.numbers()) {
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
  CHECK(measured.numbers().size() >= 60);
  CHECK(measured.observations().size() >= 30);
}

double observed(const Measurements& measured, const std::string& what) {
  for (const Observation& one : measured.observations()) {
    if (one.what == what) return one.value;
  }
  FAIL("nothing observed of: " << what);
  return 0;
}

const MeasuredOn kHere{"a simulated machine", "no driver", "2026-01-01"};

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("measuring a simulated GPU gives back its calibration within 2 %") {
    for (const std::string name : {"h100", "h200", "a100-80", "rtx4090"}) {
      CAPTURE(name);
      const auto card = load_calibration(name);
      REQUIRE(card.ok());
      const Simulated run = measure_simulated(options_of(card.value()));
      CAPTURE(run.complaints);
      REQUIRE_MESSAGE(run.measured.ok(), run.measured.status().message());
      CHECK(run.complaints.empty());
      check_agrees(run.measured.value(), card.value());
    }
  }

  TEST_CASE("what is observed on a simulated H100 is what its model claims") {
    const auto card = load_calibration("h100");
    REQUIRE(card.ok());
    const Simulated run = measure_simulated(options_of(card.value()));
    REQUIRE(run.measured.ok());
    const Measurements& m = run.measured.value();
    const auto seen = [&](const char* what) { return observed(m, what); };
    const double one = seen("two h2d copies of 64 MiB on two streams: first ends");
    CHECK(seen("two h2d copies of 64 MiB on two streams: second ends") ==
          doctest::Approx(2 * one).epsilon(0.02));
    // Pieces with a kernel in between let the small copy pass; without, it waits for all of them.
    CHECK(seen("a 4 KiB h2d copy behind 64 MiB in pieces of 8 MiB") > 1200);
    CHECK(seen("a 4 KiB h2d copy behind 64 MiB in pieces of 8 MiB with a kernel between") < 200);
    CHECK(seen("memory-bound kernel beside h2d: times longer") ==
          doctest::Approx(1 / (1 - 55.36 / 2900)).epsilon(0.005));
    CHECK(seen("memory-bound kernel beside d2d: times longer") > 1.5);
    CHECK(seen("compute-bound kernel beside h2d and d2h: times longer") ==
          doctest::Approx(1).epsilon(0.001));
    CHECK(seen("vmm.unmap while a kernel of 50 ms runs") == doctest::Approx(25.6));
  }

  TEST_CASE("a measured file loads, and a GPU simulated from it measures the same") {
    const auto card = load_calibration("h200");
    REQUIRE(card.ok());
    const Simulated first = measure_simulated(options_of(card.value()));
    REQUIRE(first.measured.ok());
    const auto text = calibration_text(first.device, first.measured.value(), kHere, &card.value());
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    const auto loaded = parse_calibration(text.value(), "measured.json");
    REQUIRE(loaded.ok());
    const Calibration& file = loaded.value();
    CHECK(file.kind == "measured");
    CHECK(file.name == "h200");
    REQUIRE(file.measured_on.has_value());
    CHECK(file.measured_on->machine == kHere.machine);
    CHECK(file.memory_bytes == card.value().memory_bytes);
    CHECK(file.page_bytes == card.value().page_bytes);
    std::map<std::string, const SourcedNumber*> before;
    for (const SourcedNumber& one : card.value().numbers) before[one.key] = &one;
    std::size_t measured = 0;
    for (const SourcedNumber& one : file.numbers) {
      CAPTURE(one.key);
      if (one.kind == "measured") {
        CHECK(one.source.rfind("spillway calibrate: ", 0) == 0);
        ++measured;
      } else {
        REQUIRE(before.count(one.key) == 1);  // not measured: as published, source and all
        CHECK(one.source == before[one.key]->source);
        CHECK(one.kind == before[one.key]->kind);
      }
    }
    CHECK(measured == first.measured.value().numbers().size());
    const Simulated second = measure_simulated(options_of(file));
    REQUIRE(second.measured.ok());
    check_agrees(second.measured.value(), file);
  }

  TEST_CASE("a GPU without a published file gets one, assumed where nothing was measured") {
    const auto card = load_calibration("a100-80");
    REQUIRE(card.ok());
    const Simulated run = measure_simulated(options_of(card.value()));
    REQUIRE(run.measured.ok());
    DeviceCapabilities device = run.device;
    device.name = "NVIDIA Future 9000 (Ti)";
    const auto text = calibration_text(device, run.measured.value(), kHere, nullptr);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    const auto file = parse_calibration(text.value(), "measured.json");
    REQUIRE(file.ok());
    CHECK(file.value().name == "nvidia-future-9000-ti");
    CHECK(file.value().title == "NVIDIA Future 9000 (Ti)");
    for (const SourcedNumber& one : file.value().numbers) {
      CAPTURE(one.key);
      CHECK((one.kind == "measured" || one.kind == "assumed"));
    }
  }

  TEST_CASE("a rate measured above its data sheet raises the peak and says so") {
    const auto card = load_calibration("h200");
    REQUIRE(card.ok());
    Calibration slow = card.value();
    for (SourcedNumber& one : slow.numbers) {
      if (one.key == "memory_bandwidth.peak") one.value = 4100;
      if (one.key == "memory_bandwidth.achieved") one.value = 4000;
    }
    const Simulated run = measure_simulated(options_of(card.value()));
    REQUIRE(run.measured.ok());
    Measurements more = run.measured.value();
    more.number("memory_bandwidth.achieved", 4200, "GB/s", "a test");
    const auto text = calibration_text(run.device, more, kHere, &slow);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    CHECK(text.value().find("measured above the data sheet") != std::string::npos);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("a call that fails ends the measurement with its name and leaves nothing behind") {
    const auto card = load_calibration("h200");
    REQUIRE(card.ok());
    int failed = 0;
    for (const std::string call : {"cuMemAlloc",
                                   "cuMemHostAlloc",
                                   "cuMemCreate",
                                   "cuMemMap",
                                   "cuMemSetAccess",
                                   "cuMemAddressReserve",
                                   "cuEventCreate",
                                   "cuStreamCreateWithPriority",
                                   "cuMemPoolCreate",
                                   "cuMemAllocFromPoolAsync",
                                   "cuMemHostRegister",
                                   "cuModuleLoadData",
                                   "cuLaunchKernel"}) {
      for (const int nth : {1, 7}) {
        CAPTURE(call);
        CAPTURE(nth);
        sim::Options options = options_of(card.value());
        const auto rules = sim::parse_faults(
            call + " nth=" + std::to_string(nth) + " error=CUDA_ERROR_OUT_OF_MEMORY", "a test");
        REQUIRE(rules.ok());
        options.faults = rules.value();
        const Simulated run = measure_simulated(options);
        CAPTURE(run.complaints);
        CHECK(run.complaints.empty());
        if (run.measured.ok()) continue;  // not called so often, or a kind of memory left out
        ++failed;
        CHECK(run.measured.status().code() == Code::kOutOfMemory);
        CHECK(run.measured.status().message().find(call) != std::string::npos);
      }
    }
    CHECK(failed >= 16);
  }

  TEST_CASE("a GPU without virtual memory is refused in one line") {
    const auto card = load_calibration("h200");
    REQUIRE(card.ok());
    sim::Options options = options_of(card.value());
    options.vmm_supported = false;
    const Simulated run = measure_simulated(options);
    REQUIRE_FALSE(run.measured.ok());
    CHECK(run.measured.status().code() == Code::kUnsupported);
    CHECK(run.measured.status().message().find('\n') == std::string::npos);
  }

  TEST_CASE("a machine name that is no text makes no file") {
    const auto card = load_calibration("h200");
    REQUIRE(card.ok());
    const auto text = calibration_text({}, {}, {"\xff\xfe", "driver", "date"}, &card.value());
    CHECK_FALSE(text.ok());
    const auto lines = calibration_text({}, {}, {"two\nlines", "driver", "date"}, &card.value());
    REQUIRE_FALSE(lines.ok());
    CHECK(lines.status().message().find("machine") != std::string::npos);
  }
}
