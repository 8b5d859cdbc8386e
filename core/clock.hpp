// SPDX-License-Identifier: Apache-2.0
// Time as an argument: whoever needs the time takes a Clock, so tests and the simulated device
// bring their own.
#pragma once

#include <cstdint>

namespace spillway {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic nanoseconds since an arbitrary start.
  [[nodiscard]] virtual std::int64_t now_ns() const = 0;
};

/// CLOCK_MONOTONIC.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t now_ns() const override;
};

/// A clock that stands still until it is told otherwise.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t now_ns() const override { return now_ns_; }
  void advance_ns(std::int64_t delta_ns) { now_ns_ += delta_ns; }

 private:
  std::int64_t now_ns_ = 0;
};

}  // namespace spillway
