// SPDX-License-Identifier: Apache-2.0
// capuchin: the peak's excess is swapped out where the time between two accesses hides both copies;
// what is left is swapped or recomputed, whichever stalls less (Peng et al., ASPLOS 2020).
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <queue>
#include <vector>

namespace spillway {
namespace {

constexpr int kRoundsMax = 128;

class Capuchin {
 public:
  Capuchin(const Profile& profile,
           const DeviceModel& device,
           const PlanRequest& request,
           const GapTable& gaps)
      : profile_(profile),
        device_(device),
        request_(request),
        gaps_(gaps),
        lowering_(profile, device, gaps),
        choices_(gaps.gaps.size()),
        rebuild_ns_(profile.storages.size(), 0),
        recomputed_(profile.storages.size(), 0) {
    std::int64_t now_ns = 0;
    for (const Op& op : profile.ops) {
      begin_ns_.push_back(now_ns);
      now_ns += static_cast<std::int64_t>(op.duration_ns);
    }
    begin_ns_.push_back(now_ns);
    for (const Gap& gap : gaps.gaps)
      if (gap.rebuildable && gap.returns)
        rebuild_ns_[gap.storage] = std::max(rebuild_ns_[gap.storage], rebuild_ns(profile, gap));
  }

  Choices solve() {
    if (reaches_budget()) return choices_;
    // Runs again need scratch and inputs of their own; copies need nothing beside.
    recompute_allowed_ = false;
    for (std::uint32_t g = 0; g < choices_.size(); ++g)
      if (choices_[g].action == Action::kRecompute) swap(g);
    if (reaches_budget()) return choices_;
    // What its first, passive step does: everything that is not in use goes to the host.
    return offload_every_gap(gaps_);
  }

 private:
  struct Candidate {
    std::uint32_t gap;
    std::int64_t free_ns;
  };

  /// A way to relieve the peak, by bytes per ns lost.
  struct Offer {
    double rate;
    std::uint32_t gap;
    bool swaps;
    friend bool operator<(const Offer& a, const Offer& b) {
      return a.rate != b.rate ? a.rate < b.rate : a.gap > b.gap;
    }
  };

  [[nodiscard]] std::int64_t swap_ns(std::uint32_t storage) const {
    return std::max(device_.offload_ns(profile_.storages[storage].bytes),
                    device_.prefetch_ns(profile_.storages[storage].bytes));
  }
  /// What is left of the time between both accesses when the copies out and back are taken off it.
  [[nodiscard]] std::int64_t free_ns(const Gap& gap) const {
    const std::int64_t window_ns = begin_ns_[gap.before_op] - begin_ns_[gap.after_op + 1];
    const std::uint64_t bytes = profile_.storages[gap.storage].bytes;
    if (!gap.returns) return window_ns;
    return window_ns - device_.offload_ns(bytes) - device_.prefetch_ns(bytes);
  }

  [[nodiscard]] Offer offer_of(std::uint32_t gap) const;
  bool reaches_budget();
  bool relieve(std::uint32_t op, std::uint64_t excess_bytes);
  bool swap_instead(std::uint32_t op, std::uint64_t excess_bytes);
  void swap(std::uint32_t gap);
  void recompute(std::uint32_t gap);

  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  const GapTable& gaps_;
  Lowering lowering_;
  Choices choices_;
  std::vector<std::int64_t> begin_ns_;    // per op, nothing waited for; one more for the end
  std::vector<std::int64_t> rebuild_ns_;  // per storage, with what was given up for recompute below
  std::vector<char> recomputed_;          // per storage
  bool recompute_allowed_ = true;
  std::int64_t link_ns_ = 0;       // time for copies out before the op at work, and back after it
  std::int64_t out_queue_ns_ = 0;  // copies chosen so far, for the link's room
};

// Round after round, the op that needs most is relieved of what it has too much.
bool Capuchin::reaches_budget() {
  for (int round = 0; round < kRoundsMax; ++round) {
    const Lowered lowered = lowering_.just_in_time(choices_);
    const std::uint64_t need_bytes = lowered.min_budget_bytes();
    if (need_bytes <= request_.budget_bytes) return true;
    const auto& bytes = lowered.instant_bytes;
    const auto op =
        static_cast<std::uint32_t>(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
    const std::uint64_t excess_bytes = need_bytes - request_.budget_bytes;
    if (!relieve(op, excess_bytes) && !swap_instead(op, excess_bytes)) return false;
  }
  return false;
}

void Capuchin::swap(std::uint32_t g) {
  choices_[g].action = Action::kOffload;
  out_queue_ns_ += swap_ns(gaps_.gaps[g].storage);
}

// Whoever is made from it must now run its op as well, and it must do so for them.
void Capuchin::recompute(std::uint32_t g) {
  const std::uint32_t storage = gaps_.gaps[g].storage;
  choices_[g].action = Action::kRecompute;
  if (recomputed_[storage] != 0) return;
  recomputed_[storage] = 1;
  for (const std::uint32_t op : profile_.uses_of(profile_.storages[storage])) {
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      const std::uint32_t made = profile_.storage_of(use).value;
      if (use.creates() && made != storage) rebuild_ns_[made] += rebuild_ns_[storage];
    }
  }
}

// Makes room for `excess_bytes` at `op`, or as much as there is; false when there is none.
bool Capuchin::relieve(std::uint32_t op, std::uint64_t excess_bytes) {
  std::vector<Candidate> candidates;
  for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g) {
    const Gap& gap = gaps_.gaps[g];
    if (choices_[g].action != Action::kKeep || gap.after_op >= op || gap.before_op <= op) continue;
    candidates.push_back({g, free_ns(gap)});
  }
  if (candidates.empty()) return false;
  std::stable_sort(candidates.begin(),
                   candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.free_ns > b.free_ns; });
  // Swaps that hide, as long as the link has time for them: out before `op`, back after it.
  link_ns_ = std::min(begin_ns_[op], begin_ns_.back() - begin_ns_[op]);
  std::uint64_t relieved = 0;
  std::vector<std::uint32_t> left;
  for (const Candidate& candidate : candidates) {
    const std::uint32_t storage = gaps_.gaps[candidate.gap].storage;
    const bool hides = candidate.free_ns >= 0 && out_queue_ns_ + swap_ns(storage) <= link_ns_;
    if (relieved >= excess_bytes) return true;
    if (recompute_allowed_ && !gaps_.gaps[candidate.gap].returns &&
        gaps_.gaps[candidate.gap].rebuildable) {
      choices_[candidate.gap].action = Action::kRecompute;  // nothing must come back
    } else if (hides) {
      swap(candidate.gap);
    } else {
      left.push_back(candidate.gap);
      continue;
    }
    relieved += profile_.storages[storage].bytes;
  }
  // The rest by the bytes it saves per second lost: a swap loses what does not hide, a recompute
  // its run. Prices only rise as choices are made, so a candidate whose price still holds when it
  // comes up is the best.
  std::priority_queue<Offer> offers;
  for (const std::uint32_t gap : left) offers.push(offer_of(gap));
  while (relieved < excess_bytes && !offers.empty()) {
    const Offer offer = offers.top();
    offers.pop();
    const Offer now = offer_of(offer.gap);
    if (now.rate < offer.rate) {
      offers.push(now);
      continue;
    }
    relieved += profile_.storages[gaps_.gaps[now.gap].storage].bytes;
    now.swaps ? swap(now.gap) : recompute(now.gap);
  }
  return true;
}

// What is recomputed around `op` may be back early, as a step to something else, or need scratch
// there; a copy comes back when it is needed and needs nothing beside. Largest first.
bool Capuchin::swap_instead(std::uint32_t op, std::uint64_t excess_bytes) {
  std::vector<std::uint32_t> around;
  for (std::uint32_t g = 0; g < gaps_.gaps.size(); ++g) {
    const Gap& gap = gaps_.gaps[g];
    if (choices_[g].action == Action::kRecompute && gap.after_op < op && gap.before_op >= op)
      around.push_back(g);
  }
  std::stable_sort(around.begin(), around.end(), [this](std::uint32_t a, std::uint32_t b) {
    return profile_.storages[gaps_.gaps[a].storage].bytes >
           profile_.storages[gaps_.gaps[b].storage].bytes;
  });
  std::uint64_t relieved = 0;
  for (const std::uint32_t g : around) {
    if (relieved >= excess_bytes) break;
    swap(g);
    relieved += profile_.storages[gaps_.gaps[g].storage].bytes;
  }
  return !around.empty();
}

Capuchin::Offer Capuchin::offer_of(std::uint32_t g) const {
  const Gap& gap = gaps_.gaps[g];
  const auto exposed_ns =
      std::max<std::int64_t>({1, -free_ns(gap), out_queue_ns_ + swap_ns(gap.storage) - link_ns_});
  const std::int64_t again_ns = gap.rebuildable && recompute_allowed_
                                    ? std::max<std::int64_t>(1, rebuild_ns_[gap.storage])
                                    : std::numeric_limits<std::int64_t>::max();
  const double rate = static_cast<double>(profile_.storages[gap.storage].bytes) /
                      static_cast<double>(std::min(exposed_ns, again_ns));
  return {rate, g, exposed_ns <= again_ns};
}

}  // namespace

PlanOutcome plan_capuchin(const Profile& profile,
                          const ProfileSummary& summary,
                          const DeviceModel& device,
                          const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  const bool fits =
      request.budget_bytes == 0 || summary.keep_all_peak_bytes <= request.budget_bytes;
  const Choices choices =
      fits ? Choices(gaps.gaps.size()) : Capuchin(profile, device, request, gaps).solve();
  return outcome_of(profile, device, request, gaps, choices, "capuchin");
}

}  // namespace spillway
