// SPDX-License-Identifier: Apache-2.0
// Threads, locks, conditions and atomics of core/ without a scheduler: they are the std ones.
#include "core/thread.hpp"

#include "core/atomic.hpp"
#include "core/clock.hpp"
#include "core/condition.hpp"
#include "core/mutex.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

using namespace spillway;

namespace {

Thread start(const char* name, Task body) {
  auto thread = Thread::start(name, std::move(body));
  REQUIRE(thread.ok());
  return std::move(thread).value();
}

constinit Atomic<int> g_constant{7};  // no constructor runs, no destructor is registered
static_assert(std::is_trivially_destructible_v<Atomic<int>>);
static_assert(!std::is_copy_constructible_v<Thread> &&
              std::is_nothrow_move_constructible_v<Thread>);

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a task runs what was put into it, small or large, and ends it once") {
    auto counter = std::make_shared<int>(0);
    std::array<std::uint64_t, 20> large{};
    large[19] = 5;
    std::uint64_t seen = 0;
    {
      Task small([counter] { ++*counter; });
      Task big([counter, large, &seen] { seen = large[19]; });
      Task moved = std::move(small);
      CHECK(!static_cast<bool>(small));  // NOLINT(bugprone-use-after-move): that is what is tested
      moved();
      moved();
      big();
      CHECK(counter.use_count() == 3);
      big = std::move(moved);
      CHECK(counter.use_count() == 2);
      big();
    }
    CHECK(*counter == 3);
    CHECK(seen == 5);
    CHECK(counter.use_count() == 1);
    auto owned = std::make_unique<int>(4);
    int value = 0;
    Task moves([owned = std::move(owned), &value] { value = *owned; });
    moves();
    CHECK(value == 4);
  }

  TEST_CASE("a thread is joined by its destructor and by assignment") {
    Atomic<int> done(0);
    {
      Thread one = start("one", [&] { done.fetch_add(1, std::memory_order_relaxed); });
      Thread two = start("two", [&] { done.fetch_add(1, std::memory_order_relaxed); });
      CHECK(one.joinable());
      one = std::move(two);
      CHECK(!two.joinable());  // NOLINT(bugprone-use-after-move): that is what is tested
      CHECK(one.joinable());
    }
    CHECK(done.load(std::memory_order_relaxed) == 2);
    Thread three = start("a name longer than the system's fifteen",
                         [&] { done.store(9, std::memory_order_relaxed); });
    three.join();
    CHECK(!three.joinable());
    CHECK(done.load(std::memory_order_relaxed) == 9);
  }

  TEST_CASE("a mutex excludes, and the thread knows how many it holds") {
    Mutex mutex("counter");
    Mutex other;
    std::int64_t counter = 0;
    {
      std::vector<Thread> threads;
      threads.reserve(4);
      for (int t = 0; t < 4; ++t) {
        threads.push_back(start("adder", [&] {
          for (int i = 0; i < 5000; ++i) {
            const LockGuard lock(mutex);
            ++counter;
          }
        }));
      }
    }
    CHECK(counter == 20000);

    CHECK(held_lock_count() == 0);
    {
      const LockGuard lock(mutex);
      CHECK(held_lock_count() == 1);
      CHECK(other.try_lock());
      CHECK(held_lock_count() == 2);
      std::uint32_t elsewhere = 9;
      bool locked = true;
      Thread peer = start("peer", [&] {
        elsewhere = held_lock_count();
        locked = mutex.try_lock();
        if (locked) mutex.unlock();
      });
      peer.join();
      CHECK(elsewhere == 0);
      CHECK(!locked);
      other.unlock();
    }
    UniqueLock lock(mutex);
    CHECK(lock.owns_lock());
    lock.unlock();
    CHECK(held_lock_count() == 0);
    lock.lock();
    CHECK(held_lock_count() == 1);
  }

  TEST_CASE("a condition passes a token back and forth") {
    Mutex mutex;
    Condition condition;
    int turn = 0;
    std::vector<int> order;
    const auto play = [&](int me) {
      for (int round = 0; round < 200; ++round) {
        UniqueLock lock(mutex);
        condition.wait(lock, [&] { return turn == me; });
        CHECK_EQ(held_lock_count(), 1u);
        order.push_back(me);
        turn = 1 - me;
        condition.notify_all();
      }
    };
    {
      Thread a = start("a", [&] { play(0); });
      Thread b = start("b", [&] { play(1); });
    }
    REQUIRE(order.size() == 400);
    bool alternates = true;
    for (std::size_t i = 0; i < order.size(); ++i)
      alternates &= order[i] == static_cast<int>(i % 2);
    CHECK(alternates);
  }

  TEST_CASE("a timed wait ends by its deadline or by its predicate") {
    Mutex mutex;
    Condition condition;
    bool flag = false;
    {
      UniqueLock lock(mutex);
      const std::int64_t deadline_ns = host_now_ns() + 2'000'000;
      CHECK(!condition.wait_until(lock, deadline_ns, [&] { return flag; }));
      CHECK(host_now_ns() >= deadline_ns);
      CHECK(!condition.wait_until(lock, 0, [&] { return flag; }));
      CHECK(held_lock_count() == 1);
    }
    Thread setter = start("setter", [&] {
      const LockGuard lock(mutex);
      flag = true;
      condition.notify_one();
    });
    UniqueLock lock(mutex);
    CHECK(condition.wait_until(lock, kNoDeadlineNs, [&] { return flag; }));
  }

  TEST_CASE("atomics count, exchange and compare") {
    CHECK(g_constant.load(std::memory_order_relaxed) == 7);
    Atomic<std::uint64_t> sum(0);
    Atomic<bool> ready(false);
    std::uint64_t plain = 0;
    {
      std::vector<Thread> threads;
      threads.reserve(4);
      for (int t = 0; t < 3; ++t) {
        threads.push_back(start("adder", [&] {
          for (int i = 0; i < 2000; ++i) sum.fetch_add(1, std::memory_order_relaxed);
          for (int i = 0; i < 2000; ++i) {
            std::uint64_t seen = sum.load(std::memory_order_relaxed);
            while (!sum.compare_exchange(
                seen, seen + 2, std::memory_order_relaxed, std::memory_order_relaxed)) {
            }
          }
        }));
      }
      threads.push_back(start("publisher", [&] {
        plain = 42;
        ready.store(true, std::memory_order_release);
      }));
      while (!ready.load(std::memory_order_acquire)) host_yield();
      CHECK(plain == 42);
    }
    CHECK(sum.load(std::memory_order_relaxed) == 3u * 2000u * 3u);
    CHECK(sum.exchange(12, std::memory_order_acq_rel) == 18000);
    CHECK(sum.fetch_sub(4, std::memory_order_relaxed) == 12);
    CHECK(sum.fetch_or(3, std::memory_order_relaxed) == 8);
    CHECK(sum.fetch_and(9, std::memory_order_relaxed) == 11);
    CHECK(sum.load(std::memory_order_relaxed) == 9);
  }

  TEST_CASE("sleeping lasts at least until the deadline") {
    const std::int64_t deadline_ns = host_now_ns() + 1'000'000;
    host_sleep_until(deadline_ns);
    CHECK(SystemClock().now_ns() >= deadline_ns);
  }
}
