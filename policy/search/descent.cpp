// SPDX-License-Identifier: Apache-2.0
// The shortest path has a node per (stage that touches the storage, spot afterwards); an edge costs
// what the stage costs with these two spots, and what holding the storage until the next such stage
// costs where the budget is exceeded.
#include "policy/search/descent.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace spillway {
namespace {

// Looking at the peaks of this many stages costs about as much as judging one.
constexpr std::uint32_t kStagesPerJudge = 256;
constexpr double kFirst = 0.05;
constexpr double kGrowthMin = 1.2;
constexpr double kGrowthMax = 2.0;
constexpr double kPriceRange = 1e4;
// So many climbs without a gain of a ten thousandth end the search early.
constexpr int kIdleClimbsMax = 8;
// Of the work that is left, how much one climb may take.
constexpr double kClimbPart = 0.35;
constexpr double kDecay = 0.99;
constexpr int kRoundsMax = 60;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

std::size_t index_of(Spot spot) { return static_cast<std::size_t>(spot); }

}  // namespace

Descent::Descent(const StepModel& model, Schedule& schedule, const DescentOptions& options)
    : model_(model), schedule_(schedule), options_(options), random_(options.seed) {
  double movable_bytes = 1;
  double ns = 1;
  for (std::uint32_t s = 0; s < model.items.size(); ++s) {
    const StepModel::Item& item = model.items[s];
    if (item.movable) movable_bytes += static_cast<double>(item.bytes);
    if (item.movable || (item.retainable && item.rebuildable && item.bytes > 0 &&
                         allows(model.actions, Action::kRecompute)))
      order_.push_back(s);
  }
  for (const StepModel::Work& op : model.ops) ns += static_cast<double>(op.duration_ns);
  main_gaps_.resize(model.items.size());
  for (const std::uint32_t s : order_) {
    const StepModel::Item& item = model.items[s];
    std::uint32_t last = item.created_by;
    for (const std::uint32_t op : model.readers.of(s)) {
      Range& gap = main_gaps_[s];
      if (op - last > gap.to - gap.from + 1) gap = {last + 1, op + 1};
      last = op;
    }
  }
  for (std::uint32_t op = 0; op < model.ops.size(); ++op) {
    const auto wide = [&](std::uint32_t s) {
      return model.items[s].movable && main_gaps_[s].to > main_gaps_[s].from;
    };
    const auto outputs = model.outputs.of(op);
    if (model.ops[op].recomputable && std::count_if(outputs.begin(), outputs.end(), wide) > 1 &&
        allows(model.actions, Action::kRecompute))
      sibling_ops_.push_back(op);
  }
  unit_price_ = ns / movable_bytes / static_cast<double>(model.ops.size());
}

void Descent::find_stages(std::uint32_t s) {
  const StepModel::Item& item = model_.items[s];
  stages_.clear();
  if (item.movable) {
    stages_.push_back(item.created_by);
    for (const std::uint32_t op : model_.readers.of(s)) stages_.push_back(op);
  }
  for (const std::uint32_t op : model_.readers.of(s))
    for (const std::uint32_t stage : schedule_.reruns(op)) stages_.push_back(stage);
  for (const std::uint32_t stage : schedule_.reruns(item.created_by)) stages_.push_back(stage);
  const std::vector<SpotSpan>& spots = schedule_.spots(s);
  for (std::size_t i = 1; i < spots.size(); ++i)
    if (spots[i].from - 1 != item.freed_after) stages_.push_back(spots[i].from - 1);
  std::sort(stages_.begin(), stages_.end());
  // After the natural end the storage can only be there because it was retained or made again.
  if (item.freed_after != OpId::kNoneValue && !stages_.empty() &&
      stages_.back() > item.freed_after) {
    stages_.push_back(item.freed_after);
    std::sort(stages_.begin(), stages_.end());
  }
  stages_.erase(std::unique(stages_.begin(), stages_.end()), stages_.end());
  if (!item.movable) {
    // A temporary cannot move while it lives.
    const auto first = std::lower_bound(stages_.begin(), stages_.end(), item.freed_after);
    stages_.erase(stages_.begin(), first);
  }
}

int Descent::allowed_exits(std::uint32_t s, std::uint32_t stage, Spot* exits) const {
  const StepModel::Item& item = model_.items[s];
  const bool recompute = allows(model_.actions, Action::kRecompute);
  int count = 0;
  const bool over = item.freed_after != OpId::kNoneValue && stage >= item.freed_after;
  if (over) {
    exits[count++] = Spot::kAway;
    if (item.retainable && recompute) exits[count++] = Spot::kHere;
    return count;
  }
  exits[count++] = Spot::kHere;
  if (!item.movable) return count;
  if (recompute) exits[count++] = Spot::kAway;
  const bool coded = schedule_.coding(s).codec != Codec::kNone;
  if (coded) exits[count++] = Spot::kCoded;
  if (allows(model_.actions, Action::kOffload)) {
    exits[count++] = Spot::kHost;
    if (coded) exits[count++] = Spot::kHostCoded;
  }
  return count;
}

// What the stages [begin, end) cost above the budget when they hold the storage in each way.
void Descent::segment_costs(std::uint32_t s, std::uint32_t begin, std::uint32_t end) {
  std::fill(std::begin(segment_), std::end(segment_), 0.0);
  const std::vector<SpotSpan>& spots = schedule_.spots(s);
  const std::vector<std::uint64_t>& peaks = schedule_.peaks();
  const auto budget = static_cast<std::int64_t>(options_.budget_bytes);
  const auto bytes = static_cast<std::int64_t>(model_.items[s].bytes);
  const auto payload = static_cast<std::int64_t>(schedule_.held_bytes(s, Spot::kCoded));
  double& nothing = segment_[index_of(Spot::kAway)];
  double& coded = segment_[index_of(Spot::kCoded)];
  double& here = segment_[index_of(Spot::kHere)];
  for (std::size_t i = 0; i < spots.size(); ++i) {
    const std::uint32_t from = std::max(begin, spots[i].from);
    const std::uint32_t to = std::min(end, i + 1 < spots.size() ? spots[i + 1].from : end);
    if (from >= to) continue;
    const auto held = static_cast<std::int64_t>(schedule_.held_bytes(s, spots[i].spot));
    for (std::uint32_t t = from; t < to; ++t) {
      const std::int64_t rest = static_cast<std::int64_t>(peaks[t] + others_[t]) - held - budget;
      if (rest + bytes <= 0) continue;
      nothing += prices_[t] * static_cast<double>(std::max<std::int64_t>(rest, 0));
      coded += prices_[t] * static_cast<double>(std::max<std::int64_t>(rest + payload, 0));
      here += prices_[t] * static_cast<double>(rest + bytes);
    }
    schedule_.add_work((to - from) / kStagesPerJudge);
  }
  if (!allows(model_.actions, Action::kOffload) || !model_.items[s].movable || begin >= end) return;
  segment_[index_of(Spot::kHost)] = host_cost(s, model_.items[s].bytes, begin, end);
  if (schedule_.coding(s).codec != Codec::kNone)
    segment_[index_of(Spot::kHostCoded)] =
        host_cost(s, schedule_.coding(s).payload_bytes, begin, end);
}

// On the host from `begin` on and back at `end`: while the copy out waits for the engine its bytes
// stay, and while the copy back must be early they are back early.
double Descent::host_cost(std::uint32_t s,
                          std::uint64_t bytes,
                          std::uint32_t begin,
                          std::uint32_t end) {
  const std::vector<std::uint64_t>& peaks = schedule_.peaks();
  const double budget = static_cast<double>(options_.budget_bytes);
  double cost = 0;
  const auto add = [&](std::uint32_t t, double held) {
    const double rest = static_cast<double>(peaks[t] + others_[t] -
                                            schedule_.held_bytes(s, schedule_.spot_at(s, t)));
    const double above = std::max(0.0, rest + held - budget) - std::max(0.0, rest - budget);
    cost += prices_[t] * above;
  };
  auto left = static_cast<double>(bytes);
  for (std::uint32_t t = begin; t < end && left > 0; ++t) {
    add(t, left);
    left -= link_->out_slack[t];
  }
  left = static_cast<double>(bytes);
  for (std::uint32_t t = end; t-- > begin && left > 0;) {
    left -= link_->in_slack[t];
    if (left > 0) add(t, left);
  }
  if (model_.pinned_bytes != 0) {
    const std::vector<std::uint64_t>& host = schedule_.host_bytes();
    for (std::uint32_t t = begin; t < end; ++t) {
      const std::uint64_t rest = host[t] - schedule_.on_host_bytes(s, schedule_.spot_at(s, t));
      cost += host_excess_cost(t, rest + bytes) - host_excess_cost(t, rest);
    }
    schedule_.add_work((end - begin) / kStagesPerJudge);
  }
  return cost + segment_[index_of(Spot::kAway)];
}

void Descent::update_load() {
  schedule_.link_load(&load_);
  loaded_ = schedule_.uses_link();
  others_is_loads_ = false;
  for (std::size_t t = 0; t < loads_.size(); ++t)
    loads_[t] = static_cast<std::uint64_t>(load_.out_queue[t] + load_.in_queue[t]);
  schedule_.add_work(schedule_.stage_count() / kStagesPerJudge * 4);
}

bool Descent::fits() const {
  if (!schedule_.is_legal()) return false;
  for (std::uint32_t t = 0; t < loads_.size(); ++t)
    if (schedule_.peaks()[t] + loads_[t] > options_.budget_bytes) return false;
  for (const std::uint64_t bytes : schedule_.host_bytes())
    if (bytes > model_.pinned_bytes) return false;
  return true;
}

bool Descent::is_coded(std::uint32_t s) const {
  for (const SpotSpan& span : schedule_.spots(s))
    if (span.spot == Spot::kCoded || span.spot == Spot::kHostCoded) return true;
  return false;
}

bool Descent::is_read_again(std::uint32_t s) const {
  for (const std::uint32_t op : model_.readers.of(s))
    if (!schedule_.reruns(op).empty()) return true;
  return false;
}

// A storage that is resident all its life moves only if what it relieves is worth its cheapest
// lever: most are settled by this one look.
bool Descent::may_pay(std::uint32_t s) {
  const StepModel::Item& item = model_.items[s];
  const std::vector<SpotSpan>& spots = schedule_.spots(s);
  const bool outlives = item.freed_after == OpId::kNoneValue;
  if (!item.movable || spots.size() != (outlives ? 2u : 3u) || spots[1].spot != Spot::kHere ||
      spots[1].from != item.created_by + 1)
    return true;
  double cheapest = kInfinite;
  if (allows(model_.actions, Action::kOffload)) cheapest = schedule_.least_copy_cost(s);
  if (item.exact.codec != Codec::kNone || item.lossy.codec != Codec::kNone)
    cheapest = std::min(cheapest, static_cast<double>(item.lossy.once_ns) * 2);
  if (allows(model_.actions, Action::kRecompute) && item.rebuildable)
    cheapest = std::min(cheapest, static_cast<double>(model_.ops[item.created_by].duration_ns));
  const std::vector<std::uint64_t>& peaks = schedule_.peaks();
  const std::uint32_t begin = item.created_by + 1;
  const auto end = static_cast<std::uint32_t>(
      outlives ? schedule_.stage_count()
               : std::min<std::size_t>(item.freed_after + 1, schedule_.stage_count()));
  double gain = 0;
  for (std::uint32_t t = begin; t < end; ++t) {
    const std::uint64_t high = peaks[t] + loads_[t];
    if (high > options_.budget_bytes)
      gain += prices_[t] * static_cast<double>(std::min(item.bytes, high - options_.budget_bytes));
  }
  schedule_.add_work((end - begin) / kStagesPerJudge);
  return gain > cheapest;
}

// A lossy codec is offered only where no op that runs again reads the storage.
bool Descent::improve(std::uint32_t s) {
  const StepModel::Item& item = model_.items[s];
  if (!may_pay(s)) return false;
  if (item.lossy.codec == item.exact.codec || is_coded(s)) return find_path(s);
  schedule_.set_lossy(s, !is_read_again(s));
  const bool improved = find_path(s);
  if (!is_coded(s)) schedule_.set_lossy(s, false);
  return improved;
}

bool Descent::find_path(std::uint32_t s) {
  find_stages(s);
  if (stages_.empty()) return false;
  const StepModel::Item& item = model_.items[s];
  link_ = &load_;
  if (schedule_.uses_link(s)) {
    schedule_.link_load(&own_load_, s);
    link_ = &own_load_;
    others_.resize(loads_.size());
    for (std::size_t t = 0; t < loads_.size(); ++t)
      others_[t] = static_cast<std::uint64_t>(own_load_.out_queue[t] + own_load_.in_queue[t]);
    others_is_loads_ = false;
    schedule_.add_work(schedule_.stage_count() / kStagesPerJudge * 4);
  } else if (!others_is_loads_) {
    others_ = loads_;
    others_is_loads_ = true;
  }
  const auto stage_count = static_cast<std::uint32_t>(schedule_.stage_count());
  const bool outlives = item.freed_after == OpId::kNoneValue;
  nodes_.resize(stages_.size());
  double current = 0;
  Spot start = Spot::kAway;
  if (!item.movable && stages_.front() == item.freed_after && item.freed_after != item.created_by)
    start = Spot::kHere;
  for (std::size_t j = 0; j < stages_.size(); ++j) {
    const std::uint32_t stage = stages_[j];
    Node& node = nodes_[j];
    std::fill(std::begin(node.cost), std::end(node.cost), kInfinite);
    const std::uint32_t after = stage + 1;
    std::uint32_t until = j + 1 < stages_.size() ? stages_[j + 1] : stage_count;
    if (!outlives && stage < item.freed_after) until = std::min(until, item.freed_after + 1);
    segment_costs(s, after, std::max(after, until));
    const Spot now_entry = schedule_.spot_at(s, stage);
    const Spot now_exit = schedule_.spot_at(s, after);
    Spot exits[kSpotCount];
    const int exit_count = allowed_exits(s, stage, exits);
    const bool last = j + 1 == stages_.size();
    for (std::size_t x = 0; x < kSpotCount; ++x) {
      const double before =
          j == 0 ? (x == index_of(start) ? 0.0 : kInfinite) : nodes_[j - 1].cost[x];
      if (before == kInfinite) continue;
      for (int e = 0; e < exit_count; ++e) {
        const Spot exit = exits[e];
        if (last && outlives && exit != Spot::kHere) continue;
        const StageValue value = schedule_.judge(stage, {s, static_cast<Spot>(x), exit});
        const double cost =
            value.legal ? value.cost_ns + excess_cost(stage, value.peak_bytes + others_[stage]) +
                              segment_[index_of(exit)]
                        : kInfinite;
        if (x == index_of(now_entry) && exit == now_exit) current += cost;
        if (before + cost >= node.cost[index_of(exit)]) continue;
        node.cost[index_of(exit)] = before + cost;
        node.from[index_of(exit)] = static_cast<std::uint8_t>(x);
      }
    }
  }
  std::size_t at = 0;
  for (std::size_t x = 1; x < kSpotCount; ++x)
    if (nodes_.back().cost[x] < nodes_.back().cost[at]) at = x;
  const double found = nodes_.back().cost[at];
  if (found == kInfinite || !(found < current - 1e-3)) return false;

  std::vector<Spot> exits(stages_.size());
  for (std::size_t j = stages_.size(); j-- > 0;) {
    exits[j] = static_cast<Spot>(at);
    at = nodes_[j].from[at];
  }
  std::vector<SpotSpan> spots = {{0, Spot::kAway}};
  const auto set = [&](std::uint32_t from, Spot spot) {
    if (spots.back().from == from) spots.pop_back();
    if (spots.empty() || spots.back().spot != spot) spots.push_back({from, spot});
  };
  if (!item.movable && item.freed_after != item.created_by) set(item.created_by + 1, Spot::kHere);
  for (std::size_t j = 0; j < stages_.size(); ++j) {
    const bool ends_between =
        !outlives && j > 0 && stages_[j - 1] < item.freed_after && stages_[j] > item.freed_after;
    if (ends_between) set(item.freed_after + 1, Spot::kAway);
    set(stages_[j] + 1, exits[j]);
  }
  if (!outlives && stages_.back() < item.freed_after) set(item.freed_after + 1, Spot::kAway);
  const bool link_changes = loaded_ || schedule_.uses_link(s);
  schedule_.move(s, std::move(spots), stages_);
  if (link_changes || schedule_.uses_link(s)) {
    update_load();
  }
  return true;
}

double Descent::objective() const {
  if (!schedule_.is_legal()) return kInfinite;
  double sum = schedule_.cost_ns();
  const std::vector<std::uint64_t>& peaks = schedule_.peaks();
  for (std::uint32_t t = 0; t < peaks.size(); ++t) sum += excess_cost(t, peaks[t] + loads_[t]);
  if (model_.pinned_bytes != 0)
    for (std::uint32_t t = 0; t < host_prices_.size(); ++t)
      sum += host_excess_cost(t, schedule_.host_bytes()[t]);
  return sum;
}

// One op's outputs come back together at the price of one run: going away together is a move that
// none of them would make alone.
bool Descent::try_together(const std::vector<std::uint32_t>& storages, Spot spot) {
  const double before = objective();
  std::vector<std::vector<SpotSpan>> old;
  trial_stages_.clear();
  for (const std::uint32_t s : storages) {
    old.push_back(schedule_.spots(s));
    find_stages(s);
    const Range gap = main_gaps_[s];
    std::vector<SpotSpan> spots;
    const auto put = [&](std::uint32_t from, Spot to) {
      if (!spots.empty() && spots.back().from == from) spots.pop_back();
      if (spots.empty() || spots.back().spot != to) spots.push_back({from, to});
    };
    for (const SpotSpan& span : old.back())
      if (span.from < gap.from) put(span.from, span.spot);
    const Spot then = schedule_.spot_at(s, gap.to);
    put(gap.from, spot);
    put(gap.to, then);
    for (const SpotSpan& span : old.back())
      if (span.from > gap.to) put(span.from, span.spot);
    stages_.push_back(gap.from - 1);
    stages_.push_back(gap.to - 1);
    std::sort(stages_.begin(), stages_.end());
    stages_.erase(std::unique(stages_.begin(), stages_.end()), stages_.end());
    trial_stages_.insert(trial_stages_.end(), stages_.begin(), stages_.end());
    schedule_.move(s, std::move(spots), stages_);
  }
  update_load();
  // The first of them that is needed brings all back: let the others stay from then on.
  for (const std::uint32_t s : storages) {
    (void)find_path(s);
    trial_stages_.insert(trial_stages_.end(), stages_.begin(), stages_.end());
  }
  schedule_.add_work(schedule_.stage_count() / kStagesPerJudge * 2);
  if (objective() < before - 1e-3) return true;
  std::sort(trial_stages_.begin(), trial_stages_.end());
  trial_stages_.erase(std::unique(trial_stages_.begin(), trial_stages_.end()), trial_stages_.end());
  static const std::vector<std::uint32_t> kNone;
  for (std::size_t i = 0; i < storages.size(); ++i)
    schedule_.move(storages[i], std::move(old[i]), i + 1 < storages.size() ? kNone : trial_stages_);
  update_load();
  return false;
}

bool Descent::improve_siblings(std::uint32_t op) {
  siblings_.clear();
  bool here = false;
  bool away = false;
  for (const std::uint32_t s : model_.outputs.of(op)) {
    const Range gap = main_gaps_[s];
    if (!model_.items[s].movable || gap.to <= gap.from || is_coded(s)) continue;
    const Spot spot = schedule_.spot_at(s, gap.from);
    // Only whole gaps: what comes back inside it is a matter for its own path.
    if (spot != schedule_.spot_at(s, gap.to - 1)) continue;
    siblings_.push_back(s);
    (spot == Spot::kAway ? away : here) = true;
  }
  if (siblings_.size() < 2) return false;
  return (here && try_together(siblings_, Spot::kAway)) ||
         (away && try_together(siblings_, Spot::kHere));
}

bool Descent::sweep() {
  const std::uint64_t before = schedule_.work();
  for (std::size_t i = order_.size(); i > 1; --i)
    std::swap(order_[i - 1], order_[random_.below(i)]);
  bool improved = false;
  for (const std::uint32_t s : order_) {
    if (exhausted()) return improved;
    improved = improve(s) || improved;
  }
  for (const std::uint32_t op : sibling_ops_) {
    if (exhausted()) return improved;
    improved = improve_siblings(op) || improved;
  }
  // Or a step in which nothing can be tried would never end.
  if (schedule_.work() == before) schedule_.add_work(1);
  return improved;
}

void Descent::remember() {
  const std::uint64_t peak = schedule_.peak_bytes();
  const auto copy = [&] {
    Spots all;
    for (std::uint32_t s = 0; s < model_.items.size(); ++s) {
      all.spots.push_back(schedule_.spots(s));
      all.lossy.push_back(schedule_.is_lossy(s) ? 1 : 0);
    }
    return all;
  };
  if (!schedule_.is_legal()) return;
  if (fits()) {
    if (best_ && schedule_.cost_ns() >= best_cost_ns_ - 1e-3) return;
    best_ = copy();
    best_cost_ns_ = schedule_.cost_ns();
    history_.push_back(best_cost_ns_);
  } else if (!best_ && (!least_ || peak < least_peak_bytes_)) {
    least_ = copy();
    least_peak_bytes_ = peak;
  }
}

void Descent::restore(const Spots& all) {
  schedule_.set_all(all.spots, all.lossy);
  update_load();
}

void Descent::polish() {
  const std::vector<double> prices = prices_;
  const std::vector<double> host_prices = host_prices_;
  std::fill(prices_.begin(), prices_.end(), 1e6 * unit_price_);
  std::fill(host_prices_.begin(), host_prices_.end(), 1e6 * unit_price_);
  while (sweep() && !exhausted()) {
  }
  remember();
  prices_ = prices;
  host_prices_ = host_prices;
}

// Stages that are still above the budget get dearer, the others slowly cheaper.
bool Descent::raise_prices(double growth) {
  bool any = false;
  for (std::uint32_t t = 0; t < prices_.size(); ++t) {
    const bool above = schedule_.peaks()[t] + loads_[t] > options_.budget_bytes;
    prices_[t] *= above ? growth : kDecay;
    any = any || above;
  }
  for (std::uint32_t t = 0; t < host_prices_.size(); ++t) {
    const bool above = schedule_.host_bytes()[t] > model_.pinned_bytes;
    host_prices_[t] *= above ? growth : kDecay;
    any = any || above;
  }
  return any;
}

// From prices at which little moves to none of the budget exceeded, with as many rounds as half of
// the work that is left allows.
void Descent::climb() {
  for (int round = 0; round < kRoundsMax && !exhausted(); ++round) {
    const std::uint64_t before = schedule_.work();
    const bool moved = sweep();
    remember();
    const double sweep_work = static_cast<double>(schedule_.work() - before + 1);
    const double left = static_cast<double>(options_.work_limit) - static_cast<double>(before);
    const double rounds = std::max(1.0, kClimbPart * left / sweep_work);
    const double growth =
        moved ? std::clamp(std::exp(std::log(kPriceRange) / rounds), kGrowthMin, kGrowthMax)
              : kGrowthMax;
    if (!raise_prices(growth)) return;
  }
}

bool Descent::run() {
  prices_.assign(schedule_.stage_count(), kFirst * unit_price_);
  host_prices_.assign(model_.pinned_bytes != 0 ? schedule_.stage_count() : 0, kFirst * unit_price_);
  loads_.assign(schedule_.stage_count(), 0);
  update_load();
  remember();
  if (best_) polish();
  int idle_climbs = 0;
  while (!order_.empty() && !exhausted() && idle_climbs < kIdleClimbsMax) {
    const double before_ns = best_cost_ns_;
    const bool had = best_.has_value();
    climb();
    polish();
    if (exhausted()) break;
    idle_climbs = had && best_cost_ns_ > before_ns * (1 - 1e-4) ? idle_climbs + 1 : 0;
    // Forget part of it.
    if (best_ && random_.below(3) != 0) restore(*best_);
    const double factor = std::pow(0.5, 0.5 + 3.0 * random_.unit());
    for (double& price : prices_) price *= factor;
    for (double& price : host_prices_) price *= factor;
  }
  // Almost nothing that does not fit is worth much: once more, in haste.
  if (!best_ && !order_.empty()) {
    options_.work_limit += options_.work_limit / 2;
    for (int round = 0; round < kRoundsMax && !exhausted() && raise_prices(kGrowthMax); ++round)
      sweep();
    remember();
  }
  if (best_) {
    restore(*best_);
    return true;
  }
  if (least_) restore(*least_);
  return false;
}

}  // namespace spillway
