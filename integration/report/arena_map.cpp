// SPDX-License-Identifier: Apache-2.0
// Every rectangle (a block, or held addresses over some calls) adds its area to the cells it
// covers; a cell shows what covers most of it.
#include "integration/report/arena_map.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace spillway {
namespace {

constexpr std::size_t kKinds = 8;
constexpr std::size_t kHeldLayer = kKinds;  // of the layers below
constexpr std::size_t kLayers = kKinds + 1;

class Painter {
 public:
  Painter(double calls, double bytes, std::uint32_t columns, std::uint32_t rows)
      : columns_(columns),
        rows_(rows),
        per_column_(calls / columns),
        per_row_(bytes / rows),
        layers_(std::size_t{columns} * rows) {}

  /// Adds [begin, end) calls x [low, high) places to a layer, in parts of a cell.
  void add(std::size_t layer, double begin, double end, double low, double high) {
    const double x0 = begin / per_column_;
    const double x1 = std::min<double>(end / per_column_, columns_);
    const double y0 = low / per_row_;
    const double y1 = std::min<double>(high / per_row_, rows_);
    for (auto y = static_cast<std::size_t>(y0); static_cast<double>(y) < y1; ++y) {
      const double tall = part(y, y0, y1);
      for (auto x = static_cast<std::size_t>(x0); static_cast<double>(x) < x1; ++x)
        layers_[y * columns_ + x][layer] += static_cast<float>(tall * part(x, x0, x1));
    }
  }

  [[nodiscard]] std::uint8_t cell(std::size_t index) const {
    const auto& layers = layers_[index];
    float used = 0;
    std::size_t best = 0;
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      used += layers[kind];
      if (layers[kind] > layers[best]) best = kind;
    }
    const float hole = layers[kHeldLayer] - used;
    const float not_held = 1 - layers[kHeldLayer];
    if (layers[best] >= hole && layers[best] >= not_held && layers[best] > 0)
      return static_cast<std::uint8_t>(ArenaMap::kFirstKind + best);
    return hole >= not_held ? ArenaMap::kHole : ArenaMap::kNotHeld;
  }

 private:
  static double part(std::size_t cell, double begin, double end) {
    const auto from = static_cast<double>(cell);
    return std::min(end, from + 1) - std::max(begin, from);
  }

  std::uint32_t columns_, rows_;
  double per_column_, per_row_;
  std::vector<std::array<float, kLayers>> layers_;
};

/// Paints what is held between changes.
void paint_held(const AllocatorRun& run,
                const HeldAddresses& held,
                double calls,
                Painter& painter) {
  struct Since {
    std::uint64_t end = 0;
    std::uint32_t event = 0;
  };
  std::map<std::uint64_t, Since> now;  // address -> what is held from there
  const auto paint = [&](std::uint64_t begin, std::uint64_t end, double from, double to) {
    painter.add(kHeldLayer,
                from,
                to,
                static_cast<double>(held.place_of(begin)),
                static_cast<double>(held.place_of(end)));
  };
  for (const ReservedRange& range : run.first_ranges)
    now[range.address] = {range.address + range.bytes, 0};
  for (const RangeChange& change : run.changes) {
    const std::uint64_t begin = change.range.address;
    const std::uint64_t end = begin + change.range.bytes;
    if (change.added) {
      now[begin] = {end, change.event};
      continue;
    }
    auto place = now.upper_bound(begin);
    if (place != now.begin()) --place;
    while (place != now.end() && place->first < end) {
      const auto [from, since] = *place;
      if (since.end <= begin) {
        ++place;
        continue;
      }
      place = now.erase(place);
      paint(std::max(from, begin), std::min(since.end, end), since.event, change.event);
      if (from < begin) now[from] = {begin, since.event};
      if (since.end > end) now[end] = {since.end, since.event};
    }
  }
  for (const auto& [begin, since] : now) paint(begin, since.end, since.event, calls);
}

}  // namespace

HeldAddresses::HeldAddresses(const AllocatorRun& run) {
  std::vector<ReservedRange> all = run.first_ranges;
  for (const RangeChange& change : run.changes) all.push_back(change.range);
  std::sort(
      all.begin(), all.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  for (const ReservedRange& range : all) {
    const std::uint64_t end = range.address + range.bytes;
    if (!pieces_.empty() && range.address <= pieces_.back().address + pieces_.back().bytes) {
      pieces_.back().bytes = std::max(pieces_.back().bytes, end - pieces_.back().address);
    } else {
      pieces_.push_back({range.address, range.bytes, 0});
    }
  }
  for (Piece& piece : pieces_) {
    piece.place = bytes_;
    bytes_ += piece.bytes;
  }
}

std::uint64_t HeldAddresses::place_of(std::uint64_t address) const {
  const auto next = std::upper_bound(
      pieces_.begin(), pieces_.end(), address, [](std::uint64_t at, const Piece& p) {
        return at < p.address;
      });
  if (next == pieces_.begin()) return 0;
  const Piece& piece = *(next - 1);
  return piece.place + std::min(address - piece.address, piece.bytes);
}

ArenaMap draw_arena(const AllocationTrace& trace,
                    const AllocatorRun& run,
                    const HeldAddresses& held,
                    std::uint32_t columns_max,
                    std::uint32_t rows_max) {
  ArenaMap map;
  const std::uint64_t calls = trace.events.size();
  if (held.bytes() == 0 || calls == 0) return map;
  map.columns = static_cast<std::uint32_t>(std::min<std::uint64_t>(columns_max, calls));
  map.rows = rows_max;
  Painter painter(
      static_cast<double>(calls), static_cast<double>(held.bytes()), map.columns, map.rows);
  paint_held(run, held, static_cast<double>(calls), painter);
  for (std::size_t i = 0; i < run.placements.size(); ++i) {
    const Placement& placement = run.placements[i];
    if (!placement.placed) continue;
    const auto low = static_cast<double>(held.place_of(placement.address));
    painter.add(static_cast<std::size_t>(trace.blocks[i].shown_kind) % kKinds,
                placement.born,
                placement.died,
                low,
                low + static_cast<double>(trace.blocks[i].bytes));
  }
  map.cells.resize(std::size_t{map.columns} * map.rows);
  for (std::size_t i = 0; i < map.cells.size(); ++i) map.cells[i] = painter.cell(i);
  return map;
}

}  // namespace spillway
