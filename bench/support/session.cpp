// SPDX-License-Identifier: Apache-2.0
// See session.hpp: what does not depend on the allocator.
#include "bench/support/session.hpp"

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <malloc.h>
#include <unistd.h>

namespace spillway::bench {

bool LiveRanges::complain(const char* what, cu::DevicePtr pointer) {
  if (fault_.empty()) {
    char text[96];
    std::snprintf(text, sizeof text, "block at 0x%llx: %s", pointer, what);
    fault_ = text;
  }
  return false;
}

bool LiveRanges::add(cu::DevicePtr pointer, std::uint64_t bytes) {
  constexpr std::uint64_t kAlignment = 256;
  if (pointer == 0) return complain("no memory", pointer);
  if (pointer % kAlignment != 0) return complain("not 256-byte aligned", pointer);
  const auto after = ranges_.lower_bound(pointer);
  if (after != ranges_.end() && after->first < pointer + bytes) {
    return complain("overlaps a live block behind it", pointer);
  }
  if (after != ranges_.begin() && std::prev(after)->second > pointer) {
    return complain("overlaps a live block before it", pointer);
  }
  ranges_.emplace_hint(after, pointer, pointer + bytes);
  return true;
}

bool LiveRanges::remove(cu::DevicePtr pointer) {
  return ranges_.erase(pointer) == 1 || complain("freed and not alive", pointer);
}

std::vector<cu::DevicePtr> LiveRanges::pointers() const {
  std::vector<cu::DevicePtr> pointers;
  for (const auto& [begin, end] : ranges_) pointers.push_back(begin);
  return pointers;
}

HostMemory host_memory() {
  HostMemory memory;
  malloc_trim(0);
  const struct mallinfo2 info = mallinfo2();
  memory.heap_bytes = static_cast<double>(info.uordblks + info.hblkhd);
  long total = 0;
  long resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
    static_cast<void>(std::fclose(file));
  }
  memory.resident_bytes =
      static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return memory;
}

namespace threads {

ThreadTimes run_together(const Ground& ground,
                         std::size_t thread_count,
                         std::size_t pairs_per_thread,
                         const std::function<std::size_t(std::size_t thread)>& prepare,
                         const std::function<std::size_t(std::size_t thread)>& body) {
  struct alignas(64) Own {
    double wall_ns = 0, cpu_ns = 0;
    std::size_t failed = 0;
  };
  std::vector<Own> own(thread_count);
  std::barrier start(static_cast<std::ptrdiff_t>(thread_count));
  std::atomic<double> begin_ns{0};
  std::vector<std::thread> running;
  running.reserve(thread_count);
  for (std::size_t i = 0; i < thread_count; ++i) {
    running.emplace_back([&, i] {
      static_cast<void>(ground.driver.cuCtxSetCurrent(ground.context));
      std::size_t failed = prepare(i);
      start.arrive_and_wait();
      // All threads count from the first one's start: a thread that had to wait for its turn to
      // begin waited for the others.
      double none = 0;
      begin_ns.compare_exchange_strong(none, wall_ns());
      const double cpu = thread_cpu_ns();
      failed += body(i);
      own[i].cpu_ns = thread_cpu_ns() - cpu;
      own[i].wall_ns = wall_ns() - begin_ns.load();
      own[i].failed = failed;
    });
  }
  for (std::thread& thread : running) thread.join();
  ThreadTimes times;
  std::vector<double> walls;
  for (const Own& one : own) {
    walls.push_back(one.wall_ns);
    times.cpu_ns_per_pair += one.cpu_ns;
    times.failed += one.failed;
  }
  const auto pairs = static_cast<double>(thread_count * pairs_per_thread);
  const Spread spread = spread_of(walls);
  times.cpu_ns_per_pair /= pairs;
  times.ns_per_pair = spread.max / pairs;
  times.slowest_to_median = spread.max / spread.median;
  return times;
}

}  // namespace threads
}  // namespace spillway::bench
