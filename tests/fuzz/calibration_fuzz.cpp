// SPDX-License-Identifier: Apache-2.0
// Any bytes as a calibration file: units, ranges, missing fields.
#include "device/calibration.hpp"
#include "tests/support/checking_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using spillway::test::CheckingSink;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto gpu = spillway::parse_calibration(bytes, "fuzz");
  if (!gpu.ok()) {
    const std::string& text = gpu.status().message();
    CheckingSink::require(gpu.status().code() == spillway::Code::kBadInput, "it is bad input");
    CheckingSink::require(text.rfind("fuzz: ", 0) == 0, "an error names its source");
    CheckingSink::require(CheckingSink::is_utf8_line(text), "an error is one line of UTF-8");
    return 0;
  }
  CheckingSink::require(gpu.value().memory_bytes > 0 && gpu.value().page_bytes > 0, "sizes");
  CheckingSink::require(gpu.value().vector_flops_per_s() > 0 && gpu.value().h2d_bytes_per_s > 0,
                        "rates are above zero");
  if (gpu.value().timing.has_value()) {
    const spillway::DeviceTiming& timing = *gpu.value().timing;
    CheckingSink::require(timing.copy_engine_count > 0 && timing.launch_queue_count > 0, "counts");
    CheckingSink::require(timing.d2d_bytes_per_s > 0 && timing.shared_link_bytes_per_s > 0,
                          "timed rates are above zero");
    CheckingSink::require(timing.vmm.create.ns(~std::uint64_t{0}) <= std::uint64_t{1} << 63,
                          "costs do not wrap");
  }
  return 0;
}
