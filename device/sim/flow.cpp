// SPDX-License-Identifier: Apache-2.0
// Max-min fair division by passes: each pass serves those that want no more than an equal part.
#include "device/sim/flow.hpp"

#include <algorithm>
#include <cstddef>

namespace spillway::sim {

void divide_fairly(std::uint64_t capacity, std::span<Share> shares) {
  if (shares.size() <= 1) {  // by far the most frequent
    for (Share& share : shares) share.given = std::min(share.wanted, capacity);
    return;
  }
  for (Share& share : shares) share.settled = false;
  std::size_t open = shares.size();
  while (open > 0) {
    const std::uint64_t part = capacity / open;
    std::uint64_t taken = 0;
    std::size_t served = 0;
    for (Share& share : shares) {
      if (share.settled || share.wanted > part) continue;
      share.given = share.wanted;
      share.settled = true;
      taken += share.wanted;
      ++served;
    }
    if (served == 0) {
      for (Share& share : shares) {
        if (!share.settled) share.given = part;
      }
      return;
    }
    capacity -= taken;
    open -= served;
  }
}

}  // namespace spillway::sim
