// SPDX-License-Identifier: Apache-2.0
// What BriefMutex does when it is not free, and under a scheduler.
#include "core/brief_mutex.hpp"

#include <chrono>
#include <thread>

namespace spillway {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace

// The holder is inside for some ten nanoseconds, unless it lost its core there: then only time for
// other threads helps, and in the end, where the holder has a lower priority, only sleep.
void BriefMutex::wait() {
  constexpr int kSpins = 100;
  constexpr int kYields = 1000;
  constexpr auto kSleep = std::chrono::microseconds(50);
  for (int i = 0; i < kSpins; ++i) {
    if (looks_free() && try_lock_native()) return;
    relax();
  }
  for (int i = 0;; ++i) {
    if (looks_free() && try_lock_native()) return;
    if (i < kYields)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(kSleep);
  }
}

void BriefMutex::forget() {
  if (HostScheduler* scheduler = host_scheduler()) [[unlikely]] {
    scheduler->forget(this);
    scheduler->forget(&word_);
  }
}

void BriefMutex::lock_scheduled(HostScheduler& scheduler) {
  if (scheduler.mutex_lock(this, name_)) {
    scheduler.atomic_before(&word_, AtomicAccess::kReadModifyWrite);
    lock_native();
    scheduler.atomic_after(&word_, AtomicAccess::kReadModifyWrite, std::memory_order_acquire);
  }
  ++t_host_thread_state.held_locks;
}

void BriefMutex::unlock_scheduled(HostScheduler& scheduler) {
  --t_host_thread_state.held_locks;
  // The native lock first: once the scheduler knows, another of its threads may go on.
  if (scheduler.mutex_is_held(this)) {
    scheduler.atomic_before(&word_, AtomicAccess::kStore);
    unlock_native();
    scheduler.atomic_after(&word_, AtomicAccess::kStore, std::memory_order_release);
  }
  scheduler.mutex_unlock(this);
}

std::uint64_t BriefMutex::version_scheduled(HostScheduler& scheduler,
                                            std::memory_order order) const {
  scheduler.atomic_before(&word_, AtomicAccess::kLoad);
  const std::uint64_t word = word_.load(order);
  scheduler.atomic_after(&word_, AtomicAccess::kLoad, order);
  return word;
}

}  // namespace spillway
