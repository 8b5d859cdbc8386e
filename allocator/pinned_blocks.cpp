// SPDX-License-Identifier: Apache-2.0
#include "allocator/pinned_blocks.hpp"

#include "core/check.hpp"

#include <algorithm>
#include <string>

namespace spillway {
namespace {

constexpr std::size_t kSpareNodesMax = 4096;  // more free blocks than that are no warm pool

}  // namespace

// ---- slabs

PinnedBlocks::Block* PinnedBlocks::add_slab(std::uintptr_t begin, std::uint64_t bytes) {
  Slab& slab = slabs_[begin];
  slab.begin = begin;
  slab.bytes = bytes;
  slab.block_count = 1;
  Block* block = new_block();
  block->begin = begin;
  block->bytes = bytes;
  block->slab = &slab;
  slab.first = block;
  slab_bytes_ += bytes;
  insert_free(block);
  return block;
}

void PinnedBlocks::remove_slab(Slab* slab) {
  SPW_CHECK(slab->idle());
  Block* block = slab->first;
  remove(block);
  slab_bytes_ -= slab->bytes;
  slabs_.erase(slab->begin);
  delete_block(block);
}

// ---- search

PinnedBlocks::Block* PinnedBlocks::best_free(std::uint64_t bytes) const {
  const auto found = free_.lower_bound(Key{bytes, 0, nullptr});
  return found == free_.end() ? nullptr : found->block;
}

PinnedBlocks::Block* PinnedBlocks::best_pending(std::uint64_t stream_id,
                                                std::uint64_t capture_id,
                                                std::uint64_t bytes) const {
  const auto group = groups_.find({capture_id, stream_id});
  if (group == groups_.end()) return nullptr;
  const auto found = group->second.by_size.lower_bound(Key{bytes, 0, nullptr});
  return found == group->second.by_size.end() ? nullptr : found->block;
}

PinnedBlocks::Run PinnedBlocks::best_run(std::uint64_t bytes,
                                         std::uint64_t stream_id,
                                         std::uint64_t capture_id,
                                         bool foreign) const {
  const auto is_foreign = [&](const Block& block) {
    return block.state == State::kPending && block.stream_id != stream_id;
  };
  const auto usable = [&](const Block& block) {
    if (block.state == State::kFree) return true;
    if (block.state != State::kPending || block.capture_id != capture_id) return false;
    if (block.stream_id == kNoStream || block.fence == nullptr) return false;
    return foreign || block.stream_id == stream_id;
  };
  Run best;
  std::uint64_t best_bytes = 0;
  for (const auto& [begin, slab] : slabs_) {
    // A window over usable neighbours, as short as it can be.
    Block* left = slab.first;
    std::uint64_t sum = 0;
    std::uint32_t foreign_count = 0;
    for (Block* right = slab.first; right != nullptr; right = right->right) {
      if (!usable(*right)) {
        left = right->right;
        sum = 0;
        foreign_count = 0;
        continue;
      }
      sum += right->bytes;
      foreign_count += is_foreign(*right) ? 1u : 0u;
      while (sum - left->bytes >= bytes) {
        sum -= left->bytes;
        foreign_count -= is_foreign(*left) ? 1u : 0u;
        left = left->right;
      }
      if (sum < bytes) continue;
      if (best.first == nullptr || foreign_count < best.foreign_count ||
          (foreign_count == best.foreign_count && sum < best_bytes)) {
        best = {left, right, foreign_count};
        best_bytes = sum;
      }
    }
  }
  return best;
}

// ---- taking

PinnedBlocks::Block* PinnedBlocks::take(Block* block,
                                        std::uint64_t bytes,
                                        std::uint64_t stream_id,
                                        std::uint64_t capture_id) {
  SPW_CHECK(block->state == State::kFree || block->state == State::kPending);
  SPW_CHECK_LE(bytes, block->bytes);
  Block* const older = block->older;
  remove(block);
  if (block->bytes > bytes) {
    Block* rest = split(block, bytes);
    block->state = State::kBusy;  // in no index any more: nothing to be joined with
    if (rest->state == State::kFree)
      insert_free(rest);
    else
      insert_pending(rest, older);
  }
  make_live(block, stream_id, capture_id);
  return block;
}

void PinnedBlocks::claim(const Run& run) {
  for (Block* block = run.first;; block = block->right) {
    const State before = block->state;
    remove(block);
    block->state = State::kBusy;
    // Which it was is told by the fence: free blocks have none, pending ones of a run do.
    SPW_CHECK((before == State::kFree) == (block->fence == nullptr));
    live_bytes_ += block->bytes;
    if (block == run.last) return;
  }
}

void PinnedBlocks::unclaim(const Run& run) {
  // From right to left, so that what is joined to the right is not walked over.
  for (Block* block = run.last;;) {
    Block* const next = block == run.first ? nullptr : block->left;
    live_bytes_ -= block->bytes;
    if (block->fence == nullptr) {
      block->state = State::kFree;
      insert_free(block);
    } else {
      block->state = State::kPending;
      const auto group = groups_.find({block->capture_id, block->stream_id});
      insert_pending(block, group == groups_.end() ? nullptr : group->second.newest);
    }
    if (next == nullptr) return;
    block = next;
  }
}

PinnedBlocks::Block* PinnedBlocks::merge(const Run& run,
                                         std::uint64_t bytes,
                                         std::uint64_t stream_id,
                                         std::uint64_t capture_id,
                                         Fence* fence) {
  Block* const block = run.first;
  live_bytes_ -= block->bytes;
  for (bool more = block != run.last; more;) {
    Block* const next = block->right;
    more = next != run.last;
    live_bytes_ -= next->bytes;
    set_fence(next, nullptr);
    join_right(block);
  }
  set_fence(block, fence);
  if (block->bytes > bytes) {
    Block* rest = split(block, bytes);
    if (fence == nullptr) {
      rest->state = State::kFree;
      insert_free(rest);
    } else {
      rest->state = State::kPending;
      rest->stream_id = stream_id;
      rest->capture_id = capture_id;
      const auto group = groups_.find({capture_id, stream_id});
      insert_pending(rest, group == groups_.end() ? nullptr : group->second.newest);
    }
  }
  make_live(block, stream_id, capture_id);
  return block;
}

PinnedBlocks::Block* PinnedBlocks::find(std::uintptr_t begin) const {
  const auto found = live_.find(begin);
  return found == live_.end() ? nullptr : found->second;
}

const PinnedBlocks::Block* PinnedBlocks::around(std::uintptr_t address) const {
  auto slab = slabs_.upper_bound(address);
  if (slab == slabs_.begin()) return nullptr;
  --slab;
  if (address - slab->second.begin >= slab->second.bytes) return nullptr;
  const Block* block = slab->second.first;
  while (block != nullptr && address - block->begin >= block->bytes) block = block->right;
  return block;
}

// ---- giving back

void PinnedBlocks::make_free(Block* block) {
  remove_live(block);
  set_fence(block, nullptr);
  block->state = State::kFree;
  insert_free(block);
}

void PinnedBlocks::make_pending(Block* block,
                                std::uint64_t stream_id,
                                std::uint64_t capture_id,
                                Fence* fence) {
  remove_live(block);
  set_fence(block, fence);
  block->state = State::kPending;
  block->stream_id = stream_id;
  block->capture_id = capture_id;
  const auto group = groups_.find({capture_id, stream_id});
  insert_pending(block, group == groups_.end() ? nullptr : group->second.newest);
}

std::uint64_t PinnedBlocks::sweep() {
  std::vector<Block*> done;
  for (auto& [key, group] : groups_) {
    if (key.first != 0) break;  // captures come behind
    for (Block* block = group.oldest; block != nullptr; block = block->newer)
      if (block->fence == nullptr || block->fence->done) done.push_back(block);
  }
  // One at a time: those that are still pending are not joined away by their neighbours.
  for (Block* block : done) {
    remove(block);
    set_fence(block, nullptr);
    block->state = State::kFree;
    insert_free(block);
  }
  return done.size();
}

void PinnedBlocks::forget_capture(std::uint64_t capture_id) {
  if (capture_id == 0) return;
  std::vector<Block*> found;
  for (auto it = groups_.lower_bound({capture_id, 0});
       it != groups_.end() && it->first.first == capture_id;
       ++it)
    for (Block* block = it->second.oldest; block != nullptr; block = block->newer)
      found.push_back(block);
  for (Block* block : found) {
    remove(block);
    Fence* fence = block->fence;
    block->capture_id = 0;
    if (fence != nullptr && !fence->done && fence->recorded.capture_id() != capture_id) {
      block->stream_id = fence->stream_id;
      const auto group = groups_.find({0, block->stream_id});
      insert_pending(block, group == groups_.end() ? nullptr : group->second.newest);
      continue;
    }
    set_fence(block, nullptr);
    block->state = State::kFree;
    insert_free(block);
  }
}

void PinnedBlocks::hold_pending_fences(bool with_captures,
                                       std::size_t per_stream_max,
                                       std::vector<Fence*>* held) {
  for (auto& [key, group] : groups_) {
    if (key.first != 0 && !with_captures) return;
    std::size_t count = 0;
    const Fence* last = nullptr;
    for (Block* block = group.oldest; block != nullptr && count < per_stream_max;
         block = block->newer) {
      if (block->fence == nullptr || block->fence == last || block->fence->done) continue;
      last = block->fence;
      hold(block->fence);
      held->push_back(block->fence);
      ++count;
    }
  }
}

// ---- fences

PinnedBlocks::Fence* PinnedBlocks::make_fence(RecordedEvent recorded, std::uint64_t stream_id) {
  Fence* fence = nullptr;
  if (spare_fences_.empty()) {
    fence = &fence_store_.emplace_back();
  } else {
    fence = spare_fences_.back();
    spare_fences_.pop_back();
  }
  fence->recorded = std::move(recorded);
  fence->stream_id = stream_id;
  fence->done = false;
  fence->holders = 1;
  return fence;
}

void PinnedBlocks::drop(Fence* fence) {
  if (fence == nullptr || --fence->holders != 0) return;
  fence->recorded = RecordedEvent();
  spare_fences_.push_back(fence);
}

void PinnedBlocks::set_fence(Block* block, Fence* fence) {
  if (fence != nullptr) hold(fence);
  drop(std::exchange(block->fence, fence));
}

// ---- blocks and indexes

PinnedBlocks::Block* PinnedBlocks::new_block() {
  if (spare_blocks_.empty()) return &block_store_.emplace_back();
  Block* block = spare_blocks_.back();
  spare_blocks_.pop_back();
  *block = Block();
  return block;
}

void PinnedBlocks::delete_block(Block* block) {
  block->slab = nullptr;
  spare_blocks_.push_back(block);
}

PinnedBlocks::Block* PinnedBlocks::split(Block* block, std::uint64_t bytes) {
  Block* rest = new_block();
  rest->begin = block->begin + bytes;
  rest->bytes = block->bytes - bytes;
  rest->slab = block->slab;
  rest->left = block;
  rest->right = block->right;
  if (rest->right != nullptr) rest->right->left = rest;
  rest->state = block->state;
  rest->stream_id = block->stream_id;
  rest->capture_id = block->capture_id;
  set_fence(rest, block->fence);
  block->right = rest;
  block->bytes = bytes;
  ++block->slab->block_count;
  return rest;
}

void PinnedBlocks::join_right(Block* block) {
  Block* const gone = block->right;
  block->bytes += gone->bytes;
  block->right = gone->right;
  if (block->right != nullptr) block->right->left = block;
  --block->slab->block_count;
  delete_block(gone);
}

void PinnedBlocks::index(Index* into, Block* block) {
  const Key key{block->bytes, block->begin, block};
  if (spare_nodes_.empty()) {
    into->insert(key);
    return;
  }
  Index::node_type node = std::move(spare_nodes_.back());
  spare_nodes_.pop_back();
  node.value() = key;
  into->insert(std::move(node));
}

void PinnedBlocks::unindex(Index* from, Block* block) {
  const auto found = from->find(Key{block->bytes, block->begin, nullptr});
  SPW_CHECK(found != from->end());
  Index::node_type node = from->extract(found);
  if (spare_nodes_.size() < kSpareNodesMax) spare_nodes_.push_back(std::move(node));
}

void PinnedBlocks::insert_free(Block* block) {
  const auto is_indexed_free = [](const Block* other) {
    return other != nullptr && other->state == State::kFree;
  };
  free_bytes_ += block->bytes;
  if (is_indexed_free(block->right)) {
    unindex(&free_, block->right);
    join_right(block);
  }
  if (is_indexed_free(block->left)) {
    Block* const left = block->left;
    unindex(&free_, left);
    join_right(left);
    block = left;
  }
  block->stream_id = kNoStream;
  block->capture_id = 0;
  index(&free_, block);
}

void PinnedBlocks::insert_pending(Block* block, Block* after) {
  const GroupKey key{block->capture_id, block->stream_id};
  auto found = groups_.find(key);
  if (found == groups_.end()) {
    if (spare_groups_.empty()) {
      found = groups_.try_emplace(key).first;
    } else {
      Groups::node_type node = std::move(spare_groups_.back());
      spare_groups_.pop_back();
      node.key() = key;
      found = groups_.insert(std::move(node)).position;
    }
    after = nullptr;
  }
  Group& group = found->second;
  block->older = after;
  block->newer = after == nullptr ? group.oldest : after->newer;
  (block->older == nullptr ? group.oldest : block->older->newer) = block;
  (block->newer == nullptr ? group.newest : block->newer->older) = block;
  index(&group.by_size, block);
  pending_bytes_ += block->bytes;
  ++pending_count_;
}

void PinnedBlocks::remove(Block* block) {
  if (block->state == State::kFree) {
    unindex(&free_, block);
    free_bytes_ -= block->bytes;
    return;
  }
  SPW_CHECK(block->state == State::kPending);
  const auto found = groups_.find({block->capture_id, block->stream_id});
  SPW_CHECK(found != groups_.end());
  Group& group = found->second;
  unindex(&group.by_size, block);
  (block->older == nullptr ? group.oldest : block->older->newer) = block->newer;
  (block->newer == nullptr ? group.newest : block->newer->older) = block->older;
  block->older = nullptr;
  block->newer = nullptr;
  pending_bytes_ -= block->bytes;
  --pending_count_;
  if (group.oldest == nullptr) spare_groups_.push_back(groups_.extract(found));
}

void PinnedBlocks::make_live(Block* block, std::uint64_t stream_id, std::uint64_t capture_id) {
  block->state = State::kLive;
  block->stream_id = stream_id;
  block->capture_id = capture_id;
  live_bytes_ += block->bytes;
  if (spare_live_nodes_.empty()) {
    live_.emplace(block->begin, block);
    return;
  }
  auto node = std::move(spare_live_nodes_.back());
  spare_live_nodes_.pop_back();
  node.key() = block->begin;
  node.mapped() = block;
  live_.insert(std::move(node));
}

void PinnedBlocks::remove_live(Block* block) {
  SPW_CHECK(block->state == State::kLive || block->state == State::kBusy);
  auto node = live_.extract(block->begin);
  SPW_CHECK(!node.empty());
  live_bytes_ -= block->bytes;
  if (spare_live_nodes_.size() < kSpareNodesMax) spare_live_nodes_.push_back(std::move(node));
}

}  // namespace spillway
