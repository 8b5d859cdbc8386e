// SPDX-License-Identifier: Apache-2.0
// A gap: the ops between two uses of a movable storage, in which its bytes need not be on the
// device. What planners choose is an action per gap; lowering turns the choices into a program.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

/// The storage may be away while ops (after_op, before_op) run. `returns` is false when no use
/// follows: it is only freed later.
struct Gap {
  std::uint32_t storage = 0;
  std::uint32_t after_op = 0;
  std::uint32_t before_op = 0;  // the op that uses it next; for a tail: freed_after + 1
  bool returns = true;
  bool rebuildable = false;  // recompute can bring it back (or nothing must come back)
};

/// All gaps with at least one op inside, ordered by storage, then time.
struct GapTable {
  std::vector<Gap> gaps;
  std::vector<std::uint32_t>
      of_storage;  // per storage, plus one: [of_storage[s], of_storage[s + 1]) in gaps

  [[nodiscard]] std::span<const Gap> of(std::uint32_t storage) const {
    return std::span<const Gap>(gaps).subspan(of_storage[storage],
                                              of_storage[storage + 1] - of_storage[storage]);
  }
};

GapTable find_gaps(const Profile& profile);

/// ns that recompute takes to end a gap that returns: the run of the producer, and of producers of
/// inputs whose life is over by then. Inputs that are merely dropped pay for themselves.
std::int64_t rebuild_ns(const Profile& profile, const Gap& gap);

/// One action per gap, parallel to GapTable::gaps.
using Choices = std::vector<Decision>;

/// Device bytes that stay while a gap with this decision is open.
std::uint64_t held_bytes(const Storage& storage, const Decision& decision);

}  // namespace spillway
