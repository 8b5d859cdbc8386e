// SPDX-License-Identifier: Apache-2.0
// Mutexes, conditions and atomics under HostThreads: who holds and waits, and their clocks.
//   unlock -> next lock    the mutex's clock is joined by the one and into the other
//   store -> acquire load  a store replaces the location's clock: the thread's own if it releases,
//                          nothing if it is relaxed; a read-modify-write that releases joins it,
//                          and a relaxed one leaves it, so both continue the release sequence
//                          (C++20)
#include "device/sim/host_threads.hpp"

#include <algorithm>

namespace spillway::sim {
namespace {

bool acquires(std::memory_order order) {
  return order == std::memory_order_acquire || order == std::memory_order_consume ||
         order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

bool releases(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

}  // namespace

HostThreads::Object* HostThreads::find(const void* address) {
  const std::uint32_t index = table_.find(address);
  return index == AddressTable::kAbsent ? nullptr : &objects_[index];
}

HostThreads::Object& HostThreads::object(const void* address, ObjectKind kind, const char* name) {
  if (Object* known = find(address)) {
    if (known->kind == kind) return *known;
    forget(address);
  }
  std::uint32_t index = 0;
  if (free_objects_.empty()) {
    index = static_cast<std::uint32_t>(objects_.size());
    objects_.emplace_back();
  } else {
    index = free_objects_.back();
    free_objects_.pop_back();
  }
  table_.insert(address, index);
  Object& fresh = objects_[index];
  fresh.address = address;
  fresh.name = name;
  fresh.kind = kind;
  fresh.clock.clear();
  fresh.owner = kNone;
  fresh.is_tried = false;
  fresh.arrivals = 0;
  fresh.waiting = 0;
  fresh.tokens.clear();
  return fresh;
}

void HostThreads::forget(const void* object) {
  const std::uint32_t index = table_.find(object);
  if (index == AddressTable::kAbsent) return;
  Object& gone = objects_[index];
  if (!abandoned_ && gone.owner != kNone)
    environment_.misuse("a mutex was destroyed while locked", gone.name);
  if (!abandoned_ && gone.waiting != 0)
    environment_.misuse("a condition was destroyed while waited for", gone.name);
  gone.address = nullptr;
  table_.erase(object);
  free_objects_.push_back(index);
}

bool HostThreads::is_free(void* mutex) { return static_cast<const Object*>(mutex)->owner == kNone; }

/// Waits until it is free and takes it.
bool HostThreads::lock(Object& mutex) {
  if (mutex.owner != kNone && !block(&is_free, &mutex, "mutex", kNoDeadlineNs, &mutex, kNone)) {
    return false;
  }
  mutex.owner = current_;
  environment_.acquire(current_, mutex.clock);
  return true;
}

bool HostThreads::mutex_lock(const void* mutex, const char* name) {
  point("lock");
  return lock(object(mutex, ObjectKind::kMutex, name));
}

bool HostThreads::mutex_try_lock(const void* mutex, const char* name) {
  point("try_lock");
  Object& known = object(mutex, ObjectKind::kMutex, name);
  known.is_tried = true;
  if (known.owner != kNone) return false;
  return lock(known);
}

bool HostThreads::mutex_unlock(const void* mutex) {
  Object* known = find(mutex);
  if (known == nullptr || known->owner != current_) {
    if (!abandoned_) {
      environment_.misuse("unlock of a mutex that the thread does not hold",
                          known == nullptr ? "never locked" : known->name);
    }
    return false;
  }
  if (known->is_tried && !abandoned_) environment_.point("unlock");
  environment_.release(current_, known->clock);
  known->owner = kNone;
  ++progress_;
  return true;
}

bool HostThreads::mutex_is_held(const void* mutex) {
  const Object* known = find(mutex);
  return known != nullptr && known->owner == current_;
}

/// A thread's stay among the waiters of a condition.
struct HostThreads::ConditionWait {
  Object& condition;
  const std::uint64_t arrival;
  bool left = false;

  explicit ConditionWait(Object& object) : condition(object), arrival(++object.arrivals) {
    ++condition.waiting;
  }
  ConditionWait(const ConditionWait&) = delete;
  ConditionWait& operator=(const ConditionWait&) = delete;
  ConditionWait(ConditionWait&&) = delete;
  ConditionWait& operator=(ConditionWait&&) = delete;
  ~ConditionWait() { static_cast<void>(leave()); }

  /// Takes a notification if there is one for it. The narrowest: later arrivals may not take that.
  bool leave() {
    if (left) return false;
    left = true;
    --condition.waiting;
    const auto token = std::lower_bound(condition.tokens.begin(), condition.tokens.end(), arrival);
    if (token == condition.tokens.end()) return false;
    condition.tokens.erase(token);
    return true;
  }
};

bool HostThreads::is_notified(void* condition_wait) {
  const auto& one = *static_cast<const ConditionWait*>(condition_wait);
  return !one.condition.tokens.empty() && one.condition.tokens.back() >= one.arrival;
}

bool HostThreads::condition_wait(const void* condition,
                                 const void* mutex,
                                 std::int64_t deadline_ns) {
  point("condition wait");
  Object& waited = object(condition, ObjectKind::kCondition, "condition");
  Object* held = find(mutex);
  const bool is_held = held != nullptr && held->owner == current_;
  if (!is_held && !abandoned_) environment_.misuse("a wait without the lock", waited.name);

  ConditionWait stay(waited);
  if (is_held) mutex_unlock(mutex);
  try {
    block(&is_notified, &stay, "condition", deadline_ns, &waited, kNone);
  } catch (const ThreadsAbandoned&) {
    const NoAbandonScope no_abandon;
    if (is_held) static_cast<void>(lock(*held));
    throw;
  }
  const bool notified = stay.leave();
  if (is_held) static_cast<void>(lock(*held));
  return notified;
}

void HostThreads::condition_notify(const void* condition, bool all) {
  point("notify");
  Object* known = find(condition);
  if (known == nullptr) return;
  // Which waiter takes a token is left to the schedule.
  while (known->tokens.size() < known->waiting) {
    known->tokens.push_back(known->arrivals);
    if (!all) break;
  }
}

void HostThreads::atomic_before(const void* location, AtomicAccess access) {
  static_cast<void>(location);
  switch (access) {
    case AtomicAccess::kLoad:
      point("atomic load");
      break;
    case AtomicAccess::kStore:
      point("atomic store");
      break;
    case AtomicAccess::kReadModifyWrite:
      point("atomic read-modify-write");
      break;
  }
}

void HostThreads::atomic_after(const void* location, AtomicAccess access, std::memory_order order) {
  if (access != AtomicAccess::kStore && acquires(order)) {
    if (const Object* known = find(location)) environment_.acquire(current_, known->clock);
  }
  if (access == AtomicAccess::kLoad) return;
  if (releases(order)) {
    Object& known = object(location, ObjectKind::kAtomic, "atomic");
    if (access == AtomicAccess::kStore) known.clock.clear();
    environment_.release(current_, known.clock);
  } else if (access == AtomicAccess::kStore) {
    if (Object* known = find(location)) known->clock.clear();
  }
}

}  // namespace spillway::sim
