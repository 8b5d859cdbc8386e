// SPDX-License-Identifier: Apache-2.0
// A mutex for sections of some ten nanoseconds, in which nothing is called that may block: one
// atomic exchange to enter and a plain store to leave, where std::mutex takes two of the former and
// more instructions than such a section has. Who finds it locked spins, then yields, then sleeps.
#pragma once

#include "core/host_scheduler.hpp"
#include "core/thread_safety.hpp"

#include <atomic>
#include <cstdint>

namespace spillway {

/// As Mutex towards a HostScheduler; without one it does not count as held (held_lock_count). Not
/// recursive, not fair. `name` is a static string, shown when
/// a simulated run deadlocks.
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
      word_.store(kFree, std::memory_order_release);
  }

  [[nodiscard]] const char* name() const { return name_; }

 private:
  static constexpr std::uint32_t kFree = 0;
  static constexpr std::uint32_t kLocked = 1;

  void forget() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }
  bool try_lock_native() {
    return word_.load(std::memory_order_relaxed) == kFree &&
           word_.exchange(kLocked, std::memory_order_acquire) == kFree;
  }
  void lock_native() {
    if (word_.exchange(kLocked, std::memory_order_acquire) != kFree) [[unlikely]]
      wait();
  }
  void wait();
  void lock_scheduled(HostScheduler& scheduler);
  void unlock_scheduled(HostScheduler& scheduler);

  std::atomic<std::uint32_t> word_{kFree};
  const char* name_;
};

}  // namespace spillway
