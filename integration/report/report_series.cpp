// SPDX-License-Identifier: Apache-2.0
// One pass over changes and workspace events in time order; the peak instant takes a second one up
// to that event.
#include "integration/report/report_series.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

namespace spillway {
namespace {

/// A change of a storage (index into the changes), or workspace of a compute slice that begins or
/// ends.
struct Event {
  std::int64_t at_ns = 0;
  std::uint8_t rank = 0;  // order at equal times: workspace ends, storages change, workspace
                          // begins, empty slices end
  bool workspace = false;
  std::uint32_t index = 0;  // into changes
  std::uint64_t add_bytes = 0;
  std::uint64_t sub_bytes = 0;
};

std::vector<Event> events_of(const Profile& profile,
                             const SimResult& sim,
                             const StepAxis& axis,
                             const std::vector<PlaceChange>& changes) {
  std::vector<Event> events;
  events.reserve(changes.size());
  for (std::size_t i = 0; i < changes.size(); ++i)
    events.push_back({changes[i].at_ns, 1, false, static_cast<std::uint32_t>(i), 0, 0});
  const auto add_workspace = [&events](
                                 std::uint64_t bytes, std::int64_t begin_ns, std::int64_t end_ns) {
    if (bytes == 0) return;
    events.push_back({begin_ns, 2, true, 0, bytes, 0});
    const std::uint8_t rank = begin_ns == end_ns ? 3 : 0;
    events.push_back({end_ns, rank, true, 0, 0, bytes});
  };
  if (sim.timeline) {
    for (const Slice& slice : sim.timeline->slices) {
      if (slice.kind != InstructionKind::kCompute && slice.kind != InstructionKind::kRecompute)
        continue;
      if (slice.target < profile.ops.size())
        add_workspace(profile.ops[slice.target].workspace_bytes, slice.begin_ns, slice.end_ns);
    }
  } else {
    for (std::size_t i = 0; i < profile.ops.size(); ++i)
      add_workspace(profile.ops[i].workspace_bytes, axis.op_begin_ns[i], axis.op_end_ns[i]);
  }
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.rank < b.rank;
  });
  return events;
}

/// Bytes held after the events applied so far.
class Replay {
 public:
  Replay(const Profile& profile, const std::vector<PlaceChange>& changes)
      : profile_(profile),
        changes_(changes),
        device_bytes_(profile.storages.size(), 0),
        host_bytes_(profile.storages.size(), 0),
        places_(profile.storages.size(), Place::kNone) {}

  void apply(const Event& event) {
    now_.at_ns = event.at_ns;
    if (event.workspace) {
      const auto kind = static_cast<std::size_t>(BufferKind::kWorkspace);
      const auto place = static_cast<std::size_t>(Place::kResident);
      now_.by_kind[kind] += event.add_bytes - event.sub_bytes;
      now_.by_place[place] += event.add_bytes - event.sub_bytes;
      workspace_bytes_ += event.add_bytes - event.sub_bytes;
      return;
    }
    const PlaceChange& change = changes_[event.index];
    const std::size_t s = change.storage;
    if (s >= device_bytes_.size()) return;
    const auto kind = static_cast<std::size_t>(profile_.storages[s].tag.kind);
    now_.by_kind[kind] += change.device_bytes - device_bytes_[s];
    now_.by_place[static_cast<std::size_t>(places_[s])] -= device_bytes_[s];
    now_.by_place[static_cast<std::size_t>(change.place)] += change.device_bytes;
    now_.host_bytes += change.host_bytes - host_bytes_[s];
    device_bytes_[s] = change.device_bytes;
    host_bytes_[s] = change.host_bytes;
    places_[s] = change.place;
  }

  const MemorySample& now() const { return now_; }
  std::uint64_t workspace_bytes() const { return workspace_bytes_; }
  const std::vector<std::uint64_t>& device_bytes() const { return device_bytes_; }

 private:
  const Profile& profile_;
  const std::vector<PlaceChange>& changes_;
  std::vector<std::uint64_t> device_bytes_;
  std::vector<std::uint64_t> host_bytes_;
  std::vector<Place> places_;
  std::uint64_t workspace_bytes_ = 0;
  MemorySample now_;
};

/// Which of `buckets` equal stretches of [0, end_ns] holds `at_ns`.
std::size_t bucket_of(std::int64_t at_ns, std::int64_t end_ns, std::size_t buckets) {
  if (end_ns <= 0 || at_ns <= 0) return 0;
  const double part = static_cast<double>(at_ns) / static_cast<double>(end_ns);
  return std::min(buckets - 1, static_cast<std::size_t>(part * static_cast<double>(buckets)));
}

/// Keeps of each bucket the lowest, the highest and the last value, in time order.
template <typename Sample, typename Total>
class Reducer {
 public:
  Reducer(std::int64_t end_ns, std::size_t buckets, Total total)
      : end_ns_(end_ns), buckets_(buckets), total_(total) {}

  void add(const Sample& sample) {
    const std::size_t bucket = bucket_of(sample.at_ns, end_ns_, buckets_);
    if (filled_ && bucket != bucket_) flush();
    if (!filled_) {
      bucket_ = bucket;
      low_ = high_ = last_ = sample;
      filled_ = true;
      return;
    }
    if (total_(sample) < total_(low_)) low_ = sample;
    if (total_(sample) > total_(high_)) high_ = sample;
    last_ = sample;
  }

  std::vector<Sample> finish() {
    if (filled_) flush();
    return std::move(out_);
  }

 private:
  void flush() {
    filled_ = false;
    const bool low_first = low_.at_ns < high_.at_ns;
    push(low_first ? low_ : high_);
    push(low_first ? high_ : low_);
    push(last_);
  }
  void push(const Sample& sample) {
    if (!out_.empty()) {
      const Sample& back = out_.back();
      if (sample.at_ns < back.at_ns) return;
      if (sample.at_ns == back.at_ns && total_(sample) == total_(back)) return;
    }
    out_.push_back(sample);
  }

  std::int64_t end_ns_;
  std::size_t buckets_;
  Total total_;
  bool filled_ = false;
  std::size_t bucket_ = 0;
  Sample low_{};
  Sample high_{};
  Sample last_{};
  std::vector<Sample> out_;
};

std::uint64_t total_of_sample(const MemorySample& sample) { return sample.device_bytes(); }
std::uint64_t total_of_point(const BytesPoint& point) { return point.bytes; }

}  // namespace

StepAxis step_axis(const Profile& profile, const SimResult& sim) {
  StepAxis axis;
  const std::size_t count = profile.ops.size();
  axis.op_begin_ns.assign(count, 0);
  axis.op_end_ns.assign(count, 0);
  std::vector<bool> known(count, false);
  if (sim.timeline) {
    for (const Slice& slice : sim.timeline->slices) {
      axis.end_ns = std::max(axis.end_ns, slice.end_ns);
      if (slice.kind != InstructionKind::kCompute || slice.target >= count) continue;
      axis.op_begin_ns[slice.target] = slice.begin_ns;
      axis.op_end_ns[slice.target] = slice.end_ns;
      known[slice.target] = true;
      axis.from_timeline = true;
    }
  }
  std::int64_t now = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (known[i]) {
      now = axis.op_end_ns[i];
      continue;
    }
    axis.op_begin_ns[i] = now;
    // A timeline may leave out ops without a duration; they happen where the one before ended.
    if (!axis.from_timeline) now += static_cast<std::int64_t>(profile.ops[i].duration_ns);
    axis.op_end_ns[i] = now;
  }
  axis.end_ns = std::max(axis.end_ns, axis.from_timeline ? sim.step_ns : now);
  return axis;
}

std::vector<PlaceChange> place_changes(const Profile& profile,
                                       const SimResult& sim,
                                       const StepAxis& axis) {
  if (sim.timeline) return sim.timeline->changes;
  std::vector<PlaceChange> changes;
  changes.reserve(profile.storages.size() * 2);
  const std::size_t count = profile.ops.size();
  std::vector<std::vector<std::uint32_t>> made(count);
  std::vector<std::vector<std::uint32_t>> freed(count);
  for (std::uint32_t s = 0; s < profile.storages.size(); ++s) {
    const Storage& storage = profile.storages[s];
    if (storage.freed_after.valid() && storage.freed_after.index() < count)
      freed[storage.freed_after.index()].push_back(s);
    if (storage.created_by.valid() && storage.created_by.index() < count) {
      made[storage.created_by.index()].push_back(s);
    } else {
      changes.push_back({0, s, Place::kResident, storage.bytes, 0});
    }
  }
  for (std::size_t op = 0; op < count; ++op) {
    for (const std::uint32_t s : made[op])
      changes.push_back({axis.op_begin_ns[op], s, Place::kResident, profile.storages[s].bytes, 0});
    for (const std::uint32_t s : freed[op])
      changes.push_back({axis.op_end_ns[op], s, Place::kNone, 0, 0});
  }
  return changes;
}

std::uint64_t MemorySample::device_bytes() const {
  return std::accumulate(by_kind.begin(), by_kind.end(), std::uint64_t{0});
}

MemorySeries memory_series(const Profile& profile,
                           const SimResult& sim,
                           const StepAxis& axis,
                           const std::vector<PlaceChange>& changes,
                           std::size_t point_count) {
  const std::vector<Event> events = events_of(profile, sim, axis, changes);
  MemorySeries series;

  // Inside one instant the bytes may rise and fall (a recompute's inputs and outputs meet): such a
  // spike is a sample of its own in front of the one that the instant ends with.
  Replay replay(profile, changes);
  std::size_t peak_event = 0;
  std::vector<MemorySample> samples;
  MemorySample spike;
  std::uint64_t spike_bytes = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    replay.apply(events[i]);
    const MemorySample& now = replay.now();
    const std::uint64_t total = now.device_bytes();
    if (total > series.peak.bytes) {
      series.peak.bytes = total;
      series.peak.at_ns = now.at_ns;
      peak_event = i;
    }
    if (total > spike_bytes) {
      spike = now;
      spike_bytes = total;
    }
    if (i + 1 < events.size() && events[i + 1].at_ns == events[i].at_ns) continue;
    const std::uint64_t before = samples.empty() ? 0 : samples.back().device_bytes();
    if (spike_bytes > total && spike_bytes > before) samples.push_back(spike);
    samples.push_back(now);
    spike_bytes = 0;
  }

  series.reduced = samples.size() > point_count;
  if (series.reduced) {
    Reducer<MemorySample, std::uint64_t (*)(const MemorySample&)> reducer(
        axis.end_ns, point_count / 3, &total_of_sample);
    for (const MemorySample& sample : samples) reducer.add(sample);
    series.samples = reducer.finish();
  } else {
    series.samples = std::move(samples);
  }

  Replay again(profile, changes);
  for (std::size_t i = 0; i < events.size() && i <= peak_event; ++i) again.apply(events[i]);
  series.peak.workspace_bytes = again.workspace_bytes();
  series.peak.storage_bytes = again.device_bytes();
  return series;
}

std::vector<BytesPoint> keep_all_series(const Profile& profile,
                                        const StepAxis& axis,
                                        std::size_t point_count) {
  const std::size_t count = profile.ops.size();
  std::vector<std::uint64_t> delta(count + 1,
                                   0);  // wraps: a sum of differences modulo 2^64 is exact
  for (const Storage& storage : profile.storages) {
    const std::size_t begin = storage.created_by.valid() ? storage.created_by.index() : 0;
    const std::size_t end = storage.freed_after.valid() ? storage.freed_after.index() + 1 : count;
    if (begin > count || end > count || begin >= end) continue;
    delta[begin] += storage.bytes;
    delta[end] -= storage.bytes;
  }
  Reducer<BytesPoint, std::uint64_t (*)(const BytesPoint&)> reducer(
      axis.end_ns, std::max<std::size_t>(1, point_count / 3), &total_of_point);
  std::vector<BytesPoint> points;
  std::uint64_t held = 0;
  for (std::size_t i = 0; i < count; ++i) {
    held += delta[i];
    const BytesPoint point{axis.op_begin_ns[i], held + profile.ops[i].workspace_bytes};
    if (count <= point_count) {
      // Ops at one instant: the most counts.
      if (!points.empty() && points.back().at_ns == point.at_ns) {
        points.back().bytes = std::max(points.back().bytes, point.bytes);
      } else {
        points.push_back(point);
      }
    } else {
      reducer.add(point);
    }
  }
  return count <= point_count ? points : reducer.finish();
}

bool is_transient(BufferKind kind) {
  return kind != BufferKind::kParameter && kind != BufferKind::kGradient &&
         kind != BufferKind::kOptimizer && kind != BufferKind::kConstant;
}

HeatMap heat_map(const Profile& profile,
                 const StepAxis& axis,
                 const std::vector<PlaceChange>& changes,
                 const Plan& plan,
                 std::size_t row_count,
                 std::size_t column_count) {
  HeatMap map;
  map.columns = column_count;
  std::map<std::uint16_t, std::size_t> row_of;  // kNoLayer sorts last
  for (const Storage& storage : profile.storages)
    if (is_transient(storage.tag.kind)) row_of.emplace(storage.tag.layer, 0);
  const std::size_t layers = row_of.size() - row_of.count(kNoLayer);
  const std::size_t per_row = layers == 0 ? 1 : (layers + row_count - 1) / row_count;
  std::size_t seen = 0;
  for (auto& [layer, row] : row_of) {
    if (layer == kNoLayer || seen % per_row == 0) map.rows.push_back({layer, layer, {}, {}});
    row = map.rows.size() - 1;
    map.rows[row].last_layer = layer;
    ++seen;
  }

  // Bytes times ns per cell; long doubles would not buy anything: 2^53 exceeds a cell's bytes by
  // far, and means are rounded.
  std::vector<std::vector<double>> area(map.rows.size(), std::vector<double>(column_count, 0));
  const double column_ns = static_cast<double>(axis.end_ns) / static_cast<double>(column_count);
  struct Held {
    std::int64_t since_ns = 0;
    std::uint64_t bytes = 0;
  };
  std::vector<Held> held(profile.storages.size());
  const auto settle = [&](std::size_t s, std::int64_t until_ns) {
    const Held& h = held[s];
    if (h.bytes == 0 || until_ns <= h.since_ns || column_ns <= 0) return;
    std::vector<double>& row = area[row_of.at(profile.storages[s].tag.layer)];
    const std::size_t first = bucket_of(h.since_ns, axis.end_ns, column_count);
    const std::size_t last = bucket_of(until_ns, axis.end_ns, column_count);
    for (std::size_t c = first; c <= last; ++c) {
      const double begin =
          std::max(static_cast<double>(h.since_ns), column_ns * static_cast<double>(c));
      const double end =
          std::min(static_cast<double>(until_ns), column_ns * static_cast<double>(c + 1));
      if (end > begin) row[c] += (end - begin) * static_cast<double>(h.bytes);
    }
  };
  for (const PlaceChange& change : changes) {
    const std::size_t s = change.storage;
    if (s >= held.size() || !is_transient(profile.storages[s].tag.kind)) continue;
    settle(s, change.at_ns);
    held[s] = {change.at_ns, change.device_bytes};
  }
  for (std::size_t s = 0; s < held.size(); ++s) settle(s, axis.end_ns);

  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    map.rows[r].mean_bytes.resize(column_count);
    for (std::size_t c = 0; c < column_count; ++c)
      map.rows[r].mean_bytes[c] =
          column_ns > 0 ? static_cast<std::uint64_t>(area[r][c] / column_ns + 0.5) : 0;
  }
  for (std::size_t s = 0; s < profile.storages.size(); ++s) {
    if (profile.storages[s].tag.kind != BufferKind::kActivation) continue;
    const Action action = s < plan.decisions.size() ? plan.decisions[s].action : Action::kKeep;
    map.rows[row_of.at(profile.storages[s].tag.layer)]
        .by_action[static_cast<std::size_t>(action)] += profile.storages[s].bytes;
  }
  return map;
}

}  // namespace spillway
