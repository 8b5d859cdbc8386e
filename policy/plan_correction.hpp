// SPDX-License-Identifier: Apache-2.0
// A plan that is in use, corrected from step to step: prefetches move earlier when they were late
// and when the link is slower than planned for. What a step showed goes in, a value comes out; the
// program changes only when the difference matters, so that noise leaves it alone.
#pragma once

#include "policy/device_model.hpp"
#include "policy/online_feedback.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

struct CopyFact {
  bool out = false;  // to the host, else back
  std::uint64_t bytes = 0;
  std::int64_t ns = 0;  // the engine was busy with it
};

/// What a step showed of its copies.
struct StepFacts {
  std::vector<CopyFact> copies;
  std::int64_t late_ns = 0;  // ops waited for copies back, all together
};
/// From a timeline; of the simulator's, codec payloads count as the bytes of their storage.
StepFacts facts_of(const Profile& profile, const Timeline& timeline);

struct CorrectionOptions {
  FeedbackOptions feedback;
  double rate_change = 0.1;  // relative change of the rate back for which a program is timed anew
  double lead_change = 0.1;  // the same for the lead
  double lead_gain = 0.05;   // part of the lateness that a longer lead must save to be kept
  double lead_max = 8;       // copy times; beyond this the link is simply full
};

/// Explicit state of the correction; start with planned().
struct PlanFeedback {
  LinkRate out, back;
  double lead = 1;  // time that a copy back is given, in its own lengths
  // What the program in use was timed for:
  double timed_gbps = 0;
  double timed_lead = 1;
  // Lateness that no lead can cure (a storage needed soon after it left) must not drive it up:
  double best_lead = 1;
  double best_late_ns = -1;  // with best_lead; < 0: not measured yet
  bool settled = false;      // a longer lead was tried in vain
};
PlanFeedback planned(const DeviceModel& device);

/// Rates by their averages. When something was late, the lead grows by late_ns / time of all copies
/// back, at least by 0.15; the next program shows whether that helped, and if not the lead goes
/// back and stays until lateness doubles or the rate changes. When nothing is late, lead_return of
/// what exceeds 1 is given back.
PlanFeedback observed(PlanFeedback before,
                      const StepFacts& facts,
                      const CorrectionOptions& options = {});

/// Has the measured state left what the program was timed for?
bool needs_timing(const PlanFeedback& feedback, const CorrectionOptions& options = {});

/// `plan` as its planner made it, with prefetches placed for the measured rates and lead; and notes
/// in `feedback` what it was timed for. Bytes at any op stay within `plan`'s budget (within what it
/// needs where it has none). REQUIRES: the program is legal.
Plan corrected(const Profile& profile,
               const DeviceModel& device,
               const Plan& plan,
               PlanFeedback* feedback);

}  // namespace spillway
