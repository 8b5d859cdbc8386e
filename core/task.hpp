// SPDX-License-Identifier: Apache-2.0
// A move-only callable void(): what a thread runs or a queue holds. std::function wants copies,
// which closures over owning handles do not have.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace spillway {

// NOLINTBEGIN(cppcoreguidelines-pro-type-member-init): bytes_ is filled with the closure.
// NOLINTBEGIN(google-explicit-constructor,bugprone-forwarding-reference-overload): constrained.
/// Closures of up to kInlineBytes live inside the object. Empty after a move from it.
class Task {
 public:
  static constexpr std::size_t kInlineBytes = 48;

  Task() = default;

  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Task> && std::is_invocable_v<std::decay_t<F>&>)
      Task(F&& function) {
    using Function = std::decay_t<F>;
    if constexpr (kFits<Function>) {
      ::new (static_cast<void*>(bytes_)) Function(std::forward<F>(function));
      operations_ = &kInlineOperations<Function>;
    } else {
      ::new (static_cast<void*>(bytes_)) Function*(new Function(std::forward<F>(function)));
      operations_ = &kHeapOperations<Function>;
    }
  }

  Task(Task&& other) noexcept { take(other); }
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { reset(); }

  explicit operator bool() const { return operations_ != nullptr; }

  /// REQUIRES: not empty.
  void operator()() { operations_->call(bytes_); }

  void reset() {
    if (operations_ != nullptr) std::exchange(operations_, nullptr)->destroy(bytes_);
  }

 private:
  struct Operations {
    void (*call)(void*);
    void (*move)(void* from, void* to);  // and ends `from`
    void (*destroy)(void*);
  };

  template <typename F>
  static constexpr bool kFits =
      sizeof(F) <= kInlineBytes &&
      alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;

  template <typename F>
  static constexpr Operations kInlineOperations = {[](void* at) { (*static_cast<F*>(at))(); },
                                                   [](void* from, void* to) {
                                                     ::new (to)
                                                         F(std::move(*static_cast<F*>(from)));
                                                     static_cast<F*>(from)->~F();
                                                   },
                                                   [](void* at) { static_cast<F*>(at)->~F(); }};

  template <typename F>
  static constexpr Operations kHeapOperations = {
      [](void* at) { (**static_cast<F**>(at))(); },
      [](void* from, void* to) { ::new (to) F*(*static_cast<F**>(from)); },
      [](void* at) { delete *static_cast<F**>(at); }};

  void take(Task& other) noexcept {
    operations_ = std::exchange(other.operations_, nullptr);
    if (operations_ != nullptr) operations_->move(other.bytes_, bytes_);
  }

  const Operations* operations_ = nullptr;
  alignas(std::max_align_t) std::byte bytes_[kInlineBytes];
};
// NOLINTEND(google-explicit-constructor,bugprone-forwarding-reference-overload)
// NOLINTEND(cppcoreguidelines-pro-type-member-init)

}  // namespace spillway
