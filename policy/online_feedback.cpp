// SPDX-License-Identifier: Apache-2.0
// Averages, corrections and hysteresis.
#include "policy/online_feedback.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spillway {

double expected_ns(const TimeEstimate& estimate, std::uint64_t bytes) {
  if (estimate.bytes == 0 || bytes == estimate.bytes) return estimate.ns;
  return estimate.ns * static_cast<double>(bytes) / static_cast<double>(estimate.bytes);
}

TimeEstimate observed(TimeEstimate before,
                      std::uint64_t bytes,
                      std::int64_t ns,
                      const FeedbackOptions& options) {
  const auto measured = static_cast<double>(std::max<std::int64_t>(ns, 0));
  TimeEstimate after;
  after.bytes = bytes;
  after.count = before.count + 1;
  if (before.count == 0) {
    after.ns = measured;
  } else {
    const double known = expected_ns(before, bytes);
    after.ns = known + options.time_weight * (measured - known);
  }
  return after;
}

LinkRate observed(LinkRate before,
                  std::uint64_t bytes,
                  std::int64_t ns,
                  const FeedbackOptions& options) {
  if (bytes == 0 || ns <= 0) return before;
  const double measured = static_cast<double>(bytes) / static_cast<double>(ns);
  if (before.gbps <= 0) return {measured};
  // The weight of n copies of rate_bytes at once: 1 - (1 - w)^n.
  const double copies = static_cast<double>(bytes) /
                        static_cast<double>(std::max<std::uint64_t>(options.rate_bytes, 1));
  const double weight = 1.0 - std::pow(1.0 - options.rate_weight, copies);
  // Times add up, rates do not: the average is taken of ns per byte.
  const double ns_per_byte = (1.0 - weight) / before.gbps + weight / measured;
  return {1.0 / ns_per_byte};
}

std::int64_t copy_ns(const LinkRate& rate, std::uint64_t bytes) {
  const double ns = std::ceil(static_cast<double>(bytes) / rate.gbps);
  constexpr double kMax = 9e18;
  return ns >= kMax ? std::numeric_limits<std::int64_t>::max() : static_cast<std::int64_t>(ns);
}

PrefetchLead corrected(PrefetchLead before,
                       std::int64_t copy,
                       std::int64_t late_ns,
                       std::int64_t early_ns,
                       std::int64_t lead_ns_max,
                       const FeedbackOptions& options) {
  const auto step = static_cast<std::int64_t>(options.lead_step * static_cast<double>(copy));
  PrefetchLead after = before;
  if (late_ns > 0) {
    after.ns += std::max(late_ns, step);
  } else if (early_ns > step) {
    after.ns -= static_cast<std::int64_t>(
        options.lead_return * static_cast<double>(std::min(early_ns - step, before.ns)));
  }
  after.ns = std::clamp<std::int64_t>(after.ns, 0, std::max<std::int64_t>(lead_ns_max, 0));
  return after;
}

std::uint32_t trigger_op(std::span<const std::int64_t> begin_ns,
                         std::uint32_t after_op,
                         std::uint32_t before_op,
                         std::int64_t copy,
                         const PrefetchLead& lead) {
  if (before_op >= begin_ns.size() || after_op + 1 >= before_op) return before_op;
  const std::int64_t start_ns = begin_ns[before_op] - copy - lead.ns;
  const auto first = begin_ns.begin() + after_op + 1;
  const auto last = begin_ns.begin() + before_op;
  // The last op that begins no later than the copy should.
  const auto late = std::upper_bound(first, last, start_ns);
  const auto chosen = late == first ? first : late - 1;
  return static_cast<std::uint32_t>(chosen - begin_ns.begin());
}

LeverChoice decided(LeverChoice before,
                    double recompute_ns,
                    double offload_ns,
                    const FeedbackOptions& options) {
  const Action better = offload_ns < recompute_ns ? Action::kOffload : Action::kRecompute;
  if (!before.made) return {better, 0, true};
  const bool offloads = before.action == Action::kOffload;
  const double own = offloads ? offload_ns : recompute_ns;
  const double other = offloads ? recompute_ns : offload_ns;
  // A lever that may not be used any more is left at once.
  if (std::isinf(own) && !std::isinf(other)) return {better, 0, true};
  LeverChoice after = before;
  after.against = other < own * (1.0 - options.switch_margin) ? before.against + 1 : 0;
  if (after.against >= options.switch_steps) return {better, 0, true};
  return after;
}

}  // namespace spillway
