// SPDX-License-Identifier: Apache-2.0
// Thread: an OS thread with a name that is joined at the latest by its destructor; and the time and
// patience of the calling thread. Under a HostScheduler the thread belongs to it from birth.
#pragma once

#include "core/status.hpp"
#include "core/task.hpp"

#include <cstdint>
#include <memory>

namespace spillway {

/// Move-only. The destructor and assignment join a running thread: they block until its body has
/// returned, so that the body may use what outlives the Thread.
class Thread {
 public:
  Thread() noexcept;
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread();

  /// `name` is a static string; the operating system shows its first 15 characters. An exception
  /// that leaves `body` ends the process. Fails with kOutOfMemory when the system gives no thread.
  static Result<Thread> start(const char* name, Task body);

  /// True from start to join.
  [[nodiscard]] bool joinable() const { return running_ != nullptr; }
  /// Blocks until the body has returned. REQUIRES: joinable(), and another thread than its own.
  void join();

 private:
  struct Running;
  explicit Thread(std::unique_ptr<Running> running) noexcept;

  std::unique_ptr<Running> running_;
};

/// Lets another thread run.
void host_yield();

/// Nanoseconds of the scheduler's virtual time, else of CLOCK_MONOTONIC: the clock of every
/// deadline in core/.
std::int64_t host_now_ns();
void host_sleep_until(std::int64_t deadline_ns);

}  // namespace spillway
