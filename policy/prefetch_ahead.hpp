// SPDX-License-Identifier: Apache-2.0
// When to start each copy back: from a program whose prefetches stand right before their use to one
// in which they begin early enough to be hidden, as far as the budget has room for their bytes.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Moves prefetches of `program` (which must be legal) towards its begin. The result needs no more
/// than max(budget_bytes, what `program` needs) if offloads ended at once. 0: no budget.
/// `lead` stretches the time that a copy is given: 1 is its own length.
std::vector<Instruction> prefetch_ahead(const Profile& profile,
                                        const DeviceModel& device,
                                        std::vector<Instruction> program,
                                        std::uint64_t budget_bytes,
                                        double lead = 1.0);

}  // namespace spillway
