// SPDX-License-Identifier: Apache-2.0
// The hooks through which a simulator takes over the host threads, locks and atomics of core/: it
// decides who runs next and sees every edge of their order. Installed per OS thread, so several
// simulators can run in one process; a Thread started under a scheduler inherits it. Without one,
// core/ does what std does, at the cost of one load and a predicted branch.
#pragma once

#include "core/status.hpp"

#include <atomic>
#include <cstdint>
#include <limits>

namespace spillway {

/// No deadline.
inline constexpr std::int64_t kNoDeadlineNs = std::numeric_limits<std::int64_t>::max();

/// Thrown out of a blocking call when a scheduler gives up its run (a deadlock, say), so that the
/// stacks of all threads unwind. Whoever catches `...` on a thread of core/ passes this on.
struct ThreadsAbandoned {};

enum class AtomicAccess : std::uint8_t { kLoad, kStore, kReadModifyWrite };

/// All hooks are called by the thread that they are about. Objects are known by address; `name` is
/// a static string. Blocking hooks may throw ThreadsAbandoned unless a NoAbandonScope is open or
/// the stack is unwinding already.
class HostScheduler {
 public:
  HostScheduler() = default;
  HostScheduler(const HostScheduler&) = delete;
  HostScheduler& operator=(const HostScheduler&) = delete;
  HostScheduler(HostScheduler&&) = delete;
  HostScheduler& operator=(HostScheduler&&) = delete;
  virtual ~HostScheduler() = default;

  /// A new thread that will run entry(argument) under this scheduler; its number, for thread_join.
  virtual Result<std::uint32_t> thread_create(const char* name,
                                              void (*entry)(void*),
                                              void* argument) = 0;
  /// Blocks until that thread has ended and comes after everything it did.
  virtual void thread_join(std::uint32_t thread) = 0;
  virtual void yield() = 0;
  virtual void sleep_until(std::int64_t deadline_ns) = 0;
  virtual std::int64_t now_ns() = 0;

  /// False: the run was abandoned and the lock is not held; go on to the end without it.
  virtual bool mutex_lock(const void* mutex, const char* name) = 0;
  virtual bool mutex_try_lock(const void* mutex, const char* name) = 0;
  /// Returns what mutex_lock returned. Never throws.
  virtual bool mutex_unlock(const void* mutex) = 0;
  /// True when the calling thread holds it.
  virtual bool mutex_is_held(const void* mutex) = 0;

  /// Unlocks, waits, locks again, also when it throws. False when the deadline passed first.
  virtual bool condition_wait(const void* condition,
                              const void* mutex,
                              std::int64_t deadline_ns) = 0;
  virtual void condition_notify(const void* condition, bool all) = 0;

  /// Around the access itself; no other thread runs in between. `order` is the order in effect.
  virtual void atomic_before(const void* location, AtomicAccess access) = 0;
  virtual void atomic_after(const void* location, AtomicAccess access, std::memory_order order) = 0;

  /// The object at this address was constructed or destroyed: what is known of it no longer holds.
  virtual void forget(const void* object) = 0;
};

/// What core/ keeps per OS thread. In one struct, so that all of it shares a cache line.
struct HostThreadState {
  HostScheduler* scheduler = nullptr;
  std::uint32_t held_locks = 0;
  std::uint32_t no_abandon_scopes = 0;
};

// constinit on the declaration spares the check for dynamic initialisation at every access.
extern constinit thread_local HostThreadState t_host_thread_state
    __attribute__((tls_model("initial-exec")));

/// The scheduler of the calling OS thread, or null.
inline HostScheduler* host_scheduler() { return t_host_thread_state.scheduler; }

/// How many Mutexes the calling thread holds. No lock of ours is held across a driver call.
inline std::uint32_t held_lock_count() { return t_host_thread_state.held_locks; }

/// Installs a scheduler for the calling OS thread, and what was there before at its end.
class HostSchedulerScope {
 public:
  explicit HostSchedulerScope(HostScheduler* scheduler) : before_(t_host_thread_state.scheduler) {
    t_host_thread_state.scheduler = scheduler;
  }
  HostSchedulerScope(const HostSchedulerScope&) = delete;
  HostSchedulerScope& operator=(const HostSchedulerScope&) = delete;
  HostSchedulerScope(HostSchedulerScope&&) = delete;
  HostSchedulerScope& operator=(HostSchedulerScope&&) = delete;
  ~HostSchedulerScope() { t_host_thread_state.scheduler = before_; }

 private:
  HostScheduler* before_;
};

/// For code that blocks and must not throw, destructors above all: in an abandoned run, blocking
/// hooks let all other threads unwind and then return, rather than throw.
class NoAbandonScope {
 public:
  NoAbandonScope() { ++t_host_thread_state.no_abandon_scopes; }
  NoAbandonScope(const NoAbandonScope&) = delete;
  NoAbandonScope& operator=(const NoAbandonScope&) = delete;
  NoAbandonScope(NoAbandonScope&&) = delete;
  NoAbandonScope& operator=(NoAbandonScope&&) = delete;
  ~NoAbandonScope() { --t_host_thread_state.no_abandon_scopes; }
};

}  // namespace spillway
