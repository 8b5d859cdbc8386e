// SPDX-License-Identifier: Apache-2.0
// rotor: the persistent optimum of a heterogeneous chain (Beaumont et al. 2019, arXiv 1911.13214).
// The table is filled once in coarse and once in fine slots; schedules for memories of all sizes
// are rebuilt from it, and the simulator says what each really needs.
#include "policy/chain/rotor.hpp"

#include "policy/chain/profile_chain.hpp"
#include "policy/planners/candidates.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>

namespace spillway {
namespace {

constexpr std::uint32_t kMaxStages = 150;
constexpr std::uint32_t kSlots = 400;

/// Slots in which the whole chain is saved with nothing run twice.
std::uint64_t slots_to_save_all(const Chain& chain, std::uint64_t slot_bytes) {
  std::uint64_t slots = 0;
  std::uint64_t extra = 0;
  const auto in_slots = [&](std::uint64_t bytes) { return bytes / slot_bytes + 1; };
  for (std::size_t s = 0; s < chain.length(); ++s) {
    slots += in_slots(chain.saved_bytes[s]);
    extra =
        std::max(extra,
                 in_slots(chain.forward_extra_bytes[s]) + in_slots(chain.backward_extra_bytes[s]) +
                     in_slots(chain.input_bytes[s]) + in_slots(chain.input_bytes[s + 1]));
  }
  return slots + extra;
}

/// Memories at which the table's time changes, at most `count` of them, evenly.
std::vector<std::uint32_t> breakpoints(const RotorTable& table, std::size_t count) {
  std::vector<std::uint32_t> all;
  std::optional<std::int64_t> before;
  for (std::uint32_t m = 0; m <= table.slots(); ++m) {
    const auto time = table.time_ns(m);
    if (time && time != before) all.push_back(m);
    before = time;
  }
  if (all.size() <= count) return all;
  std::vector<std::uint32_t> chosen;
  for (std::size_t i = 0; i < count; ++i)
    chosen.push_back(all[i * (all.size() - 1) / std::max<std::size_t>(count - 1, 1)]);
  return chosen;
}

}  // namespace

PlanOutcome plan_rotor(const Profile& profile,
                       const ProfileSummary& /*summary*/,
                       const DeviceModel& device,
                       const PlanRequest& request) {
  if (!profile.can_recompute)
    return keep_all_as(profile, device, request, policy_text("rotor", request));
  const ProfileChain chain = chain_of(profile, kMaxStages);
  Candidates candidates(profile, device, request, "rotor");
  std::vector<ChainSchedule> keep;
  std::uint64_t all_bytes = 0;
  for (const ChainRound& round : chain.rounds) {
    keep.push_back(save_all_schedule(round.stages.size()));
    std::uint64_t bytes = 0;
    for (std::size_t s = 0; s < round.stages.size(); ++s)
      bytes += round.chain.saved_bytes[s] + round.chain.forward_extra_bytes[s] / 4 +
               round.chain.backward_extra_bytes[s] / 4;
    all_bytes = std::max(all_bytes, bytes);
  }
  candidates.add_order(order_of(profile, chain, keep));
  if (request.budget_bytes == 0) return candidates.finish();
  // Rounds share the memory: one after the other, each with the same number of slots.
  for (const std::uint32_t finer : {1u, 4u}) {
    const std::uint64_t slot_bytes =
        std::max<std::uint64_t>(all_bytes / (std::uint64_t{kSlots} * finer), 1);
    std::vector<RotorTable> tables;
    std::size_t widest = 0;
    for (std::size_t r = 0; r < chain.rounds.size(); ++r) {
      const Chain& c = chain.rounds[r].chain;
      // Many rounds have tables of their own; together they stay as small as one.
      const auto share =
          static_cast<std::uint32_t>(std::max<std::size_t>(kSlots / chain.rounds.size(), 40));
      const std::uint64_t coarser = kSlots / share;
      const std::uint64_t needed = slots_to_save_all(c, slot_bytes * coarser);
      const std::uint64_t most = share + c.length() + 1;
      tables.emplace_back(
          c, slot_bytes * coarser, static_cast<std::uint32_t>(std::min(needed, most)));
      if (tables[r].slots() > tables[widest].slots()) widest = r;
    }
    for (const std::uint32_t m : breakpoints(tables[widest], candidate_limit(profile) / 2)) {
      std::vector<ChainSchedule> schedules;
      for (std::size_t r = 0; r < tables.size(); ++r) {
        ChainSchedule schedule = tables[r].schedule(std::min(m, tables[r].slots()));
        if (schedule.empty()) schedule = keep[r];
        schedules.push_back(std::move(schedule));
      }
      candidates.add_order(order_of(profile, chain, schedules));
    }
  }
  return candidates.finish();
}

}  // namespace spillway
