// SPDX-License-Identifier: Apache-2.0
// The invariants of PinnedBlocks, executed: slower and simpler than the code they judge, from the
// slabs and their lists alone.
#include "allocator/pinned_blocks.hpp"

#include <string>

namespace spillway {
namespace {

Status broken(const std::string& what) { return {Code::kInternal, "pinned blocks: " + what}; }

std::string at(std::uintptr_t address) { return " at address " + std::to_string(address); }

}  // namespace

struct PinnedBlocks::Census {
  std::uint64_t live_bytes = 0;
  std::uint64_t pending_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t slab_bytes = 0;
  std::size_t live_count = 0;      // in the table of live blocks
  std::size_t gathered_count = 0;  // busy and not in it
  std::size_t pending_count = 0;
  std::size_t free_count = 0;
  std::map<const Fence*, std::uint64_t> fence_uses;
};

Status PinnedBlocks::check_slab(const Slab& slab, Census* census) const {
  std::uintptr_t next = slab.begin;
  std::uint64_t count = 0;
  const Block* left = nullptr;
  for (const Block* block = slab.first; block != nullptr; block = block->right) {
    if (block->begin != next) return broken("gap or overlap" + at(block->begin));
    if (block->bytes == 0) return broken("an empty block" + at(block->begin));
    if (block->left != left || block->slab != &slab) return broken("a wrong link" + at(next));
    if (block->fence != nullptr) ++census->fence_uses[block->fence];
    switch (block->state) {
      case State::kFree:
        if (left != nullptr && left->state == State::kFree)
          return broken("two free neighbours" + at(next));
        if (block->fence != nullptr) return broken("a free block with a fence" + at(next));
        if (free_.count(Key{block->bytes, block->begin, nullptr}) == 0)
          return broken("a free block that is not indexed" + at(next));
        census->free_bytes += block->bytes;
        ++census->free_count;
        break;
      case State::kPending:
        census->pending_bytes += block->bytes;
        ++census->pending_count;
        break;
      case State::kLive:
      case State::kBusy:
        census->live_bytes += block->bytes;
        if (find(block->begin) == block)
          ++census->live_count;
        else if (block->state == State::kBusy)
          ++census->gathered_count;
        else
          return broken("a live block that is not in the table" + at(next));
        break;
    }
    next += block->bytes;
    ++count;
    left = block;
  }
  if (next - slab.begin != slab.bytes) return broken("a slab that is not covered" + at(slab.begin));
  if (count != slab.block_count) return broken("a wrong count of blocks" + at(slab.begin));
  census->slab_bytes += slab.bytes;
  return {};
}

Status PinnedBlocks::check_groups(Census* census) const {
  std::size_t listed = 0;
  for (const auto& [key, group] : groups_) {
    if (group.oldest == nullptr) return broken("an empty group");
    std::size_t count = 0;
    const Block* older = nullptr;
    for (const Block* block = group.oldest; block != nullptr; block = block->newer) {
      if (block->state != State::kPending || block->capture_id != key.first ||
          block->stream_id != key.second || block->older != older)
        return broken("a block in the wrong list" + at(block->begin));
      if (group.by_size.count(Key{block->bytes, block->begin, nullptr}) == 0)
        return broken("a pending block that is not indexed" + at(block->begin));
      ++count;
      older = block;
    }
    if (group.newest != older) return broken("a list that does not end");
    if (group.by_size.size() != count) return broken("a pending index that is not its list");
    listed += count;
  }
  if (listed != census->pending_count) return broken("pending blocks in no list");
  return {};
}

Status PinnedBlocks::check_invariants(std::uint64_t held_outside) const {
  Census census;
  const Slab* before = nullptr;
  for (const auto& [begin, slab] : slabs_) {
    if (before != nullptr && before->bytes > begin - before->begin)
      return broken("two slabs overlap" + at(begin));
    before = &slab;
    SPW_RETURN_IF_ERROR(check_slab(slab, &census));
  }
  SPW_RETURN_IF_ERROR(check_groups(&census));
  if (census.live_bytes != live_bytes_) return broken("wrong sum of live bytes");
  if (census.pending_bytes != pending_bytes_) return broken("wrong sum of pending bytes");
  if (census.free_bytes != free_bytes_) return broken("wrong sum of free bytes");
  if (census.slab_bytes != slab_bytes_) return broken("wrong sum of slab bytes");
  if (live_bytes_ + pending_bytes_ + free_bytes_ != slab_bytes_)
    return broken("live + pending + free != slab bytes");
  if (census.free_count != free_.size()) return broken("index of free blocks with strangers");
  if (census.live_count != live_.size()) return broken("table of live blocks with strangers");
  if (census.pending_count != pending_count_) return broken("wrong count of pending blocks");
  std::uint64_t outside = 0;
  for (const Fence& fence : fence_store_) {
    const auto found = census.fence_uses.find(&fence);
    const std::uint64_t uses = found == census.fence_uses.end() ? 0 : found->second;
    if (fence.holders < uses) return broken("a fence that went before its blocks");
    if (fence.holders == 0 && !fence.recorded.empty()) return broken("an event that nobody holds");
    outside += fence.holders - uses;
  }
  if (outside != held_outside) return broken("fences held by nobody");
  return {};
}

}  // namespace spillway
