// SPDX-License-Identifier: Apache-2.0
// State: per buffer its offset, or the lowest one left to it; per section the floor, the lowest of
// these among what is still to come there. A dip is a run of sections with equal floors between
// higher ones. What comes next above a section of a dip lies on the floor, inside the dip, or is
// kept from it and there is waste.
#include "allocator/packing_search.hpp"

#include "core/random.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace spillway {
namespace {

/// 2^x within 6 %, the same on every machine. REQUIRES: 0 <= x < 60.
double about_exp2(double x) {
  const auto whole = static_cast<int>(x);
  return static_cast<double>(std::uint64_t{1} << whole) * (1 + (x - whole));
}

/// `Units` is 32 bits wide where heights allow it: twice as many per vector instruction.
template <typename Units>
class Search final : public PieceSearch {
 public:
  Search(const PackPiece& piece, std::shared_ptr<const SearchGraph> graph);
  SearchOutcome run(const SearchTask& task, const std::function<bool()>& stop) override;

 private:
  static constexpr Units kNever = std::numeric_limits<Units>::max();

  struct Change {
    Units* place;
    Units before;
  };
  struct Level {
    std::vector<std::int32_t> open;     // not placed, by lowest offset, highest first (nearly)
    std::vector<std::int32_t> choices;  // what may lie on the floor of `section`
    std::size_t next_choice = 0;
    std::int32_t section = 0;
    Units floor = 0;
    bool may_waste = false;        // the section has bytes to spare, and that was not tried
    std::int32_t taken = 0;        // the choice that the level above stands on
    std::size_t change_count = 0;  // of changes_ before that
  };

  void rank_buffers(const SearchTask& task);
  void reset();
  void set(Units* place, Units value);
  void undo_to(std::size_t change_count);
  void touch(std::int32_t first, std::int32_t last);
  void place(std::int32_t buffer, Units floor);
  bool lay(Level* level, Level* above);
  void take_back(Level* level);
  bool waste(Level* level);
  bool fits(Level* level);
  void choose_section(Level* level);
  void list_choices(Level* level);
  [[nodiscard]] Units raised_floor(const Level& level) const;
  [[nodiscard]] bool alive(std::int32_t buffer, std::int32_t section) const {
    return first_[at(buffer)] <= section && section <= last_[at(buffer)];
  }
  [[nodiscard]] Units aligned(Units offset, std::int32_t buffer) const {
    if (align_.empty()) return offset;
    const Units align = align_[at(buffer)];
    const Units rest = offset % align;
    if (rest == 0) return offset;
    return offset > kNever - align ? kNever : offset + (align - rest);
  }
  static std::size_t at(std::int32_t index) { return static_cast<std::size_t>(index); }

  const PackPiece& piece_;
  const std::shared_ptr<const SearchGraph> graph_;
  const std::int32_t count_;
  const std::int32_t section_count_;
  std::vector<std::int32_t> first_, last_;
  std::vector<Units> size_;
  std::vector<Units> align_;            // empty: all 1
  std::vector<std::uint32_t> weights_;  // of sections: searches ended there

  // One run.
  Units target_ = 0;
  SectionRule section_rule_ = SectionRule::kFewest;
  std::int32_t last_section_ = 0;
  bool snug_ = false;
  std::uint64_t steps_ = 0;
  std::vector<std::int32_t> rank_;  // of buffers; 0 is tried first
  std::vector<Units> lowest_;       // offset of a placed buffer, least offset of an open one
  std::vector<std::uint8_t> placed_;
  std::vector<Units> floor_;    // of sections: lowest of the open ones there; kNever without any
  std::vector<Units> to_come_;  // of sections: sum of open sizes
  std::vector<Units> stacked_, next_floor_;  // scratch of fits()
  std::vector<std::int32_t> dip_, could_lie_;
  std::vector<std::uint8_t> is_dip_;
  std::vector<Change> changes_;
  std::int32_t touched_first_ = 0, touched_last_ = 0;
  std::vector<Level> levels_;
};

template <typename Units>
Search<Units>::Search(const PackPiece& piece, std::shared_ptr<const SearchGraph> graph)
    : piece_(piece),
      graph_(std::move(graph)),
      count_(static_cast<std::int32_t>(piece.count())),
      section_count_(piece.section_count),
      first_(piece.first),
      last_(piece.last),
      size_(piece.size.begin(), piece.size.end()),
      weights_(at(piece.section_count), 0),
      lowest_(piece.count()),
      placed_(piece.count()),
      floor_(at(piece.section_count)),
      to_come_(at(piece.section_count)),
      stacked_(at(piece.section_count)),
      next_floor_(at(piece.section_count)),
      dip_(at(piece.section_count)),
      could_lie_(at(piece.section_count) + 1),
      is_dip_(at(piece.section_count)) {
  if (piece.aligned) align_.assign(piece.align.begin(), piece.align.end());
}

template <typename Units>
void Search<Units>::rank_buffers(const SearchTask& task) {
  Random random(task.seed);
  std::vector<double> keys(at(count_));
  for (std::int32_t i = 0; i < count_; ++i) {
    const double length = last_[at(i)] - first_[at(i)] + 1;
    const auto size = static_cast<double>(size_[at(i)]);
    double key = 0;
    switch (task.buffer_rule) {
      case BufferRule::kSnug:
      case BufferRule::kArea:
        key = size * length;
        break;
      case BufferRule::kSnugLength:
      case BufferRule::kLength:
        key = length;
        break;
      case BufferRule::kSize:
        key = size;
        break;
      case BufferRule::kContention:
        key = static_cast<double>(graph_->contention[at(i)]) * 1e6 + size * length;
        break;
    }
    keys[at(i)] = key * about_exp2(task.noise * random.unit());
  }
  std::vector<std::int32_t> order(at(count_));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&keys](std::int32_t a, std::int32_t b) {
    return keys[at(a)] > keys[at(b)];
  });
  rank_.resize(at(count_));
  for (std::int32_t i = 0; i < count_; ++i) rank_[at(order[at(i)])] = i;
}

template <typename Units>
void Search<Units>::reset() {
  changes_.clear();
  std::fill(placed_.begin(), placed_.end(), std::uint8_t{0});
  std::fill(floor_.begin(), floor_.end(), Units{0});
  std::fill(to_come_.begin(), to_come_.end(), Units{0});
  std::fill(lowest_.begin(), lowest_.end(), Units{0});
  for (std::int32_t i = 0; i < count_; ++i)
    for (std::int32_t s = first_[at(i)]; s <= last_[at(i)]; ++s) to_come_[at(s)] += size_[at(i)];
  touched_first_ = 0;
  touched_last_ = section_count_ - 1;
  if (levels_.empty()) levels_.emplace_back();
  levels_[0].open.resize(at(count_));
  std::iota(levels_[0].open.begin(), levels_[0].open.end(), 0);
  levels_[0].change_count = 0;
}

template <typename Units>
void Search<Units>::set(Units* place, Units value) {
  changes_.push_back({place, *place});
  *place = value;
}

template <typename Units>
void Search<Units>::undo_to(std::size_t change_count) {
  for (; changes_.size() > change_count; changes_.pop_back())
    *changes_.back().place = changes_.back().before;
}

template <typename Units>
void Search<Units>::touch(std::int32_t first, std::int32_t last) {
  touched_first_ = std::min(touched_first_, first);
  touched_last_ = std::max(touched_last_, last);
}

template <typename Units>
void Search<Units>::place(std::int32_t buffer, Units floor) {
  placed_[at(buffer)] = 1;
  const Units top = floor + size_[at(buffer)];
  touched_first_ = first_[at(buffer)];
  touched_last_ = last_[at(buffer)];
  for (std::int32_t s = touched_first_; s <= touched_last_; ++s)
    set(&to_come_[at(s)], to_come_[at(s)] - size_[at(buffer)]);
  for (const std::int32_t other : graph_->neighbours[at(buffer)]) {
    if (placed_[at(other)] != 0 || lowest_[at(other)] >= top) continue;
    set(&lowest_[at(other)], aligned(top, other));
    touch(first_[at(other)], last_[at(other)]);
  }
  steps_ += graph_->neighbours[at(buffer)].size();
}

/// Orders the open buffers by lowest offset and asks of every touched section whether what lies at
/// or above some offset there still goes below the target. False: a dead end. True: the floors of
/// the touched sections are as they should be.
template <typename Units>
bool Search<Units>::fits(Level* level) {
  std::vector<std::int32_t>& open = level->open;
  for (std::size_t i = 1; i < open.size(); ++i) {
    const std::int32_t moving = open[i];
    const Units lowest = lowest_[at(moving)];
    std::size_t j = i;
    for (; j > 0 && lowest_[at(open[j - 1])] < lowest; --j) open[j] = open[j - 1];
    open[j] = moving;
  }
  const std::int32_t first = touched_first_;
  const std::int32_t last = touched_last_;
  std::fill(stacked_.begin() + first, stacked_.begin() + last + 1, Units{0});
  std::fill(next_floor_.begin() + first, next_floor_.begin() + last + 1, kNever);
  steps_ += open.size();
  for (const std::int32_t buffer : open) {
    const std::int32_t from = std::max(first, first_[at(buffer)]);
    const std::int32_t to = std::min(last, last_[at(buffer)]);
    if (from > to) continue;
    const Units lowest = lowest_[at(buffer)];
    if (lowest > target_) return false;
    const Units size = size_[at(buffer)];
    Units most = 0;
    for (std::int32_t s = from; s <= to; ++s) {
      stacked_[at(s)] += size;
      most = std::max(most, stacked_[at(s)]);
      next_floor_[at(s)] = lowest;  // the last one to write is the lowest
    }
    steps_ += static_cast<std::uint64_t>(to - from) / 4;
    if (most <= target_ - lowest) continue;
    for (std::int32_t s = from; s <= to; ++s)
      if (stacked_[at(s)] > target_ - lowest) ++weights_[at(s)];
    return false;
  }
  for (std::int32_t s = first; s <= last; ++s)
    if (floor_[at(s)] != next_floor_[at(s)]) set(&floor_[at(s)], next_floor_[at(s)]);
  return true;
}

/// Fills level->section and level->floor. REQUIRES: something is open.
template <typename Units>
void Search<Units>::choose_section(Level* level) {
  std::int32_t dip_count = 0;
  for (std::int32_t s = 0; s < section_count_;) {
    std::int32_t end = s;
    while (end + 1 < section_count_ && floor_[at(end + 1)] == floor_[at(s)]) ++end;
    is_dip_[at(dip_count)] = floor_[at(s)] != kNever &&
                             (s == 0 || floor_[at(s - 1)] > floor_[at(s)]) &&
                             (end + 1 == section_count_ || floor_[at(end + 1)] > floor_[at(s)]);
    for (; s <= end; ++s) dip_[at(s)] = dip_count;
    ++dip_count;
  }
  std::fill(could_lie_.begin(), could_lie_.end(), 0);
  for (const std::int32_t buffer : level->open) {
    const std::int32_t dip = dip_[at(first_[at(buffer)])];
    if (dip != dip_[at(last_[at(buffer)])] || is_dip_[at(dip)] == 0) continue;
    if (lowest_[at(buffer)] != floor_[at(first_[at(buffer)])]) continue;  // its alignment
    ++could_lie_[at(first_[at(buffer)])];
    --could_lie_[at(last_[at(buffer)]) + 1];
  }
  steps_ += static_cast<std::uint64_t>(section_count_) + level->open.size();
  std::int32_t best = -1;
  std::int64_t best_first = 0;
  std::int64_t best_second = 0;
  std::int32_t could_lie = 0;
  for (std::int32_t s = 0; s < section_count_; ++s) {
    could_lie += could_lie_[at(s)];
    if (is_dip_[at(dip_[at(s)])] == 0) continue;
    const std::int64_t slack = std::int64_t{target_} - floor_[at(s)] - to_come_[at(s)];
    std::int64_t first = could_lie;
    std::int64_t second = slack;
    if (section_rule_ == SectionRule::kWeighted)
      first = (2 * std::int64_t{could_lie} + (slack > 0 ? 1 : 0)) * (std::int64_t{1} << 32) /
              (std::int64_t{weights_[at(s)]} + 1);
    if (section_rule_ == SectionRule::kNear)
      second = s > last_section_ ? s - last_section_ : last_section_ - s;
    if (section_rule_ == SectionRule::kTightest) std::swap(first, second);
    if (best < 0 || first < best_first || (first == best_first && second < best_second)) {
      best = s;
      best_first = first;
      best_second = second;
    }
  }
  level->section = best;
  last_section_ = best;
  level->floor = floor_[at(best)];
}

template <typename Units>
void Search<Units>::list_choices(Level* level) {
  level->choices.clear();
  level->next_choice = 0;
  const std::int32_t dip = dip_[at(level->section)];
  for (const std::int32_t buffer : level->open)
    if (alive(buffer, level->section) && dip_[at(first_[at(buffer)])] == dip &&
        dip_[at(last_[at(buffer)])] == dip && lowest_[at(buffer)] == level->floor)
      level->choices.push_back(buffer);
  std::sort(level->choices.begin(), level->choices.end(), [this](std::int32_t a, std::int32_t b) {
    return rank_[at(a)] < rank_[at(b)];
  });
  if (snug_ && level->choices.size() > 1) {
    std::int32_t from = level->section;
    std::int32_t to = level->section;
    while (from > 0 && dip_[at(from - 1)] == dip) --from;
    while (to + 1 < section_count_ && dip_[at(to + 1)] == dip) ++to;
    const auto fit = [&](std::int32_t b) {
      const Units top = level->floor + size_[at(b)];
      int score = 0;
      if (first_[at(b)] == from) {
        ++score;
        if (from > 0 && floor_[at(from - 1)] == top) ++score;
      }
      if (last_[at(b)] == to) {
        ++score;
        if (to + 1 < section_count_ && floor_[at(to + 1)] == top) ++score;
      }
      return score;
    };
    std::stable_sort(level->choices.begin(),
                     level->choices.end(),
                     [&](std::int32_t a, std::int32_t b) { return fit(a) > fit(b); });
  }
  // Of buffers that are alike, one is enough.
  std::size_t kept = 0;
  for (const std::int32_t buffer : level->choices) {
    const bool again = std::any_of(
        level->choices.begin(),
        level->choices.begin() + static_cast<std::ptrdiff_t>(kept),
        [&](std::int32_t other) {
          return size_[at(buffer)] == size_[at(other)] && first_[at(buffer)] == first_[at(other)] &&
                 last_[at(buffer)] == last_[at(other)] &&
                 (align_.empty() || align_[at(buffer)] == align_[at(other)]);
        });
    if (!again) level->choices[kept++] = buffer;
  }
  level->choices.resize(kept);
  level->may_waste = level->floor < target_ - to_come_[at(level->section)];
}

/// Least offset above `floor` of what is alive in the section: what could lie on the floor needs a
/// buffer below it that is not alive in the section.
template <typename Units>
Units Search<Units>::raised_floor(const Level& level) const {
  Units raised = kNever;
  for (const std::int32_t buffer : level.open) {
    if (!alive(buffer, level.section)) continue;
    if (lowest_[at(buffer)] > level.floor) {
      raised = std::min(raised, lowest_[at(buffer)]);
      continue;
    }
    for (const std::int32_t below : graph_->neighbours[at(buffer)])
      if (placed_[at(below)] == 0 && !alive(below, level.section))
        raised = std::min(raised, aligned(lowest_[at(below)] + size_[at(below)], buffer));
  }
  return raised;
}

/// Lays the next choice of `level` on its floor; `above` becomes the level after that. False: a
/// dead end, to be taken back.
template <typename Units>
bool Search<Units>::lay(Level* level, Level* above) {
  level->taken = level->choices[level->next_choice++];
  level->change_count = changes_.size();
  place(level->taken, level->floor);
  above->open.clear();
  for (const std::int32_t buffer : level->open)
    if (buffer != level->taken) above->open.push_back(buffer);
  if (above->open.empty()) return true;
  if (!fits(above)) return false;
  choose_section(above);
  list_choices(above);
  return true;
}

template <typename Units>
void Search<Units>::take_back(Level* level) {
  undo_to(level->change_count);
  placed_[at(level->taken)] = 0;
}

/// Nothing lies on the level's floor in its section. False: a dead end.
template <typename Units>
bool Search<Units>::waste(Level* level) {
  const Units raised = raised_floor(*level);
  if (raised > target_ - to_come_[at(level->section)]) return false;
  touched_first_ = touched_last_ = level->section;
  for (const std::int32_t buffer : level->open) {
    if (!alive(buffer, level->section) || lowest_[at(buffer)] >= raised) continue;
    set(&lowest_[at(buffer)], aligned(raised, buffer));
    touch(first_[at(buffer)], last_[at(buffer)]);
  }
  if (!fits(level)) return false;
  choose_section(level);
  list_choices(level);
  return true;
}

template <typename Units>
SearchOutcome Search<Units>::run(const SearchTask& task, const std::function<bool()>& stop) {
  SearchOutcome outcome;
  steps_ = static_cast<std::uint64_t>(count_);
  section_rule_ = task.section_rule;
  last_section_ = 0;
  snug_ = task.buffer_rule == BufferRule::kSnug || task.buffer_rule == BufferRule::kSnugLength;
  if (task.target < piece_.load) {
    outcome.end = SearchEnd::kRefuted;
    return outcome;
  }
  // kNever and sums with it stay out of reach.
  if (task.target > kNever / 4) return outcome;
  target_ = static_cast<Units>(task.target);
  rank_buffers(task);
  reset();
  std::size_t depth = 0;
  if (!fits(&levels_[0])) {
    outcome.end = SearchEnd::kRefuted;
    outcome.steps = steps_;
    return outcome;
  }
  choose_section(&levels_[0]);
  list_choices(&levels_[0]);
  for (std::uint64_t nodes = 1;; ++nodes) {
    if (steps_ > task.step_limit || (nodes % 256 == 0 && stop && stop())) break;
    Level& here = levels_[depth];
    if (here.next_choice == here.choices.size()) {
      // Waste is the last alternative of its level, so it needs none of its own.
      if (here.may_waste && waste(&here)) continue;
      if (depth == 0) {
        outcome.end = SearchEnd::kRefuted;
        break;
      }
      take_back(&levels_[--depth]);
      continue;
    }
    if (levels_.size() <= depth + 1) levels_.emplace_back();
    if (!lay(&levels_[depth], &levels_[depth + 1])) {
      take_back(&levels_[depth]);
      continue;
    }
    ++depth;
    if (!levels_[depth].open.empty()) continue;
    outcome.end = SearchEnd::kFound;
    break;
  }
  outcome.steps = steps_;
  if (outcome.end != SearchEnd::kFound) return outcome;
  for (std::int32_t i = 0; i < count_; ++i) {
    outcome.layout.offsets.push_back(lowest_[at(i)]);
    outcome.layout.height =
        std::max(outcome.layout.height, std::int64_t{lowest_[at(i)]} + size_[at(i)]);
  }
  return outcome;
}

}  // namespace

std::shared_ptr<const SearchGraph> SearchGraph::make(const PackPiece& piece) {
  auto graph = std::make_shared<SearchGraph>();
  graph->contention = contention_of(piece);
  graph->neighbours.resize(piece.count());
  for (std::size_t a = 0; a < piece.count(); ++a)
    for (std::size_t b = 0; b < piece.count(); ++b)
      if (a != b && piece.first[a] <= piece.last[b] && piece.first[b] <= piece.last[a])
        graph->neighbours[a].push_back(static_cast<std::int32_t>(b));
  return graph;
}

std::unique_ptr<PieceSearch> PieceSearch::make(const PackPiece& piece,
                                               std::shared_ptr<const SearchGraph> graph,
                                               std::int64_t target_max) {
  std::int64_t most = target_max;
  for (std::size_t i = 0; i < piece.count(); ++i)
    most = std::max({most, piece.size[i], piece.align[i]});
  // Sums of two offsets and two sizes stay in range.
  if (most < std::numeric_limits<std::int32_t>::max() / 4)
    return std::make_unique<Search<std::int32_t>>(piece, std::move(graph));
  return std::make_unique<Search<std::int64_t>>(piece, std::move(graph));
}

}  // namespace spillway
