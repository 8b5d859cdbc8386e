// SPDX-License-Identifier: Apache-2.0
// Sequence locks: readers of small records never block and never write; they read again when a
// writer was there meanwhile (Lamport 1977; memory orders as in Boehm, MSPC 2012, without fences).
// The lock and its version are BriefMutex (core/brief_mutex.hpp); here are the fields.
#pragma once

#include <atomic>

namespace spillway {

/// A field that readers look at, in BriefMutex::try_read, while the holder of the lock may be
/// changing it. Reading it elsewhere is for that holder. On x86 both are plain moves.
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

}  // namespace spillway
