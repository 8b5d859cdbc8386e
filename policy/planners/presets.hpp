// SPDX-License-Identifier: Apache-2.0
// The planners, one per source file, and what they share: from choices to an outcome.
#pragma once

#include "policy/gaps.hpp"
#include "policy/planner.hpp"

#include <string_view>

namespace spillway {

/// Lowers `choices` under the request's budget. The plan, or Infeasible with the smallest budget
/// the choices run in and who holds it.
PlanOutcome outcome_of(const Profile& profile,
                       const DeviceModel& device,
                       const PlanRequest& request,
                       const GapTable& gaps,
                       const Choices& choices,
                       std::string_view policy);

#define SPW_DECLARE_PLANNER(name)                 \
  PlanOutcome name(const Profile& profile,        \
                   const ProfileSummary& summary, \
                   const DeviceModel& device,     \
                   const PlanRequest& request)
SPW_DECLARE_PLANNER(plan_keep_all);
SPW_DECLARE_PLANNER(plan_every_k);
SPW_DECLARE_PLANNER(plan_chen_sqrt);
SPW_DECLARE_PLANNER(plan_full);
SPW_DECLARE_PLANNER(plan_selective);
SPW_DECLARE_PLANNER(plan_offload_all);
SPW_DECLARE_PLANNER(plan_dtr);
SPW_DECLARE_PLANNER(plan_segments);
SPW_DECLARE_PLANNER(plan_collection);
SPW_DECLARE_PLANNER(plan_speed);
SPW_DECLARE_PLANNER(plan_memory);
SPW_DECLARE_PLANNER(plan_torch_budget);
SPW_DECLARE_PLANNER(plan_capuchin);
SPW_DECLARE_PLANNER(plan_revolve);
SPW_DECLARE_PLANNER(plan_rotor);
SPW_DECLARE_PLANNER(plan_bptt);
SPW_DECLARE_PLANNER(plan_pofo);
SPW_DECLARE_PLANNER(plan_joint);
#undef SPW_DECLARE_PLANNER

/// Offloads every gap of every movable storage: the least memory that any plan with offload
/// reaches.
Choices offload_every_gap(const GapTable& gaps);
/// Recomputes every gap that recompute can close.
Choices recompute_every_gap(const GapTable& gaps);

/// The choices of chen-sqrt for a segment size; larger `segment_bytes` means fewer checkpoints.
Choices chen_segments(const Profile& profile, const GapTable& gaps, std::uint64_t segment_bytes);
/// The segment size that makes about sqrt(number of cuts) segments.
std::uint64_t chen_sqrt_segment_bytes(const Profile& profile);

/// The choices of `selective`.
Choices selective_choices(const Profile& profile, const GapTable& gaps);

}  // namespace spillway
