// SPDX-License-Identifier: Apache-2.0
// Local search over a schedule: one storage at a time gets the best spots for its whole life, given
// all others, by a shortest path over the stages that touch it. What exceeds the budget costs a
// price per byte and stage; raising and lowering it drives the search through and out of local
// optima. Deterministic for a seed and a work limit.
#pragma once

#include "core/random.hpp"
#include "policy/search/schedule.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace spillway {

struct DescentOptions {
  std::uint64_t budget_bytes = 0;
  std::uint64_t work_limit = 0;  // judged stages
  std::uint64_t seed = 1;
};

/// Every storage's spots, and which of them take lossy codecs.
struct Spots {
  std::vector<std::vector<SpotSpan>> spots;
  std::vector<char> lossy;
};

class Descent {
 public:
  Descent(const StepModel& model, Schedule& schedule, const DescentOptions& options);

  /// Searches until the work limit, and half of it more when nothing fits by then. Afterwards the
  /// schedule is the best one found that fits the budget; false, and the one with the smallest
  /// peak, when none was.
  bool run();
  /// Sweeps with a price so high that nothing exceeds the budget further, until nothing improves.
  void polish();

  [[nodiscard]] std::uint64_t work_used() const { return schedule_.work(); }
  /// Cost of the best schedule that fits, after every round that improved it (for tests).
  [[nodiscard]] const std::vector<double>& history() const { return history_; }

 private:
  bool improve(std::uint32_t storage);
  bool find_path(std::uint32_t storage);
  bool may_pay(std::uint32_t storage);
  bool improve_siblings(std::uint32_t op);
  bool try_together(const std::vector<std::uint32_t>& storages, Spot spot);
  [[nodiscard]] double objective() const;
  [[nodiscard]] bool is_coded(std::uint32_t storage) const;
  [[nodiscard]] bool is_read_again(std::uint32_t storage) const;
  bool sweep();
  bool raise_prices(double growth);
  void climb();
  [[nodiscard]] bool exhausted() const { return schedule_.work() >= options_.work_limit; }
  void remember();
  void restore(const Spots& spots);
  [[nodiscard]] double excess_cost(std::uint32_t stage, std::uint64_t peak_bytes) const {
    return peak_bytes <= options_.budget_bytes
               ? 0.0
               : prices_[stage] * static_cast<double>(peak_bytes - options_.budget_bytes);
  }
  void find_stages(std::uint32_t storage);
  int allowed_exits(std::uint32_t storage, std::uint32_t stage, Spot* exits) const;
  void segment_costs(std::uint32_t storage, std::uint32_t begin, std::uint32_t end);
  double host_cost(std::uint32_t storage,
                   std::uint64_t bytes,
                   std::uint32_t begin,
                   std::uint32_t end);
  [[nodiscard]] double host_excess_cost(std::uint32_t stage, std::uint64_t bytes) const {
    return bytes <= model_.pinned_bytes
               ? 0.0
               : host_prices_[stage] * static_cast<double>(bytes - model_.pinned_bytes);
  }
  void update_load();
  [[nodiscard]] bool fits() const;

  const StepModel& model_;
  Schedule& schedule_;
  DescentOptions options_;
  Random random_;
  std::vector<double> prices_;       // per stage: ns per byte above the budget
  std::vector<double> host_prices_;  // per stage: ns per host byte above the pinned limit
  double unit_price_ = 0;            // ns of forward per movable byte
  struct Range {
    std::uint32_t from = 0, to = 0;  // stages
  };
  std::vector<std::uint32_t> order_;
  std::vector<std::uint32_t> sibling_ops_;  // ops that make several movable storages
  std::vector<Range> main_gaps_;            // per storage: the widest stretch without a use
  std::optional<Spots> best_;
  double best_cost_ns_ = 0;
  std::uint64_t least_peak_bytes_ = 0;
  std::optional<Spots> least_;
  std::vector<double> history_;

  // Scratch of improve().
  struct Node {
    double cost[kSpotCount];
    std::uint8_t from[kSpotCount];
  };
  std::vector<std::uint32_t> stages_, siblings_, trial_stages_;
  std::vector<Node> nodes_;
  double segment_[kSpotCount] = {};  // by spot
  LinkLoad load_, own_load_;
  bool loaded_ = false;                // some storage uses the link
  bool others_is_loads_ = false;       // others_ equals loads_
  const LinkLoad* link_ = nullptr;     // load_, or own_load_ without the storage at hand
  std::vector<std::uint64_t> loads_;   // per stage: both queues of load_
  std::vector<std::uint64_t> others_;  // per stage: both queues of *link_
};

}  // namespace spillway
