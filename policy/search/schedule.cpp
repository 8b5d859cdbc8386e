// SPDX-License-Identifier: Apache-2.0
// One function runs a stage, for judging and for writing the program, so that what is judged is
// what is written.
#include "policy/search/schedule.hpp"

#include "core/check.hpp"
#include "policy/search/program_spots.hpp"

#include <algorithm>

namespace spillway {
namespace {

// Changing the bytes of this many stages costs about as much as judging one.
constexpr std::size_t kStagesPerJudge = 256;
// Position of a storage that no op of the stage touches.
constexpr std::uint32_t kAtEnd = 0xffffffff;

}  // namespace

Schedule::Schedule(const StepModel& model)
    : model_(model),
      spots_(model.items.size()),
      lossy_(model.items.size(), 0),
      entry_bytes_(model.ops.size() + 1, 0),
      host_bytes_(model.pinned_bytes != 0 ? model.ops.size() + 1 : 0, 0),
      values_(model.ops.size()),
      peaks_(model.ops.size(), 0),
      chains_(model.ops.size()),
      reruns_(model.ops.size()),
      arrivals_(model.ops.size()),
      departures_(model.ops.size()),
      out_bytes_(model.ops.size(), 0),
      in_bytes_(model.ops.size(), 0),
      touches_(model.items.size()),
      op_stamps_(model.ops.size(), 0) {
  std::vector<std::int64_t> change(model.ops.size() + 2, 0);
  for (std::uint32_t s = 0; s < model.items.size(); ++s) {
    spots_[s] = natural_spots(s);
    const StepModel::Item& item = model.items[s];
    const bool born = item.created_by != OpId::kNoneValue;
    change[born ? item.created_by + 1 : 0] += static_cast<std::int64_t>(item.bytes);
    if (item.freed_after != OpId::kNoneValue)
      change[item.freed_after + 1] -= static_cast<std::int64_t>(item.bytes);
  }
  std::int64_t bytes = 0;
  for (std::size_t t = 0; t < entry_bytes_.size(); ++t)
    entry_bytes_[t] = static_cast<std::uint64_t>(bytes += change[t]);
  rejudge_all();
}

std::vector<SpotSpan> Schedule::natural_spots(std::uint32_t storage) const {
  const StepModel::Item& item = model_.items[storage];
  std::vector<SpotSpan> spots;
  if (item.created_by == OpId::kNoneValue) {
    spots.push_back({0, Spot::kHere});
  } else {
    spots.push_back({0, Spot::kAway});
    if (item.freed_after == item.created_by) return spots;
    spots.push_back({item.created_by + 1, Spot::kHere});
  }
  if (item.freed_after != OpId::kNoneValue) spots.push_back({item.freed_after + 1, Spot::kAway});
  return spots;
}

void Schedule::set_link_price(double out, double in) {
  out_price_ = out;
  in_price_ = in;
  rejudge_all();
}

void Schedule::set_storage_prices(std::vector<double> factors) {
  factors_ = std::move(factors);
  rejudge_all();
}

template <bool kEmit>
StageValue Schedule::run(std::uint32_t stage,
                         const Override& override,
                         std::vector<Instruction>* out) {
  ++work_;
  StageValue value;
  const std::uint32_t own = override.storage;
  const auto entry = [&](std::uint32_t s) { return s == own ? override.entry : spot_at(s, stage); };
  const auto exit = [&](std::uint32_t s) {
    return s == own ? override.exit : spot_at(s, stage + 1);
  };
  const auto emit = [&](InstructionKind kind, std::uint32_t target, Codec codec = Codec::kNone) {
    if constexpr (kEmit) {
      Instruction instruction;
      instruction.kind = kind;
      instruction.target = target;
      instruction.codec = codec;
      out->push_back(instruction);
    } else {
      (void)kind;
      (void)target;
      (void)codec;
      (void)out;
    }
  };
  std::uint64_t held = entry_bytes_[stage];
  if (own != StorageId::kNoneValue)
    held = held - held_bytes(own, spot_at(own, stage)) + held_bytes(own, override.entry);
  std::uint64_t high = held;
  const auto take = [&](std::uint64_t bytes) {
    held += bytes;
    high = std::max(high, held);
  };

  // What must come back, and which ops run again for it.
  ++stamp_;
  worklist_.clear();
  chain_.clear();
  fetched_.clear();
  touched_.clear();
  const auto touch = [&](std::uint32_t s) -> Touch& {
    Touch& t = touches_[s];
    if (t.touched != stamp_) {
      t.touched = stamp_;
      t.last = kAtEnd;
      t.now = entry(s);
      touched_.push_back(s);
    }
    return t;
  };
  const auto need = [&](std::uint32_t s) {
    Touch& t = touches_[s];
    if (t.needed == stamp_) return;
    t.needed = stamp_;
    const Spot spot = touch(s).now;
    if (spot == Spot::kHere) return;
    if (spot != Spot::kAway) {
      fetched_.push_back(s);
      return;
    }
    const std::uint32_t producer = model_.items[s].created_by;
    if (!model_.items[s].rebuildable || producer >= stage ||
        model_.ops[producer].rerun_until < stage) {
      value.legal = false;
      return;
    }
    if (op_stamps_[producer] == stamp_) return;
    op_stamps_[producer] = stamp_;
    chain_.push_back(producer);
    worklist_.push_back(producer);
  };
  for (const std::uint32_t s : model_.inputs.of(stage)) need(s);
  for (const std::uint32_t s : arrivals_[stage])
    if (s != own) need(s);
  if (own != StorageId::kNoneValue && model_.items[own].created_by != stage &&
      override.entry != Spot::kHere && override.exit != override.entry &&
      override.exit != Spot::kAway)
    need(own);
  while (!worklist_.empty() && value.legal) {
    const std::uint32_t op = worklist_.back();
    worklist_.pop_back();
    for (const std::uint32_t s : model_.inputs.of(op)) {
      if (lossy_[s] != 0) value.legal = false;
      need(s);
    }
  }
  if (!value.legal) return value;
  std::sort(chain_.begin(), chain_.end());

  // The last op of the stage that touches each storage.
  const auto own_position = static_cast<std::uint32_t>(chain_.size());
  for (std::uint32_t position = 0; position <= own_position; ++position) {
    const std::uint32_t op = position == own_position ? stage : chain_[position];
    for (const std::uint32_t s : model_.inputs.of(op)) touch(s).last = position;
    for (const std::uint32_t s : model_.outputs.of(op)) touch(s).last = position;
  }

  const auto leave = [&](std::uint32_t s, Spot to) {
    const StepModel::Item& item = model_.items[s];
    const StepModel::Coding& code = coding(s);
    const double factor = factors_.empty() ? 1.0 : factors_[s];
    Touch& t = touches_[s];
    switch (to) {
      case Spot::kHere:
        return;
      case Spot::kAway:
        if (item.freed_after == stage) return;  // its life ends with this stage's own op
        emit(InstructionKind::kDrop, s);
        held -= t.now == Spot::kCoded ? code.payload_bytes : item.bytes;
        break;
      case Spot::kHost:
        emit(InstructionKind::kOffload, s);
        value.cost_ns += out_price_ * factor * static_cast<double>(item.out_ns);
        held -= item.bytes;
        break;
      case Spot::kCoded:
      case Spot::kHostCoded:
        emit(InstructionKind::kCompress, s, code.codec);
        value.cost_ns += static_cast<double>(code.once_ns);
        take(code.payload_bytes);
        held -= item.bytes;
        if (to == Spot::kCoded) break;
        emit(InstructionKind::kOffload, s);
        value.cost_ns += out_price_ * factor * static_cast<double>(code.out_ns);
        held -= code.payload_bytes;
        break;
    }
    t.now = to;
  };

  // Storages that leave although nothing here touches them.
  const auto leave_untouched = [&](std::uint32_t s, Spot to) {
    if (touches_[s].touched == stamp_) return;
    const Spot from = touch(s).now;
    if (from == Spot::kHost || from == Spot::kHostCoded)
      value.legal = false;  // bytes on the host are not thrown away
    else
      leave(s, to);
  };
  for (const std::uint32_t s : departures_[stage])
    if (s != own) leave_untouched(s, exit(s));
  if (own != StorageId::kNoneValue && override.exit != override.entry &&
      override.entry != Spot::kAway && model_.items[own].created_by != stage &&
      model_.items[own].freed_after != stage &&
      (override.entry == Spot::kHere || override.exit == Spot::kAway))
    leave_untouched(own, override.exit);

  // Copies back, then decodes.
  for (const std::uint32_t s : fetched_) {
    Touch& t = touches_[s];
    const StepModel::Item& item = model_.items[s];
    const double factor = factors_.empty() ? 1.0 : factors_[s];
    if (t.now == Spot::kHost) {
      emit(InstructionKind::kPrefetch, s);
      take(item.bytes);
      value.cost_ns += in_price_ * factor * static_cast<double>(item.in_ns);
      t.now = Spot::kHere;
    } else if (t.now == Spot::kHostCoded) {
      emit(InstructionKind::kPrefetch, s);
      take(coding(s).payload_bytes);
      value.cost_ns += in_price_ * factor * static_cast<double>(coding(s).in_ns);
      t.now = Spot::kCoded;
    }
  }
  for (const std::uint32_t s : fetched_) {
    Touch& t = touches_[s];
    if (t.now != Spot::kCoded) continue;
    emit(InstructionKind::kDecompress, s, coding(s).codec);
    take(model_.items[s].bytes);
    held -= coding(s).payload_bytes;
    value.cost_ns += static_cast<double>(coding(s).once_ns);
    t.now = Spot::kHere;
  }
  for (std::uint32_t position = 0; position < own_position; ++position) {
    const std::uint32_t op = chain_[position];
    const StepModel::Work& work = model_.ops[op];
    emit(InstructionKind::kRecompute, op);
    std::uint64_t scratch = work.workspace_bytes;
    for (const std::uint32_t s : model_.outputs.of(op)) {
      Touch& t = touches_[s];
      if (t.now == Spot::kAway) {
        take(model_.items[s].bytes);
        t.now = Spot::kHere;
      } else {
        scratch += model_.items[s].bytes;
      }
    }
    high = std::max(high, held + scratch);
    value.cost_ns += static_cast<double>(work.duration_ns);
    const auto settle = [&](std::uint32_t s) {
      Touch& t = touches_[s];
      if (t.last != position || t.now != Spot::kHere) return;
      leave(s, exit(s));
    };
    for (const std::uint32_t s : model_.inputs.of(op)) settle(s);
    for (const std::uint32_t s : model_.outputs.of(op)) settle(s);
  }

  if constexpr (kEmit)
    for (const std::uint32_t s : model_.freed.of(stage))
      if (exit(s) == Spot::kHere && touch(s).now == Spot::kHere) emit(InstructionKind::kRetain, s);
  emit(InstructionKind::kCompute, stage);
  for (const std::uint32_t s : model_.outputs.of(stage)) {
    take(model_.items[s].bytes);
    touch(s).now = Spot::kHere;
  }
  high = std::max(high, held + model_.ops[stage].workspace_bytes);
  for (const std::uint32_t s : model_.freed.of(stage)) {
    Touch& t = touch(s);
    if (exit(s) == Spot::kHere) {
      if (t.now != Spot::kHere) value.legal = false;  // nothing is there to be retained
      continue;
    }
    held -= held_bytes(s, t.now);
    t.now = Spot::kAway;
  }
  const auto settle = [&](std::uint32_t s) {
    if (touches_[s].now == Spot::kHere) leave(s, exit(s));
  };
  for (const std::uint32_t s : model_.inputs.of(stage)) settle(s);
  for (const std::uint32_t s : model_.outputs.of(stage)) settle(s);
  for (const std::uint32_t s : fetched_)
    if (touches_[s].last == kAtEnd) settle(s);
  value.peak_bytes = high;
  return value;
}

StageValue Schedule::judge(std::uint32_t stage, const Override& override) {
  return run<false>(stage, override, nullptr);
}

void Schedule::rejudge(std::uint32_t stage) {
  for (const std::uint32_t op : chains_[stage]) {
    std::vector<std::uint32_t>& list = reruns_[op];
    list.erase(std::find(list.begin(), list.end(), stage));
  }
  StageValue& value = values_[stage];
  cost_ns_ -= value.cost_ns;
  if (!value.legal) --illegal_stages_;
  value = run<false>(stage, Override{}, nullptr);
  chains_[stage] = chain_;
  for (const std::uint32_t op : chain_) reruns_[op].push_back(stage);
  cost_ns_ += value.cost_ns;
  if (!value.legal) ++illegal_stages_;
  peaks_[stage] = value.peak_bytes;
}

void Schedule::rejudge_all() {
  for (std::uint32_t t = 0; t < values_.size(); ++t) rejudge(t);
  cost_ns_ = 0;
  for (const StageValue& value : values_) cost_ns_ += value.cost_ns;
}

// Copies of a storage: visit(stage, outwards, bytes of link time).
template <typename Visit>
void Schedule::for_each_copy(std::uint32_t storage, const Visit& visit) const {
  const StepModel::Item& item = model_.items[storage];
  const std::vector<SpotSpan>& spots = spots_[storage];
  const auto on_host = [](Spot spot) { return spot == Spot::kHost || spot == Spot::kHostCoded; };
  for (std::size_t i = 1; i < spots.size(); ++i) {
    const Spot before = spots[i - 1].spot;
    const Spot after = spots[i].spot;
    const std::uint32_t stage = spots[i].from - 1;
    if (on_host(after) && !on_host(before)) {
      const std::int64_t ns = after == Spot::kHost ? item.out_ns : coding(storage).out_ns;
      visit(stage, true, static_cast<double>(ns) * model_.out_bytes_per_ns);
    }
    if (on_host(before) && !on_host(after) && after != Spot::kAway) {
      const std::int64_t ns = before == Spot::kHost ? item.in_ns : coding(storage).in_ns;
      visit(stage, false, static_cast<double>(ns) * model_.in_bytes_per_ns);
    }
  }
}

double Schedule::least_copy_cost(std::uint32_t storage) const {
  const StepModel::Item& item = model_.items[storage];
  const double factor = factors_.empty() ? 1.0 : factors_[storage];
  const double plain = factor * (out_price_ * static_cast<double>(item.out_ns) +
                                 in_price_ * static_cast<double>(item.in_ns));
  return plain;
}

bool Schedule::uses_link(std::uint32_t storage) const {
  bool uses = false;
  for_each_copy(storage, [&](std::uint32_t, bool, double) { uses = true; });
  return uses;
}

void Schedule::link_load(LinkLoad* load, std::uint32_t without) const {
  const std::size_t count = values_.size();
  load->out_queue.assign(count, 0);
  load->in_queue.assign(count, 0);
  load->out_slack.resize(count);
  load->in_slack.resize(count);
  std::vector<double>& out = load->out_slack;  // first the bytes issued, then the slack
  std::vector<double>& in = load->in_slack;
  std::copy(out_bytes_.begin(), out_bytes_.end(), out.begin());
  std::copy(in_bytes_.begin(), in_bytes_.end(), in.begin());
  if (without != StorageId::kNoneValue)
    for_each_copy(without, [&](std::uint32_t stage, bool outwards, double bytes) {
      (outwards ? out : in)[stage] -= bytes;
    });
  double queue = 0;  // at the beginning of the stage; what it issues leaves at its end
  for (std::size_t t = 0; t < count; ++t) {
    const double ns = static_cast<double>(model_.ops[t].duration_ns) + values_[t].cost_ns;
    const double capacity = ns * model_.out_bytes_per_ns;
    const double issued = out[t];
    load->out_queue[t] = queue;
    out[t] = std::max(0.0, capacity - queue);
    queue = std::max(0.0, queue - capacity) + issued;
  }
  queue = 0;  // at the end of the stage: what later stages need early
  for (std::size_t t = count; t-- > 0;) {
    const double ns = static_cast<double>(model_.ops[t].duration_ns) + values_[t].cost_ns;
    const double capacity = ns * model_.in_bytes_per_ns;
    // Prefetched for this stage: needed at its beginning.
    const double needed = in[t];
    load->in_queue[t] = queue;
    in[t] = std::max(0.0, capacity - queue);
    queue = std::max(0.0, queue - capacity) + needed;
  }
}

void Schedule::index_transitions(std::uint32_t storage, bool add) {
  for_each_copy(storage, [&](std::uint32_t stage, bool outwards, double bytes) {
    (outwards ? out_bytes_ : in_bytes_)[stage] += add ? bytes : -bytes;
    link_users_ = add ? link_users_ + 1 : link_users_ - 1;
  });
  const StepModel::Item& item = model_.items[storage];
  const std::vector<SpotSpan>& spots = spots_[storage];
  for (std::size_t i = 1; i < spots.size(); ++i) {
    const std::uint32_t stage = spots[i].from - 1;
    if (stage == item.created_by) continue;
    const Spot before = spots[i - 1].spot;
    const Spot after = spots[i].spot;
    const bool leaves = before == Spot::kHere || after == Spot::kAway;
    if (leaves && stage == item.freed_after) continue;
    std::vector<std::uint32_t>& list = leaves ? departures_[stage] : arrivals_[stage];
    if (add)
      list.push_back(storage);
    else
      list.erase(std::find(list.begin(), list.end(), storage));
  }
}

void Schedule::add_host_bytes(const std::vector<SpotSpan>& spots, std::uint32_t storage, bool add) {
  for (std::size_t i = 0; i < spots.size(); ++i) {
    const std::uint64_t bytes = on_host_bytes(storage, spots[i].spot);
    if (bytes == 0) continue;
    const std::size_t end = i + 1 < spots.size() ? spots[i + 1].from : host_bytes_.size();
    work_ += (end - spots[i].from) / kStagesPerJudge;
    for (std::size_t t = spots[i].from; t < end; ++t)
      host_bytes_[t] = add ? host_bytes_[t] + bytes : host_bytes_[t] - bytes;
  }
}

void Schedule::add_entry_bytes(const std::vector<SpotSpan>& spots,
                               std::uint32_t storage,
                               bool add) {
  if (!host_bytes_.empty()) add_host_bytes(spots, storage, add);
  for (std::size_t i = 0; i < spots.size(); ++i) {
    const std::uint64_t bytes = held_bytes(storage, spots[i].spot);
    if (bytes == 0) continue;
    const std::size_t end = i + 1 < spots.size() ? spots[i + 1].from : entry_bytes_.size();
    work_ += (end - spots[i].from) / kStagesPerJudge;
    if (add) {
      for (std::size_t t = spots[i].from; t < end; ++t) entry_bytes_[t] += bytes;
      for (std::size_t t = spots[i].from; t < std::min(end, peaks_.size()); ++t) peaks_[t] += bytes;
    } else {
      for (std::size_t t = spots[i].from; t < end; ++t) entry_bytes_[t] -= bytes;
      for (std::size_t t = spots[i].from; t < std::min(end, peaks_.size()); ++t) peaks_[t] -= bytes;
    }
  }
}

void Schedule::move(std::uint32_t storage,
                    std::vector<SpotSpan> spots,
                    const std::vector<std::uint32_t>& stages) {
  add_entry_bytes(spots_[storage], storage, false);
  set_spots(storage, std::move(spots));
  add_entry_bytes(spots_[storage], storage, true);
  for (const std::uint32_t stage : stages) rejudge(stage);
}

std::uint64_t Schedule::peak_bytes() const {
  return peaks_.empty() ? 0 : *std::max_element(peaks_.begin(), peaks_.end());
}

std::vector<Instruction> Schedule::program() {
  std::vector<Instruction> program;
  program.reserve(values_.size() * 2);
  for (std::uint32_t t = 0; t < values_.size(); ++t) (void)run<true>(t, Override{}, &program);
  return program;
}

void Schedule::load(const GapTable& gaps, const Choices& choices) {
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    if (gaps.of(s).empty()) continue;
    const StepModel::Item& item = model_.items[s];
    std::vector<SpotSpan> spots = {{0, Spot::kAway}, {item.created_by + 1, Spot::kHere}};
    const auto set = [&](std::uint32_t from, Spot spot) {
      if (spots.back().from == from) spots.pop_back();
      if (spots.empty() || spots.back().spot != spot) spots.push_back({from, spot});
    };
    bool lossy = false;
    for (std::uint32_t g = gaps.of_storage[s]; g < gaps.of_storage[s + 1]; ++g)
      lossy = lossy || (choices[g].codec != item.exact.codec &&
                        choices[g].codec == item.lossy.codec && choices[g].codec != Codec::kNone);
    lossy_[s] = lossy ? 1 : 0;
    for (std::uint32_t g = gaps.of_storage[s]; g < gaps.of_storage[s + 1]; ++g) {
      const Gap& gap = gaps.gaps[g];
      const bool coded = choices[g].codec != Codec::kNone && choices[g].codec == coding(s).codec;
      Spot spot = Spot::kHere;
      switch (choices[g].action) {
        case Action::kKeep:
          break;
        case Action::kRecompute:
          spot = Spot::kAway;
          break;
        case Action::kCompress:
          spot = coded ? Spot::kCoded : Spot::kHere;
          break;
        case Action::kOffload:
          spot = coded ? Spot::kHostCoded : Spot::kHost;
          break;
      }
      set(gap.after_op + 1, spot);
      set(gap.returns ? gap.before_op + 1 : gap.before_op, Spot::kHere);
    }
    if (item.freed_after != OpId::kNoneValue) {
      while (!spots.empty() && spots.back().from > item.freed_after) spots.pop_back();
      set(item.freed_after + 1, Spot::kAway);
    }
    set_spots(s, std::move(spots));
  }
  count_bytes();
  rejudge_all();
}

bool Schedule::load(const std::vector<Instruction>& program) {
  ProgramSpots from = spots_of(model_, program);
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    const StepModel::Item& item = model_.items[s];
    const Codec codec = from.codec[s];
    bool coded = false;
    for (const SpotSpan& span : from.spots[s])
      coded = coded || span.spot == Spot::kCoded || span.spot == Spot::kHostCoded;
    if (coded) {
      // Another codec than the search's own: as if nothing had been encoded.
      const bool lossy = codec == item.lossy.codec && codec != item.exact.codec;
      const bool known = codec != Codec::kNone && (lossy || codec == item.exact.codec);
      std::vector<SpotSpan> spots;
      for (SpotSpan span : from.spots[s]) {
        if (!known && span.spot == Spot::kCoded) span.spot = Spot::kHere;
        if (!known && span.spot == Spot::kHostCoded) span.spot = Spot::kHost;
        if (spots.empty() || spots.back().spot != span.spot) spots.push_back(span);
      }
      from.spots[s] = std::move(spots);
      if (known && lossy) {
        set_spots(s, {{0, Spot::kAway}});  // what is indexed must not change with the codec
        lossy_[s] = 1;
      }
    }
    if (from.spots[s] != spots_[s]) set_spots(s, std::move(from.spots[s]));
  }
  count_bytes();
  rejudge_all();
  if (is_legal()) return true;
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    set_spots(s, {{0, Spot::kAway}});
    lossy_[s] = 0;
    set_spots(s, natural_spots(s));
  }
  count_bytes();
  rejudge_all();
  return false;
}

void Schedule::set_spots(std::uint32_t storage, std::vector<SpotSpan> spots) {
  index_transitions(storage, false);
  spots_[storage] = std::move(spots);
  index_transitions(storage, true);
}

void Schedule::count_bytes() {
  std::vector<std::int64_t> device(entry_bytes_.size() + 1, 0);
  std::vector<std::int64_t> host(entry_bytes_.size() + 1, 0);
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    std::int64_t held = 0;
    std::int64_t hosted = 0;
    for (const SpotSpan& span : spots_[s]) {
      const auto then = static_cast<std::int64_t>(held_bytes(s, span.spot));
      const auto then_hosted = static_cast<std::int64_t>(on_host_bytes(s, span.spot));
      device[span.from] += then - held;
      host[span.from] += then_hosted - hosted;
      held = then;
      hosted = then_hosted;
    }
  }
  std::int64_t held = 0;
  std::int64_t hosted = 0;
  for (std::size_t t = 0; t < entry_bytes_.size(); ++t) {
    entry_bytes_[t] = static_cast<std::uint64_t>(held += device[t]);
    hosted += host[t];
    if (!host_bytes_.empty()) host_bytes_[t] = static_cast<std::uint64_t>(hosted);
  }
}

void Schedule::set_all(const std::vector<std::vector<SpotSpan>>& spots,
                       const std::vector<char>& lossy) {
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    if (spots_[s] == spots[s] && lossy_[s] == lossy[s]) continue;
    index_transitions(s, false);
    lossy_[s] = lossy[s];
    spots_[s] = spots[s];
    index_transitions(s, true);
  }
  count_bytes();
  rejudge_all();
}

Status Schedule::check_invariants() {
  std::vector<std::uint64_t> bytes(entry_bytes_.size(), 0);
  std::vector<std::uint64_t> hosted(host_bytes_.size(), 0);
  for (std::uint32_t s = 0; s < spots_.size(); ++s) {
    const std::vector<SpotSpan>& spots = spots_[s];
    if (spots.empty() || spots.front().from != 0)
      return Status(Code::kInternal, "storage " + std::to_string(s) + " has no spot at op 0");
    for (std::size_t i = 0; i < spots.size(); ++i) {
      if (i > 0 && (spots[i].from <= spots[i - 1].from || spots[i].spot == spots[i - 1].spot))
        return Status(Code::kInternal, "spots of storage " + std::to_string(s) + " do not ascend");
      const std::size_t end = i + 1 < spots.size() ? spots[i + 1].from : bytes.size();
      for (std::size_t t = spots[i].from; t < end; ++t) bytes[t] += held_bytes(s, spots[i].spot);
      for (std::size_t t = spots[i].from; t < std::min(end, hosted.size()); ++t)
        hosted[t] += on_host_bytes(s, spots[i].spot);
    }
  }
  for (std::size_t t = 0; t < bytes.size(); ++t)
    if (bytes[t] != entry_bytes_[t])
      return Status(Code::kInternal,
                    "entry of op " + std::to_string(t) + " holds " + std::to_string(bytes[t]) +
                        ", the schedule says " + std::to_string(entry_bytes_[t]));
  if (hosted != host_bytes_) return Status(Code::kInternal, "the host's bytes do not add up");
  for (std::uint32_t t = 0; t < values_.size(); ++t) {
    const StageValue fresh = run<false>(t, Override{}, nullptr);
    if (fresh.legal != values_[t].legal ||
        (fresh.legal && (fresh.peak_bytes != peaks_[t] || fresh.cost_ns != values_[t].cost_ns)))
      return Status(Code::kInternal,
                    "op " + std::to_string(t) + " needs " + std::to_string(fresh.peak_bytes) +
                        " bytes, the schedule says " + std::to_string(peaks_[t]));
  }
  return {};
}

}  // namespace spillway
