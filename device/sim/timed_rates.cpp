// SPDX-License-Identifier: Apache-2.0
// Calibration numbers become integers here, one rounding each and no sum of products, so that
// contracting compilers (-ffp-contract) change nothing.
#include "device/sim/timed_rates.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace spillway::sim {
namespace {

std::uint64_t whole_rate(double per_second) {
  return static_cast<std::uint64_t>(std::llround(std::clamp(per_second, 1.0, 1e17)));
}

}  // namespace

TimedRates timed_rates(const Calibration& c, const DeviceTiming& t) {
  TimedRates r{};
  r.h2d = whole_rate(c.h2d_bytes_per_s);
  r.d2h = whole_rate(c.d2h_bytes_per_s);
  r.h2d_duplex = std::min(r.h2d, whole_rate(c.h2d_while_d2h_bytes_per_s));
  r.d2h_duplex = std::min(r.d2h, whole_rate(t.d2h_while_h2d_bytes_per_s));
  r.h2d_pageable = whole_rate(t.h2d_pageable_bytes_per_s);
  r.d2h_pageable = whole_rate(t.d2h_pageable_bytes_per_s);
  // One device alone reaches its own rate through the same link.
  r.link_down = std::max(r.h2d, whole_rate(t.shared_link_bytes_per_s));
  r.link_up = std::max(r.d2h, whole_rate(t.shared_link_bytes_per_s));
  r.d2d = whole_rate(t.d2d_bytes_per_s);
  r.memory = whole_rate(c.memory_bytes_per_s.achieved);
  // A copy reads and writes; where the published rates disagree, alone it fills the memory.
  r.d2d_traffic = std::min(2 * r.d2d, r.memory);
  r.peer = whole_rate(c.peer_bytes_per_s);
  r.h2d_by_kernel = whole_rate(t.h2d_by_kernel_bytes_per_s);
  r.d2h_by_kernel = whole_rate(t.d2h_by_kernel_bytes_per_s);
  for (int i = 0; i < kMathModeCount; ++i)
    r.flops_per_s[static_cast<std::size_t>(i)] = c.matmul_flops_per_s(static_cast<MathMode>(i));
  r.copy_latency = static_cast<std::int64_t>(c.copy_latency_ns);
  r.d2d_latency = static_cast<std::int64_t>(t.d2d_latency_ns);
  r.memset_latency = static_cast<std::int64_t>(t.memset_latency_ns);
  r.launch_latency = static_cast<std::int64_t>(c.launch_latency_ns);
  r.kernel_start = static_cast<std::int64_t>(t.kernel_start_ns);
  r.engine = {kToDevice, kToHost, kToPeer, kLocal, kCompute};
  if (t.copy_engine_count == 2) r.engine[kToPeer] = kToHost;
  if (t.copy_engine_count == 1) r.engine[kToHost] = r.engine[kToPeer] = kToDevice;
  return r;
}

}  // namespace spillway::sim
