// SPDX-License-Identifier: Apache-2.0
// A calibration as the timed model uses it: whole bytes per second and nanoseconds, and which copy
// engine serves which direction.
#pragma once

#include "device/calibration.hpp"

#include <array>
#include <cstdint>

namespace spillway::sim {

/// Queues of a device; the first four belong to engines that serve one operation at a time.
enum QueueId : std::uint32_t { kToDevice, kToHost, kToPeer, kLocal, kCompute, kQueueCount };

/// Rates in bytes per second, times in nanoseconds.
struct TimedRates {
  std::uint64_t h2d, d2h;                    // alone
  std::uint64_t h2d_duplex, d2h_duplex;      // while the other direction moves bytes
  std::uint64_t h2d_pageable, d2h_pageable;  // from and to pageable memory
  std::uint64_t link_down, link_up;          // of all devices under one root
  std::uint64_t d2d;                         // bytes copied inside the device
  std::uint64_t d2d_traffic;                 // device memory that takes, at full rate
  std::uint64_t memory, peer;
  std::uint64_t h2d_by_kernel, d2h_by_kernel;
  std::array<double, kMathModeCount> flops_per_s;
  std::int64_t copy_latency, d2d_latency, memset_latency, launch_latency, kernel_start;
  std::array<QueueId, kQueueCount> engine;  // by direction: the queue that serves it
};

TimedRates timed_rates(const Calibration& calibration, const DeviceTiming& timing);

}  // namespace spillway::sim
