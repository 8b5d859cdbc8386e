// SPDX-License-Identifier: Apache-2.0
// Offline packing: an offset for every buffer of a step whose lifetimes are known, so that buffers
// alive together never overlap and the top is low. NP-hard; heuristics, local search and an exact
// search run in turns until a limit of counted work. Method and figures: docs/packing.md.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

/// One buffer, known by its position in PackingProblem::buffers. Times are in any one unit.
struct PackBuffer {
  std::uint64_t begin = 0;  // alive in [begin, end); begin == end is never alive and takes no room
  std::uint64_t end = 0;
  std::uint64_t bytes = 0;
  std::uint64_t alignment = 1;                // the offset is a multiple of it; any number above 0
  std::optional<std::uint64_t> fixed_offset;  // must lie there
  std::optional<std::uint64_t> hint_offset;   // from an earlier packing: where to start looking
};

struct PackingProblem {
  std::vector<PackBuffer> buffers;
};

/// Work is counted in steps of some nanoseconds, so that a limit gives the same packing on every
/// machine and for every number of threads.
struct PackingOptions {
  std::uint64_t capacity_bytes = 0;  // enough when the height is at most this; 0: as low as can be
  std::uint64_t seed = 1;
  /// Steps. 0: 2e8, about 2 s of one core, and three times that while the height is 0.3 % or more
  /// above the load bound.
  std::uint64_t work_limit = 0;
  unsigned thread_count = 0;  // 0, or more than that: as many as there are cores
  /// Asked now and then, from several threads at once: true ends the search with the best packing
  /// so far. What a clock decides does not repeat.
  std::function<bool()> stop;
};

/// Invariants, for buffers with bytes and a lifetime, where placed bytes are bytes rounded up to
/// the greatest common divisor of all alignments (offsets are multiples of it, so the rest of the
/// last unit is of no use to anyone): height_bytes == max(offset + placed bytes);
/// load_bound_bytes == max over time of the sum of placed bytes alive <= height_bytes.
struct Packing {
  std::vector<std::uint64_t> offsets;  // in bytes, one per buffer
  std::uint64_t height_bytes = 0;
  std::uint64_t load_bound_bytes = 0;
  /// No packing is lower than this; at least load_bound_bytes.
  std::uint64_t lower_bound_bytes = 0;
  bool optimal = false;    // height_bytes == lower_bound_bytes
  std::string method;      // what found it, such as "search" or "size, first fit"
  std::uint64_t work = 0;  // steps counted
};

/// More work gives a packing that is never higher (or, under a capacity, never fails to fit where
/// less work fitted). kInvalidArgument: an end before its begin, an alignment of 0, a fixed offset
/// off its alignment or on another fixed buffer, sums of 2^62 bytes and more. May be called from
/// several threads.
Result<Packing> pack(const PackingProblem& problem, const PackingOptions& options);

/// A step's layout as the device pool takes it: pure data. Buffer i of the step, in the order given
/// to lay_out, lies at [offsets[i], offsets[i] + bytes) of one region of height_bytes.
struct PackedLayout {
  std::vector<std::uint64_t> offsets;
  std::uint64_t height_bytes = 0;
};

struct Lifetime {
  std::uint64_t bytes = 0;
  std::uint64_t begin = 0;  // alive in [begin, end)
  std::uint64_t end = 0;
};

/// pack() with one alignment for all, judged by check_packing before it is handed out.
Result<PackedLayout> lay_out(const std::vector<Lifetime>& lifetimes,
                             std::uint64_t alignment,
                             const PackingOptions& options);

}  // namespace spillway
