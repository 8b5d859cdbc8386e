// SPDX-License-Identifier: Apache-2.0
#include "device/measure/measurements.hpp"

#include "device/driver_error.hpp"
#include "device/mapping.hpp"

namespace spillway::measure {

double Measurements::value_of(const std::string& key) const {
  for (const Measured& one : numbers_) {
    if (one.key == key) return one.value;
  }
  return 0;
}

Status measure_attributes(Gauge& gauge, Measurements* out) {
  const DeviceCapabilities& device = gauge.device();
  SPW_ASSIGN_OR_RETURN(
      const std::size_t page,
      allocation_granularity(gauge.driver(), device_allocation_prop(device.device)));
  const auto count = [](auto value) { return static_cast<double>(value); };
  out->number("memory", count(device.memory_bytes), "B", "cuDeviceTotalMem");
  out->number("page", count(page), "B", "cuMemGetAllocationGranularity, minimum");
  out->number("multiprocessors", device.multiprocessors, "SMs", "device attribute");
  out->number("copy_engines", device.copy_engines, "engines", "device attribute");
  out->number("compute_capability",
              device.compute_major + device.compute_minor / 10.0,
              "major.minor",
              "device attribute");
  return {};
}

Result<Measurements> measure_device(const Driver& driver,
                                    const Clock& clock,
                                    const DeviceCapabilities& device,
                                    const MeasureOptions& options,
                                    const Progress& progress) {
  SPW_RETURN_IF_ERROR(require_virtual_memory(device));
  SPW_ASSIGN_OR_RETURN(Gauge gauge, Gauge::create(driver, clock, device));
  Measurements out;
  progress("attributes");
  SPW_RETURN_IF_ERROR(measure_attributes(gauge, &out));
  progress("calls");
  SPW_RETURN_IF_ERROR(measure_calls(gauge, options, &out));
  progress("kernels");
  SPW_RETURN_IF_ERROR(measure_kernels(gauge, options, &out));
  progress("copies");
  SPW_RETURN_IF_ERROR(measure_copies(gauge, options, &out));
  progress("contention");
  SPW_RETURN_IF_ERROR(measure_contention(gauge, options, &out));
  progress("memory");
  SPW_RETURN_IF_ERROR(measure_memory(gauge, options, &out));
  SPW_RETURN_IF_ERROR(gauge.settle());
  return out;
}

}  // namespace spillway::measure
