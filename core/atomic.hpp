// SPDX-License-Identifier: Apache-2.0
// Atomic<T>: std::atomic<T> with the memory order always written out, under the same HostScheduler
// as the locks. A scheduler runs one thread at a time, so a load always sees the newest store; what
// a weaker order permits beyond that shows in the clocks, as a missing edge. No fences.
#pragma once

#include "core/host_scheduler.hpp"

#include <atomic>
#include <type_traits>

namespace spillway {

template <typename T>
class Atomic {
  static_assert(std::atomic<T>::is_always_lock_free, "a lock inside would hide from the scheduler");

 public:
  using value_type = T;

  constexpr Atomic() : Atomic(T()) {}
  explicit constexpr Atomic(T value) : value_(value) {
    // Only here, so that the destructor stays trivial: reuse of an address begins with this.
    if (!std::is_constant_evaluated()) forget();
  }
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;
  Atomic(Atomic&&) = delete;
  Atomic& operator=(Atomic&&) = delete;
  ~Atomic() = default;

  [[nodiscard]] T load(std::memory_order order) const {
    return access(AtomicAccess::kLoad, order, [&] { return value_.load(order); });
  }
  void store(T value, std::memory_order order) {
    access(AtomicAccess::kStore, order, [&] { value_.store(value, order); });
  }
  T exchange(T value, std::memory_order order) {
    return access(
        AtomicAccess::kReadModifyWrite, order, [&] { return value_.exchange(value, order); });
  }

  /// Strong. On failure `expected` becomes the value found.
  bool compare_exchange(T& expected,
                        T desired,
                        std::memory_order success,
                        std::memory_order failure) {
    HostScheduler* scheduler = host_scheduler();
    if (scheduler != nullptr) [[unlikely]]
      scheduler->atomic_before(this, AtomicAccess::kReadModifyWrite);
    const bool done = value_.compare_exchange_strong(expected, desired, success, failure);
    if (scheduler != nullptr) [[unlikely]] {
      if (done)
        scheduler->atomic_after(this, AtomicAccess::kReadModifyWrite, success);
      else
        scheduler->atomic_after(this, AtomicAccess::kLoad, failure);
    }
    return done;
  }

  /// These return the value before. Unsigned and signed integers wrap around.
  T fetch_add(T operand, std::memory_order order) requires std::is_integral_v<T> {
    return access(
        AtomicAccess::kReadModifyWrite, order, [&] { return value_.fetch_add(operand, order); });
  }
  T fetch_sub(T operand, std::memory_order order) requires std::is_integral_v<T> {
    return access(
        AtomicAccess::kReadModifyWrite, order, [&] { return value_.fetch_sub(operand, order); });
  }
  T fetch_or(T operand, std::memory_order order) requires std::is_integral_v<T> {
    return access(
        AtomicAccess::kReadModifyWrite, order, [&] { return value_.fetch_or(operand, order); });
  }
  T fetch_and(T operand, std::memory_order order) requires std::is_integral_v<T> {
    return access(
        AtomicAccess::kReadModifyWrite, order, [&] { return value_.fetch_and(operand, order); });
  }

 private:
  void forget() const {
    if (HostScheduler* scheduler = host_scheduler()) [[unlikely]]
      scheduler->forget(this);
  }

  template <typename Body>
  // NOLINTNEXTLINE(modernize-use-nodiscard): a store has nothing to give
  auto access(AtomicAccess kind, std::memory_order order, Body body) const {
    HostScheduler* scheduler = host_scheduler();
    if (scheduler == nullptr) [[likely]]
      return body();
    scheduler->atomic_before(this, kind);
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      scheduler->atomic_after(this, kind, order);
    } else {
      const auto result = body();
      scheduler->atomic_after(this, kind, order);
      return result;
    }
  }

  std::atomic<T> value_;
};

}  // namespace spillway
