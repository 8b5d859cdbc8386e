// SPDX-License-Identifier: Apache-2.0
// Places where the forward pass can be cut into segments for checkpointing: between two ops, with the storages that cross. Keeping what
// crosses lets everything inside a segment be recomputed from it.
#pragma once

#include <cstdint>
#include <vector>

#include "policy/gaps.hpp"
#include "policy/profile.hpp"

namespace spillway {

struct Cut {
  std::uint32_t after_op = 0;        // a forward op; the cut lies behind it
  std::uint64_t crossing_bytes = 0;  // made in forward before the cut, read in forward behind it
};

/// Cuts at every change of layer, in op order. Where the profile names no layers: the local minima of crossing bytes that are at most
/// twice the smallest single activation crossing, which are the articulation points of a chain.
std::vector<Cut> layer_cuts(const Profile& profile);

/// Keeps what crosses `cuts`, recomputes every other activation that can be (all its gaps that lie across its segment's end), and whatever
/// cannot be recomputed stays.
Choices checkpoint_at(const Profile& profile, const GapTable& gaps, const std::vector<Cut>& cuts);

}  // namespace spillway
