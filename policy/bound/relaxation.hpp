// SPDX-License-Identifier: Apache-2.0
// The linear relaxation: where every storage is while each of a few ops runs, what must happen
// between those ops, and what that takes. docs/policy.md has rows and proof.
#pragma once

#include "policy/bound/bound_step.hpp"
#include "policy/bound/linear_program.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace spillway {

struct Relaxation {
  LinearProgram program;
  double unit_ns = 1;        // of the program's cost
  std::int64_t most_ns = 0;  // slower plans are not covered: the bound is at most this much
};

/// Over the ops `points` (ascending, none twice) under `budget_bytes`; `free_items` marks storages
/// that are taken to need no memory. Nothing when some point's own needs exceed the budget, or when
/// more than `entry_limit` coefficients would be needed.
std::optional<Relaxation> relax(const BoundStep& step,
                                std::span<const std::uint32_t> points,
                                std::uint64_t budget_bytes,
                                std::span<const char> free_items,
                                std::size_t entry_limit);

}  // namespace spillway
