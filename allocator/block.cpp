// SPDX-License-Identifier: Apache-2.0
#include "allocator/block.hpp"

#include <new>

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
  for (std::uint32_t i = 0; i < chunk_count_; ++i) delete[] chunks_[i].get();
}

bool BlockTable::grow(std::uint32_t count) {
  while (free_count_ < count) {
    if (chunk_count_ == kChunkCount) return false;
    Block* chunk = new (std::nothrow) Block[kChunkBlocks];
    if (chunk == nullptr) return false;
    chunks_[chunk_count_].set(chunk);
    const BlockIndex first = chunk_count_ << kChunkShift;
    ++chunk_count_;
    // Index 0 means none and is never handed out. Backwards, so that low indices go first.
    for (BlockIndex index = first + kChunkBlocks; index-- > first;) {
      if (index == kNoBlock) continue;
      Block& block = at(index);
      block.link_next = free_;
      free_ = index;
      ++free_count_;
      ++created_count_;
    }
  }
  return true;
}

}  // namespace spillway
