// SPDX-License-Identifier: Apache-2.0
// See stopwatch.hpp.
#include "bench/support/stopwatch.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <ctime>

namespace spillway::bench {

double thread_cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

double wall_ns() {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

TickScale measure_ticks() {
  TickScale scale;
  const double begin_ns = wall_ns();
  const std::uint64_t begin = now_ticks();
  while (wall_ns() - begin_ns < 20e6) {
  }
  scale.ns_per_tick = (wall_ns() - begin_ns) / static_cast<double>(now_ticks() - begin);
  std::vector<std::uint32_t> ticks(100000);
  for (std::uint32_t& tick : ticks) {
    const std::uint64_t first = now_ticks();
    tick = static_cast<std::uint32_t>(now_ticks() - first);
  }
  scale.cost = percentiles(ticks, scale.ns_per_tick);
  return scale;
}

Percentiles percentiles(std::vector<std::uint32_t>& ticks, double ns_per_tick) {
  Percentiles result;
  result.count = ticks.size();
  if (ticks.empty()) return result;
  std::sort(ticks.begin(), ticks.end());
  const auto at = [&](double share) {
    const auto index = static_cast<std::size_t>(share * static_cast<double>(ticks.size()));
    return static_cast<double>(ticks[std::min(index, ticks.size() - 1)]) * ns_per_tick;
  };
  result.p50_ns = at(0.5);
  result.p99_ns = at(0.99);
  result.p999_ns = at(0.999);
  result.max_ns = static_cast<double>(ticks.back()) * ns_per_tick;
  return result;
}

Spread spread_of(std::vector<double> figures) {
  Spread spread;
  if (figures.empty()) return spread;
  std::sort(figures.begin(), figures.end());
  const std::size_t middle = figures.size() / 2;
  spread.median =
      figures.size() % 2 == 1 ? figures[middle] : (figures[middle - 1] + figures[middle]) / 2;
  spread.min = figures.front();
  spread.max = figures.back();
  return spread;
}

}  // namespace spillway::bench
