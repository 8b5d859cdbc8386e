// SPDX-License-Identifier: Apache-2.0
// Two host threads that hand something over without the lock, join or order that makes it right.
#include "core/atomic.hpp"
#include "core/mutex.hpp"
#include "core/thread.hpp"
#include "tests/device/sim/planted_bugs.hpp"

#include <utility>

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;

template <typename Body>
Thread worker(BugLab& lab, Body body) {
  Result<Thread> made = Thread::start("worker", [&lab, body] {
    lab.enter();
    body();
  });
  REQUIRE(made.ok());
  return std::move(made.value());
}

TEST_CASE("a buffer that a worker hands over without a join is reported") {
  check_planted_bug({ReportKind::kRace, "`host write` on host thread 1", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      Thread fills = worker(lab, [&lab, host] { lab.put(host, n, 5); });
                      if (repaired) fills.join();
                      lab.h2d(prefetch, x, host, n);
                      return lab.device_holds(x, n, 5);
                    });
}

TEST_CASE("a buffer that a worker hands over with a relaxed flag is reported") {
  check_planted_bug({ReportKind::kRace, "`host write` on host thread 1", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      Atomic<int> full{0};
                      const std::memory_order order =
                          repaired ? std::memory_order_release : std::memory_order_relaxed;
                      const Thread fills = worker(lab, [&lab, &full, host, order] {
                        lab.put(host, n, 5);
                        full.store(1, order);
                      });
                      while (full.load(std::memory_order_acquire) == 0) host_yield();
                      lab.h2d(prefetch, x, host, n);
                      return lab.device_holds(x, n, 5);
                    });
}

TEST_CASE("a buffer that is handed over by a flag which is read relaxed is reported") {
  check_planted_bug(
      {ReportKind::kRace, "`host write` on host thread 1", "`host read` on host thread 0"},
      [](BugLab& lab, bool repaired) {
        std::uint8_t* const host = lab.pinned(n);
        Atomic<int> full{0};
        const std::memory_order order =
            repaired ? std::memory_order_acquire : std::memory_order_relaxed;
        const Thread fills = worker(lab, [&lab, &full, host] {
          lab.put(host, n, 5);
          full.store(1, std::memory_order_release);
        });
        while (full.load(order) == 0) host_yield();
        return lab.holds(host, n, 5);
      });
}

TEST_CASE("a buffer that a worker fills after it gave up the lock is reported") {
  check_planted_bug(
      {ReportKind::kRace, "`host write` on host thread 1", "`host read` on host thread 0"},
      [](BugLab& lab, bool repaired) {
        std::uint8_t* const host = lab.pinned(n);
        Mutex mutex("hand-over");
        bool full = false;
        const Thread fills = worker(lab, [&lab, &mutex, &full, host, repaired] {
          {
            const LockGuard lock(mutex);
            if (repaired) lab.put(host, n, 5);
            full = true;
          }
          if (!repaired) lab.put(host, n, 5);
        });
        for (bool seen = false; !seen; host_yield()) {
          const LockGuard lock(mutex);
          seen = full;
        }
        return lab.holds(host, n, 5);
      });
}

TEST_CASE("an offload that a worker enqueues after it said so is reported") {
  check_planted_bug({.kind = ReportKind::kRace,
                     .first = "cuMemcpyDtoHAsync",
                     .second = "`host read` on host thread 0",
                     .only_some_schedules = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      Atomic<int> sent{0};
                      lab.fill(offload, x, 7, n);
                      const Thread sends = worker(lab, [&lab, &sent, offload, host, x, repaired] {
                        if (repaired) lab.d2h(offload, host, x, n);
                        sent.store(1, std::memory_order_release);
                        if (!repaired) lab.d2h(offload, host, x, n);
                      });
                      while (sent.load(std::memory_order_acquire) == 0) host_yield();
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("two threads that launch on one buffer without an edge are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_add` on stream 2", "`lab_add` on stream 3"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      lab.fill(first, x, 1, n);
                      lab.order(first, second);
                      Thread adds = worker(lab, [&lab, second, x] { lab.add(second, x, 1, n); });
                      if (repaired) {
                        adds.join();
                        lab.order(second, first);
                      }
                      lab.add(first, x, 1, n);
                      if (!repaired) adds.join();
                      return lab.device_holds(x, n, 3);
                    });
}

TEST_CASE("an event that another thread records at some time is reported when it was too late") {
  check_planted_bug({.kind = ReportKind::kRace,
                     .first = "`lab_fill`",
                     .second = "`lab_copy`",
                     .only_some_schedules = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream produce = lab.stream();
                      const cu::Stream consume = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const cu::Event made = lab.event();
                      lab.fill(produce, x, 7, n);
                      Thread records =
                          worker(lab, [&lab, made, produce] { lab.record(made, produce); });
                      if (repaired) records.join();
                      lab.wait(consume, made);
                      lab.copy(consume, y, x, n);
                      if (!repaired) records.join();
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("an event that two threads record for different streams is reported") {
  check_planted_bug({.kind = ReportKind::kRace,
                     .first = "`lab_fill` on stream 2",
                     .second = "`lab_copy`",
                     .only_some_schedules = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::Stream reader = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const cu::Event made = lab.event();
                      const cu::Event other = repaired ? lab.event() : made;
                      Thread records =
                          worker(lab, [&lab, other, second] { lab.record(other, second); });
                      lab.fill(first, x, 7, n);
                      lab.record(made, first);
                      records.join();
                      lab.wait(reader, made);
                      lab.copy(reader, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a result that is read without joining the thread that waited for it is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "`host read` on host thread 0"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(offload, x, 7, n);
                      Thread fetches = worker(lab, [&lab, offload, host, x] {
                        lab.d2h(offload, host, x, n);
                        lab.sync(offload);
                      });
                      if (repaired) fetches.join();
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("per-thread default streams that are taken for one stream are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const cu::Event made = lab.event();
                      Thread fills = worker(lab, [&lab, made, x] {
                        lab.fill(cu::stream_per_thread(), x, 7, n);
                        lab.record(made, cu::stream_per_thread());
                      });
                      fills.join();
                      if (repaired) lab.wait(cu::stream_per_thread(), made);
                      lab.copy(cu::stream_per_thread(), y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a last owner that is found by relaxed counting is reported") {
  check_planted_bug({ReportKind::kLifetime, "`host read`", "cuMemFreeHost"},
                    [](BugLab& lab, bool repaired) {
                      void* shared = nullptr;
                      lab.note(lab.cu.cuMemHostAlloc(&shared, n, 0));
                      auto* const host = static_cast<std::uint8_t*>(shared);
                      Atomic<int> owners{2};
                      const std::memory_order order =
                          repaired ? std::memory_order_acq_rel : std::memory_order_relaxed;
                      const auto use_and_drop = [&lab, &owners, host, order] {
                        static_cast<void>(lab.holds(host, n, 0));
                        if (owners.fetch_sub(1, order) == 1) lab.note(lab.cu.cuMemFreeHost(host));
                      };
                      const Thread first = worker(lab, use_and_drop);
                      const Thread second = worker(lab, use_and_drop);
                      return true;
                    });
}

TEST_CASE("a lock that is held across a driver call is reported") {
  check_planted_bug({ReportKind::kLockHeld, "cuMemcpyDtoHAsync", "holds 1 lock"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      Mutex mutex("pool");
                      lab.fill(offload, x, 7, n);
                      if (repaired) {
                        { const LockGuard lock(mutex); }
                        lab.d2h(offload, host, x, n);
                      } else {
                        const LockGuard lock(mutex);
                        lab.d2h(offload, host, x, n);
                      }
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("two threads that take two locks in opposite order are reported") {
  check_planted_bug({.kind = ReportKind::kDeadlock,
                     .first = "ledger",
                     .second = "pool",
                     .only_some_schedules = true},
                    [](BugLab& lab, bool repaired) {
                      Mutex pool("pool");
                      Mutex ledger("ledger");
                      Mutex& first = repaired ? pool : ledger;
                      Mutex& second = repaired ? ledger : pool;
                      const Thread other = worker(lab, [&first, &second] {
                        const LockGuard outer(first);
                        const LockGuard inner(second);
                      });
                      const LockGuard outer(pool);
                      const LockGuard inner(ledger);
                      return true;
                    });
}

}  // namespace
}  // namespace spillway::test
