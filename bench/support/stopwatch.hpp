// SPDX-License-Identifier: Apache-2.0
// The clocks of the benches: ticks cheap enough to time one call, CPU time of a thread for batches
// (other programs on the machine do not count), and what reading the ticks costs by itself.
#pragma once

#include <cstdint>
#include <vector>
#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace spillway::bench {

/// A time in ticks; differences of one thread only.
inline std::uint64_t now_ticks() {
#if defined(__x86_64__)
  unsigned int core = 0;
  return __rdtscp(&core);  // waits for the instructions before it
#else
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
#endif
}

/// CPU time that the calling thread has used, and time of day, in ns.
double thread_cpu_ns();
double wall_ns();

struct Percentiles {
  double p50_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0;
  std::size_t count = 0;
};

struct TickScale {
  double ns_per_tick = 1;
  /// Of two reads in a row: contained in every single-call time that is printed.
  Percentiles cost;
};

/// Measured against the steady clock; takes about 20 ms.
TickScale measure_ticks();

/// Sorts `ticks`.
Percentiles percentiles(std::vector<std::uint32_t>& ticks, double ns_per_tick);

/// Middle of some figures and what lies around it.
struct Spread {
  double median = 0, min = 0, max = 0;
};
Spread spread_of(std::vector<double> figures);

}  // namespace spillway::bench
