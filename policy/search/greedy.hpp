// SPDX-License-Identifier: Apache-2.0
// The fast first answer: per gap, seconds of cost per byte-second relieved where the budget is
// exceeded, best first, until nothing exceeds it. Near linear in the step; where the local search
// starts.
#pragma once

#include "policy/codec_choice.hpp"
#include "policy/gaps.hpp"
#include "policy/lowering.hpp"
#include "policy/planner.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// How a greedy run prices the levers.
struct Weights {
  double link = 1.0;       // price of a second of copy that hides under compute
  double recompute = 1.0;  // price of a second of recompute
  bool offload = true;
  bool recompute_allowed = true;
  bool compress = true;
  bool code_offloads = false;  // compress what is offloaded where a codec applies
};

/// An op at which the budget is exceeded, and for how long its neighbourhood exceeds it.
struct Point {
  std::uint32_t op = 0;
  std::uint64_t bytes = 0;
  double weight = 0;
};

class Greedy {
 public:
  Greedy(const Profile& profile,
         const ProfileSummary& summary,
         const DeviceModel& device,
         const PlanRequest& request,
         const GapTable& gaps,
         const Lowering& lowering)
      : profile_(profile),
        summary_(summary),
        device_(device),
        request_(request),
        gaps_(gaps),
        lowering_(lowering) {}

  /// Choices whose just-in-time program fits the budget and what the host may hold, or the best it
  /// came to.
  Choices solve(const Weights& weights, Choices choices);
  /// Takes back what is not needed to stay under the budget, dearest first.
  [[nodiscard]] Choices trim(const Weights& weights, Choices choices) const;

 private:
  Choices solve_rounds(const Weights& weights, Choices choices);
  std::vector<std::uint32_t> above_pinned(const Weights& weights, const Choices& choices) const;
  [[nodiscard]] double otherwise_ns(const Weights& weights, std::uint32_t gap) const;
  [[nodiscard]] double cost_ns(const Weights& weights,
                               std::uint32_t gap,
                               const Decision& decision) const;
  bool keep_inputs_exact(const Lowered& lowered);
  [[nodiscard]] Codec codec_for(std::uint32_t storage) const {
    return best_codec(profile_, storage, request_, exact_only_[storage] != 0);
  }
  [[nodiscard]] double copy_out_ns(std::uint32_t storage, const Decision& decision) const {
    const Storage& info = profile_.storages[storage];
    return static_cast<double>(
        device_.offload_ns(payload_bytes(decision.codec, info.tag.dtype, info.bytes)));
  }
  void find_points();
  [[nodiscard]] std::size_t first_point_after(std::uint32_t op) const;
  [[nodiscard]] double relief(std::uint32_t gap, const Decision& now, const Decision& then) const;
  [[nodiscard]] double score(const Weights& weights, std::uint32_t gap, const Decision& then) const;

  const Profile& profile_;
  const ProfileSummary& summary_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  const GapTable& gaps_;
  const Lowering& lowering_;
  Choices choices_;
  std::vector<std::uint64_t> instant_bytes_;  // per op, of the last lowering
  std::vector<char> exact_only_;              // per storage: a recompute reads it
  std::vector<char> no_offload_;              // per gap: the host has no room for it
  std::vector<Point> points_;                 // with bytes as estimated since then
  std::vector<std::uint32_t> back_at_;
  double offload_ns_ = 0;  // copies chosen so far
};

}  // namespace spillway
