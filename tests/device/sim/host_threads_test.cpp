// SPDX-License-Identifier: Apache-2.0
// Cooperative host threads: one seed, one interleaving; what some seeds find; deadlocks told and
// survived; the edges of locks, atomics, births and joins.
#include "device/sim/host_threads.hpp"

#include "core/atomic.hpp"
#include "core/condition.hpp"
#include "core/mutex.hpp"
#include "core/task_queue.hpp"
#include "core/thread.hpp"
#include "tests/device/sim/toy_environment.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using test::ToyEnvironment;

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer sees the planted deadlock too, since the native locks are taken as well.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): its name
extern "C" const char* __tsan_default_suppressions() { return "deadlock:host_threads_test.cpp"; }
#endif

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kAcqRel = std::memory_order_acq_rel;

Thread start(const char* name, Task body) {
  auto thread = Thread::start(name, std::move(body));
  REQUIRE(thread.ok());
  return std::move(thread).value();
}

/// Two threads that each add one by a load and a store.
int racy_sum() {
  Atomic<int> sum(0);
  const auto add = [&] { sum.store(sum.load(kRelaxed) + 1, kRelaxed); };
  {
    Thread a = start("a", add);
    Thread b = start("b", add);
  }
  return sum.load(kRelaxed);
}

void opposite_locks() {
  Mutex first("first");
  Mutex second("second");
  Thread a = start("a", [&] {
    const LockGuard outer(first);
    const LockGuard inner(second);
  });
  Thread b = start("b", [&] {
    const LockGuard outer(second);
    const LockGuard inner(first);
  });
}

/// Counts what is alive, so that unwinding shows.
struct Witness {
  static inline int alive = 0;
  Witness() { ++alive; }
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  Witness(Witness&&) = delete;
  Witness& operator=(Witness&&) = delete;
  ~Witness() { --alive; }
};

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("the same seed gives the same interleaving, other seeds give others") {
    std::set<std::vector<std::uint32_t>> orders;
    ToyEnvironment again(0);
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      CAPTURE(seed);
      ToyEnvironment fresh(seed);
      int sum = 0;
      CHECK(fresh.run([&] { sum = racy_sum(); }));
      again.reset(seed);
      int sum_again = 0;
      CHECK(again.run([&] { sum_again = racy_sum(); }));
      CHECK(sum == sum_again);
      CHECK(fresh.order() == again.order());
      orders.insert(fresh.order());
    }
    CHECK(orders.size() > 10);
    CHECK(again.threads().os_thread_count() == 2);  // kept from run to run
  }

  TEST_CASE("a lost update is found by some seeds, and by none under a lock") {
    ToyEnvironment environment(0);
    int lost = 0;
    int lost_with_lock = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      environment.reset(seed);
      CHECK(environment.run([&] { lost += racy_sum() == 2 ? 0 : 1; }));
      environment.reset(seed);
      CHECK(environment.run([&] {
        Mutex mutex;
        Atomic<int> sum(0);
        const auto add = [&] {
          const LockGuard lock(mutex);
          sum.store(sum.load(kRelaxed) + 1, kRelaxed);
        };
        {
          Thread a = start("a", add);
          Thread b = start("b", add);
        }
        lost_with_lock += sum.load(kRelaxed) == 2 ? 0 : 1;
      }));
    }
    CHECK(lost > 0);
    CHECK(lost < 200);
    CHECK(lost_with_lock == 0);
  }

  TEST_CASE("locks taken in opposite order deadlock under some seeds, and the process goes on") {
    ToyEnvironment environment(0);
    int deadlocks = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      CAPTURE(seed);
      environment.reset(seed);
      const bool completed = environment.run(opposite_locks);
      CHECK(completed == environment.deadlock().empty());
      CHECK(held_lock_count() == 0);
      if (completed) continue;
      ++deadlocks;
      CHECK(environment.deadlock() ==
            "thread 0 \"main\" waits for the end of thread 2 \"b\"\n"
            "thread 1 \"a\" waits for mutex \"second\" held by thread 2 \"b\"; it holds mutex "
            "\"first\"\n"
            "thread 2 \"b\" waits for mutex \"first\" held by thread 1 \"a\"; it holds mutex "
            "\"second\"\n");
    }
    CHECK(deadlocks > 0);
    CHECK(deadlocks < 200);
  }

  TEST_CASE("locking twice is a deadlock with itself") {
    ToyEnvironment environment(1);
    CHECK(!environment.run([] {
      Mutex mutex("pool");
      const LockGuard one(mutex);
      const LockGuard two(mutex);
    }));
    CHECK(environment.deadlock() ==
          "thread 0 \"main\" waits for mutex \"pool\" held by itself; it holds mutex \"pool\"\n");
  }

  TEST_CASE("an abandoned run unwinds every stack, through conditions, joins and destructors") {
    ToyEnvironment environment(0);
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      CAPTURE(seed);
      environment.reset(seed);
      bool notified = false;
      const bool completed = environment.run([&] {
        const Witness outer;
        Mutex mutex("m");
        Condition condition;
        TaskQueueOptions options;
        options.threads = 2;
        auto queue = TaskQueue::start(options);
        REQUIRE(queue.ok());
        CHECK(queue.value()
                  ->post([&] {
                    const Witness task;
                    UniqueLock lock(mutex);
                    condition.wait(lock, [&] { return notified; });
                  })
                  .ok());
        Thread sleeper = start("sleeper", [&] {
          const Witness local;
          UniqueLock lock(mutex);
          condition.wait(lock, [&] { return notified; });
        });
        const Status drained = queue.value()->drain();  // not inside CHECK, which may catch
        CHECK(!drained.ok());
        FAIL_CHECK("drain returned although a task never ends");
      });
      CHECK(!completed);
      CHECK(Witness::alive == 0);
      CHECK(held_lock_count() == 0);
      CHECK(environment.misuses().empty());
      CHECK(environment.deadlock().find("\"sleeper\" waits to be notified") != std::string::npos);
    }
  }

  TEST_CASE("a spinning thread of an abandoned run is stopped as well") {
    ToyEnvironment environment(3);
    const bool completed = environment.run([&] {
      Atomic<bool> never(false);
      Mutex mutex;
      Thread spinner = start("spinner", [&] {
        const Witness local;
        while (!never.load(kRelaxed)) host_yield();
      });
      environment.threads().abandon();
      const LockGuard lock(mutex);  // free, so it is granted
    });
    CHECK(!completed);
    CHECK(Witness::alive == 0);
  }

  TEST_CASE("a thread that is still there at the end is a leak, and reset unwinds it") {
    ToyEnvironment environment(0);
    auto mutex = std::make_unique<Mutex>("left locked");
    auto never = std::make_unique<Atomic<bool>>(false);
    std::unique_ptr<Thread> leaked;
    CHECK(environment.run([&] {
      mutex->lock();
      leaked = std::make_unique<Thread>(start("stray", [&] {
        const Witness local;
        const LockGuard lock(*mutex);
      }));
      host_yield();
    }));
    CHECK(environment.threads().describe_leaks() ==
          "thread 1 \"stray\" has not ended\n"
          "mutex \"left locked\" is still locked by thread 0 \"main\"\n");
    {
      const HostSchedulerScope scope(&environment.threads());
      leaked.reset();  // waits for it in vain: a deadlock, which unwinds it
      mutex->unlock();
    }
    CHECK(!environment.deadlock().empty());
    environment.reset(1);
    CHECK(Witness::alive == 0);
    CHECK(environment.threads().describe_leaks().empty());
    CHECK(environment.run([] { CHECK(racy_sum() >= 1); }));
  }

  TEST_CASE("a service thread is no leak and ends with the run") {
    ToyEnvironment environment(0);
    struct Service {
      sim::HostThreads* threads = nullptr;
      bool called = false;
      int served = 0;
    } service{&environment.threads()};
    CHECK(environment.run([&] {
      const auto body = [](void* argument) {
        auto& me = *static_cast<Service*>(argument);
        const Witness local;
        for (;;) {
          me.threads->wait(
              [](void* s) { return static_cast<Service*>(s)->called; }, argument, "a callback");
          me.called = false;
          ++me.served;
        }
      };
      CHECK(environment.threads().create_service("callbacks", body, &service).ok());
      service.called = true;
      while (service.served == 0) host_yield();
    }));
    CHECK(environment.threads().describe_leaks().empty());
    CHECK(environment.threads().describe_waits().find("\"callbacks\" waits for a callback") !=
          std::string::npos);
    environment.reset(1);
    CHECK(Witness::alive == 0);
    CHECK(service.served == 1);
  }

  TEST_CASE("breaking the rules of a lock is told") {
    ToyEnvironment environment(0);
    CHECK(environment.run([] {
      {
        Mutex mutex("doomed");
        mutex.lock();
      }
      Thread holder = start("holder", [] {
        static Mutex kept("kept");
        kept.lock();
      });
    }));
    REQUIRE(environment.misuses().size() == 2);
    CHECK(environment.misuses()[0] == "a mutex was destroyed while locked: doomed");
    CHECK(environment.misuses()[1] == "a thread ended while it held a lock: holder");
    while (held_lock_count() != 0) --t_host_thread_state.held_locks;
  }

  TEST_CASE("sleeps and deadlines pass in virtual time") {
    ToyEnvironment environment(5);
    CHECK(environment.run([] {
      const std::int64_t year_ns = 365ll * 24 * 3600 * 1'000'000'000;
      Mutex mutex;
      Condition condition;
      bool flag = false;
      Thread late = start("late", [&] {
        host_sleep_until(year_ns);
        const LockGuard lock(mutex);
        flag = true;
        condition.notify_one();
      });
      UniqueLock lock(mutex);
      CHECK(!condition.wait_until(lock, year_ns / 2, [&] { return flag; }));
      CHECK(host_now_ns() == year_ns / 2);
      CHECK(condition.wait_until(lock, 2 * year_ns, [&] { return flag; }));
      CHECK(host_now_ns() == year_ns);
    }));
  }

  TEST_CASE("notify_one wakes any one of those who waited, and no later one") {
    ToyEnvironment environment(0);
    std::set<std::string> woken;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      CAPTURE(seed);
      environment.reset(seed);
      CHECK(environment.run([&] {
        Mutex mutex;
        Condition condition;
        int waiting = 0;
        int wakes = 0;
        bool all = false;
        std::string first;
        const auto body = [&](const char* name) {
          UniqueLock lock(mutex);
          ++waiting;
          bool evaluated = false;  // true from the second look on: then it was notified
          condition.wait(lock, [&] { return all || std::exchange(evaluated, true); });
          ++wakes;
          if (first.empty()) first = name;
        };
        Thread a = start("a", [&] { body("a"); });
        Thread b = start("b", [&] { body("b"); });
        const auto is_waiting = [&](int count) {
          const LockGuard lock(mutex);
          return waiting == count;
        };
        while (!is_waiting(2)) host_yield();
        condition.notify_one();
        Thread c = start("c", [&] { body("c"); });
        while (!is_waiting(3)) host_yield();
        for (int i = 0; i < 50; ++i) host_yield();
        {
          const LockGuard lock(mutex);
          CHECK(wakes <= 1);
          CHECK(first != "c");
          if (!first.empty()) woken.insert(first);
          all = true;
        }
        condition.notify_all();
      }));
    }
    CHECK(woken == std::set<std::string>{"a", "b"});
  }

  TEST_CASE("the task queue keeps its promises under 500 schedules") {
    ToyEnvironment environment(0);
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
      CAPTURE(seed);
      environment.reset(seed);
      int ran = 0;
      const bool completed = environment.run([&] {
        TaskQueueOptions options;
        options.threads = 2;
        options.capacity = 1;
        auto queue = TaskQueue::start(options);
        REQUIRE(queue.ok());
        Mutex mutex;
        const auto post = [&] {
          for (int i = 0; i < 3; ++i) {
            const Status posted = queue.value()->post([&] {
              const LockGuard lock(mutex);
              ++ran;
            });
            CHECK(posted.ok());
          }
        };
        Thread poster = start("poster", post);
        post();
        CHECK(queue.value()->drain().ok());
        poster.join();
        CHECK(queue.value()->stop().ok());
        CHECK(ran == 6);
      });
      CHECK_MESSAGE(completed, environment.deadlock());
      CHECK(environment.misuses().empty());
      CHECK(environment.threads().describe_leaks().empty());
    }
  }

  TEST_CASE("births, ends and locks order, whatever the schedule") {
    ToyEnvironment environment(0);
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      CAPTURE(seed);
      environment.reset(seed);
      CHECK(environment.run([&] {
        const sim::Epoch before = environment.step();
        sim::Epoch child{};
        sim::Epoch after{};
        {
          Thread thread = start("child", [&] {
            CHECK(environment.is_before_now(before));
            CHECK(!environment.is_before_now(after));
            child = environment.step();
          });
          after = environment.step();
        }
        CHECK(environment.is_before_now(child));

        // A lock orders after the whole critical section before it, and after nothing later.
        Mutex mutex;
        bool done = false;
        sim::Epoch inside{};
        sim::Epoch outside{};
        Thread writer = start("writer", [&] {
          {
            const LockGuard lock(mutex);
            inside = environment.step();
            done = true;
          }
          outside = environment.step();
          host_yield();
        });
        for (bool seen = false; !seen;) {
          const LockGuard lock(mutex);
          seen = done;
          if (seen) {
            CHECK(environment.is_before_now(inside));
            if (outside.tick != 0) CHECK(!environment.is_before_now(outside));
          }
        }
      }));
    }
  }

  TEST_CASE("only releasing and acquiring atomics order") {
    struct Case {
      std::memory_order store;
      std::memory_order load;
      bool ordered;
    };
    const Case cases[] = {{kRelease, kAcquire, true},
                          {std::memory_order_seq_cst, std::memory_order_seq_cst, true},
                          {kRelease, kRelaxed, false},
                          {kRelaxed, kAcquire, false}};
    ToyEnvironment environment(0);
    for (const Case& one : cases) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        environment.reset(seed);
        CHECK(environment.run([&] {
          Atomic<int> flag(0);
          sim::Epoch written{};
          Thread writer = start("writer", [&] {
            written = environment.step();
            flag.store(1, one.store);
          });
          while (flag.load(one.load) == 0) host_yield();
          CHECK(environment.is_before_now(written) == one.ordered);
        }));
      }
    }
  }

  TEST_CASE("a release sequence goes on through exchanges and ends with a plain store") {
    ToyEnvironment environment(0);
    const auto is_ordered = [&](auto&& second_writer) {
      bool ordered = false;
      CHECK(environment.run([&] {
        Atomic<int> flag(0);
        sim::Epoch written{};
        Thread first = start("first", [&] {
          written = environment.step();
          flag.store(1, kRelease);
        });
        Thread second = start("second", [&] {
          while (flag.load(kRelaxed) != 1) host_yield();
          second_writer(flag);
        });
        while (flag.load(kRelaxed) != 2) host_yield();  // an acquire here could read the first
        CHECK(flag.load(kAcquire) == 2);
        ordered = environment.is_before_now(written);
      }));
      environment.reset(1);
      return ordered;
    };
    CHECK(is_ordered([](Atomic<int>& flag) { flag.fetch_add(1, kRelaxed); }));
    CHECK(is_ordered([](Atomic<int>& flag) { flag.exchange(2, kAcqRel); }));
    CHECK(is_ordered([](Atomic<int>& flag) { flag.store(flag.load(kAcquire) + 1, kRelease); }));
    CHECK(is_ordered([](Atomic<int>& flag) {
      int expected = 1;
      CHECK(flag.compare_exchange(expected, 2, kRelaxed, kRelaxed));
    }));
    CHECK(!is_ordered([](Atomic<int>& flag) { flag.store(2, kRelaxed); }));
    CHECK(!is_ordered([](Atomic<int>& flag) { flag.store(2, kRelease); }));  // read relaxed before
  }

  TEST_CASE("a failed compare_exchange orders as a load only") {
    ToyEnvironment environment(2);
    CHECK(environment.run([&] {
      Atomic<int> flag(0);
      sim::Epoch loser{};
      Thread thread = start("loser", [&] {
        loser = environment.step();
        int expected = 7;
        CHECK(!flag.compare_exchange(expected, 9, kAcqRel, kRelaxed));
        CHECK(expected == 0);
        while (true) {
          expected = 0;
          if (flag.load(kRelaxed) == 0) break;
        }
      });
      for (int i = 0; i < 20; ++i) host_yield();
      CHECK(flag.load(kAcquire) == 0);
      CHECK(!environment.is_before_now(loser));
    }));
  }

  TEST_CASE("an address that is used again starts clean") {
    ToyEnvironment environment(0);
    CHECK(environment.run([&] {
      alignas(16) unsigned char bytes[sizeof(Mutex)];
      auto* flag = new (bytes) Atomic<int>(0);
      sim::Epoch written{};
      Thread writer = start("writer", [&] {
        written = environment.step();
        flag->store(1, kRelease);
      });
      while (flag->load(kRelaxed) == 0) host_yield();
      auto* second = new (bytes) Atomic<int>(3);
      CHECK(second->load(kAcquire) == 3);
      CHECK(!environment.is_before_now(written));
      writer.join();
      auto* mutex = new (bytes) Mutex("again");
      mutex->lock();
      mutex->unlock();
      mutex->~Mutex();
    }));
    CHECK(environment.threads().tracked_object_count() == 0);
  }
}
