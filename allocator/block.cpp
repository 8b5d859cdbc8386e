// SPDX-License-Identifier: Apache-2.0
#include "allocator/block.hpp"

#include <new>
#include <sys/mman.h>
#include <type_traits>

namespace spillway {

const char* name_of(BlockState state) {
  switch (state) {
    case BlockState::kUnused:
      return "unused";
    case BlockState::kUnmapped:
      return "unmapped";
    case BlockState::kFree:
      return "free";
    case BlockState::kLive:
      return "live";
    case BlockState::kKept:
      return "kept";
    case BlockState::kDeferred:
      return "deferred";
    case BlockState::kClaimed:
      return "claimed";
  }
  return "unknown";
}

BlockTable::~BlockTable() {
  static_assert(std::is_trivially_destructible_v<Block>);
  if (blocks_ != nullptr) ::munmap(blocks_, kBlocksMax * sizeof(Block));
}

bool BlockTable::grow(std::uint32_t count) {
  if (blocks_ == nullptr) {
    // Addresses alone, which no limit on memory counts.
    void* const range = ::mmap(nullptr,
                               kBlocksMax * sizeof(Block),
                               PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                               -1,
                               0);
    if (range == MAP_FAILED) return false;
    blocks_ = static_cast<Block*>(range);
  }
  while (free_count_ < count) {
    if (end_ == kBlocksMax) return false;
    static_assert(kChunkBlocks * sizeof(Block) % 65536 == 0, "whole pages, of any usual size");
    Block* const chunk = blocks_ + end_;
    if (::mprotect(chunk, kChunkBlocks * sizeof(Block), PROT_READ | PROT_WRITE) != 0) return false;
    const BlockIndex first = end_;
    end_ += kChunkBlocks;
    // Index 0 means none and is never handed out. Backwards, so that low indices go first.
    for (BlockIndex index = end_; index-- > first;) {
      Block& block = *new (blocks_ + index) Block;
      if (index == kNoBlock) continue;
      block.link_next = free_;
      free_ = index;
      ++free_count_;
      ++created_count_;
    }
  }
  return true;
}

}  // namespace spillway
