// SPDX-License-Identifier: Apache-2.0
// SeqLock: readers of small records never block and never write; they read again when a writer was
// there meanwhile (Lamport 1977; memory orders as in Boehm, MSPC 2012, without fences). Writers
// exclude each other by a lock of their own.
#pragma once

#include "core/atomic.hpp"

#include <atomic>
#include <cstdint>

namespace spillway {

/// A field that readers of a SeqLock look at while a writer may be changing it. Reading it outside
/// of SeqLock::read() is for the holder of the writers' lock. On x86 both are plain moves.
template <typename T>
class SharedField {
  static_assert(std::atomic<T>::is_always_lock_free);

 public:
  constexpr SharedField() = default;
  constexpr explicit SharedField(T value) : value_(value) {}
  SharedField(const SharedField&) = delete;
  SharedField& operator=(const SharedField&) = delete;
  SharedField(SharedField&&) = delete;
  SharedField& operator=(SharedField&&) = delete;
  ~SharedField() = default;

  [[nodiscard]] T get() const { return value_.load(std::memory_order_acquire); }
  void set(T value) { value_.store(value, std::memory_order_release); }

 private:
  std::atomic<T> value_{};
};

/// Invariant: even while no writer is inside; grows with every change.
class SeqLock {
 public:
  /// REQUIRES: the writers' lock, from begin_write to end_write.
  void begin_write() { version_.store(++writer_version_, std::memory_order_relaxed); }
  void end_write() { version_.store(++writer_version_, std::memory_order_release); }

  /// Runs `body` and says whether what it read belongs to one moment; if not, it is to be thrown
  /// away. Every SharedField's set() is a release store that follows the odd version, so a reader
  /// who saw any of them sees a version other than the one it began with.
  template <typename Body>
  [[nodiscard]] bool try_read(Body body) const {
    const std::uint64_t before = version_.load(std::memory_order_acquire);
    if ((before & 1) != 0) return false;
    body();
    return version_.load(std::memory_order_relaxed) == before;
  }

 private:
  Atomic<std::uint64_t> version_{0};
  std::uint64_t writer_version_ = 0;
};

}  // namespace spillway
