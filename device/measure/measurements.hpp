// SPDX-License-Identifier: Apache-2.0
// What was measured on one device: numbers of a calibration file by key, and observations beyond
// them. Each group of measurements adds its own.
#pragma once

#include "device/measure/gauge.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace spillway::measure {

/// One number for the file: key and unit as docs/calibration.md has them, and how it was measured.
struct Measured {
  std::string key;  // "vmm.create.fixed"
  double value = 0;
  std::string unit;
  std::string how;
};

/// What no key holds: sweeps, answers to questions about the driver. For people.
struct Observation {
  std::string what;
  double value = 0;
  std::string unit;
};

struct MeasureOptions {
  bool quick = false;  // smaller buffers and fewer samples: seconds instead of minutes
};

class Measurements {
 public:
  void number(std::string key, double value, std::string unit, std::string how) {
    numbers_.push_back({std::move(key), value, std::move(unit), std::move(how)});
  }
  void saw(std::string what, double value, std::string unit) {
    observations_.push_back({std::move(what), value, std::move(unit)});
  }
  /// The number of that key so far; 0 when there is none.
  [[nodiscard]] double value_of(const std::string& key) const;

  [[nodiscard]] const std::vector<Measured>& numbers() const { return numbers_; }
  [[nodiscard]] const std::vector<Observation>& observations() const { return observations_; }

 private:
  std::vector<Measured> numbers_;
  std::vector<Observation> observations_;
};

// The groups, in the order in which they build on each other.

/// Attributes: memory, page, multiprocessors, copy engines, compute capability.
Status measure_attributes(Gauge& gauge, Measurements* out);
/// What calls cost the host.
Status measure_calls(Gauge& gauge, const MeasureOptions& options, Measurements* out);
/// Launches, device memory bandwidth and fp32 rate.
Status measure_kernels(Gauge& gauge, const MeasureOptions& options, Measurements* out);
/// Link and device-local copies: rates, latencies, both directions, pageable, by kernel.
Status measure_copies(Gauge& gauge, const MeasureOptions& options, Measurements* out);
/// Who waits for whom: order of copies, kernels beside copies.
Status measure_contention(Gauge& gauge, const MeasureOptions& options, Measurements* out);
/// Virtual memory, allocation, page-locking.
Status measure_memory(Gauge& gauge, const MeasureOptions& options, Measurements* out);

using Progress = std::function<void(const char* what)>;

/// All groups on the device of the current context. A driver error ends it.
Result<Measurements> measure_device(const Driver& driver,
                                    const Clock& clock,
                                    const DeviceCapabilities& device,
                                    const MeasureOptions& options,
                                    const Progress& progress);

}  // namespace spillway::measure
