// SPDX-License-Identifier: Apache-2.0
// The online policy: what to evict, and by which lever, in a step that leaves its plan (another
// shape, another order, less memory). It is told what happens and asked for victims; it has no
// clock, no memory of its own and no threads. What it learns survives the step: op times, link
// rates, lateness, levers.
//  score = price / (bytes * time since last use), price the cheaper of
//   recompute: expected time of its op + that of the evicted storages around it (h_eq of DTR)
//   offload:   copy out + what the copy back is expected to be late
#pragma once

#include "policy/online_feedback.hpp"
#include "policy/plan.hpp"
#include "policy/victim_index.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace spillway {

struct OnlineOptions {
  FeedbackOptions feedback;
  double d2h_gbps = 0;  // calibrated, until copies are measured; 0: no offload before that
  double h2d_gbps = 0;
};

/// A storage as it is made.
struct OnlineStorage {
  std::uint64_t key = 0;  // the same in every step for what is the same tensor
  std::uint64_t bytes = 0;
  std::int64_t op_ns = 0;  // measured time of the op that made it; < 0: not known (yet)
  bool recomputable = false;
  bool offloadable = false;  // neither: never a victim
};

struct Eviction {
  std::uint32_t id = 0;
  Action action = Action::kRecompute;  // or kOffload
};

/// A value: copies go the same way from the same calls. Ids are given by made(), from 0 in each
/// step. Each call costs O(log n) and the storage's neighbours; victim() looks at one storage per
/// price class (VictimIndex).
class OnlinePolicy {
 public:
  explicit OnlinePolicy(const OnlineOptions& options = {});

  /// Forgets the storages of the step before, keeps what was learned of tensors that were made in
  /// any of the last 64 steps.
  void begin_step();

  /// A storage was made from `inputs` (ids). It is resident and locked once: unlock() when the op
  /// has ended.
  std::uint32_t made(const OnlineStorage& storage, std::span<const std::uint32_t> inputs);
  void lock(std::uint32_t id);
  /// The last unlock makes it a candidate.
  void unlock(std::uint32_t id, std::int64_t now_ns);

  /// Whom to evict now, and how: from here on it counts as evicted. None: nobody can go.
  std::optional<Eviction> victim(std::int64_t now_ns);
  /// The program dropped it by itself; it may be made again.
  void dropped(std::uint32_t id);
  /// It is resident again and locked once. `op_ns`: measured time of a recompute, < 0 after a copy.
  void returned(std::uint32_t id, std::int64_t op_ns);
  /// It is needed no more in this step, nor is anything made from it.
  void gone(std::uint32_t id);

  /// A copy ended that kept its engine busy for `ns`.
  void copied_out(std::uint64_t bytes, std::int64_t ns);
  void copied_back(std::uint64_t bytes, std::int64_t ns);
  /// The op that needed `id` waited `late_ns` for its copy back, or found it there for `early_ns`.
  /// `lead_ns_max`: the whole time it was away.
  void arrived(std::uint32_t id,
               std::int64_t late_ns,
               std::int64_t early_ns,
               std::int64_t lead_ns_max);
  /// How long before its use the copy back of `id` should be issued: copy time and learned lead.
  [[nodiscard]] std::int64_t prefetch_ahead_ns(std::uint32_t id) const;

  [[nodiscard]] LinkRate out_rate() const { return out_; }
  [[nodiscard]] LinkRate back_rate() const { return back_; }
  /// Lever of the tensor with this key, if it was ever priced.
  [[nodiscard]] std::optional<Action> lever_of(std::uint64_t key) const;
  /// Times a tensor went over from one lever to the other, in all steps.
  [[nodiscard]] std::uint64_t switch_count() const { return switch_count_; }
  /// Storages compared in all searches.
  [[nodiscard]] std::uint64_t compared() const { return compared_ + index_.compared(); }

 private:
  /// What is known of a tensor from step to step.
  struct Memory {
    TimeEstimate time;
    PrefetchLead lead;
    double late_ns = 0;   // expected wait for its copy back, smoothed
    bool copied = false;  // late_ns is measured
    LeverChoice lever;
    std::uint64_t priced_in_step = 0;  // the lever is decided once per step
    std::uint64_t made_in_step = 0;
  };
  enum class Place : std::uint8_t { kResident, kDropped, kOnHost, kGone };
  struct Node {
    OnlineStorage info;
    Place place = Place::kResident;
    std::uint32_t locks = 0;
    std::uint32_t set = 0;
    double set_ns = 0;  // what it adds to its set
    std::int64_t last_use_ns = 0;
    std::vector<std::uint32_t> parents, children;
  };
  struct Set {
    std::uint32_t parent = 0;
    double ns = 0;
  };

  Memory& memory_of(const Node& node) { return memory_[node.info.key]; }
  double op_ns(const Node& node) const;
  double recompute_price(std::uint32_t id);
  double offload_price(const Node& node) const;
  double price(std::uint32_t id);
  Action choose(std::uint32_t id);
  void leave(std::uint32_t id, Place place, double set_ns);
  void reprice_neighbours(std::uint32_t id);
  std::uint32_t find(std::uint32_t set);

  OnlineOptions options_;
  LinkRate out_, back_;
  std::unordered_map<std::uint64_t, Memory> memory_;
  std::uint64_t step_ = 0;
  std::uint64_t switch_count_ = 0;
  std::uint64_t compared_ = 0;  // by indices of steps before
  std::vector<Node> nodes_;
  std::vector<Set> sets_;
  VictimIndex index_;
};

}  // namespace spillway
