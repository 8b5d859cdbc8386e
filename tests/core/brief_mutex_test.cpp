// SPDX-License-Identifier: Apache-2.0
// The mutex for very short sections, on threads of the system; under a scheduler it is tested with
// the simulator.
#include "core/brief_mutex.hpp"

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
}

}  // namespace spillway
