// SPDX-License-Identifier: Apache-2.0
// The device pool under real threads, over a driver that costs nothing, so that calls meet as
// closely as they can; what the simulator's scheduler cannot show, and what the thread sanitizer
// is run on.
#include "allocator/device_pool.hpp"
#include "bench/support/null_driver.hpp"
#include "core/atomic.hpp"
#include "core/mutex.hpp"
#include "core/random.hpp"
#include "core/thread.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::size_t kThreads = 16;
constexpr std::size_t kStreams = 8;
constexpr int kOperations = 1500;

/// Live ranges of all threads. A block is entered after it was handed out and leaves before it is
/// given back, so two that overlap here were live at once.
class Ranges {
 public:
  bool enter(cu::DevicePtr pointer, std::uint64_t bytes) {
    const LockGuard lock(mutex_);
    const auto after = live_.lower_bound(pointer);
    if (after != live_.end() && after->first < pointer + bytes) return false;
    if (after != live_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second > pointer) return false;
    }
    live_.emplace(pointer, bytes);
    return true;
  }
  /// Some block, no longer in the table: the caller gives it back.
  cu::DevicePtr leave(std::uint64_t any, std::uint64_t* bytes) {
    const LockGuard lock(mutex_);
    if (live_.empty()) return 0;
    auto it = live_.lower_bound(live_.begin()->first +
                                any % (live_.rbegin()->first - live_.begin()->first + 1));
    const cu::DevicePtr pointer = it->first;
    *bytes = it->second;
    live_.erase(it);
    return pointer;
  }
  std::size_t count() {
    const LockGuard lock(mutex_);
    return live_.size();
  }

 private:
  Mutex mutex_{"ranges"};
  std::map<cu::DevicePtr, std::uint64_t> live_ SPW_GUARDED_BY(mutex_);
};

TEST_SUITE("unit") {
  TEST_CASE(
      "16 threads on 8 streams, giving back each other's blocks, never hold one place twice") {
    const Driver driver = bench::null_driver();
    const Context context = Context::retain_primary(driver, 0).value();
    DevicePoolOptions options;
    options.budget_bytes = 4096 * kMiB;
    auto made = DevicePool::create(context, options);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    DevicePool& pool = *made.value();
    Ranges ranges;
    Atomic<std::uint64_t> broken{0};
    const auto work = [&](std::size_t me) {
      Random random(me + 1);
      int handles[kStreams] = {};  // addresses that serve as stream handles
      const auto stream = [&](std::uint64_t i) {
        return StreamRef(reinterpret_cast<cu::Stream>(&handles[i]), 100 + i);
      };
      const TagId tag = pool.tag({}, "thread " + std::to_string(me));
      for (int i = 0; i < kOperations; ++i) {
        const StreamRef s = stream(me % kStreams);
        const std::uint64_t choice = random.below(10);
        if (choice < 5) {
          const std::uint64_t bytes =
              1 + random.below(random.below(4) == 0 ? 32 * kMiB : std::uint64_t{64} << 10);
          const auto taken = pool.allocate(bytes, s, tag);
          if (!taken.ok()) continue;
          const auto info = pool.find(taken.value() + bytes / 2);
          if (!info || info->pointer != taken.value() || info->requested_bytes != bytes ||
              info->tag_id != tag || !ranges.enter(taken.value(), bytes))
            broken.fetch_add(1, std::memory_order_relaxed);
        } else if (choice < 9) {
          std::uint64_t bytes = 0;
          const cu::DevicePtr pointer = ranges.leave(random.next(), &bytes);
          if (pointer == 0) continue;
          if (random.below(8) == 0) {
            if (!pool.record_use(pointer, stream(random.below(kStreams))).ok())
              broken.fetch_add(1, std::memory_order_relaxed);
          }
          if (!pool.free(pointer, random.below(2) == 0 ? s : stream(random.below(kStreams))).ok())
            broken.fetch_add(1, std::memory_order_relaxed);
        } else if (random.below(50) == 0) {
          if (!pool.trim(random.below(4096 * kMiB)).ok())
            broken.fetch_add(1, std::memory_order_relaxed);
        } else if (pool.stats().reserved_bytes > 4096 * kMiB) {
          broken.fetch_add(1, std::memory_order_relaxed);
        }
      }
    };
    std::vector<Thread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      auto thread = Thread::start("allocating", [&work, i] { work(i); });
      REQUIRE(thread.ok());
      threads.push_back(std::move(thread).value());
    }
    for (Thread& thread : threads) thread.join();
    CHECK_EQ(broken.load(std::memory_order_relaxed), 0u);
    CHECK_EQ(pool.check_invariants().message(), "");
    CHECK_EQ(pool.stats().live_count, ranges.count());
    std::uint64_t bytes = 0;
    int handle = 0;
    while (const cu::DevicePtr pointer = ranges.leave(0, &bytes))
      CHECK(pool.free(pointer, StreamRef(reinterpret_cast<cu::Stream>(&handle), 100)).ok());
    CHECK_EQ(pool.stats().live_count, 0u);
    CHECK(pool.trim(0).ok());
    CHECK_EQ(pool.stats().reserved_bytes, 0u);
    CHECK_EQ(bench::null_physical_bytes(), 0);
  }
}

}  // namespace
}  // namespace spillway
