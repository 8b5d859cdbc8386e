// SPDX-License-Identifier: Apache-2.0
// The judge: replays a plan's program step by step and says which law it breaks. Shares no code
// with planners, lowering or the simulator; slower and simpler on purpose.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

enum class Law : std::uint8_t {
  kEveryOpOnceInOrder,  // the step's own ops are all there, once, in order
  kInputResident,       // used while not resident
  kOverBudget,      // more device bytes than the budget at some instant, and no copy under way that
                    // would free enough
  kUnmovableMoved,  // a parameter, gradient, optimizer state, constant or temporary was moved
  kForbiddenRecompute,  // RNG without state, collective, in-place or never-recompute op run again
  kLossyIntoExact,      // lossy codec not allowed, or its result feeds a recompute
  kContentLost,  // dropped without a way back and needed later, or gone at the end of the step
  kCopyEngineOverlap,  // a timeline with two copies at once on one engine, or a copy faster than
                       // the link
  kPinnedOverBudget,
  kIllegalTransition,  // an instruction that makes no sense where the storage is
  kDecisionMismatch,   // the summary says other than the program does
};
std::string_view name_of(Law law);

struct Violation {
  Law law = Law::kInputResident;
  std::size_t instruction = 0;  // index into Plan::program
  std::string text;             // who, what, bytes
};

struct ValidateOptions {
  std::uint64_t budget_bytes = 0;  // 0: no limit
  std::uint64_t pinned_bytes = 0;  // 0: no limit
  bool allow_lossy = false;
  std::size_t max_violations = 8;
};

/// What the judge saw, to be compared with what the simulator claims.
struct Verdict {
  std::vector<Violation> violations;
  std::uint64_t peak_bytes = 0;
  std::int64_t step_ns = 0;

  [[nodiscard]] bool ok() const { return violations.empty(); }
};

Verdict validate(const Profile& profile,
                 const DeviceModel& device,
                 const Plan& plan,
                 const ValidateOptions& options);

/// Judges times somebody else claims for the plan: each lane does one thing at a time, copies are
/// no faster than the link, and no op starts before the copies of its inputs have ended.
/// `instruction` of a violation is an index into Timeline::slices.
Verdict validate_timeline(const Profile& profile,
                          const DeviceModel& device,
                          const Plan& plan,
                          const Timeline& timeline);

}  // namespace spillway
