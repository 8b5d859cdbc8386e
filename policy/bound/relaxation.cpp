// SPDX-License-Identifier: Apache-2.0
// Columns and rows. Interval 0 lies before the first point, interval k between point k - 1 and
// point k, the last one between the last point and the end of the step.
#include "policy/bound/relaxation.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace spillway {
namespace {

constexpr std::uint32_t kNone = BoundStep::kNone;

/// A power of two near `value`: dividing by it is exact.
double unit_near(double value) { return value > 1 ? std::exp2(std::floor(std::log2(value))) : 1.0; }

/// A storage at a point: nowhere that matters, surely there, or as the columns say.
struct Cell {
  enum class Kind : std::uint8_t { kAbsent, kThere, kOpen };
  Kind kind = Kind::kAbsent;
  std::uint32_t plain = kNone, coded = kNone, host = kNone, coded_host = kNone;
};

/// What happens to a storage within an interval. Copies are counted in parts of a copy.
struct Moves {
  std::array<std::uint32_t, 2> encode = {kNone, kNone}, decode = {kNone, kNone};  // sums
  std::uint32_t out = kNone, in = kNone, coded_out = kNone, coded_in = kNone;
  bool free_standing = false;  // columns of their own, with rows that tie them to the cells
};

class Builder {
 public:
  Builder(const BoundStep& step,
          std::span<const std::uint32_t> points,
          std::uint64_t budget_bytes,
          std::span<const char> free_items,
          std::size_t entry_limit)
      : step_(step),
        points_(points),
        budget_bytes_(budget_bytes),
        free_(free_items),
        entry_limit_(entry_limit),
        last_op_(static_cast<std::uint32_t>(step.ops.size() - 1)) {
    const auto total_ns = static_cast<double>(step.begin_ns.back());
    time_unit_ = unit_near(total_ns / 1024);
    byte_unit_ = unit_near(static_cast<double>(budget_bytes) / 1024);
    relaxation_.unit_ns = time_unit_;
    relaxation_.most_ns = 16 * step.begin_ns.back();
  }

  std::optional<Relaxation> run();

 private:
  using Kind = Cell::Kind;
  using Entry = LinearProgram::Entry;

  [[nodiscard]] std::size_t intervals() const { return points_.size() + 1; }
  [[nodiscard]] std::uint32_t first_of(std::size_t k) const {
    return points_[k - 1];
  }  // the point it follows
  [[nodiscard]] std::uint32_t last_of(std::size_t k) const {
    return k < points_.size() ? points_[k] : last_op_;
  }
  [[nodiscard]] double ns(std::int64_t value) const {
    return static_cast<double>(value) / time_unit_;
  }
  [[nodiscard]] double by(std::uint64_t value) const {
    return static_cast<double>(value) / byte_unit_;
  }
  [[nodiscard]] std::int64_t own_ns(std::size_t k) const {
    const std::int64_t begin = k == 0 ? 0 : step_.begin_ns[points_[k - 1]];
    const std::int64_t end =
        k < points_.size() ? step_.begin_ns[points_[k]] : step_.begin_ns.back();
    return end - begin;
  }
  [[nodiscard]] bool touched(std::uint32_t item, std::uint32_t op) const {
    const auto list = step_.readers.of(item);
    return step_.items[item].created_by == op || std::binary_search(list.begin(), list.end(), op);
  }
  /// Can it be taken from somewhere in interval k at all times, without a column?
  [[nodiscard]] bool surely_there(std::uint32_t item, std::uint32_t point) const {
    return free_[item] != 0 || (!step_.items[item].movable && step_.alive(item, point)) ||
           touched(item, point);
  }
  [[nodiscard]] bool created_by_point(std::uint32_t item, std::uint32_t point) const {
    const std::uint32_t maker = step_.items[item].created_by;
    return maker == kNone || maker <= point;
  }
  /// Preexisting storages that are gone stay gone.
  [[nodiscard]] bool lost(std::uint32_t item, std::uint32_t point) const {
    return step_.items[item].created_by == kNone && !step_.alive(item, point);
  }
  [[nodiscard]] bool rebuildable(std::uint32_t item, std::size_t k) const {
    const BoundStep::Item& i = step_.items[item];
    if (i.created_by == kNone) return false;
    if (i.guarded && (i.freed_after == kNone || i.freed_after > last_of(k))) return false;
    return may_rerun(i.created_by, k);
  }
  [[nodiscard]] bool may_rerun(std::uint32_t op, std::size_t k) const {
    const BoundStep::Work& work = step_.ops[op];
    if (!work.may_rerun || op > first_of(k) || work.rerun_until <= first_of(k)) return false;
    for (const std::uint32_t input : step_.inputs.of(op))
      if (free_[input] == 0 && lost(input, first_of(k))) return false;
    return true;
  }
  void row(std::span<const Entry> entries, double at_least) {
    program().add_row(entries, at_least);
  }
  LinearProgram& program() { return relaxation_.program; }

  void find_relevant();
  void make_cells();
  bool make_memory_rows();
  void make_interval(std::size_t k);
  void make_moves(std::size_t k);
  void make_flows(std::size_t k, std::uint32_t item);
  void make_needs(std::size_t k);
  void make_time_rows(std::size_t k);
  void make_suffix(std::size_t k);
  void make_stairs(std::size_t k);
  void make_stair(std::vector<std::pair<std::uint32_t, std::array<Entry, 2>>>* parts,
                  std::size_t k,
                  bool out);
  static void add(std::vector<Entry>* entries, std::uint32_t column, double value) {
    if (column != kNone) entries->push_back({column, value});
  }
  /// Everything by which `item` can be resident in interval k.
  void add_ways(std::vector<Entry>* entries, std::size_t k, std::uint32_t item) const {
    const Cell& cell = cells_[k - 1][item];
    add(entries, cell.plain, 1);
    for (const std::uint32_t column : moves_[item].decode) add(entries, column, 1);
    add(entries, moves_[item].in, 1);
    if (rebuildable(item, k)) add(entries, rerun_[step_.items[item].created_by], 1);
  }
  void add_total(std::vector<Entry>* entries, const Cell& cell, double sign) const {
    add(entries, cell.plain, sign);
    add(entries, cell.coded, sign);
    add(entries, cell.host, sign);
    add(entries, cell.coded_host, sign);
  }

  const BoundStep& step_;
  std::span<const std::uint32_t> points_;
  std::uint64_t budget_bytes_;
  std::span<const char> free_;
  std::size_t entry_limit_;
  std::uint32_t last_op_;
  double time_unit_ = 1;
  double byte_unit_ = 1;
  Relaxation relaxation_;
  std::vector<std::vector<char>> relevant_;         // per point, per item
  std::vector<std::vector<std::uint32_t>> reruns_;  // per interval: ops that may have to run again
  std::vector<std::vector<Cell>> cells_;            // per point, per item
  std::vector<std::uint32_t> extra_;                // per interval: time that is not the step's own
  std::vector<Moves> moves_;                        // of the interval being made
  std::vector<std::uint32_t> rerun_;                // of the interval being made, per op
  std::vector<std::vector<std::uint32_t>> rerun_columns_;  // per interval, parallel to reruns_
};

// What is needed after a point, or could help to make that again, is worth keeping there; nothing
// else is.
void Builder::find_relevant() {
  const std::size_t item_count = step_.items.size();
  relevant_.assign(points_.size(), std::vector<char>(item_count, 0));
  reruns_.assign(intervals(), {});
  for (std::size_t k = points_.size(); k >= 1; --k) {
    const std::uint32_t first = first_of(k), last = last_of(k);
    std::vector<char>& want = relevant_[k - 1];
    const auto open = [&](std::uint32_t item) {
      return created_by_point(item, first) && !surely_there(item, first) && !lost(item, first);
    };
    for (std::uint32_t o = first + 1; o <= last; ++o)
      for (const std::uint32_t item : step_.inputs.of(o))
        if (open(item)) want[item] = 1;
    for (std::uint32_t item = 0; item < item_count; ++item) {
      const bool later =
          k < points_.size() ? relevant_[k][item] != 0 : step_.items[item].freed_after == kNone;
      if (later && open(item)) want[item] = 1;
    }
    for (std::uint32_t o = first + 1; o-- > 0;) {
      bool helps = false;
      for (const std::uint32_t item : step_.outputs.of(o))
        helps = helps || (want[item] != 0 && rebuildable(item, k));
      if (!helps) continue;
      reruns_[k].push_back(o);
      for (const std::uint32_t item : step_.inputs.of(o))
        if (open(item)) want[item] = 1;
    }
  }
}

void Builder::make_cells() {
  cells_.assign(points_.size(), std::vector<Cell>(step_.items.size()));
  for (std::size_t j = 0; j < points_.size(); ++j) {
    for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
      Cell& cell = cells_[j][item];
      if (created_by_point(item, points_[j]) && surely_there(item, points_[j]))
        cell.kind = Kind::kThere;
      if (relevant_[j][item] == 0) continue;
      const BoundStep::Item& i = step_.items[item];
      cell.kind = Kind::kOpen;
      cell.plain = program().add_column(0, 1);
      if (i.movable && i.coded) cell.coded = program().add_column(0, 1);
      if (i.movable && step_.offload) cell.host = program().add_column(0, 1);
      if (i.movable && i.coded && step_.offload) cell.coded_host = program().add_column(0, 1);
    }
  }
}

bool Builder::make_memory_rows() {
  std::vector<Entry> entries;
  for (std::size_t j = 0; j < points_.size(); ++j) {
    const std::uint64_t fixed = step_.fixed_bytes[points_[j]];
    if (fixed > budget_bytes_) return false;
    entries.clear();
    for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
      const Cell& cell = cells_[j][item];
      add(&entries, cell.plain, -by(step_.items[item].bytes));
      add(&entries, cell.coded, -by(step_.items[item].payload_bytes));
    }
    if (!entries.empty()) row(entries, -by(budget_bytes_ - fixed));
    if (step_.pinned_bytes != 0) {
      entries.clear();
      for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
        const Cell& cell = cells_[j][item];
        add(&entries, cell.host, -by(step_.items[item].bytes));
        add(&entries, cell.coded_host, -by(step_.items[item].payload_bytes));
      }
      if (!entries.empty()) row(entries, -by(step_.pinned_bytes));
    }
    for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
      const Cell& cell = cells_[j][item];
      if (cell.coded == kNone && cell.host == kNone) continue;
      entries.clear();
      add_total(&entries, cell, -1);
      row(entries, -1);
    }
  }
  return true;
}

// Where one end of the interval leaves no choice, the columns of the other end say it all: what was
// made within has moved where it is at the end, and what is needed within but not at the end has
// come back from where it was.
void Builder::make_moves(std::size_t k) {
  moves_.assign(step_.items.size(), {});
  std::vector<char> needed(step_.items.size(), 0);
  if (k > 0)
    for (std::uint32_t o = first_of(k) + 1; o <= last_of(k); ++o)
      for (const std::uint32_t item : step_.inputs.of(o)) needed[item] = 1;
  for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
    const Cell none;
    const Cell& start = k > 0 ? cells_[k - 1][item] : none;
    const Cell& end = k < points_.size() ? cells_[k][item] : none;
    Moves& moves = moves_[item];
    const bool from = start.kind == Kind::kOpen, to = end.kind == Kind::kOpen;
    moves.free_standing = from && (to || needed[item] == 0);
    if (!from && to) {
      moves.encode = {end.coded, end.coded_host};
      moves.out = end.host;
      moves.coded_out = end.coded_host;
    } else if (from && !to && needed[item] != 0) {
      moves.decode = {start.coded, start.coded_host};
      moves.in = start.host;
      moves.coded_in = start.coded_host;
    } else if (from) {
      if (start.coded != kNone) moves.decode[0] = program().add_column(0, 1);
      if (start.host != kNone) moves.in = program().add_column(0, 1);
      if (start.coded_host != kNone) moves.coded_in = program().add_column(0, 1);
      if (!to) continue;
      if (start.coded != kNone) moves.encode[0] = program().add_column(0, 2);
      if (start.host != kNone) moves.out = program().add_column(0, 2);
      if (start.coded_host != kNone) moves.coded_out = program().add_column(0, 1);
    }
  }
}

void Builder::make_flows(std::size_t k, std::uint32_t item) {
  const Cell none;
  const Cell& start = k > 0 ? cells_[k - 1][item] : none;
  const Cell& end = k < points_.size() ? cells_[k][item] : none;
  const Moves& moves = moves_[item];
  if (!moves.free_standing) return;
  std::vector<Entry> entries;
  const bool forms = moves.decode[0] != kNone || moves.in != kNone;
  if (end.kind == Kind::kOpen) {
    // It can be somewhere at the end only if it was somewhere at the start, or was made again.
    add_total(&entries, end, -1);
    add_total(&entries, start, 1);
    if (rebuildable(item, k)) add(&entries, rerun_[step_.items[item].created_by], 1);
    row(entries, 0);
    if (forms) {
      entries.clear();
      add(&entries, end.plain, -1);
      add_ways(&entries, k, item);
      row(entries, 0);
    }
  }
  // What comes back was away at the start: what left within the interval was there before.
  const auto from_start = [&](std::uint32_t move, std::uint32_t a, std::uint32_t b) {
    if (move == kNone) return;
    entries.clear();
    add(&entries, move, -1);
    add(&entries, a, 1);
    add(&entries, b, 1);
    row(entries, 0);
  };
  from_start(moves.in, start.host, kNone);
  from_start(moves.coded_in, start.coded_host, kNone);
  if (moves.coded_in == kNone || end.kind == Kind::kOpen)
    from_start(moves.decode[0], start.coded, start.coded_host);
  if (moves.decode[0] != kNone) {
    entries.clear();
    add(&entries, end.coded, -1);
    add(&entries, start.coded, 1);
    add(&entries, moves.encode[0], 1);
    add(&entries, moves.decode[0], -1);
    add(&entries, moves.coded_in, 1);
    add(&entries, moves.coded_out, -1);
    row(entries, 0);
  }
  if (end.kind != Kind::kOpen) return;
  const auto host_flow =
      [&](std::uint32_t to, std::uint32_t at, std::uint32_t out, std::uint32_t in) {
        if (in == kNone) return;
        entries.clear();
        add(&entries, to, -1);
        add(&entries, at, 1);
        add(&entries, out, 1);
        add(&entries, in, -1);
        row(entries, 0);
      };
  host_flow(end.host, start.host, moves.out, moves.in);
  host_flow(end.coded_host, start.coded_host, moves.coded_out, moves.coded_in);
}

// Inputs of the step's own ops, of ops that run again, and what must exist when the step ends.
void Builder::make_needs(std::size_t k) {
  if (k == 0) return;
  const std::uint32_t first = first_of(k), last = last_of(k);
  std::vector<Entry> entries;
  std::vector<char> done(step_.items.size(), 0);
  for (std::uint32_t o = first + 1; o <= last; ++o) {
    for (const std::uint32_t item : step_.inputs.of(o)) {
      if (done[item] != 0 || cells_[k - 1][item].kind != Kind::kOpen) continue;
      done[item] = 1;
      entries.clear();
      add_ways(&entries, k, item);
      row(entries, 1);
    }
  }
  for (const std::uint32_t o : reruns_[k]) {
    for (const std::uint32_t item : step_.inputs.of(o)) {
      if (cells_[k - 1][item].kind != Kind::kOpen) continue;
      entries.clear();
      add_ways(&entries, k, item);
      entries.push_back({rerun_[o], -1});
      row(entries, 0);
    }
  }
  if (k < points_.size()) return;
  for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
    const Cell& cell = cells_[k - 1][item];
    if (step_.items[item].freed_after != kNone || cell.kind != Kind::kOpen) continue;
    entries.clear();
    add_total(&entries, cell, 1);
    if (rebuildable(item, k)) add(&entries, rerun_[step_.items[item].created_by], 1);
    row(entries, 1);
  }
}

void Builder::make_time_rows(std::size_t k) {
  std::vector<Entry> compute, out, in;
  compute.push_back({extra_[k], 1});
  out.push_back({extra_[k], 1});
  in.push_back({extra_[k], 1});
  for (const std::uint32_t o : reruns_[k]) add(&compute, rerun_[o], -ns(step_.ops[o].duration_ns));
  for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
    const BoundStep::Item& i = step_.items[item];
    const Moves& moves = moves_[item];
    for (const std::uint32_t column : moves.encode) add(&compute, column, -ns(i.once_ns));
    for (const std::uint32_t column : moves.decode) add(&compute, column, -ns(i.once_ns));
    add(&out, moves.out, -ns(i.out_ns));
    add(&out, moves.coded_out, -ns(i.coded_out_ns));
    add(&in, moves.in, -ns(i.in_ns));
    add(&in, moves.coded_in, -ns(i.coded_in_ns));
  }
  if (compute.size() > 1) row(compute, 0);
  if (out.size() > 1) row(out, -ns(own_ns(k)));
  if (in.size() > 1) row(in, -ns(own_ns(k)));
}

// Parts of an op that run again in different intervals need their inputs together: each point also
// sees all that follows as one interval, in which an op runs again or does not.
void Builder::make_suffix(std::size_t k) {
  const std::uint32_t first = first_of(k);
  std::vector<std::vector<std::uint32_t>> parts(std::size_t{first} + 1);
  for (std::size_t later = k; later < intervals(); ++later)
    for (std::size_t n = 0; n < reruns_[later].size(); ++n)
      if (const std::uint32_t o = reruns_[later][n]; o <= first)
        parts[o].push_back(rerun_columns_[later][n]);
  std::vector<std::uint32_t> any(parts.size(), kNone);
  std::vector<Entry> entries;
  for (std::uint32_t o = 0; o <= first; ++o) {
    if (parts[o].empty()) continue;
    any[o] = program().add_column(0, 1);
    entries.clear();
    for (const std::uint32_t column : parts[o]) entries.push_back({column, 1});
    entries.push_back({any[o], -1});
    row(entries, 0);
  }
  const auto add_sources = [&](std::uint32_t item) {
    entries.clear();
    add_total(&entries, cells_[k - 1][item], 1);
    const std::uint32_t maker = step_.items[item].created_by;
    if (maker != kNone) add(&entries, any[maker], 1);
  };
  for (std::uint32_t item = 0; item < step_.items.size(); ++item) {
    if (cells_[k - 1][item].kind != Kind::kOpen || !step_.needed_after(item, first)) continue;
    add_sources(item);
    row(entries, 1);
  }
  for (std::uint32_t o = 0; o <= first; ++o) {
    if (any[o] == kNone) continue;
    for (const std::uint32_t item : step_.inputs.of(o)) {
      if (cells_[k - 1][item].kind != Kind::kOpen) continue;
      add_sources(item);
      entries.push_back({any[o], -1});
      row(entries, 0);
    }
  }
}

/// At a handful of ops between two points: what was made since cannot have left before, and what is
/// needed by then must have come back.
void Builder::make_stairs(std::size_t k) {
  if (!step_.offload) return;
  std::vector<std::pair<std::uint32_t, std::array<Entry, 2>>> leaving, returning;
  const auto parts = [this](const Cell& cell, const BoundStep::Item& item, bool out) {
    return std::array<Entry, 2>{
        Entry{cell.host, -ns(out ? item.out_ns : item.in_ns)},
        Entry{cell.coded_host, -ns(out ? item.coded_out_ns : item.coded_in_ns)}};
  };
  if (k < points_.size()) {
    const std::uint32_t first = k == 0 ? 0 : first_of(k) + 1;
    for (std::uint32_t o = first; o <= last_of(k); ++o)
      for (const std::uint32_t item : step_.outputs.of(o))
        if (cells_[k][item].host != kNone)
          leaving.emplace_back(o, parts(cells_[k][item], step_.items[item], true));
    std::reverse(leaving.begin(), leaving.end());
    make_stair(&leaving, k, true);
  }
  if (k >= 1) {
    std::vector<char> done(step_.items.size(), 0);
    for (std::uint32_t o = first_of(k) + 1; o <= last_of(k); ++o) {
      for (const std::uint32_t item : step_.inputs.of(o)) {
        if (done[item] != 0 || cells_[k - 1][item].host == kNone) continue;
        done[item] = 1;
        returning.emplace_back(o, parts(cells_[k - 1][item], step_.items[item], false));
      }
    }
    make_stair(&returning, k, false);
  }
}

void Builder::make_stair(std::vector<std::pair<std::uint32_t, std::array<Entry, 2>>>* parts,
                         std::size_t k,
                         bool out) {
  constexpr std::size_t kStairs = 6;
  std::vector<Entry> entries;
  entries.push_back({extra_[k], 1});
  for (std::size_t n = 0; n < parts->size(); ++n) {
    const auto& [op, pair] = (*parts)[n];
    for (const Entry& entry : pair) add(&entries, entry.column, entry.value);
    const bool ends_op = n + 1 == parts->size() || (*parts)[n + 1].first != op;
    const bool ends_stair = (n + 1) * kStairs / parts->size() != n * kStairs / parts->size();
    if (!ends_op || !ends_stair) continue;
    const std::int64_t window_ns = out ? step_.begin_ns[last_of(k)] - step_.begin_ns[op + 1]
                                       : step_.begin_ns[op] - step_.begin_ns[first_of(k)];
    row(entries, -ns(std::max<std::int64_t>(0, window_ns)));
  }
}

void Builder::make_interval(std::size_t k) {
  rerun_.assign(step_.ops.size(), kNone);
  for (const std::uint32_t o : reruns_[k]) {
    rerun_[o] = program().add_column(0, 1);
    rerun_columns_[k].push_back(rerun_[o]);
  }
  make_moves(k);
  for (std::uint32_t item = 0; item < step_.items.size(); ++item) make_flows(k, item);
  make_needs(k);
  make_time_rows(k);
  make_stairs(k);
}

std::optional<Relaxation> Builder::run() {
  find_relevant();
  rerun_columns_.assign(intervals(), {});
  make_cells();
  if (!make_memory_rows()) return std::nullopt;
  for (std::size_t k = 0; k < intervals(); ++k)
    extra_.push_back(program().add_column(1, ns(relaxation_.most_ns)));
  for (std::size_t k = 0; k < intervals(); ++k) {
    make_interval(k);
    if (program().entries() > entry_limit_) return std::nullopt;
  }
  for (std::size_t k = 1; k < points_.size(); ++k) make_suffix(k);
  if (program().entries() > entry_limit_) return std::nullopt;
  return std::move(relaxation_);
}

}  // namespace

std::optional<Relaxation> relax(const BoundStep& step,
                                std::span<const std::uint32_t> points,
                                std::uint64_t budget_bytes,
                                std::span<const char> free_items,
                                std::size_t entry_limit) {
  if (step.ops.empty() || points.empty()) return std::nullopt;
  return Builder(step, points, budget_bytes, free_items, entry_limit).run();
}

}  // namespace spillway
