// SPDX-License-Identifier: Apache-2.0
// Depth-first search for a packing of a piece below a given height. Complete when it may run to its
// end; in practice restarted with other orders. Method: docs/packing.md.
#pragma once

#include "allocator/packing_greedy.hpp"
#include "allocator/packing_piece.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace spillway {

/// Which section is decided next, among those at the bottom of a dip of the skyline.
enum class SectionRule : std::uint8_t {
  kFewest,    // fewest buffers could lie there, then least slack
  kWeighted,  // as kFewest, but sections that ended searches before count for more
  kTightest,  // least slack, then fewest
  kNear,      // fewest, then nearest to the one before
};

inline constexpr int kSectionRuleCount = 4;

/// Which buffer is tried first: the one with the most of this.
enum class BufferRule : std::uint8_t {
  kArea,
  kLength,
  kSize,
  kContention,
  kSnug,        // sides of the dip it touches, or closes; then area
  kSnugLength,  // the same; then length
};
inline constexpr int kBufferRuleCount = 6;

struct SearchTask {
  std::int64_t target = 0;  // units: the packing may be this high
  SectionRule section_rule = SectionRule::kFewest;
  BufferRule buffer_rule = BufferRule::kArea;
  double noise = 0;        // keys are multiplied by up to 2^noise
  std::uint64_t seed = 0;  // of the noise
  std::uint64_t step_limit = 0;
};

enum class SearchEnd : std::uint8_t { kFound, kRefuted, kLimit };

struct SearchOutcome {
  SearchEnd end = SearchEnd::kLimit;
  PieceLayout layout;  // when kFound
  std::uint64_t steps = 0;
};

/// Not worth its memory above this many buffers.
inline constexpr std::size_t kSearchCountMax = 2000;

/// What all searches of a piece share, since it does not change.
struct SearchGraph {
  std::vector<std::vector<std::int32_t>> neighbours;  // by buffer: those alive together with it
  std::vector<std::int64_t> contention;               // contention_of()

  static std::shared_ptr<const SearchGraph> make(const PackPiece& piece);
};

/// One thread at a time; weights of sections are kept from run to run.
class PieceSearch {
 public:
  PieceSearch() = default;
  PieceSearch(const PieceSearch&) = delete;
  PieceSearch& operator=(const PieceSearch&) = delete;
  PieceSearch(PieceSearch&&) = delete;
  PieceSearch& operator=(PieceSearch&&) = delete;
  virtual ~PieceSearch() = default;
  /// `stop` is asked now and then and may be empty.
  virtual SearchOutcome run(const SearchTask& task, const std::function<bool()>& stop) = 0;

  /// For tasks with a target of at most `target_max`. REQUIRES: piece outlives it, piece.count() <=
  /// kSearchCountMax, !piece.pinned.
  static std::unique_ptr<PieceSearch> make(const PackPiece& piece,
                                           std::shared_ptr<const SearchGraph> graph,
                                           std::int64_t target_max);
};

}  // namespace spillway
