// SPDX-License-Identifier: Apache-2.0
// Tasks are numbered; when one reaches what is enough, those behind it are called off and those
// before it run to their end, so that the lowest number that made it is always the same.
#include "allocator/packing_solver.hpp"

#include "core/atomic.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

namespace spillway {
namespace {

constexpr int kNobody = std::numeric_limits<int>::max();
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kSlotCount = 8;
constexpr double kNoiseMax = 2.2;                // as a power of 2
constexpr std::uint64_t kStepsPerPlace = 500;    // what placing a buffer twice may take
constexpr std::size_t kTightestCountMax = 4000;  // best fit takes twice as long as first fit

/// 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8 ...: restarts that lose at most a logarithm (Luby, Sinclair,
/// Zuckerman 1993). `round` counts from 1.
std::uint64_t luby(std::uint64_t round) {
  for (;;) {
    std::uint64_t size = 1;
    while (size < round + 1) size *= 2;
    if (size == round + 1) return size / 2;
    round -= size / 2 - 1;
  }
}

}  // namespace

struct PieceSolver::Slot {
  Random random{0};
  std::unique_ptr<PieceSearch> search;
  std::unique_ptr<OrderClimber> climber;
  std::size_t way = 0;  // of the search, in this round
};

struct PieceSolver::Round {
  int task_count = 0;
  std::uint64_t steps_each = 0;
  std::int64_t enough = 0;  // units
  const std::function<bool()>* stop = nullptr;
};

PieceSolver::PieceSolver(PackPiece piece, std::uint64_t seed)
    : piece_(std::move(piece)),
      seed_(seed),
      searchable_(!piece_.pinned && piece_.count() <= kSearchCountMax),
      lower_bound_(piece_.load) {
  for (std::size_t i = 0; i < piece_.count(); ++i)
    if (piece_.fixed[i] >= 0)
      lower_bound_ = std::max(lower_bound_, piece_.fixed[i] + piece_.size[i]);
  best_.height = std::numeric_limits<std::int64_t>::max();
}

PieceSolver::~PieceSolver() = default;

std::uint64_t PieceSolver::run_round(std::uint64_t step_limit,
                                     std::uint64_t enough_bytes,
                                     PackingThreads* threads,
                                     const std::function<bool()>& stop) {
  Round round;
  const std::uint64_t room = enough_bytes - std::min(enough_bytes, piece_.base_bytes);
  round.enough = static_cast<std::int64_t>(
      std::min(room / piece_.unit_bytes,
               static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())));
  round.enough = std::max(round.enough, lower_bound_);
  round.stop = &stop;
  if (round_count_++ == 0) {
    const bool hinted = std::any_of(
        piece_.hint.begin(), piece_.hint.end(), [](std::int64_t hint) { return hint >= 0; });
    for (int i = hinted ? 0 : 1; i < static_cast<int>(PackOrder::kCount); ++i) {
      const auto order = static_cast<PackOrder>(i);
      starts_.push_back({std::string(order_name(order)), sort_buffers(piece_, order), {}});
    }
    // An order that the limit cannot pay for is not tried; more work tries the same and more.
    round.task_count = static_cast<int>(std::clamp<std::uint64_t>(
        step_limit / (kStepsPerPlace * std::max<std::uint64_t>(piece_.count(), 1)),
        1,
        starts_.size()));
    return run_tasks_of(round, threads);
  }
  if (slots_.empty()) make_slots();
  // The first restarts of a search may go down a few times; a climber may place once or twice.
  const std::uint64_t count = piece_.count();
  const std::uint64_t base = searchable_
                                 ? std::max<std::uint64_t>(1000, 6 * count) *
                                       (count + static_cast<std::uint64_t>(piece_.section_count))
                                 : kStepsPerPlace * count;
  choose_ways();
  round.task_count = static_cast<int>(slots_.size());
  round.steps_each = std::min(base * luby(round_count_ - 1), step_limit / slots_.size());
  return run_tasks_of(round, threads);
}

std::uint64_t PieceSolver::run_tasks_of(const Round& round, PackingThreads* threads) {
  Atomic<int> winner{kNobody};
  const bool first_round = slots_.empty();
  std::vector<TaskResult> results(static_cast<std::size_t>(round.task_count));
  threads->run(round.task_count, [&](int task) {
    const auto called_off = [&winner, &round, task] {
      return winner.load(std::memory_order_relaxed) < task || (*round.stop && (*round.stop)());
    };
    if (task > 0 && called_off()) return;
    TaskResult& result = results[static_cast<std::size_t>(task)];
    if (first_round) {
      result = place(task, round, called_off);
    } else {
      Slot* slot = slots_[static_cast<std::size_t>(task)].get();
      result =
          slot->climber ? climb(slot, round, called_off) : search(slot, task, round, called_off);
    }
    if (result.layout.offsets.empty() || result.layout.height > round.enough) return;
    int seen = winner.load(std::memory_order_relaxed);
    while (task < seen && !winner.compare_exchange(
                              seen, task, std::memory_order_relaxed, std::memory_order_relaxed)) {
    }
  });
  std::uint64_t steps = 0;
  const int last = std::min(winner.load(std::memory_order_relaxed), round.task_count - 1);
  for (int task = 0; task <= last; ++task) {
    TaskResult& result = results[static_cast<std::size_t>(task)];
    steps += result.steps;
    lower_bound_ = std::max(lower_bound_, result.lower_bound);
    if (!first_round && slots_[static_cast<std::size_t>(task)]->search) {
      Way& way = ways_[slots_[static_cast<std::size_t>(task)]->way];
      ++way.tries;
      if (!result.layout.offsets.empty()) ++way.finds;
    }
    if (result.layout.offsets.empty()) continue;
    if (result.layout.height >= best_.height) continue;
    best_ = std::move(result.layout);
    method_ = std::move(result.method);
  }
  return steps;
}

PieceSolver::TaskResult PieceSolver::place(int task,
                                           const Round& round,
                                           const std::function<bool()>& stop) {
  TaskResult result;
  Start& start = starts_[static_cast<std::size_t>(task)];
  AddressIndex index(piece_.section_count);
  start.layout =
      place_in_order(piece_, start.order, PlaceRule::kLowest, kNoLimit, &index, &result.steps);
  result.layout = start.layout;
  result.method = start.name + ", first fit";
  if (result.layout.height <= round.enough || piece_.count() > kTightestCountMax || stop())
    return result;
  PieceLayout tight = place_in_order(
      piece_, start.order, PlaceRule::kTightest, start.layout.height, &index, &result.steps);
  if (tight.height >= result.layout.height) return result;
  result.layout = std::move(tight);
  result.method = start.name + ", best fit";
  return result;
}

void PieceSolver::make_slots() {
  // Climbers start from the orders that did best.
  std::vector<const Start*> by_height;
  for (const Start& start : starts_)
    if (!start.layout.offsets.empty()) by_height.push_back(&start);
  std::stable_sort(by_height.begin(), by_height.end(), [](const Start* a, const Start* b) {
    return a->layout.height < b->layout.height;
  });
  std::shared_ptr<const SearchGraph> graph;
  if (searchable_) graph = SearchGraph::make(piece_);
  std::size_t next_start = 0;
  for (std::size_t i = 0; i < kSlotCount; ++i) {
    auto slot = std::make_unique<Slot>();
    slot->random = Random(seed_ * kSlotCount + i);
    if (searchable_ && i < 7) {
      slot->search = PieceSearch::make(piece_, graph, best_.height);
    } else {
      const Start& start = *by_height[next_start++ % by_height.size()];
      slot->climber =
          std::make_unique<OrderClimber>(piece_, start.order, start.layout, slot->random.next());
    }
    slots_.push_back(std::move(slot));
  }
  starts_.clear();
}

/// Every other search goes through the ways in turn; the rest take what found most for its tries.
void PieceSolver::choose_ways() {
  if (!searchable_) return;
  if (ways_.empty()) {
    // A round's explorers differ in both rules.
    for (int i = 0; i < kSectionRuleCount * kBufferRuleCount; ++i)
      ways_.push_back({static_cast<SectionRule>((i + i / 12) % kSectionRuleCount),
                       static_cast<BufferRule>((i + 1) % kBufferRuleCount)});
  }
  std::vector<bool> used(ways_.size(), false);
  for (std::size_t i = 0; i < slots_.size(); i += 2) {
    slots_[i]->way = next_way_++ % ways_.size();
    used[slots_[i]->way] = true;
  }
  const auto worth = [this](std::size_t way) {
    return (2.0 * ways_[way].finds + 1) / (ways_[way].tries + 2.0);
  };
  for (std::size_t i = 1; i < slots_.size(); i += 2) {
    std::size_t best = ways_.size();
    for (std::size_t way = 0; way < ways_.size(); ++way)
      if (!used[way] && (best == ways_.size() || worth(way) > worth(best))) best = way;
    slots_[i]->way = best;
    used[best] = true;
  }
}

PieceSolver::TaskResult PieceSolver::climb(Slot* slot,
                                           const Round& round,
                                           const std::function<bool()>& stop) {
  TaskResult result;
  result.steps = slot->climber->run(round.steps_each, round.enough, stop);
  if (slot->climber->best().height < best_.height) {
    result.layout = slot->climber->best();
    result.method = "local search";
  }
  return result;
}

PieceSolver::TaskResult PieceSolver::search(Slot* slot,
                                            int task,
                                            const Round& round,
                                            const std::function<bool()>& stop) {
  // How far below the best, between the lower bound (0) and one unit less (1).
  static constexpr double kAims[] = {0, 0.6, 0, 0.3, 0.9, 0.1, 1};
  const double aim = kAims[(static_cast<std::size_t>(task) + round_count_) % std::size(kAims)];
  const Way& way = ways_[slot->way];
  TaskResult result;
  SearchTask next;
  next.section_rule = way.section_rule;
  next.buffer_rule = way.buffer_rule;
  const double noise = slot->random.unit();
  next.noise = way.tries == 0 ? 0 : kNoiseMax * noise;
  next.seed = slot->random.next();
  std::int64_t height = best_.height;
  std::int64_t lower_bound = lower_bound_;
  while (height > round.enough && lower_bound < height && result.steps < round.steps_each) {
    const std::int64_t least = std::max(round.enough, lower_bound);
    next.target = least + static_cast<std::int64_t>(aim * static_cast<double>(height - 1 - least));
    next.step_limit = round.steps_each - result.steps;
    SearchOutcome outcome = slot->search->run(next, stop);
    result.steps += outcome.steps;
    if (outcome.end == SearchEnd::kLimit) break;
    if (outcome.end == SearchEnd::kRefuted) {
      lower_bound = next.target + 1;
      continue;
    }
    height = outcome.layout.height;
    result.layout = std::move(outcome.layout);
    result.method = "search";
  }
  result.lower_bound = lower_bound;
  return result;
}

}  // namespace spillway
