// SPDX-License-Identifier: Apache-2.0
// A packing problem in the form that the packers work on: buffers that are alive over all of their
// neighbours' time go to the bottom, the rest falls apart into pieces that share no time, and a
// piece's time is cut into sections, one per set of buffers alive together that is in no other.
#pragma once

#include "allocator/packing.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway {

/// Buffers of a piece are numbered from 0. Sizes and offsets are in units of `unit_bytes`. Two
/// buffers are alive together exactly when their section ranges meet.
struct PackPiece {
  std::vector<std::uint32_t> members;  // positions in the problem
  std::uint64_t base_bytes = 0;        // the piece stands on this
  std::uint64_t unit_bytes = 1;
  std::int32_t section_count = 0;
  std::int64_t load = 0;            // max over sections of the sum of sizes
  std::vector<std::int32_t> first;  // alive in sections first..last
  std::vector<std::int32_t> last;
  std::vector<std::int64_t> size;   // > 0
  std::vector<std::int64_t> align;  // >= 1
  std::vector<std::int64_t> fixed;  // -1: free
  std::vector<std::int64_t> hint;   // -1: none
  std::vector<std::int64_t> sections_load;
  bool aligned = false;  // some align is above 1
  bool pinned = false;   // some offset is fixed

  [[nodiscard]] std::size_t count() const { return size.size(); }
};

struct PackPieces {
  std::vector<PackPiece> pieces;
  std::vector<std::uint64_t> offsets;  // of the problem's buffers that are in no piece
  std::uint64_t settled_height_bytes = 0;
  std::uint64_t load_bound_bytes = 0;
};

/// kInvalidArgument as pack().
Result<PackPieces> split_into_pieces(const PackingProblem& problem);

}  // namespace spillway
