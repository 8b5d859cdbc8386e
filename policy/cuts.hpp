// SPDX-License-Identifier: Apache-2.0
// Places where the forward pass can be cut into segments for checkpointing: between two ops, with
// the storages that cross. Keeping what crosses lets everything inside a segment be recomputed from
// it.
#pragma once

#include "policy/gaps.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

struct Cut {
  std::uint32_t after_op = 0;        // a forward op; the cut lies behind it
  std::uint64_t crossing_bytes = 0;  // made in forward before the cut, read in forward behind it
};

/// Cuts at every change of layer, in op order. Where the profile names no layers: the local minima
/// of crossing bytes, which in a chain are its articulation points.
std::vector<Cut> layer_cuts(const Profile& profile);

/// Keeps what crosses `cuts` (ascending), recomputes every other activation that can be from the
/// end of forward until backward needs it.
Choices checkpoint_at(const Profile& profile, const GapTable& gaps, const std::vector<Cut>& cuts);

/// Keeps the storages with a mark in `kept` (one per storage), recomputes every other activation
/// that can be from its last use in forward until the first one after it.
Choices keep_only(const Profile& profile, const GapTable& gaps, const std::vector<char>& kept);

}  // namespace spillway
