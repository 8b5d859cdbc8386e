// SPDX-License-Identifier: Apache-2.0
// A mutex for sections of some ten nanoseconds, in which nothing is called that may block: one
// atomic instruction to enter and a plain store to leave, where std::mutex takes two of the former
// and more instructions than such a section has. Who finds it locked spins, then yields, then
// sleeps. Its word counts sections, so that it is the version of a sequence lock as well.
#pragma once

#include "core/host_scheduler.hpp"
#include "core/thread_safety.hpp"

#include <atomic>
#include <cstdint>

namespace spillway {

/// As Mutex towards a HostScheduler; without one it does not count as held (held_lock_count). Not
/// recursive, not fair. `name` is a static string, shown when
/// a simulated run deadlocks.
/// Invariant: the word is even while nobody is inside, and grows with every section.
class SPW_CAPABILITY("mutex") BriefMutex {
 public:
  explicit BriefMutex(const char* name = "brief mutex") : name_(name) { forget(); }
  BriefMutex(const BriefMutex&) = delete;
  BriefMutex& operator=(const BriefMutex&) = delete;
  BriefMutex(BriefMutex&&) = delete;
  BriefMutex& operator=(BriefMutex&&) = delete;
  ~BriefMutex() { forget(); }

  void lock() SPW_ACQUIRE() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      lock_scheduled(*scheduler);
    else
      lock_native();
  }

  /// REQUIRES: locked by the calling thread.
  void unlock() SPW_RELEASE() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      unlock_scheduled(*scheduler);
    else
      unlock_native();
  }

  /// Without the lock: runs `body`, which reads SharedFields (core/seq_lock.hpp) that are set under
  /// it, and says whether what it read belongs to one moment; if not, it is to be thrown away.
  /// Every set() is a release store that follows the odd word, so a reader who saw any of them sees
  /// a word other than the one it began with.
  template <typename Body>
  [[nodiscard]] bool try_read(Body body) const {
    const std::uint64_t before = version(std::memory_order_acquire);
    if ((before & 1) != 0) return false;
    body();
    return version(std::memory_order_relaxed) == before;
  }

  [[nodiscard]] const char* name() const { return name_; }

 private:
  void forget();
  [[nodiscard]] std::uint64_t version(std::memory_order order) const {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      return version_scheduled(*scheduler, order);
    return word_.load(order);
  }
  [[nodiscard]] bool looks_free() const { return (word_.load(std::memory_order_relaxed) & 1) == 0; }
  bool try_lock_native() {
    // Of an odd word the even one before, which is not found.
    std::uint64_t word = word_.load(std::memory_order_relaxed) & ~std::uint64_t{1};
    return word_.compare_exchange_strong(
        word, word + 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void lock_native() {
    if (!try_lock_native()) [[unlikely]]
      wait();
  }
  void unlock_native() {
    word_.store(word_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  void wait();
  void lock_scheduled(HostScheduler& scheduler);
  void unlock_scheduled(HostScheduler& scheduler);
  [[nodiscard]] std::uint64_t version_scheduled(HostScheduler& scheduler,
                                                std::memory_order order) const;

  // A scheduler knows the mutex by the address of the object and the word by its own.
  const char* name_;
  std::atomic<std::uint64_t> word_{0};
};

}  // namespace spillway
