// SPDX-License-Identifier: Apache-2.0
// What is known of one stretch of an arena, and where such records live. Host memory only: the
// device never sees them.
#pragma once

#include "allocator/quantum.hpp"
#include "core/seq_lock.hpp"

#include <cstddef>
#include <cstdint>

namespace spillway {

/// Index of a Block; 0: none.
using BlockIndex = std::uint32_t;
inline constexpr BlockIndex kNoBlock = 0;

/// Index of a label: whose order a free block follows (allocator/space.hpp).
using LabelIndex = std::uint16_t;

enum class BlockState : std::uint8_t {
  kUnused,    // the record stands for nothing
  kUnmapped,  // addresses without memory
  kFree,      // in the free index of its label
  kLive,      // handed out
  kKept,      // free, whole, kept for its label's stream (allocator/kept_sizes.hpp)
  kDeferred,  // given back, but some stream other than its label's may still use it
  kClaimed,   // neither: someone is changing what lies behind it, outside the lock
};
inline constexpr std::size_t kBlockStates = 7;
const char* name_of(BlockState state);

/// INVARIANT: neighbours touch: begin + quanta == begin of next, and next.prev is this one.
/// 48 bytes. Fields that lock-free look-ups read are SharedFields; the rest belong to the holder of
/// the pool's lock.
struct Block {
  SharedField<Quanta> begin;
  SharedField<Quanta> quanta;
  SharedField<BlockIndex> next;  // by address; none at the end of a region
  BlockIndex prev = kNoBlock;
  // kFree: neighbours in its bin. kKept: the next of its size. kLive: uses by other streams
  // (record_use), else none.
  BlockIndex link_next = kNoBlock;
  BlockIndex link_prev = kNoBlock;
  // kFree, kDeferred: of its label's stream, when it was given back. kLive: number of the
  // allocation.
  SharedField<std::uint64_t> epoch;
  SharedField<std::uint32_t> tag;    // kLive
  SharedField<std::uint16_t> slack;  // kLive: bytes held beyond those asked for
  SharedField<LabelIndex> label;     // kFree: whose it is; kLive: whose it was taken as
  SharedField<BlockState> state;

  [[nodiscard]] bool is(BlockState s) const { return state.get() == s; }
};
static_assert(sizeof(Block) == 48);

/// Records with indices that stay valid for good, so that a look-up without a lock reads at worst a
/// record that now stands for something else. One range of addresses for all there may ever be;
/// memory in it grows by 4096 records and is kept.
/// Threads: at() from anywhere with an index that was handed out; the rest under the pool's lock.
class BlockTable {
 public:
  /// Without memory, and without addresses until the first reserve().
  BlockTable() = default;
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  BlockTable(BlockTable&&) = delete;
  BlockTable& operator=(BlockTable&&) = delete;
  ~BlockTable();

  Block& at(BlockIndex index) { return blocks_[index]; }
  [[nodiscard]] const Block& at(BlockIndex index) const { return blocks_[index]; }

  /// Makes sure that `count` calls of add() succeed. False: out of host memory, or of indices.
  bool reserve(std::uint32_t count) { return free_count_ >= count || grow(count); }
  /// A record in state kUnused. REQUIRES: reserved.
  BlockIndex add() {
    const BlockIndex index = free_;
    Block& block = at(index);
    free_ = block.link_next;
    --free_count_;
    return index;
  }
  void remove(BlockIndex index) {
    Block& block = at(index);
    block.state.set(BlockState::kUnused);
    block.link_next = free_;
    free_ = index;
    ++free_count_;
  }

  [[nodiscard]] std::uint32_t count() const { return created_count_ - free_count_; }
  [[nodiscard]] std::size_t metadata_bytes() const {
    return std::size_t{created_count_} * sizeof(Block);
  }
  /// Every index handed out so far is below this.
  [[nodiscard]] BlockIndex index_end() const { return created_count_ + 1; }

 private:
  static constexpr std::uint32_t kChunkBlocks = 1u << 12;
  static constexpr std::uint32_t kBlocksMax = 1u << 24;  // 768 MiB of addresses

  bool grow(std::uint32_t count);

  Block* blocks_ = nullptr;  // kBlocksMax places, of which the first end_ have memory
  BlockIndex free_ = kNoBlock;
  std::uint32_t free_count_ = 0;
  std::uint32_t created_count_ = 0;
  BlockIndex end_ = 0;
};

}  // namespace spillway
