// SPDX-License-Identifier: Apache-2.0
// What the bound reads of a step: prices and permissions by the validator's rules, not by what
// planners choose to do, since the bound must hold for every program the validator accepts. Where
// the two differ, this side allows more.
#pragma once

#include "policy/device_model.hpp"
#include "policy/number_lists.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

struct BoundStep {
  static constexpr std::uint32_t kNone = OpId::kNoneValue;

  struct Item {
    std::uint64_t bytes = 0;
    std::uint32_t created_by = kNone;
    std::uint32_t freed_after = kNone;
    bool movable = false;  // the validator lets it be dropped, encoded, copied while it lives
    bool guarded = false;  // must not be rebuilt while it lives
    bool coded = false;    // some codec saves bytes here
    std::uint64_t payload_bytes = 0;  // least of any codec allowed
    std::int64_t once_ns = 0;         // least of any codec allowed: encode or decode
    std::int64_t out_ns = 0, in_ns = 0;
    std::int64_t coded_out_ns = 0, coded_in_ns = 0;
  };
  struct Work {
    std::int64_t duration_ns = 0;
    std::uint64_t workspace_bytes = 0;
    bool may_rerun = false;
    std::uint32_t rerun_until = kNone;  // may not run again once this op has run
  };

  std::vector<Item> items;  // per storage
  std::vector<Work> ops;
  NumberLists inputs;   // per op: storages it needs resident, its own new ones excepted
  NumberLists outputs;  // per op: storages it makes
  NumberLists readers;  // per storage: ops that need it resident, ascending
  std::vector<std::int64_t> begin_ns;       // per op, plus one: durations before it
  std::vector<std::uint64_t> fixed_bytes;   // per op: what no program can have away while it runs
  std::vector<std::uint64_t> wanted_bytes;  // per op: that, and all that is needed again later
  bool offload = false;
  std::uint64_t pinned_bytes = 0;  // 0: no limit

  BoundStep(const Profile& profile, const DeviceModel& device, const PlanRequest& request);

  [[nodiscard]] bool alive(std::uint32_t item, std::uint32_t op) const {
    const Item& i = items[item];
    return (i.created_by == kNone || i.created_by <= op) &&
           (i.freed_after == kNone || i.freed_after >= op);
  }
  /// Is `item` read by an op after `op`, or wanted when the step ends?
  [[nodiscard]] bool needed_after(std::uint32_t item, std::uint32_t op) const {
    const auto list = readers.of(item);
    return items[item].freed_after == kNone || (!list.empty() && list.back() > op);
  }
};

}  // namespace spillway
