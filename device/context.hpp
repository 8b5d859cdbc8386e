// SPDX-License-Identifier: Apache-2.0
// The context that memory and streams live in: the one that the caller has made current, or the
// device's primary one, which the CUDA runtime and every framework share.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/owned_handle.hpp"

#include <utility>

namespace spillway {

class Context {
 public:
  /// The context that is current on this thread, owned by whoever made it. kNotFound when there is
  /// none.
  static Result<Context> adopt_current(const Driver& driver);
  /// The primary context of a device, kept alive until this object ends. Not made current.
  static Result<Context> retain_primary(const Driver& driver, int ordinal);
  /// The current one; when there is none, the primary one of the device.
  static Result<Context> current_or_primary(const Driver& driver, int ordinal);

  [[nodiscard]] cu::Context handle() const { return handle_; }
  [[nodiscard]] cu::Device device() const { return device_; }
  [[nodiscard]] const Driver& driver() const { return *driver_; }
  /// Whether this object keeps the context alive.
  [[nodiscard]] bool retains() const { return !retained_.empty(); }

 private:
  struct End {
    using Handle = cu::Device;
    static constexpr const char* kCall = "cuDevicePrimaryCtxRelease(device)";
    static cu::Result end(const Driver& driver, Handle device) {
      return driver.cuDevicePrimaryCtxRelease(device);
    }
  };
  Context(const Driver& driver, cu::Context handle, cu::Device device)
      : driver_(&driver), handle_(handle), device_(device) {}

  const Driver* driver_;
  cu::Context handle_;
  cu::Device device_;
  OwnedHandle<End> retained_;
};

/// Makes a context current on this thread until the end of the scope, and then what was current
/// before. Ends on the thread that entered, innermost first.
class ScopedContext {
 public:
  static Result<ScopedContext> enter(const Context& context);

 private:
  struct End {
    using Handle = cu::Context;
    static constexpr const char* kCall = "cuCtxPopCurrent(context)";
    static cu::Result end(const Driver& driver, Handle /*entered*/) {
      cu::Context popped = nullptr;
      return driver.cuCtxPopCurrent(&popped);
    }
  };
  explicit ScopedContext(OwnedHandle<End> entered) : entered_(std::move(entered)) {}

  OwnedHandle<End> entered_;
};

/// While it lives, calls of this thread that a capture elsewhere would forbid (allocations, event
/// queries) are allowed: cuThreadExchangeStreamCaptureMode, relaxed. For calls that touch no
/// capturing stream.
class RelaxedCapture {
 public:
  static Result<RelaxedCapture> enter(const Driver& driver);

 private:
  struct End {
    using Handle = cu::StreamCaptureMode;  // the mode before
    static constexpr const char* kCall = "cuThreadExchangeStreamCaptureMode(mode)";
    static cu::Result end(const Driver& driver, Handle before) {
      return driver.cuThreadExchangeStreamCaptureMode(&before);
    }
  };
  explicit RelaxedCapture(OwnedHandle<End> before) : before_(std::move(before)) {}

  OwnedHandle<End> before_;
};

}  // namespace spillway
