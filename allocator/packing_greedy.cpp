// SPDX-License-Identifier: Apache-2.0
// The tree is kept level by level, leaves first; node i of a level covers nodes kFanOut * i and up
// of the level below.
#include "allocator/packing_greedy.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace spillway {
namespace {

constexpr std::int64_t kNoEnd = std::numeric_limits<std::int64_t>::max();

std::int64_t round_up(std::int64_t offset, std::int64_t align) {
  if (align == 1) return offset;
  const std::int64_t rest = offset % align;
  return rest == 0 ? offset : offset + (align - rest);
}

}  // namespace

AddressIndex::AddressIndex(std::int32_t section_count) {
  std::size_t node_count = 0;
  auto width = static_cast<std::size_t>(std::max(section_count, 1));
  for (;; width = (width + kFanOut - 1) / kFanOut) {
    level_begin_.push_back(node_count);
    node_count += width;
    if (width == 1) break;
  }
  nodes_.resize(node_count);
}

void AddressIndex::clear() {
  for (Node& node : nodes_) {
    node.within.clear();
    node.across.clear();
  }
}

void AddressIndex::insert(Ranges* ranges, Range range) {
  // The first that ends at or after the new one's begin: all that touch it follow.
  auto from = std::lower_bound(
      ranges->begin(), ranges->end(), range.begin, [](const Range& a, std::int64_t begin) {
        return a.end < begin;
      });
  auto to = from;
  for (; to != ranges->end() && to->begin <= range.end; ++to) {
    range.begin = std::min(range.begin, to->begin);
    range.end = std::max(range.end, to->end);
  }
  if (from == to) {
    ranges->insert(from, range);
    return;
  }
  *from = range;
  ranges->erase(from + 1, to);
}

void AddressIndex::add(std::int32_t first,
                       std::int32_t last,
                       std::int64_t begin,
                       std::int64_t end) {
  for_each_whole(first, last, [&](std::size_t node) {
    insert(&nodes_[node].across, {begin, end});
    insert(&nodes_[node].within, {begin, end});
  });
  for_each_partial(first, last, [&](std::size_t node) {
    insert(&nodes_[node].within, {begin, end});
  });
}

void AddressIndex::collect(std::int32_t first, std::int32_t last) {
  cursors_.clear();
  const auto take = [this](const Ranges& ranges) {
    if (!ranges.empty()) cursors_.push_back({ranges.data(), ranges.data() + ranges.size()});
  };
  for_each_whole(first, last, [&](std::size_t node) { take(nodes_[node].within); });
  for_each_partial(first, last, [&](std::size_t node) { take(nodes_[node].across); });
}

/// The fewest nodes that make up sections first..last.
template <typename Visit>
void AddressIndex::for_each_whole(std::int32_t first, std::int32_t last, Visit visit) {
  auto left = static_cast<std::size_t>(first);
  std::size_t right = static_cast<std::size_t>(last) + 1;
  for (std::size_t level = 0; left < right; ++level) {
    const std::size_t base = level_begin_[level];
    while (left % kFanOut != 0 && left < right) visit(base + left++);
    while (right % kFanOut != 0 && left < right) visit(base + --right);
    left /= kFanOut;
    right /= kFanOut;
  }
}

/// The nodes above those: each has a section inside first..last and one outside. All lie above the
/// first or the last section's leaf.
template <typename Visit>
void AddressIndex::for_each_partial(std::int32_t first, std::int32_t last, Visit visit) {
  const auto from = static_cast<std::size_t>(first);
  const auto to = static_cast<std::size_t>(last);
  std::size_t width = kFanOut;  // sections per node
  for (std::size_t level = 1; level < level_begin_.size(); ++level, width *= kFanOut) {
    const std::size_t low = from / width;
    const std::size_t high = to / width;
    const bool low_is_cut = low * width < from;
    const bool high_is_cut = (high + 1) * width - 1 > to;
    if (low == high) {
      if (low_is_cut || high_is_cut) visit(level_begin_[level] + low);
      continue;
    }
    if (low_is_cut) visit(level_begin_[level] + low);
    if (high_is_cut) visit(level_begin_[level] + high);
  }
}

/// Moves *offset up to where `size` is free in all cursors. False: it already was.
bool AddressIndex::skip_used(std::int64_t size,
                             std::int64_t align,
                             std::int64_t* offset,
                             std::uint64_t* steps) {
  bool moved = false;
  for (bool changed = true; changed;) {
    changed = false;
    *steps += 1 + cursors_.size();
    for (Cursor& cursor : cursors_) {
      while (cursor.at != cursor.end && cursor.at->end <= *offset) ++cursor.at;
      while (cursor.at != cursor.end && cursor.at->begin < *offset + size) {
        *offset = round_up(cursor.at->end, align);
        changed = moved = true;
        ++*steps;
        while (cursor.at != cursor.end && cursor.at->end <= *offset) ++cursor.at;
      }
    }
  }
  return moved;
}

std::int64_t AddressIndex::top(std::int32_t first, std::int32_t last, std::uint64_t* steps) {
  collect(first, last);
  std::int64_t top = 0;
  for (const Cursor& cursor : cursors_) top = std::max(top, (cursor.end - 1)->end);
  *steps += cursors_.size();
  return top;
}

std::int64_t AddressIndex::lowest(std::int32_t first,
                                  std::int32_t last,
                                  std::int64_t size,
                                  std::int64_t align,
                                  std::uint64_t* steps) {
  collect(first, last);
  std::int64_t offset = 0;
  skip_used(size, align, &offset, steps);
  return offset;
}

std::int64_t AddressIndex::tightest(std::int32_t first,
                                    std::int32_t last,
                                    std::int64_t size,
                                    std::int64_t align,
                                    std::uint64_t* steps) {
  collect(first, last);
  std::int64_t best = -1;
  std::int64_t best_room = kNoEnd;
  for (std::int64_t offset = 0;;) {
    skip_used(size, align, &offset, steps);
    std::int64_t ceiling = kNoEnd;
    for (const Cursor& cursor : cursors_)
      if (cursor.at != cursor.end) ceiling = std::min(ceiling, cursor.at->begin);
    if (ceiling == kNoEnd) return best < 0 ? offset : best;
    if (ceiling - offset < best_room) {
      best = offset;
      best_room = ceiling - offset;
      if (best_room == size) return best;
    }
    offset = round_up(ceiling, align);
    // The range above the hole is in the way there, so the next round moves past it.
    if (offset == ceiling) continue;
  }
}

PieceLayout place_in_order(const PackPiece& piece,
                           const std::vector<std::uint32_t>& order,
                           PlaceRule rule,
                           std::int64_t height_max,
                           AddressIndex* index,
                           std::uint64_t* steps) {
  PieceLayout layout;
  layout.offsets.assign(piece.count(), 0);
  index->clear();
  *steps += 2 * static_cast<std::uint64_t>(piece.section_count);
  const auto put = [&](std::size_t i, std::int64_t offset) {
    layout.offsets[i] = offset;
    layout.height = std::max(layout.height, offset + piece.size[i]);
    index->add(piece.first[i], piece.last[i], offset, offset + piece.size[i]);
  };
  if (piece.pinned) {
    for (std::size_t i = 0; i < piece.count(); ++i)
      if (piece.fixed[i] >= 0) put(i, piece.fixed[i]);
  }
  for (const std::uint32_t i : order) {
    if (piece.fixed[i] >= 0) continue;
    if (layout.height > height_max) break;
    *steps += 60;  // collecting and adding
    put(i,
        rule == PlaceRule::kLowest
            ? index->lowest(piece.first[i], piece.last[i], piece.size[i], piece.align[i], steps)
            : index->tightest(piece.first[i], piece.last[i], piece.size[i], piece.align[i], steps));
  }
  return layout;
}

std::string_view order_name(PackOrder order) {
  switch (order) {
    case PackOrder::kHint:
      return "given";
    case PackOrder::kContentionSize:
      return "contention and size";
    case PackOrder::kContentionSizeLate:
      return "contention and size, late first";
    case PackOrder::kSize:
      return "size";
    case PackOrder::kSizeClass:
      return "size class";
    case PackOrder::kSizeClassLate:
      return "size class, late first";
    case PackOrder::kArea:
      return "area";
    case PackOrder::kContentionLength:
      return "contention and length";
    case PackOrder::kLength:
      return "length";
    case PackOrder::kBegin:
      return "begin";
    case PackOrder::kNeighbours:
      return "neighbours";
    case PackOrder::kCount:
      break;
  }
  return "unknown";
}

std::vector<std::int64_t> contention_of(const PackPiece& piece) {
  // Sparse table of range maxima over the sections.
  const auto count = static_cast<std::size_t>(piece.section_count);
  std::vector<std::vector<std::int64_t>> table{piece.sections_load};
  for (std::size_t width = 2; width <= count; width *= 2) {
    const std::vector<std::int64_t>& half = table.back();
    std::vector<std::int64_t> row(count - width + 1);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = std::max(half[i], half[i + width / 2]);
    table.push_back(std::move(row));
  }
  std::vector<std::int64_t> result(piece.count());
  for (std::size_t i = 0; i < piece.count(); ++i) {
    const auto first = static_cast<std::size_t>(piece.first[i]);
    const std::size_t length = static_cast<std::size_t>(piece.last[i]) - first + 1;
    std::size_t level = 0;
    while (level + 1 < table.size() && std::size_t{2} << level <= length) ++level;
    result[i] =
        std::max(table[level][first], table[level][first + length - (std::size_t{1} << level)]);
  }
  return result;
}

std::vector<std::uint32_t> sort_buffers(const PackPiece& piece, PackOrder order) {
  const std::size_t count = piece.count();
  std::vector<std::uint32_t> sorted(count);
  std::iota(sorted.begin(), sorted.end(), 0u);
  if (order == PackOrder::kHint) {
    // Hints as unsigned: those without one come last.
    std::stable_sort(sorted.begin(), sorted.end(), [&piece](std::uint32_t a, std::uint32_t b) {
      return static_cast<std::uint64_t>(piece.hint[a]) < static_cast<std::uint64_t>(piece.hint[b]);
    });
    return sorted;
  }
  struct Key {
    double first, second, third;
  };
  std::vector<Key> keys(count);
  std::vector<std::int64_t> contention;
  if (order == PackOrder::kContentionSize || order == PackOrder::kContentionSizeLate ||
      order == PackOrder::kContentionLength || order == PackOrder::kSizeClass ||
      order == PackOrder::kSizeClassLate)
    contention = contention_of(piece);
  std::vector<std::int64_t> begun_before;  // section: buffers with first <= section
  std::vector<std::int64_t> ended_before;  // section: buffers with last < section
  if (order == PackOrder::kNeighbours) {
    const auto sections = static_cast<std::size_t>(piece.section_count);
    begun_before.assign(sections, 0);
    ended_before.assign(sections + 1, 0);
    for (std::size_t i = 0; i < count; ++i) {
      ++begun_before[static_cast<std::size_t>(piece.first[i])];
      ++ended_before[static_cast<std::size_t>(piece.last[i]) + 1];
    }
    std::partial_sum(begun_before.begin(), begun_before.end(), begun_before.begin());
    std::partial_sum(ended_before.begin(), ended_before.end(), ended_before.begin());
  }
  const bool late = order == PackOrder::kContentionSizeLate || order == PackOrder::kSizeClassLate;
  for (std::size_t i = 0; i < count; ++i) {
    const auto size = static_cast<double>(piece.size[i]);
    const auto first = static_cast<double>(piece.first[i]);
    const auto length = static_cast<double>(piece.last[i] - piece.first[i] + 1);
    switch (order) {
      case PackOrder::kContentionSize:
      case PackOrder::kContentionSizeLate:
        keys[i] = {static_cast<double>(contention[i]), size, late ? first : -first};
        break;
      case PackOrder::kSizeClass:
      case PackOrder::kSizeClassLate:
        keys[i] = {static_cast<double>(std::bit_width(static_cast<std::uint64_t>(piece.size[i]))),
                   static_cast<double>(contention[i]),
                   late ? first : -first};
        break;
      case PackOrder::kContentionLength:
        keys[i] = {static_cast<double>(contention[i]), length, size};
        break;
      case PackOrder::kArea:
        keys[i] = {size * length, length, size};
        break;
      case PackOrder::kLength:
        keys[i] = {length, size, 0};
        break;
      case PackOrder::kBegin:
        keys[i] = {-static_cast<double>(piece.first[i]), length, size};
        break;
      case PackOrder::kNeighbours:
        keys[i] = {static_cast<double>(begun_before[static_cast<std::size_t>(piece.last[i])] -
                                       ended_before[static_cast<std::size_t>(piece.first[i])]),
                   size,
                   length};
        break;
      case PackOrder::kSize:
      case PackOrder::kHint:
      case PackOrder::kCount:
        keys[i] = {size, length, 0};
        break;
    }
  }
  std::sort(sorted.begin(), sorted.end(), [&keys](std::uint32_t a, std::uint32_t b) {
    if (keys[a].first != keys[b].first) return keys[a].first > keys[b].first;
    if (keys[a].second != keys[b].second) return keys[a].second > keys[b].second;
    if (keys[a].third != keys[b].third) return keys[a].third > keys[b].third;
    return a < b;
  });
  return sorted;
}

}  // namespace spillway
