// SPDX-License-Identifier: Apache-2.0
// Addresses against calls as a small grid: what most of each cell is. The size of the picture does
// not depend on the size of the trace.
#pragma once

#include "integration/replay/allocation_trace.hpp"
#include "integration/replay/allocator_run.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// All addresses that an allocator ever held, laid end to end: what was never held takes no room.
class HeldAddresses {
 public:
  explicit HeldAddresses(const AllocatorRun& run);

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Where `address` lies in the row of all held ones; `bytes()` beyond the last.
  [[nodiscard]] std::uint64_t place_of(std::uint64_t address) const;

 private:
  struct Piece {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    std::uint64_t place = 0;
  };
  std::vector<Piece> pieces_;  // in address order, apart
  std::uint64_t bytes_ = 0;
};

/// A cell's value: 0 is not held, 1 held and free, 2 + n the BufferKind n.
struct ArenaMap {
  static constexpr std::uint8_t kNotHeld = 0;
  static constexpr std::uint8_t kHole = 1;
  static constexpr std::uint8_t kFirstKind = 2;

  std::uint32_t columns = 0;        // along the calls
  std::uint32_t rows = 0;           // along the addresses, row 0 the lowest
  std::vector<std::uint8_t> cells;  // row by row
};

/// REQUIRES: the run was made with `pictures`, from this trace. Empty when nothing was ever held.
ArenaMap draw_arena(const AllocationTrace& trace,
                    const AllocatorRun& run,
                    const HeldAddresses& held,
                    std::uint32_t columns_max,
                    std::uint32_t rows_max);

}  // namespace spillway
