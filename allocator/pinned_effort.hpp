// SPDX-License-Identifier: Apache-2.0
// What the pinned pool has tried for one request, for its statistics and for the text of a failure.
#pragma once

#include "allocator/pinned_pool.hpp"

#include <cstdint>

namespace spillway {

inline constexpr std::int64_t kDidNotWait = -1;

struct PinnedPool::Effort {
  bool too_large = false;
  bool in_step = false;                  // so nothing was unregistered
  std::int64_t waited_ns = kDidNotWait;  // for registrations
  Status growth;                         // the last registration that failed

  void add_wait(std::int64_t wait_ns) {
    waited_ns = (waited_ns == kDidNotWait ? 0 : waited_ns) + wait_ns;
  }
};

}  // namespace spillway
