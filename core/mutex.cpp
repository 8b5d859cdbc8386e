// SPDX-License-Identifier: Apache-2.0
// The scheduled halves of Mutex, out of line to keep the common path small.
#include "core/mutex.hpp"

namespace spillway {

void Mutex::lock_scheduled(HostScheduler& scheduler) {
  if (scheduler.mutex_lock(this, name_)) native_.lock();
}

bool Mutex::try_lock_scheduled(HostScheduler& scheduler) {
  if (!scheduler.mutex_try_lock(this, name_)) return false;
  if (native_.try_lock()) return true;
  scheduler.mutex_unlock(this);  // held by a thread that this scheduler does not know
  return false;
}

void Mutex::unlock_scheduled(HostScheduler& scheduler) {
  // The native lock first: once the scheduler knows, another of its threads may go on.
  const bool held = scheduler.mutex_is_held(this);
  if (held) native_.unlock();
  scheduler.mutex_unlock(this);
}

}  // namespace spillway
