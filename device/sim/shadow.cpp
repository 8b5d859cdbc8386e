// SPDX-License-Identifier: Apache-2.0
// The interval map of shadow memory and the checks against it.
#include "device/sim/shadow.hpp"

#include "core/check.hpp"

#include <algorithm>

namespace spillway::sim {
namespace {

// An access that crosses many intervals meets the same earlier accesses again and again; looking
// back this far joins their ranges without a search through a long list.
constexpr std::size_t kMergeLookBack = 16;

bool same_site(const Site& a, const Site& b) {
  return a.epoch == b.epoch && a.op == b.op && a.kind == b.kind;
}

void report(const Conflict& conflict, std::size_t first_out, std::vector<Conflict>& out) {
  const std::size_t oldest =
      out.size() - first_out > kMergeLookBack ? out.size() - kMergeLookBack : first_out;
  for (std::size_t i = out.size(); i > oldest; --i) {
    Conflict& known = out[i - 1];
    if (known.range.end == conflict.range.begin && same_site(known.earlier, conflict.earlier)) {
      known.range.end = conflict.range.end;
      return;
    }
  }
  out.push_back(conflict);
}

}  // namespace

void Shadow::access(Range range,
                    const VectorClock& clock,
                    const Site& site,
                    std::vector<Conflict>& out) {
  if (range.empty()) return;
  SPW_CHECK(site.epoch.tick > 0 && clock.covers(site.epoch));
  const Record record{site.call, site.op, site.epoch.tick, site.epoch.agent, site.kind};

  const Place place = find(range.begin);
  if (!at_end(place)) {
    const std::size_t first_out = out.size();
    Entry& found = entry(place);
    check(found, range, clock, site, first_out, out);
    if (found.begin == range.begin && found.end == range.end) {  // the usual case: the same block
      Cell& cell = cells_[found.cell];
      if (is_write(site.kind)) {
        cell.set_write(record);
      } else {
        cell.add_read(record, clock);
      }
      found.mark = cell.mark();
      merge(place, range.end);
      return;
    }
    for (Place at = next(place); !at_end(at) && entry(at).begin < range.end; at = next(at))
      check(entry(at), range, clock, site, first_out, out);
  }
  if (is_write(site.kind)) {
    write(place, range, record);
  } else {
    read(place, range, record, clock);
  }
}

void Shadow::check(const Entry& found,
                   Range range,
                   const VectorClock& clock,
                   const Site& site,
                   std::size_t first_out,
                   std::vector<Conflict>& out) const {
  const Range both{std::max(found.begin, range.begin), std::min(found.end, range.end)};
  if (both.empty()) return;
  const Cell& cell = cells_[found.cell];
  const auto against = [&](const Record& old) {
    if (clock.covers(old.epoch())) return;
    const Site earlier{old.call, old.op, old.epoch(), old.kind};
    report({earlier, site, both, clock.get(old.agent)}, first_out, out);
  };
  against(cell.write);
  if (!is_write(site.kind)) return;
  const Record* reads = cell.reads();
  for (std::uint32_t i = 0; i < cell.read_count; ++i) against(reads[i]);
}

void Shadow::write(Place first, Range range, const Record& record) {
  Place place = split_at_ends(first, range);
  if (!at_end(place) && entry(place).begin < range.end) {
    set_begin(place, range.begin);
    erase_until(next(place), range.end);
    entry(place).end = range.end;
  } else {
    const std::uint32_t cell = take_cell();
    place = insert(place, {range.begin, range.end, cell, 0});
  }
  Entry& whole = entry(place);
  cells_[whole.cell].set_write(record);
  whole.mark = cells_[whole.cell].mark();
  merge(place, range.end);
}

void Shadow::read(Place first, Range range, const Record& record, const VectorClock& clock) {
  first = split_at_ends(first, range);
  const std::size_t count_before = interval_count_;
  Place place = first;
  for (std::uint64_t at = range.begin; at < range.end;) {
    if (at_end(place) || entry(place).begin > at) {  // never touched: a read-only interval
      const std::uint64_t end = at_end(place) ? range.end : std::min(range.end, entry(place).begin);
      const std::uint32_t cell = take_cell();
      place = insert(place, {at, end, cell, 0});
    }
    Entry& piece = entry(place);
    cells_[piece.cell].add_read(record, clock);
    piece.mark = cells_[piece.cell].mark();
    at = piece.end;
    place = next(place);
  }
  merge(interval_count_ == count_before ? first : find(range.begin), range.end);
}

void Shadow::forget(Range range) {
  if (range.empty()) return;
  erase_until(split_at_ends(find(range.begin), range), range.end);
}

void Shadow::reset() {
  first_.clear();
  order_.clear();
  free_chunks_.clear();
  free_cells_.clear();
  chunks_used_ = 0;
  cells_used_ = 0;
  interval_count_ = 0;
}

std::size_t Shadow::read_count(std::uint64_t address) const {
  const Place place = find(address);
  if (at_end(place) || entry(place).begin > address) return 0;
  return cells_[entry(place).cell].read_count;
}

// --- histories ---

bool Shadow::Cell::same(const Cell& other) const {
  if (!write.same(other.write) || read_count != other.read_count) return false;
  const Record* mine = reads();
  const Record* theirs = other.reads();
  for (std::uint32_t i = 0; i < read_count; ++i)
    if (!mine[i].same(theirs[i])) return false;
  return true;
}

std::uint32_t Shadow::Cell::mark() const {
  constexpr std::uint64_t kSpread = 0x9e3779b97f4a7c15ull;  // 2^64 / golden ratio
  std::uint64_t sum = (write.tick ^ write.op) * kSpread + write.agent;
  const Record* read = reads();
  for (std::uint32_t i = 0; i < read_count; ++i)
    sum = (sum ^ (sum >> 32) ^ read[i].tick ^ read[i].op) * kSpread + read[i].agent;
  return static_cast<std::uint32_t>(sum >> 32);
}

void Shadow::Cell::set_write(const Record& record) {
  write = record;
  read_count = 0;
}

void Shadow::Cell::copy_from(const Cell& other) {
  write = other.write;
  read_count = other.read_count;
  if (read_count <= kInlineReads) {
    few_reads = other.few_reads;
  } else {
    many_reads.assign(other.many_reads.begin(), other.many_reads.begin() + read_count);
  }
}

void Shadow::Cell::add_read(const Record& record, const VectorClock& clock) {
  if (read_count <= kInlineReads) {
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < read_count; ++i)
      if (!clock.covers(few_reads[i].epoch())) few_reads[kept++] = few_reads[i];
    read_count = kept;
    if (read_count < kInlineReads) {
      std::uint32_t slot = read_count++;
      for (; slot > 0 && few_reads[slot - 1].agent > record.agent; --slot)
        few_reads[slot] = few_reads[slot - 1];
      few_reads[slot] = record;
      return;
    }
    many_reads.assign(few_reads.begin(), few_reads.end());
  } else {
    std::erase_if(many_reads, [&](const Record& old) { return clock.covers(old.epoch()); });
  }
  const auto slot = std::find_if(many_reads.begin(), many_reads.end(), [&](const Record& old) {
    return old.agent > record.agent;
  });
  many_reads.insert(slot, record);
  read_count = static_cast<std::uint32_t>(many_reads.size());
  if (read_count <= kInlineReads) std::copy_n(many_reads.begin(), read_count, few_reads.begin());
}

// --- the interval map ---

Shadow::Place Shadow::next(Place place) const {
  if (++place.slot < chunk_at(place.chunk).count) return place;
  return {place.chunk + 1, 0};
}

Shadow::Place Shadow::previous(Place place) const {
  if (place.slot > 0) return {place.chunk, place.slot - 1};
  return {place.chunk - 1, chunk_at(place.chunk - 1).count - 1};
}

Shadow::Place Shadow::find(std::uint64_t address) const {
  if (first_.empty() || first_[0] > address) return {};
  // Both searches look for the last one that begins at or below `address`, without branches that
  // the processor would have to guess.
  const std::uint64_t* first = first_.data();
  for (std::size_t length = first_.size(); length > 1;) {
    const std::size_t half = length / 2;
    first += first[half] <= address ? half : 0;
    length -= half;
  }
  const auto number = static_cast<std::size_t>(first - first_.data());
  const Chunk& chunk = chunk_at(number);
  const Entry* base = chunk.entries.data();
  for (std::uint32_t length = chunk.count; length > 1;) {
    const std::uint32_t half = length / 2;
    base += base[half].begin <= address ? half : 0;
    length -= half;
  }
  const Place place{number, static_cast<std::uint32_t>(base - chunk.entries.data())};
  return base->end > address ? place : next(place);
}

void Shadow::set_begin(Place place, std::uint64_t begin) {
  entry(place).begin = begin;
  if (place.slot == 0) first_[place.chunk] = begin;
}

Shadow::Place Shadow::insert(Place place, const Entry& what) {
  ++interval_count_;
  if (order_.empty()) {
    order_.push_back(take_chunk());
    first_.push_back(what.begin);
  } else if (place.slot == 0 && place.chunk > 0) {  // append to the chunk before instead
    place = {place.chunk - 1, chunk_at(place.chunk - 1).count};
  }
  if (chunk_at(place.chunk).count == kChunkEntries) {
    const std::uint32_t fresh = take_chunk();
    Chunk& full = chunk_at(place.chunk);
    Chunk& upper = chunks_[fresh];
    constexpr std::uint32_t kHalf = kChunkEntries / 2;
    std::copy(full.entries.begin() + kHalf, full.entries.end(), upper.entries.begin());
    full.count = kHalf;
    upper.count = kChunkEntries - kHalf;
    const auto number = static_cast<std::ptrdiff_t>(place.chunk);
    order_.insert(order_.begin() + number + 1, fresh);
    first_.insert(first_.begin() + number + 1, upper.entries[0].begin);
    if (place.slot > kHalf) place = {place.chunk + 1, place.slot - kHalf};
  }
  Chunk& chunk = chunk_at(place.chunk);
  Entry* slot = chunk.entries.data() + place.slot;
  std::copy_backward(
      slot, chunk.entries.data() + chunk.count, chunk.entries.data() + chunk.count + 1);
  *slot = what;
  ++chunk.count;
  if (place.slot == 0) first_[place.chunk] = what.begin;
  return place;
}

void Shadow::erase(Place place) {
  --interval_count_;
  Chunk& chunk = chunk_at(place.chunk);
  Entry* slot = chunk.entries.data() + place.slot;
  free_cells_.push_back(slot->cell);
  std::copy(slot + 1, chunk.entries.data() + chunk.count, slot);
  if (--chunk.count == 0) {
    free_chunks_.push_back(order_[place.chunk]);
    const auto number = static_cast<std::ptrdiff_t>(place.chunk);
    order_.erase(order_.begin() + number);
    first_.erase(first_.begin() + number);
  } else if (place.slot == 0) {
    first_[place.chunk] = chunk.entries[0].begin;
  }
}

void Shadow::erase_until(Place place, std::uint64_t end) {
  // Whole chunks go at once: unmapping a large range must not shift the list for each of them.
  std::size_t number = place.chunk;
  std::size_t first_empty = order_.size();
  std::size_t empty_count = 0;
  for (std::uint32_t from = place.slot; number < order_.size(); ++number, from = 0) {
    Chunk& chunk = chunk_at(number);
    Entry* const entries = chunk.entries.data();
    std::uint32_t to = from;
    for (; to < chunk.count && entries[to].begin < end; ++to)
      free_cells_.push_back(entries[to].cell);
    const bool reached_end = to < chunk.count;
    if (to > from) std::copy(entries + to, entries + chunk.count, entries + from);
    chunk.count -= to - from;
    interval_count_ -= to - from;
    if (chunk.count == 0) {
      first_empty = std::min(first_empty, number);
      ++empty_count;
      free_chunks_.push_back(order_[number]);
    } else if (from == 0) {
      first_[number] = entries[0].begin;
    }
    if (reached_end) break;
  }
  const auto gone = static_cast<std::ptrdiff_t>(first_empty);
  const auto gone_end = static_cast<std::ptrdiff_t>(first_empty + empty_count);
  order_.erase(order_.begin() + gone, order_.begin() + gone_end);
  first_.erase(first_.begin() + gone, first_.begin() + gone_end);
}

Shadow::Place Shadow::split(Place place, std::uint64_t address) {
  if (at_end(place) || entry(place).begin >= address || entry(place).end <= address) return place;
  const std::uint32_t cell = take_cell();
  Entry& lower = entry(place);
  cells_[cell].copy_from(cells_[lower.cell]);
  const Entry upper{address, lower.end, cell, lower.mark};
  lower.end = address;
  return insert(next(place), upper);
}

Shadow::Place Shadow::split_at_ends(Place first, Range range) {
  const std::size_t count_before = interval_count_;
  Place last = first;  // the first one that reaches the end of the range
  while (!at_end(last) && entry(last).end < range.end) last = next(last);
  split(last, range.end);
  if (interval_count_ != count_before) first = find(range.begin);  // the cut may have moved it
  return split(first, range.begin);
}

void Shadow::merge(Place place, std::uint64_t end) {
  if (place.chunk > 0 || place.slot > 0) place = previous(place);
  while (true) {
    const Place after = next(place);
    if (at_end(after) || entry(after).begin > end) return;
    Entry& lower = entry(place);
    const Entry& upper = entry(after);
    if (lower.end == upper.begin && same(lower, upper)) {
      lower.end = upper.end;
      erase(after);  // behind `place`, so that one stays where it is
    } else {
      place = after;
    }
  }
}

std::uint32_t Shadow::take_cell() {
  std::uint32_t cell = 0;
  if (!free_cells_.empty()) {
    cell = free_cells_.back();
    free_cells_.pop_back();
  } else {
    if (cells_used_ == cells_.size()) cells_.emplace_back();
    cell = static_cast<std::uint32_t>(cells_used_++);
  }
  cells_[cell].set_write({});
  return cell;
}

std::uint32_t Shadow::take_chunk() {
  std::uint32_t chunk = 0;
  if (!free_chunks_.empty()) {
    chunk = free_chunks_.back();
    free_chunks_.pop_back();
  } else {
    if (chunks_used_ == chunks_.size()) chunks_.emplace_back();
    chunk = static_cast<std::uint32_t>(chunks_used_++);
  }
  chunks_[chunk].count = 0;
  return chunk;
}

bool Shadow::check_invariants() const {
  std::size_t intervals = 0;
  std::vector<bool> cell_seen(cells_used_, false);
  const Entry* before = nullptr;
  if (first_.size() != order_.size()) return false;
  for (std::size_t number = 0; number < order_.size(); ++number) {
    const Chunk& chunk = chunk_at(number);
    if (chunk.count == 0 || chunk.count > kChunkEntries) return false;
    if (first_[number] != chunk.entries[0].begin) return false;
    for (std::uint32_t slot = 0; slot < chunk.count; ++slot, ++intervals) {
      const Entry& now = chunk.entries[slot];
      if (now.begin >= now.end || now.cell >= cells_used_ || cell_seen[now.cell]) return false;
      cell_seen[now.cell] = true;
      const Cell& cell = cells_[now.cell];
      if (now.mark != cell.mark()) return false;
      for (std::uint32_t i = 1; i < cell.read_count; ++i)
        if (cell.reads()[i - 1].agent >= cell.reads()[i].agent) return false;
      if (before != nullptr) {
        if (before->end > now.begin) return false;
        if (before->end == now.begin && cells_[before->cell].same(cell)) return false;
      }
      before = &now;
    }
  }
  return intervals == interval_count_ && intervals + free_cells_.size() == cells_used_ &&
         order_.size() + free_chunks_.size() == chunks_used_;
}

}  // namespace spillway::sim
