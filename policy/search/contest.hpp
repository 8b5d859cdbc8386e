// SPDX-License-Identifier: Apache-2.0
// Where candidate plans meet: each is run on the step simulator under the request's budgets; the
// fastest that fits wins.
#pragma once

#include "policy/gaps.hpp"
#include "policy/lowering.hpp"
#include "policy/planner.hpp"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace spillway {

/// A step as every part of joint sees it. Refers to what it was made from.
struct JointStep {
  const Profile& profile;
  const ProfileSummary& summary;
  const DeviceModel& device;
  const GapTable& gaps;
  const Lowering& lowering;
};

/// Keeps the fastest plan that fits, and what needed the least memory if none does. A tie goes to
/// fewer bytes offloaded, then to who came first.
class Contest {
 public:
  Contest(const JointStep& step, const PlanRequest& request) : step_(step), request_(request) {}

  /// Choices that fit join the starts of the local search.
  void enter(const Choices& choices);
  /// A program that fits, prefetches just in time; they are moved ahead.
  void enter(std::vector<Instruction> program);
  /// The step's time if the plan fits.
  std::optional<std::int64_t> enter(Plan plan);

  /// The fastest choices that fit, best first.
  std::vector<Choices> starts(std::size_t count);
  /// The fastest plan so far, if any fits.
  [[nodiscard]] const Plan* best() const { return best_ ? &*best_ : nullptr; }
  /// The plan that needs the least while none fits, and what it needs.
  [[nodiscard]] const Plan* least() const { return least_ ? &*least_ : nullptr; }
  [[nodiscard]] std::uint64_t least_bytes() const { return least_bytes_; }
  /// Step time of the best plan under the request. REQUIRES: best() != nullptr.
  [[nodiscard]] std::int64_t best_ns() const { return key_.first; }

  /// The best plan, or gave-up with the smallest budget that was found.
  PlanOutcome outcome();

 private:
  template <typename Make>
  void note_need(std::uint64_t bytes, const Make& make);

  const JointStep& step_;
  PlanRequest request_;
  std::optional<Plan> best_;
  std::pair<std::int64_t, std::uint64_t> key_;
  std::vector<std::pair<std::int64_t, Choices>> starts_;
  std::optional<Plan> least_;
  std::uint64_t least_bytes_ = 0;
};

}  // namespace spillway
