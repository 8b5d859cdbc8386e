// SPDX-License-Identifier: Apache-2.0
// Forward ops through whose outputs everything passes: cut the graph there and nothing else
// crosses. In graph words: articulation points that separate what comes before from what follows.
#pragma once

#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Per op: 1 for a forward op behind which only its own outputs are still read by the forward pass
/// it belongs to. Storages of at most `ignored_elements` elements do not count (a mask that every
/// layer reads would hide them all). Linear in the profile.
std::vector<char> bottleneck_ops(const Profile& profile, std::uint64_t ignored_elements);

/// Bytes divided by the size of an element; bytes where that is not known.
std::uint64_t element_count(const Storage& storage);

}  // namespace spillway
