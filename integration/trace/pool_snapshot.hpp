// SPDX-License-Identifier: Apache-2.0
// What a device pool holds at one moment as a memory snapshot: PoolSnapshot in, the writer's input
// out. Without a history of calls; a replay has one (integration/replay/run_snapshot.hpp).
#pragma once

#include "allocator/pool_stats.hpp"
#include "integration/trace/snapshot_writer.hpp"

#include <cstdint>

namespace spillway {

/// Runs of mapped memory become segments that grow in place, chunks of the comm pool ordinary ones.
/// Memory that another stream may still use is "active_pending_free".
SnapshotContents snapshot_of(const PoolSnapshot& pool, std::uint16_t device = 0);

}  // namespace spillway
