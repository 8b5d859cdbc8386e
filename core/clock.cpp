// SPDX-License-Identifier: Apache-2.0
// The operating system's monotonic clock.
#include "core/clock.hpp"

#include <chrono>

namespace spillway {

std::int64_t SystemClock::now_ns() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace spillway
