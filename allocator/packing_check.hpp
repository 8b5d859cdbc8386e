// SPDX-License-Identifier: Apache-2.0
// The judge of packings: shares no code with what makes them. A sweep over time keeps the address
// ranges alive in one ordered map, O(n log n).
#pragma once

#include "allocator/packing.hpp"

namespace spillway {

/// Ok when `packing` has one offset per buffer, every offset keeps its alignment and its fixed
/// place, no two buffers with bytes that are alive together share a byte, and the two numbers
/// height_bytes and load_bound_bytes are what they claim to be. Otherwise kInternal with the law
/// that was broken and the positions of the buffers.
Status check_packing(const PackingProblem& problem, const Packing& packing);

}  // namespace spillway
