// SPDX-License-Identifier: Apache-2.0
// The one way a driver object is owned: move-only, empty after a move, ended exactly once. The
// classes of device/ (Stream, Event, ...) hold their handle in one of these, so none of them writes
// a destructor. Ending waits for nothing that the driver's own call does not wait for.
#pragma once

#include "device/driver_error.hpp"

#include <cstddef>
#include <utility>

namespace spillway {

/// `End` names the call: `using Handle = ...; static constexpr const char* kCall = "...";` and
/// `static cu::Result end(const Driver&, Handle)`. The driver must outlive the owner.
template <typename End>
class OwnedHandle {
 public:
  using Handle = typename End::Handle;

  OwnedHandle() = default;
  OwnedHandle(const Driver& driver, Handle handle) : driver_(&driver), handle_(handle) {}
  OwnedHandle(const OwnedHandle&) = delete;
  OwnedHandle& operator=(const OwnedHandle&) = delete;
  OwnedHandle(OwnedHandle&& other) noexcept
      : driver_(std::exchange(other.driver_, nullptr)), handle_(std::exchange(other.handle_, {})) {}
  OwnedHandle& operator=(OwnedHandle&& other) noexcept {
    if (this != &other) {
      reset();
      driver_ = std::exchange(other.driver_, nullptr);
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~OwnedHandle() { reset(); }

  [[nodiscard]] bool empty() const { return driver_ == nullptr; }
  [[nodiscard]] Handle get() const { return handle_; }
  /// REQUIRES: !empty().
  [[nodiscard]] const Driver& driver() const { return *driver_; }

  /// Gives the handle up: the caller ends it. Empty afterwards.
  [[nodiscard]] Handle release() {
    driver_ = nullptr;
    return std::exchange(handle_, {});
  }

  /// Ends the object now. Empty afterwards.
  void reset() {
    const Driver* driver = std::exchange(driver_, nullptr);
    if (driver == nullptr) return;
    const cu::Result ended = End::end(*driver, std::exchange(handle_, {}));
    check_ended(ended, End::kCall, __FILE__, __LINE__);
  }

 private:
  const Driver* driver_ = nullptr;  // null: empty
  Handle handle_{};
};

}  // namespace spillway
