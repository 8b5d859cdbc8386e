// SPDX-License-Identifier: Apache-2.0
// One search over the levers of a request at one budget: known placements, a greedy portfolio, and
// runs of the local search from the best of them. joint is made of these.
#pragma once

#include "policy/search/contest.hpp"

#include <cstdint>
#include <span>

namespace spillway {

/// What the request and the trace together allow.
struct Levers {
  bool offload = false;
  bool recompute = false;
  bool compress = false;  // and some storage has a codec that saves bytes
  bool lossy = false;     // and some storage has a lossy codec that saves more

  [[nodiscard]] ActionSet actions() const;
};
Levers usable_levers(const Profile& profile, const PlanRequest& request, const GapTable& gaps);

/// What a named method came to for the same request.
struct Rival {
  ActionSet uses = kAllActions;
  Plan plan;
};

struct SearchEffort {
  std::uint64_t work = 0;              // judged stages per run of the local search
  bool brief = false;                  // fewer greedy runs and starts
  bool parts = false;                  // runs with fewer levers and with exact codecs alone join
  std::span<const Rival> rivals = {};  // those with no other levers join, and give a start
};

/// Judged stages that a step with that many ops gets: linear in the step from some size on.
std::uint64_t default_work(std::size_t op_count);

/// Enters what it finds. `request` is that of the contest. Deterministic for its seed; runs on all
/// cores.
void search_levers(const JointStep& step,
                   const PlanRequest& request,
                   const SearchEffort& effort,
                   Contest* contest);

}  // namespace spillway
