// SPDX-License-Identifier: Apache-2.0
// The sub-allocations that a pool reports: which bytes of its arenas lie in a live block, which in
// a freed one, which in none. Enqueue order: a block is live for what is enqueued after its
// allocation; whether the work is also ordered after it is the race checker's question.
#pragma once

#include "device/sim/memory_error.hpp"

#include <cstdint>
#include <map>

namespace spillway::sim {

class Blocks {
 public:
  enum class Verdict : std::uint8_t {
    kOk,           // not in an arena, or inside one live block
    kFreed,        // touches a freed block
    kOutOfBounds,  // starts in a live block and leaves it
    kNoBlock,      // in an arena, in no block
  };

  bool begin_arena(ByteRange range);  // false: overlaps another
  bool end_arena(ByteRange range);    // false: no such arena; its blocks are forgotten

  /// False: outside every arena, or overlapping a live block.
  bool allocate(ByteRange range);
  /// The block's range, or bytes == 0 when no live block starts there.
  ByteRange free(std::uint64_t begin);

  /// `hit` is the block or arena that decided.
  Verdict check(ByteRange access, ByteRange* hit) const;

  [[nodiscard]] std::uint64_t live_count() const { return live_; }
  void reset();

 private:
  struct Block {
    std::uint64_t end = 0;
    bool live = false;
  };
  void erase_freed(ByteRange range);

  // INVARIANT: arenas are disjoint; blocks are disjoint, each inside one arena.
  std::map<std::uint64_t, std::uint64_t> arenas_;  // begin -> end
  std::map<std::uint64_t, Block> blocks_;          // begin -> block
  std::uint64_t live_ = 0;
};

}  // namespace spillway::sim
