// SPDX-License-Identifier: Apache-2.0
// What if the machine or the limits were others: changes to link, memory rate, compute rate, host
// memory and budget, written as a user writes them, applied to copies of what planners take.
#pragma once

#include "core/status.hpp"
#include "core/units.hpp"
#include "policy/device_model.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

enum class Knob : std::uint8_t {
  kLink,     // both directions of the host link; bytes per second
  kHbm,      // the device memory's rate: codecs, and ops that only move bytes
  kCompute,  // the rate of all other ops
  kPinned,   // host bytes for offload
  kBudget,   // device bytes
};
inline constexpr int kKnobCount = 5;
std::string_view name_of(Knob knob);

/// One knob's new setting: a factor of what it is now, or a value of its own.
struct Change {
  Knob knob = Knob::kLink;
  bool is_factor = true;
  double factor = 1;        // when is_factor: from 1/1024 to 1024
  double gbps = 0;          // kLink, kHbm, else: decimal GB/s
  std::uint64_t bytes = 0;  // kPinned, else
  Budget budget;            // kBudget, else
};

/// Changes that hold together, and the words they were read from.
struct WhatIf {
  std::string text;
  std::vector<Change> changes;
};

/// "link=2x", "link=26GB/s", "hbm=0.5x", "compute=2x", "pinned=64GiB", "budget=40%act", or several
/// with commas between. kInvalidArgument: an unknown or repeated knob, a number that is none, not
/// above zero or out of range, a rate for `compute` (ops have times, not rates).
Result<WhatIf> parse_what_if(std::string_view text);

/// What a planner gets under a what-if.
struct Scenario {
  Profile profile;
  DeviceModel device;
  PlanRequest request;
};

/// Does `what_if` change the times of ops?
bool changes_profile(const WhatIf& what_if);

/// Applies the changes to copies. `basis` is what percentages of a budget refer to.
/// kInvalidArgument: a factor of a budget or host limit that is not set, a budget of 0 bytes, times
/// or rates that leave what the model can hold.
Result<Scenario> apply(const WhatIf& what_if,
                       const Profile& profile,
                       const DeviceModel& device,
                       const PlanRequest& request,
                       const BudgetBasis& basis);

/// Is the time of an op of this kind that of the bytes it moves? Norms, softmax, dropout,
/// elementwise, embedding, pooling, loss and optimizer ops are; unknown kinds are not.
bool is_memory_bound(OpKind kind);

}  // namespace spillway
