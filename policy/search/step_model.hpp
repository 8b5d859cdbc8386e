// SPDX-License-Identifier: Apache-2.0
// What the search reads of a step, once, in flat arrays: inputs and outputs of ops, prices of every
// lever per storage. Immutable and shared by all searches of a portfolio.
#pragma once

#include "core/codec.hpp"
#include "policy/device_model.hpp"
#include "policy/number_lists.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

struct StepModel {
  struct Coding {
    Codec codec = Codec::kNone;  // none: no codec saves bytes here
    std::uint64_t payload_bytes = 0;
    std::int64_t once_ns = 0;  // encode or decode
    std::int64_t out_ns = 0;   // copy of the payload
    std::int64_t in_ns = 0;
  };
  struct Item {
    std::uint64_t bytes = 0;
    std::uint32_t created_by = OpId::kNoneValue;
    std::uint32_t freed_after = OpId::kNoneValue;
    bool movable = false;
    bool retainable = false;   // may stay after its life has ended
    bool rebuildable = false;  // its producer may run again
    std::int64_t out_ns = 0;
    std::int64_t in_ns = 0;
    Coding exact;
    Coding
        lossy;  // what backward reads; the same as exact where loss is not allowed or does not pay
  };
  struct Work {
    std::int64_t duration_ns = 0;
    std::uint64_t workspace_bytes = 0;
    bool recomputable = false;
    std::uint32_t rerun_until = OpId::kNoneValue;  // may run again before this op and no later: it
                                                   // overwrites an input
  };

  std::vector<Item> items;  // per storage
  std::vector<Work> ops;
  NumberLists inputs;   // per op: storages it needs resident, each once, its own new ones excepted
  NumberLists outputs;  // per op: storages it makes
  NumberLists freed;    // per op: storages whose life ends after it
  NumberLists readers;  // per storage: ops that need it resident
  ActionSet actions = kAllActions;
  std::uint64_t pinned_bytes = 0;  // host memory for what is offloaded; 0: no limit
  double out_bytes_per_ns = 0;
  double in_bytes_per_ns = 0;

  StepModel(const Profile& profile, const DeviceModel& device, const PlanRequest& request);
};

}  // namespace spillway
