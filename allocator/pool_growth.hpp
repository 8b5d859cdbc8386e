// SPDX-License-Identifier: Apache-2.0
// One growth of the arena, between the moment it is decided under the lock and the moment it is
// entered there: for the pool's own source files.
#pragma once

#include "allocator/device_pool.hpp"

#include <vector>

namespace spillway {

/// Everything here is claimed: nobody else touches these blocks, and the bytes are charged.
///
///   ...| head (free before) | target (unmapped before) |...      donors: handles elsewhere, whole
///      <------------- at least what is asked for ------>         in free memory, to be moved here
struct DevicePool::Growth {
  struct Donor {
    BlockIndex block = kNoBlock;  // exactly the handle's range
    Granule at = 0;
    StreamPoint point;  // must be over before the handle may leave
    bool unmapped = false;
  };

  BlockIndex head = kNoBlock;
  BlockIndex target = kNoBlock;
  Granule target_at = 0;
  Granule target_granules = 0;
  Granule handle_granules = 1;  // of handles to be created
  std::vector<Donor> donors;
  std::vector<PlacedHandle> spare;  // kept handles that are used
  Granule created_granules = 0;     // charged for handles to be created

  std::vector<PlacedHandle> ready;  // without a place, to be mapped in this order
  Granule mapped_granules = 0;      // of the target, from its beginning
  std::size_t mapped_count = 0;     // of `ready`
  std::size_t created_count = 0;    // at the end of `ready`: made for this growth
};

}  // namespace spillway
