// SPDX-License-Identifier: Apache-2.0
// Condition: std::condition_variable for a Mutex, under the same HostScheduler. It waits for a
// predicate only, so that a spurious wake-up cannot be forgotten.
#pragma once

#include "core/mutex.hpp"

#include <condition_variable>
#include <cstdint>

namespace spillway {

class Condition {
 public:
  Condition() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  Condition(Condition&&) = delete;
  Condition& operator=(Condition&&) = delete;
  ~Condition() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }

  /// Returns when ready(), which is called with the lock held. REQUIRES: lock.owns_lock().
  template <typename Ready>
  void wait(UniqueLock& lock, Ready&& ready) {
    while (!ready()) wait_once(lock.mutex());
  }

  /// As wait, at most until host_now_ns() reaches `deadline_ns`; returns ready().
  template <typename Ready>
  bool wait_until(UniqueLock& lock, std::int64_t deadline_ns, Ready&& ready) {
    while (!ready()) {
      if (!wait_once_until(lock.mutex(), deadline_ns)) return ready();
    }
    return true;
  }

  void notify_one() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->condition_notify(this, false);
    else
      native_.notify_one();
  }
  void notify_all() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->condition_notify(this, true);
    else
      native_.notify_all();
  }

 private:
  void wait_once(Mutex& mutex);
  bool wait_once_until(Mutex& mutex, std::int64_t deadline_ns);  // false: the time is over
  bool wait_scheduled(HostScheduler& scheduler, Mutex& mutex, std::int64_t deadline_ns);

  std::condition_variable native_;
};

}  // namespace spillway
