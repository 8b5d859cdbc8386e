// SPDX-License-Identifier: Apache-2.0
// What a running step teaches the next one: op times, link rates, how early to prefetch, which
// lever to pull. Each is a small value and a pure function from the value before and one
// measurement to the value after; nobody here has a clock.
#pragma once

#include "policy/plan.hpp"

#include <cstdint>
#include <span>

namespace spillway {

struct FeedbackOptions {
  double time_weight = 0.25;  // of a new op time against all before it
  double rate_weight = 0.2;   // of a new copy against all before it, per copy of `rate_bytes`
  std::uint64_t rate_bytes = 16u << 20;
  double lead_step = 0.05;         // least correction of a late prefetch, in copy times (Capuchin)
  double lead_return = 0.0625;     // part of unused lead that is given back
  double switch_margin = 0.2;      // a lever must be better by this part of the other's price ...
  std::uint32_t switch_steps = 2;  // ... in so many steps in a row
};

/// Time of an op that makes `bytes`, smoothed. When the shape changes it scales with the bytes.
struct TimeEstimate {
  double ns = 0;
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;  // measurements so far; 0: nothing known
};
TimeEstimate observed(TimeEstimate before,
                      std::uint64_t bytes,
                      std::int64_t ns,
                      const FeedbackOptions& options);
/// What the estimate says for `bytes`, in ns. REQUIRES: count > 0.
double expected_ns(const TimeEstimate& estimate, std::uint64_t bytes);

/// Rate of one direction of the link in GB/s (bytes per ns), an average over copies that weighs
/// them by their bytes, so that small copies, all latency, say little. Copies of 0 bytes or ns say
/// nothing.
struct LinkRate {
  double gbps = 0;  // 0: nothing known
};
LinkRate observed(LinkRate before,
                  std::uint64_t bytes,
                  std::int64_t ns,
                  const FeedbackOptions& options);
/// ns that `bytes` take. REQUIRES: gbps > 0.
std::int64_t copy_ns(const LinkRate& rate, std::uint64_t bytes);

/// How much earlier than "just in time by the measured rate" a prefetch is issued.
struct PrefetchLead {
  std::int64_t ns = 0;
};
/// Late: `late_ns` > 0 is how long the op waited, and the lead grows by it, at least by lead_step
/// copies (Peng et al., ASPLOS 2020, 4.4). In time: `early_ns` is how long the bytes lay there
/// unused, and a part of what exceeds one lead_step is given back. Never above `lead_ns_max`.
PrefetchLead corrected(PrefetchLead before,
                       std::int64_t copy_ns,
                       std::int64_t late_ns,
                       std::int64_t early_ns,
                       std::int64_t lead_ns_max,
                       const FeedbackOptions& options);
/// The last op before which a prefetch may be issued so that a copy of `copy_ns` and the lead end
/// when `before_op` begins, but behind `after_op`. `begin_ns`: per op, ascending.
std::uint32_t trigger_op(std::span<const std::int64_t> begin_ns,
                         std::uint32_t after_op,
                         std::uint32_t before_op,
                         std::int64_t copy_ns,
                         const PrefetchLead& lead);

/// Which lever a storage goes by, and for how many steps in a row the other one has been better.
struct LeverChoice {
  Action action = Action::kRecompute;
  std::uint32_t against = 0;
  bool made = false;  // false: the first pair of prices decides
};
/// One step's prices in ns; infinity where a lever may not be used.
LeverChoice decided(LeverChoice before,
                    double recompute_ns,
                    double offload_ns,
                    const FeedbackOptions& options);

}  // namespace spillway
