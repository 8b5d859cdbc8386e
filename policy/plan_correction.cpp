// SPDX-License-Identifier: Apache-2.0
// Facts of a step, the state after it, and the program for the next.
#include "policy/plan_correction.hpp"

#include "policy/prefetch_ahead.hpp"

#include <algorithm>
#include <cmath>

namespace spillway {
namespace {

constexpr double kLeadStepMin = 0.15;  // more than CorrectionOptions::lead_change: it must be tried
constexpr double kNewRate = 0.05;

}  // namespace

StepFacts facts_of(const Profile& profile, const Timeline& timeline) {
  StepFacts facts;
  for (const Slice& slice : timeline.slices) {
    if (slice.lane == Lane::kCompute || slice.target >= profile.storages.size()) continue;
    facts.copies.push_back({slice.lane == Lane::kOffloadCopy,
                            profile.storages[slice.target].bytes,
                            slice.end_ns - slice.begin_ns});
  }
  for (const Stall& stall : timeline.stalls)
    if (stall.cause == StallCause::kLatePrefetch) facts.late_ns += stall.ns;
  return facts;
}

PlanFeedback planned(const DeviceModel& device) {
  PlanFeedback feedback;
  feedback.out.gbps = device.d2h_gbps;
  feedback.back.gbps = feedback.timed_gbps = device.h2d_gbps;
  return feedback;
}

PlanFeedback observed(PlanFeedback before,
                      const StepFacts& facts,
                      const CorrectionOptions& options) {
  PlanFeedback after = before;
  double back_ns = 0;
  for (const CopyFact& copy : facts.copies) {
    LinkRate& rate = copy.out ? after.out : after.back;
    rate = observed(rate, copy.bytes, copy.ns, options.feedback);
    if (!copy.out) back_ns += static_cast<double>(std::max<std::int64_t>(copy.ns, 0));
  }
  if (back_ns <= 0) return after;
  const double late_ns = static_cast<double>(std::max<std::int64_t>(facts.late_ns, 0));
  const double known_ns = after.best_late_ns;
  if (known_ns >= 0 && after.timed_lead != after.best_lead) {
    // The program in use tries another lead than the best known.
    const bool helps = after.timed_lead > after.best_lead
                           ? late_ns < known_ns * (1 - options.lead_gain)
                           : late_ns <= known_ns;
    if (!helps) {
      after.lead = after.best_lead;
      after.settled = true;
      return after;
    }
    after.best_late_ns = late_ns;
  } else {
    const double weight = options.feedback.time_weight;
    after.best_late_ns = known_ns < 0 ? late_ns : known_ns + weight * (late_ns - known_ns);
  }
  after.best_lead = after.timed_lead;
  if (late_ns == 0) {
    after.settled = false;
    after.lead -= options.feedback.lead_return * (after.lead - 1);
  } else if (!after.settled || late_ns > 2 * known_ns) {
    after.settled = false;
    after.lead = after.timed_lead + std::max(kLeadStepMin, late_ns / back_ns);
  }
  after.lead = std::clamp(after.lead, 1.0, std::max(options.lead_max, 1.0));
  return after;
}

bool needs_timing(const PlanFeedback& feedback, const CorrectionOptions& options) {
  const auto left = [](double now, double timed, double change) {
    return timed > 0 && std::abs(now - timed) > change * timed;
  };
  return left(feedback.back.gbps, feedback.timed_gbps, options.rate_change) ||
         left(feedback.lead, feedback.timed_lead, options.lead_change) ||
         (feedback.settled && feedback.lead != feedback.timed_lead);
}

Plan corrected(const Profile& profile,
               const DeviceModel& device,
               const Plan& plan,
               PlanFeedback* feedback) {
  DeviceModel measured = device;
  if (feedback->out.gbps > 0) measured.d2h_gbps = feedback->out.gbps;
  if (feedback->back.gbps > 0) measured.h2d_gbps = feedback->back.gbps;
  Plan result = plan;
  // Without a budget the program may not need more than it did.
  const std::uint64_t budget_bytes = plan.budget_bytes != 0 ? plan.budget_bytes : 1;
  result.program = prefetch_ahead(profile, measured, plan.program, budget_bytes, feedback->lead);
  // Another rate, another timing: what was learned of leads is old.
  if (std::abs(feedback->back.gbps - feedback->timed_gbps) > kNewRate * feedback->timed_gbps) {
    feedback->best_late_ns = -1;
    feedback->settled = false;
  }
  feedback->timed_gbps = feedback->back.gbps;
  feedback->timed_lead = feedback->lead;
  return result;
}

}  // namespace spillway
