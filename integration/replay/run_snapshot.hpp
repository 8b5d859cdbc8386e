// SPDX-License-Identifier: Apache-2.0
// A finished run as a memory snapshot: what viewers of PyTorch's form need to show where this
// allocator put the blocks of that trace.
#pragma once

#include "integration/replay/allocation_trace.hpp"
#include "integration/replay/allocator_run.hpp"
#include "integration/trace/snapshot_writer.hpp"

namespace spillway {

/// REQUIRES: the run was made with `pictures`, from this trace.
SnapshotContents snapshot_of(const AllocationTrace& trace, const AllocatorRun& run);

}  // namespace spillway
