// SPDX-License-Identifier: Apache-2.0
// The state of the search: for every storage where it is when each op begins ("spots"), and what
// follows from that op by op: which ops run again, what it costs, what it needs. A stage is what
// happens from the end of op t-1 to the end of op t. Changing one storage changes only the stages
// that touch it, so a move is judged without running the step.
//
// Invariants (check_invariants): every spot list begins at op 0 and ascends; entry_bytes(t) is the
// sum over storages of what their spots hold, host_bytes(t) the same for the host; value(t) is what
// judge(t) says.
#pragma once

#include "core/status.hpp"
#include "policy/gaps.hpp"
#include "policy/plan.hpp"
#include "policy/search/step_model.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

enum class Spot : std::uint8_t { kAway, kHere, kCoded, kHost, kHostCoded };
inline constexpr int kSpotCount = 5;

/// `spot` from the beginning of op `from` on.
struct SpotSpan {
  std::uint32_t from = 0;
  Spot spot = Spot::kAway;
  friend bool operator==(const SpotSpan&, const SpotSpan&) = default;
};

/// What a stage costs beyond its own op. An illegal stage cannot be run at all.
struct StageValue {
  double cost_ns = 0;  // recompute and codec time, and copies at the link's price
  std::uint64_t peak_bytes = 0;
  bool legal = true;
};

/// One storage's spots at a stage's two ends, in place of what the schedule says.
struct Override {
  std::uint32_t storage = StorageId::kNoneValue;
  Spot entry = Spot::kAway;
  Spot exit = Spot::kAway;
};

/// What the copy engines hold at the beginning of every op, in device bytes: offloads that have not
/// ended yet, and prefetches that must be under way already to end in time; and how many more bytes
/// each engine could move during the stage.
struct LinkLoad {
  std::vector<double> out_queue, in_queue;
  std::vector<double> out_slack, in_slack;
};

class Schedule {
 public:
  /// Keep-all. `model` must outlive it.
  explicit Schedule(const StepModel& model);

  /// ns that the search pays for a ns of copy, per direction. Rejudges everything.
  void set_link_price(double out, double in);
  /// The same per storage, on top: factors, parallel to storages; empty: 1.
  void set_storage_prices(std::vector<double> factors);
  /// May this storage take its lossy codec? Off at first.
  void set_lossy(std::uint32_t storage, bool lossy) { lossy_[storage] = lossy ? 1 : 0; }
  [[nodiscard]] bool is_lossy(std::uint32_t storage) const { return lossy_[storage] != 0; }

  [[nodiscard]] std::size_t stage_count() const { return values_.size(); }
  [[nodiscard]] bool is_legal(std::uint32_t stage) const { return values_[stage].legal; }
  [[nodiscard]] const std::vector<std::uint64_t>& peaks() const { return peaks_; }
  /// The link's load if nothing but `without` (if any) were as it is. First in, first out; no
  /// stalls.
  void link_load(LinkLoad* load, std::uint32_t without = StorageId::kNoneValue) const;
  /// The least that any way to the host and back costs `storage` in time and at the link's price.
  [[nodiscard]] double least_copy_cost(std::uint32_t storage) const;
  [[nodiscard]] bool uses_link() const { return link_users_ > 0; }
  [[nodiscard]] bool uses_link(std::uint32_t storage) const;
  [[nodiscard]] std::uint64_t entry_bytes(std::uint32_t stage) const { return entry_bytes_[stage]; }
  /// Host bytes held when each op begins; empty when the model's host memory has no limit.
  [[nodiscard]] const std::vector<std::uint64_t>& host_bytes() const { return host_bytes_; }
  [[nodiscard]] Spot spot_at(std::uint32_t storage, std::uint32_t stage) const {
    const std::vector<SpotSpan>& spots = spots_[storage];
    std::size_t i = spots.size();
    while (i > 1 && spots[i - 1].from > stage) --i;
    return spots[i - 1].spot;
  }
  [[nodiscard]] const std::vector<SpotSpan>& spots(std::uint32_t storage) const {
    return spots_[storage];
  }
  [[nodiscard]] std::uint64_t held_bytes(std::uint32_t storage, Spot spot) const {
    if (spot == Spot::kHere) return model_.items[storage].bytes;
    return spot == Spot::kCoded ? coding(storage).payload_bytes : 0;
  }
  [[nodiscard]] std::uint64_t on_host_bytes(std::uint32_t storage, Spot spot) const {
    if (spot == Spot::kHost) return model_.items[storage].bytes;
    return spot == Spot::kHostCoded ? coding(storage).payload_bytes : 0;
  }
  [[nodiscard]] const StepModel::Coding& coding(std::uint32_t storage) const {
    return lossy_[storage] != 0 ? model_.items[storage].lossy : model_.items[storage].exact;
  }
  /// Stages in which op `op` runs again, in no order.
  [[nodiscard]] const std::vector<std::uint32_t>& reruns(std::uint32_t op) const {
    return reruns_[op];
  }

  /// What `stage` would cost with the override. Counts one unit of work.
  StageValue judge(std::uint32_t stage, const Override& override);
  /// Gives `storage` new spots and rejudges `stages`, which must cover every stage that touches it
  /// before or after.
  void move(std::uint32_t storage,
            std::vector<SpotSpan> spots,
            const std::vector<std::uint32_t>& stages);

  /// Gives every storage its spots and codec at once: linear in the step.
  void set_all(const std::vector<std::vector<SpotSpan>>& spots, const std::vector<char>& lossy);
  /// Runs every stage again; needed after moves that named too few stages.
  void rejudge_all();

  [[nodiscard]] double cost_ns() const { return cost_ns_; }
  [[nodiscard]] std::uint64_t peak_bytes() const;
  [[nodiscard]] bool is_legal() const { return illegal_stages_ == 0; }
  [[nodiscard]] std::uint64_t work() const { return work_; }
  void add_work(std::uint64_t units) { work_ += units; }

  /// The schedule as a program, prefetches just in time.
  std::vector<Instruction> program();
  /// What the gaps' choices mean as spots; chains may run again more or less than lowering has it.
  void load(const GapTable& gaps, const Choices& choices);
  /// What a whole program means as spots: where each storage is after each op, a prefetch counted
  /// when its bytes are used. False, and keep-all, when that cannot be said in spots.
  bool load(const std::vector<Instruction>& program);

  Status check_invariants();

 private:
  template <bool kEmit>
  StageValue run(std::uint32_t stage, const Override& override, std::vector<Instruction>* out);
  void rejudge(std::uint32_t stage);

  void index_transitions(std::uint32_t storage, bool add);
  template <typename Visit>
  void for_each_copy(std::uint32_t storage, const Visit& visit) const;
  // Entry and host bytes are out of date until count_bytes.
  void set_spots(std::uint32_t storage, std::vector<SpotSpan> spots);
  void count_bytes();
  [[nodiscard]] std::vector<SpotSpan> natural_spots(std::uint32_t storage) const;
  void add_host_bytes(const std::vector<SpotSpan>& spots, std::uint32_t storage, bool add);
  void add_entry_bytes(const std::vector<SpotSpan>& spots, std::uint32_t storage, bool add);

  const StepModel& model_;
  double out_price_ = 0;
  double in_price_ = 0;
  std::vector<double> factors_;
  std::vector<std::vector<SpotSpan>> spots_;        // per storage
  std::vector<char> lossy_;                         // per storage
  std::vector<std::uint64_t> entry_bytes_;          // per stage, plus the end of the step
  std::vector<std::uint64_t> host_bytes_;           // the same on the host; empty: no limit
  std::vector<StageValue> values_;                  // per stage
  std::vector<std::uint64_t> peaks_;                // per stage; values_ may be out of date in it
  std::vector<std::vector<std::uint32_t>> chains_;  // per stage: ops that run again, ascending
  std::vector<std::vector<std::uint32_t>> reruns_;  // per op
  std::vector<std::vector<std::uint32_t>> arrivals_, departures_;  // per stage: storages
  std::vector<double> out_bytes_, in_bytes_;                       // per stage: copies issued in it
  std::size_t link_users_ = 0;  // transitions to and from the host
  double cost_ns_ = 0;
  std::size_t illegal_stages_ = 0;
  std::uint64_t work_ = 0;

  // Scratch of run(), valid where the stamp is the current one.
  struct Touch {
    std::uint32_t needed = 0;   // stamp
    std::uint32_t touched = 0;  // stamp
    std::uint32_t last = 0;     // position in the chain, chain size for the stage's own op
    Spot now = Spot::kAway;
  };
  std::vector<Touch> touches_;  // per storage
  std::vector<std::uint32_t> op_stamps_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t> worklist_, chain_, fetched_, touched_;
};

}  // namespace spillway
