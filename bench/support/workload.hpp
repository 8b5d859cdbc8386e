// SPDX-License-Identifier: Apache-2.0
// What allocators are asked for in the benches: sequences of allocations and frees, made up before
// the clock starts. From recorded traces (every format that integration/trace reads), and made up
// from a seed, the same on every machine.
#pragma once

#include "core/status.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::bench {

/// One call. `bytes` of 0 frees what lies in `slot`; else the new block goes there.
struct AllocOp {
  std::uint64_t bytes = 0;
  std::uint32_t slot = 0;
  std::uint32_t stream = 0;  // index; a free names the stream of its allocation
};

/// `prologue` runs once, `body` any number of times (it leaves the slots as it found them, filled
/// or empty, with other blocks), `epilogue` frees what is left.
struct Workload {
  std::string name;
  std::string input;  // where sizes and order come from, for the report
  std::vector<AllocOp> prologue, body, epilogue;
  std::uint32_t slot_count = 0;
  std::uint32_t stream_count = 1;
  std::size_t pair_count = 0;  // allocations in `body`, and frees
  std::uint64_t live_bytes_peak = 0;
  std::uint32_t live_count_peak = 0;
};

/// A whole trace in the order of its events: what was there before it first, what is left at its
/// end freed last, so that it can be repeated. Frees happen when they were requested. Errors: those
/// of read_trace, and kBadInput when there is no allocation in it.
Result<Workload> recorded_step(const std::string& path);

/// A training step of a transformer in that form: `layers` blocks of forward allocations kept for
/// backward, temporaries in between, frees in backward order. Sizes of GPT-2 medium at batch 4.
Workload made_up_step(std::uint32_t layers, std::uint32_t tokens);

/// Sizes of a workload's allocations, in their order.
std::vector<std::uint64_t> sizes_of(const Workload& workload);

/// Allocate, free, with the next of `sizes` each time. REQUIRES: sizes is not empty, here and
/// below.
Workload back_to_back(std::span<const std::uint64_t> sizes, std::size_t pairs);

/// `live` blocks; each step frees one chosen at random and allocates another in its place.
Workload random_replace(std::span<const std::uint64_t> sizes,
                        std::uint32_t live,
                        std::size_t pairs,
                        std::uint64_t seed);

/// As RMM's RANDOM_ALLOCATIONS bench draws them: `count` allocations, each step allocates with
/// probability 73 % (or when nothing is live) and else frees a random live block; sizes uniform in
/// 1..max_mib MiB; when the next one would exceed 16,000 MiB live, blocks are freed first.
Workload rmm_random(std::size_t count, std::uint64_t max_mib, std::uint64_t seed);

}  // namespace spillway::bench
