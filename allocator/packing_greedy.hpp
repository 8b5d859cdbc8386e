// SPDX-License-Identifier: Apache-2.0
// Places the buffers of a piece one by one, in a given order, each into the lowest or the tightest
// hole that is free over its whole lifetime.
#pragma once

#include "allocator/packing_piece.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace spillway {

/// Address ranges in use, by section: a segment tree over the sections. A node holds the union of
/// the ranges of all buffers that are alive in its sections, and the union of those that are alive
/// in all of them and were put there. A look-up merges the O(log sections) unions that its sections
/// need, so its cost follows the number of holes, not of buffers.
class AddressIndex {
 public:
  explicit AddressIndex(std::int32_t section_count);

  void clear();
  void add(std::int32_t first, std::int32_t last, std::int64_t begin, std::int64_t end);
  /// End of the highest range in sections first..last; 0 when there is none.
  std::int64_t top(std::int32_t first, std::int32_t last, std::uint64_t* steps);
  /// Lowest multiple of `align` where `size` is free in all sections first..last. `steps` counts
  /// work.
  std::int64_t lowest(std::int32_t first,
                      std::int32_t last,
                      std::int64_t size,
                      std::int64_t align,
                      std::uint64_t* steps);
  /// As lowest, but in the hole with the least room left over; the lowest of those.
  std::int64_t tightest(std::int32_t first,
                        std::int32_t last,
                        std::int64_t size,
                        std::int64_t align,
                        std::uint64_t* steps);

 private:
  struct Range {
    std::int64_t begin;
    std::int64_t end;
  };
  /// Disjoint, not touching, ascending.
  using Ranges = std::vector<Range>;
  struct Node {
    Ranges within;  // of buffers alive in some section of the node
    Ranges across;  // of buffers stored here: alive in all of them
  };
  struct Cursor {
    const Range* at;
    const Range* end;
  };

  static void insert(Ranges* ranges, Range range);
  template <typename Visit>
  void for_each_whole(std::int32_t first, std::int32_t last, Visit visit);
  template <typename Visit>
  void for_each_partial(std::int32_t first, std::int32_t last, Visit visit);
  void collect(std::int32_t first, std::int32_t last);
  bool skip_used(std::int64_t size, std::int64_t align, std::int64_t* offset, std::uint64_t* steps);

  /// Wide, since most buffers live in few sections and pay for every level above them.
  static constexpr std::size_t kFanOut = 8;
  std::vector<std::size_t> level_begin_;  // of nodes_, leaves first
  std::vector<Node> nodes_;
  std::vector<Cursor> cursors_;
};

enum class PlaceRule : std::uint8_t { kLowest, kTightest };

struct PieceLayout {
  std::vector<std::int64_t> offsets;  // units
  std::int64_t height = 0;
};

/// Fixed buffers first, then the rest in `order` (every buffer of the piece once; fixed ones are
/// passed over). Ends with a layout that is not complete as soon as it is higher than `height_max`.
/// REQUIRES: fixed buffers do not overlap.
PieceLayout place_in_order(const PackPiece& piece,
                           const std::vector<std::uint32_t>& order,
                           PlaceRule rule,
                           std::int64_t height_max,
                           AddressIndex* index,
                           std::uint64_t* steps);

/// The orders that the portfolio tries, best bets first.
enum class PackOrder : std::uint8_t {
  kHint,                // ascending hints, so that a given packing is never made worse
  kContentionSize,      // load of the fullest section, then size, then the earlier
  kContentionSizeLate,  // the same, then the later
  kSize,
  kSizeClass,      // powers of two, then contention, then the earlier
  kSizeClassLate,  // the same, then the later
  kArea,           // sections times size
  kContentionLength,
  kLength,
  kBegin,
  kNeighbours,  // how many others are alive meanwhile
  kCount
};
std::string_view order_name(PackOrder order);
std::vector<std::uint32_t> sort_buffers(const PackPiece& piece, PackOrder order);

/// Largest load among the sections of each buffer.
std::vector<std::int64_t> contention_of(const PackPiece& piece);

}  // namespace spillway
