// SPDX-License-Identifier: Apache-2.0
// What a PyTorch snapshot does not say and its stacks do: forward, backward or optimizer, the
// layer, where a step ends.
#pragma once

#include "integration/trace/snapshot_model.hpp"
#include "integration/trace/snapshot_stacks.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

struct SnapshotPhases {
  std::vector<std::uint32_t>
      first_run_of_step;                    // per step: forward passes that had begun before it
  std::vector<std::uint32_t> runs_of_step;  // per step: its forward passes (micro-batches)
  std::uint32_t layer_count = 0;            // 0 when no stack repeats
  std::uint32_t layered_alloc_count = 0;
  std::uint32_t forward_alloc_count = 0;
  bool has_backward = false;
};

/// Fills phase, forward_run, layer and begins_step of every event.
SnapshotPhases infer_phases(SnapshotModel& model, const SnapshotStacks& stacks);

}  // namespace spillway
