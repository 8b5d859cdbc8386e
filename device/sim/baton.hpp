// SPDX-License-Identifier: Apache-2.0
// The baton of cooperative host threads: whoever takes sleeps until someone gives. One futex word,
// so a hand-over costs one wake-up and one sleep, and the release/acquire pair carries all memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace spillway::sim {

class Baton {
 public:
  /// REQUIRES: not given already.
  void give();
  void take();

 private:
  std::atomic<std::uint32_t> given_{0};
};

}  // namespace spillway::sim
