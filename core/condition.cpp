// SPDX-License-Identifier: Apache-2.0
// Waiting, natively and under a scheduler.
#include "core/condition.hpp"

#include <chrono>

namespace spillway {
namespace {

/// Gives the native lock back for the time of a scheduled wait, and takes it again if the scheduler
/// says that the mutex is held afterwards, which it is unless the run was abandoned.
class NativeRelease {
 public:
  NativeRelease(HostScheduler& scheduler, const Mutex& mutex, std::mutex& native)
      : scheduler_(scheduler), mutex_(mutex), native_(native) {
    if (scheduler_.mutex_is_held(&mutex_)) native_.unlock();
  }
  NativeRelease(const NativeRelease&) = delete;
  NativeRelease& operator=(const NativeRelease&) = delete;
  NativeRelease(NativeRelease&&) = delete;
  NativeRelease& operator=(NativeRelease&&) = delete;
  ~NativeRelease() {
    if (scheduler_.mutex_is_held(&mutex_)) native_.lock();
  }

 private:
  HostScheduler& scheduler_;
  const Mutex& mutex_;
  std::mutex& native_;
};

}  // namespace

void Condition::wait_once(Mutex& mutex) {
  if (HostScheduler* scheduler = host_scheduler()) {
    wait_scheduled(*scheduler, mutex, kNoDeadlineNs);
    return;
  }
  std::unique_lock<std::mutex> native(mutex.native_, std::adopt_lock);
  --t_host_thread_state.held_locks;
  native_.wait(native);  // NOLINT(bugprone-spuriously-wake-up-functions): the caller loops
  ++t_host_thread_state.held_locks;
  static_cast<void>(native.release());
}

bool Condition::wait_once_until(Mutex& mutex, std::int64_t deadline_ns) {
  if (HostScheduler* scheduler = host_scheduler())
    return wait_scheduled(*scheduler, mutex, deadline_ns);
  if (deadline_ns == kNoDeadlineNs) {
    wait_once(mutex);
    return true;
  }
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::unique_lock<std::mutex> native(mutex.native_, std::adopt_lock);
  --t_host_thread_state.held_locks;
  // NOLINTNEXTLINE(bugprone-spuriously-wake-up-functions): the caller loops
  const std::cv_status status = native_.wait_until(native, deadline);
  ++t_host_thread_state.held_locks;
  static_cast<void>(native.release());
  return status == std::cv_status::no_timeout;
}

bool Condition::wait_scheduled(HostScheduler& scheduler, Mutex& mutex, std::int64_t deadline_ns) {
  const NativeRelease released(scheduler, mutex, mutex.native_);
  return scheduler.condition_wait(this, &mutex, deadline_ns);
}

}  // namespace spillway
