// SPDX-License-Identifier: Apache-2.0
// Positions are worked off in forward order; a label's parents lie at earlier positions, so that a
// plan is rebuilt by walking back.
#include "policy/chain/pofo.hpp"

#include <algorithm>
#include <array>

namespace spillway {
namespace {

struct Label {
  double time_ns = 0;
  double out_bytes = 0;   // queued for the host when the next stage begins
  double back_bytes = 0;  // to be fetched, in mirrored time
  std::uint64_t kept_bytes = 0;
  std::uint32_t from_place = 0;  // 2 * position + saved
  std::uint32_t from_label = 0;
  PofoGroup group;
};

bool covers(const Label& a, const Label& b) {
  return a.time_ns <= b.time_ns && a.out_bytes <= b.out_bytes && a.back_bytes <= b.back_bytes &&
         a.kept_bytes <= b.kept_bytes;
}

class Search {
 public:
  Search(const Chain& chain, const RotorTable& table, const PofoOptions& options)
      : chain_(chain),
        table_(table),
        options_(options),
        length_(chain.length()),
        labels_(2 * (chain.length() + 1)),
        breakpoints_(chain.length() * chain.length()) {}

  std::optional<PofoPlan> run();

 private:
  [[nodiscard]] double out_rate() const { return options_.offload_bytes_per_ns; }
  [[nodiscard]] double back_rate() const { return options_.prefetch_bytes_per_ns; }
  [[nodiscard]] double cost_to_end(const Label& label) const {
    return label.time_ns + label.out_bytes / out_rate() + label.back_bytes / back_rate();
  }
  void extend(std::uint32_t place, std::uint32_t index);
  void save_all(const Label& from, std::uint32_t stage, std::uint64_t x, bool offload);
  void run_again(const Label& from, std::uint32_t first, std::uint64_t x, bool offload);
  void prune(std::vector<Label>& labels) const;
  void thin(std::vector<Label>& labels, std::uint32_t per_band) const;
  const std::vector<std::uint32_t>& breakpoints(std::uint32_t first, std::uint32_t last);

  const Chain& chain_;
  const RotorTable& table_;
  PofoOptions options_;
  std::size_t length_;
  std::vector<std::vector<Label>> labels_;
  std::vector<std::vector<std::uint32_t>> breakpoints_;
};

const std::vector<std::uint32_t>& Search::breakpoints(std::uint32_t first, std::uint32_t last) {
  std::vector<std::uint32_t>& points = breakpoints_[first * length_ + last];
  if (points.empty()) {
    points = rotor_breakpoints(table_, first, last, options_.memory_bytes / table_.slot_bytes());
    // With a beam the search is no longer exact anyhow: a few memories per stretch do.
    constexpr std::size_t kFew = 6;
    if (options_.beam != 0 && points.size() > kFew) {
      std::vector<std::uint32_t> few;
      for (std::size_t i = 0; i < kFew; ++i)
        few.push_back(points[i * (points.size() - 1) / (kFew - 1)]);
      points = std::move(few);
    }
  }
  return points;
}

// The same number from each sixteenth of the memory, by the time they are sure to reach.
void Search::thin(std::vector<Label>& labels, std::uint32_t per_band) const {
  constexpr std::uint64_t kBands = 16;
  if (labels.size() <= per_band) return;
  std::stable_sort(labels.begin(), labels.end(), [&](const Label& a, const Label& b) {
    return cost_to_end(a) < cost_to_end(b);
  });
  std::array<std::uint32_t, kBands + 1> taken = {};
  const auto is_beyond = [&](const Label& label) {
    return taken[label.kept_bytes / (options_.memory_bytes / kBands + 1)]++ >= per_band;
  };
  // Not remove_if: it may ask twice.
  std::vector<Label> chosen;
  for (const Label& label : labels)
    if (!is_beyond(label)) chosen.push_back(label);
  labels = std::move(chosen);
}

void Search::prune(std::vector<Label>& labels) const {
  // With a beam, far too many labels are thinned before they are compared pair by pair.
  const std::uint32_t per_band = std::max(options_.beam / 16, 2u);
  if (options_.beam != 0) thin(labels, 4 * per_band);
  std::sort(labels.begin(), labels.end(), [&](const Label& a, const Label& b) {
    if (a.time_ns != b.time_ns) return a.time_ns < b.time_ns;
    if (a.kept_bytes != b.kept_bytes) return a.kept_bytes < b.kept_bytes;
    if (a.out_bytes != b.out_bytes) return a.out_bytes < b.out_bytes;
    return a.back_bytes < b.back_bytes;
  });
  std::vector<Label> best;
  for (const Label& label : labels) {
    bool covered = false;
    for (std::size_t i = 0; i < best.size() && !covered; ++i) covered = covers(best[i], label);
    if (!covered) best.push_back(label);
  }
  labels = std::move(best);
  if (options_.beam != 0) thin(labels, per_band);
}

void Search::save_all(const Label& from, std::uint32_t s, std::uint64_t x, bool offload) {
  const std::uint64_t memory = options_.memory_bytes;
  const std::uint64_t forward = chain_.saved_bytes[s] + chain_.forward_extra_bytes[s];
  const std::uint64_t backward = chain_.saved_bytes[s] + chain_.input_bytes[s + 1] +
                                 chain_.input_bytes[s] + chain_.backward_extra_bytes[s];
  const std::uint64_t held = from.kept_bytes + x;
  if (held + std::max(forward, backward) > memory) return;
  const auto forward_ns = static_cast<double>(chain_.forward_ns[s]);
  const auto backward_ns = static_cast<double>(chain_.backward_ns[s]);
  const double out_stall =
      std::max(0.0, from.out_bytes - static_cast<double>(memory - held - forward));
  const double back_stall =
      std::max(0.0, from.back_bytes - static_cast<double>(memory - held - backward));
  const double moved = offload ? static_cast<double>(x) : 0;
  Label to = from;
  to.time_ns += forward_ns + backward_ns + out_stall / out_rate() + back_stall / back_rate();
  to.out_bytes = std::max(0.0, from.out_bytes + moved - forward_ns * out_rate() - out_stall);
  to.back_bytes = std::max(0.0, from.back_bytes - backward_ns * back_rate() - back_stall) + moved;
  to.kept_bytes += offload ? 0 : x;
  to.group = {s, s, true, offload, 0};
  labels_[2 * (s + std::size_t{1}) + 1].push_back(to);
}

void Search::run_again(const Label& from, std::uint32_t first, std::uint64_t x, bool offload) {
  const std::uint64_t memory = options_.memory_bytes;
  const std::uint64_t held = from.kept_bytes + x;
  const double moved = offload ? static_cast<double>(x) : 0;
  double forward_ns = 0;
  double out_stall = 0;
  for (std::uint32_t last = first; last < length_; ++last) {
    const std::uint64_t need = (last == first ? 0 : chain_.input_bytes[last]) +
                               chain_.input_bytes[last + 1] + chain_.forward_extra_bytes[last];
    if (held + need > memory) return;  // nor does any longer stretch fit
    out_stall = std::max(
        out_stall,
        from.out_bytes - forward_ns * out_rate() - static_cast<double>(memory - held - need));
    forward_ns += static_cast<double>(chain_.forward_ns[last]);
    for (const std::uint32_t slots : breakpoints(first, last)) {
      const std::uint64_t rotor_bytes = slots * table_.slot_bytes();
      if (held + rotor_bytes > memory) break;
      const auto again_ns = static_cast<double>(*table_.time_ns(first, last, slots));
      const double back_stall =
          std::max(0.0, from.back_bytes - static_cast<double>(memory - held - rotor_bytes));
      Label to = from;
      to.time_ns += forward_ns + again_ns + out_stall / out_rate() + back_stall / back_rate();
      to.out_bytes = std::max(0.0, from.out_bytes + moved - forward_ns * out_rate() - out_stall);
      to.back_bytes = std::max(0.0, from.back_bytes - again_ns * back_rate() - back_stall) + moved;
      to.kept_bytes += offload ? 0 : x;
      to.group = {first, last, false, offload, slots};
      labels_[2 * (last + std::size_t{1})].push_back(to);
    }
  }
}

void Search::extend(std::uint32_t place, std::uint32_t index) {
  const std::uint32_t s = place / 2;
  std::uint64_t x = 0;  // what the group before left
  if (s > 0) x = place % 2 != 0 ? chain_.saved_bytes[s - 1] : chain_.input_bytes[s];
  Label from = labels_[place][index];
  from.from_place = place;
  from.from_label = index;
  for (const bool offload : {false, true}) {
    if (offload && x == 0) continue;
    save_all(from, s, x, offload);
    run_again(from, s, x, offload);
  }
}

std::optional<PofoPlan> Search::run() {
  labels_[0].push_back({});
  for (std::uint32_t place = 0; place < 2 * length_; ++place) {
    prune(labels_[place]);
    for (std::uint32_t i = 0; i < labels_[place].size(); ++i) extend(place, i);
  }
  const Label* best = nullptr;
  for (std::size_t place = 2 * length_; place < labels_.size(); ++place)
    for (const Label& label : labels_[place])
      if (best == nullptr || cost_to_end(label) < cost_to_end(*best)) best = &label;
  if (best == nullptr) return std::nullopt;
  PofoPlan plan;
  plan.time_ns = cost_to_end(*best);
  if (length_ == 0) return plan;
  for (const Label* label = best;;) {
    plan.groups.push_back(label->group);
    if (label->from_place == 0) break;
    label = &labels_[label->from_place][label->from_label];
  }
  std::reverse(plan.groups.begin(), plan.groups.end());
  return plan;
}

}  // namespace

std::vector<std::uint32_t> rotor_breakpoints(const RotorTable& table,
                                             std::uint32_t first,
                                             std::uint32_t last,
                                             std::uint64_t limit) {
  std::vector<std::uint32_t> points;
  std::optional<std::int64_t> before;
  for (std::uint32_t m = 0; m <= std::min<std::uint64_t>(limit, table.slots()); ++m) {
    const auto time = table.time_ns(first, last, m);
    if (time && time != before) points.push_back(m);
    before = time;
  }
  return points;
}

std::optional<PofoPlan> pofo(const Chain& chain,
                             const RotorTable& table,
                             const PofoOptions& options) {
  return Search(chain, table, options).run();
}

ChainSchedule schedule_of(const PofoPlan& plan, const RotorTable& table) {
  ChainSchedule schedule;
  for (const PofoGroup& group : plan.groups) {
    if (group.save_all) {
      schedule.push_back({ChainStepKind::kForwardAll, group.first});
      continue;
    }
    schedule.push_back({ChainStepKind::kForwardKeep, group.first});
    for (std::uint32_t s = group.first + 1; s <= group.last; ++s)
      schedule.push_back({ChainStepKind::kForwardDrop, s});
  }
  for (std::size_t g = plan.groups.size(); g-- > 0;) {
    const PofoGroup& group = plan.groups[g];
    if (group.save_all) {
      schedule.push_back({ChainStepKind::kBackward, group.first});
      continue;
    }
    schedule.push_back({ChainStepKind::kRestore, group.first});
    const ChainSchedule inner = table.schedule(group.first, group.last, group.rotor_slots);
    schedule.insert(schedule.end(), inner.begin(), inner.end());
  }
  return schedule;
}

}  // namespace spillway
