// SPDX-License-Identifier: Apache-2.0
// From choices per gap to a program: evictions right after the last use, returns before the next
// one, recompute chains in op order, prefetches as late as the link allows and as early as the
// budget permits.
#pragma once

#include "policy/device_model.hpp"
#include "policy/gaps.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"
#include "policy/storages_by_op.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// A program and what it needs if offloads ended at once ("instant" bytes): per op, the most held
/// from the end of the op before it to its own end.
struct Lowered {
  std::vector<Instruction> program;
  std::vector<std::uint64_t> instant_bytes;
  std::vector<std::int64_t>
      begin_ns;  // per op: when it would begin if no copy were ever waited for
  std::vector<std::uint32_t>
      back_at;  // per gap: the op before which the storage came back, at most Gap::before_op
  std::int64_t recompute_ns = 0;
  std::int64_t codec_ns = 0;

  [[nodiscard]] std::uint64_t min_budget_bytes() const;
};

/// Per gap: the op before which its prefetch is issued. Only offload gaps are looked at.
using Triggers = std::vector<std::uint32_t>;

class Lowering {
 public:
  Lowering(const Profile& profile, const DeviceModel& device, const GapTable& gaps);

  /// Every prefetch is issued right before the op that needs it: the least memory.
  [[nodiscard]] Lowered just_in_time(const Choices& choices) const;

  /// Prefetches moved ahead so that their copies can end in time, as far as `budget_bytes` (0: no
  /// limit) allows. Needs no more than max(budget_bytes, just_in_time(choices).min_budget_bytes()).
  [[nodiscard]] Lowered ahead(const Choices& choices, std::uint64_t budget_bytes) const;
  /// The same, from a just-in-time result that is already there.
  [[nodiscard]] Lowered ahead(const Choices& choices,
                              std::uint64_t budget_bytes,
                              const Lowered& just_in_time) const;

  [[nodiscard]] const GapTable& gaps() const { return gaps_; }

 private:
  [[nodiscard]] Lowered lower(const Choices& choices, const Triggers& triggers) const;

  const Profile& profile_;
  const DeviceModel& device_;
  const GapTable& gaps_;
  StoragesByOp by_op_;
  std::vector<std::uint32_t> by_begin_;  // gaps by after_op
  std::vector<std::uint32_t> by_end_;    // gaps that return, by before_op
};

/// The plan of a choice: decisions (each storage's widest gap that is not kept decides) and the
/// program.
Plan make_plan(const Profile& profile,
               const GapTable& gaps,
               const Choices& choices,
               Lowered lowered,
               std::string policy,
               std::uint64_t budget_bytes);

}  // namespace spillway
