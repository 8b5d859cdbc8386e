// SPDX-License-Identifier: Apache-2.0
// Mutex and its guards: std::mutex, unless a HostScheduler is installed on the calling thread,
// which then decides who gets it. The native lock is taken as well, so that an object shared
// between simulators, or with threads that have none, is still protected.
#pragma once

#include "core/host_scheduler.hpp"
#include "core/thread_safety.hpp"

#include <mutex>

namespace spillway {

/// Not recursive. `name` is a static string, shown when a simulated run deadlocks.
class SPW_CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(const char* name = "mutex") : name_(name) {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  Mutex(Mutex&&) = delete;
  Mutex& operator=(Mutex&&) = delete;
  ~Mutex() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }

  void lock() SPW_ACQUIRE() {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      lock_scheduled(*scheduler);
    else
      native_.lock();
    ++t_host_thread_state.held_locks;
  }

  bool try_lock() SPW_TRY_ACQUIRE(true) {
    HostScheduler* scheduler = host_scheduler();
    const bool locked = scheduler != nullptr ? try_lock_scheduled(*scheduler) : native_.try_lock();
    if (locked) ++t_host_thread_state.held_locks;
    return locked;
  }

  /// REQUIRES: locked by the calling thread.
  void unlock() SPW_RELEASE() {
    --t_host_thread_state.held_locks;
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      unlock_scheduled(*scheduler);
    else
      native_.unlock();
  }

  [[nodiscard]] const char* name() const { return name_; }

 private:
  friend class Condition;

  void lock_scheduled(HostScheduler& scheduler);
  bool try_lock_scheduled(HostScheduler& scheduler);
  void unlock_scheduled(HostScheduler& scheduler);

  std::mutex native_;
  const char* name_;
};

/// Locked from construction to destruction.
class SPW_SCOPED_CAPABILITY LockGuard {
 public:
  explicit LockGuard(Mutex& mutex) SPW_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;
  LockGuard(LockGuard&&) = delete;
  LockGuard& operator=(LockGuard&&) = delete;
  ~LockGuard() SPW_RELEASE() { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

/// Can be unlocked and locked again, and is what a Condition waits with.
class SPW_SCOPED_CAPABILITY UniqueLock {
 public:
  explicit UniqueLock(Mutex& mutex) SPW_ACQUIRE(mutex) : mutex_(mutex), owns_(true) {
    mutex_.lock();
  }
  UniqueLock(const UniqueLock&) = delete;
  UniqueLock& operator=(const UniqueLock&) = delete;
  UniqueLock(UniqueLock&&) = delete;
  UniqueLock& operator=(UniqueLock&&) = delete;
  ~UniqueLock() SPW_RELEASE() SPW_NO_THREAD_SAFETY {
    if (owns_) mutex_.unlock();
  }

  void lock() SPW_ACQUIRE() SPW_NO_THREAD_SAFETY {
    mutex_.lock();
    owns_ = true;
  }
  void unlock() SPW_RELEASE() SPW_NO_THREAD_SAFETY {
    owns_ = false;
    mutex_.unlock();
  }
  [[nodiscard]] bool owns_lock() const { return owns_; }
  [[nodiscard]] Mutex& mutex() const { return mutex_; }

 private:
  Mutex& mutex_;
  bool owns_;
};

}  // namespace spillway
