// SPDX-License-Identifier: Apache-2.0
// The mutex for very short sections, on threads of the system; under a scheduler it is tested with
// the simulator.
#include "core/brief_mutex.hpp"

#include "core/seq_lock.hpp"
#include "core/thread.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace spillway {
namespace {

Thread start(const char* name, Task body) {
  Result<Thread> thread = Thread::start(name, std::move(body));
  REQUIRE(thread.ok());
  return std::move(thread).value();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a brief mutex excludes many threads") {
    BriefMutex mutex("counter");
    std::int64_t counter = 0;
    {
      std::vector<Thread> threads;
      threads.reserve(8);
      for (int t = 0; t < 8; ++t) {
        threads.push_back(start("adder", [&] {
          for (int i = 0; i < 5000; ++i) {
            mutex.lock();
            ++counter;
            mutex.unlock();
          }
        }));
      }
    }
    CHECK(counter == 40000);
  }

  TEST_CASE("who finds a brief mutex held for long sleeps until it is free") {
    BriefMutex mutex;
    bool entered = false;
    mutex.lock();
    Thread other = start("other", [&] {
      mutex.lock();
      entered = true;
      mutex.unlock();
    });
    host_sleep_until(host_now_ns() + 5'000'000);
    CHECK_FALSE(entered);
    mutex.unlock();
    other.join();
    CHECK(entered);
  }

  TEST_CASE("who reads without a brief mutex sees one moment, or is told that it was not one") {
    BriefMutex mutex;
    SharedField<std::uint64_t> a, b;
    mutex.lock();
    CHECK_FALSE(mutex.try_read([] {}));
    mutex.unlock();
    CHECK(mutex.try_read([] {}));
    CHECK_FALSE(mutex.try_read([&] {
      mutex.lock();
      mutex.unlock();
    }));
    constexpr std::uint64_t kSections = 200000;
    Thread writer = start("writer", [&] {
      for (std::uint64_t i = 1; i <= kSections; ++i) {
        mutex.lock();
        a.set(i);
        b.set(i);
        mutex.unlock();
      }
    });
    bool one_moment = true;
    std::uint64_t seen = 0;
    while (seen < kSections) {
      std::uint64_t first = 0, second = 0;
      const bool settled = mutex.try_read([&] {
        first = a.get();
        second = b.get();
      });
      if (!settled) continue;
      one_moment = one_moment && first == second && first >= seen;
      seen = first;
    }
    writer.join();
    CHECK(one_moment);
  }
}

}  // namespace spillway
