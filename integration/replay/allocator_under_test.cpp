// SPDX-License-Identifier: Apache-2.0
// The default start of a replay: everything that was there is allocated anew, in address order.
#include "integration/replay/allocator_under_test.hpp"

namespace spillway {

Status AllocatorUnderTest::begin(const AllocationTrace& trace,
                                 std::vector<std::uint64_t>* addresses) {
  for (std::uint32_t block = 0; block < trace.preexisting_count; ++block) {
    SPW_ASSIGN_OR_RETURN((*addresses)[block], allocate(trace, block));
  }
  return {};
}

}  // namespace spillway
