// SPDX-License-Identifier: Apache-2.0
// What PyTorch's partitioner saves under activation_memory_budget
// (torch/_functorch/partitioners.py, _activation_checkpointing/knapsack.py), over storages instead
// of graph nodes.
#pragma once

#include "policy/gaps.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Marks per storage: saved for backward under budget b in [0, 1]. 1: the minimum cut, 0: none.
std::vector<char> torch_budget_saved(const Profile& profile, const GapTable& gaps, double b);

/// The price of saving a storage that lies `distance` forward ops before backward (1: read by it):
/// bytes, ten percent more per op up to 100, so that of equals the later is saved.
std::uint64_t torch_save_price(std::uint64_t bytes, std::uint32_t distance);

}  // namespace spillway
