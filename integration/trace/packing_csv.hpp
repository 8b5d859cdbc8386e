// SPDX-License-Identifier: Apache-2.0
// Packing problems as tables, in the form that minimalloc and idealloc use: a header with the names
// id, lower, upper, size and, where wanted, alignment, hint, gaps, offset, in any order; then one
// buffer per line. See docs/packing.md.
#pragma once

#include "allocator/packing.hpp"
#include "integration/trace/byte_sink.hpp"
#include "integration/trace/byte_source.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

struct PackingFile {
  PackingProblem problem;  // without fixed offsets; hints from column hint, else from offset
  std::vector<std::string> ids;
  std::vector<std::optional<std::uint64_t>> offsets;  // column offset; empty: there is none
  std::vector<std::string> notes;                     // what was read and not used
};

/// kBadInput "name: line N: expected X, found Y": a missing or repeated column, a cell that is no
/// number from 0 to 2^64 - 1, a lower above its upper, an alignment of 0, an id that was there
/// before, a line with more or fewer cells than the header. Ids are text of at most 256 bytes.
Result<PackingFile> read_packing_csv(BufferedInput& input);

/// id,lower,upper,size,offset, with alignment before offset when one is above 1.
Status write_packing_csv(const PackingFile& file,
                         const std::vector<std::uint64_t>& offsets,
                         ByteSink& sink);

}  // namespace spillway
