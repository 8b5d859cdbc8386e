// SPDX-License-Identifier: Apache-2.0
// The path that nearly every call takes: one short critical section, no driver call but the
// question whether the stream is capturing, no search when a block of that size was given back a
// moment ago. Everything out of the ordinary is left, untouched, to the functions of
// device_pool.cpp.
#include "allocator/pool_section.hpp"

#include <algorithm>

namespace spillway {
namespace {

// Larger blocks go to the upper end of the hole that fits them, smaller ones to the lower end: the
// rest of a hole then grows towards its own kind.
constexpr Quanta kLargeQuanta = quanta_for(std::uint64_t{1} << 20);

}  // namespace

// ---- blocks given back a moment ago

// REQUIRES: a live block of the arena, `quanta` long, whose totals are gone.
inline void DevicePool::keep_block(
    BlockIndex index, Block& block, Quanta quanta, StreamState& owner, std::uint64_t epoch) {
  // While the pool grows, what a kept block keeps apart would be grown for elsewhere.
  if (quanta > kLargeQuanta && !is_calm() && remap_credit_ != 0) [[unlikely]] {
    space_.give(index, owner.arena_label, epoch);
    return;
  }
  block.label.set(owner.arena_label);
  block.epoch.set(epoch);
  block.state.set(BlockState::kKept);
  has_kept_ = true;
  if (!owner.kept.put(block, index, quanta)) [[unlikely]]
    make_room(index, owner);
}

void DevicePool::keep(BlockIndex index, StreamState& owner, std::uint64_t epoch) {
  Block& block = space_.at(index);
  keep_block(index, block, block.quanta.get(), owner, epoch);
}

// A block that found no room among the kept ones enters for others.
void DevicePool::make_room(BlockIndex index, StreamState& owner) {
  Block& block = space_.at(index);
  const Quanta quanta = block.quanta.get();
  do merge(owner.kept.take_rival(space_.blocks(), quanta));
  while (!owner.kept.put(block, index, quanta));
}

void DevicePool::merge(BlockIndex kept) {
  const Block& block = space_.at(kept);
  space_.give(kept, block.label.get(), block.epoch.get());
}

void DevicePool::merge_kept() {
  if (!has_kept_) return;
  has_kept_ = false;
  for (StreamIndex i = 0; i < streams_.count(); ++i) {
    KeptSizes& kept = streams_.at(i).kept;
    while (kept.count() != 0) merge(kept.take_any(space_.blocks()));
  }
}

// ---- totals

// REQUIRES: the block is out of every list; its state is live, it is `quanta` long.
inline void DevicePool::count_in(Block& block, Quanta quanta, std::uint64_t bytes, TagId tag) {
  const std::uint64_t held = bytes_of(quanta);
  block.epoch.set(++stats_.allocation_count);
  block.tag.set(tag.value);
  block.slack.set(static_cast<std::uint16_t>(held - bytes));
  block.link_next = 0;  // no use by another stream yet
  tags_.add(tag, bytes);
  const std::uint64_t requested = stats_.requested_bytes + bytes;
  stats_.requested_bytes = requested;
  if (requested > stats_.requested_bytes_peak) [[unlikely]]
    stats_.requested_bytes_peak = requested;
  const std::uint64_t allocated = stats_.allocated_bytes + held;
  stats_.allocated_bytes = allocated;
  if (allocated > stats_.allocated_bytes_peak) [[unlikely]]
    stats_.allocated_bytes_peak = allocated;
}

cu::DevicePtr DevicePool::begin_live(BlockIndex index,
                                     LabelIndex label,
                                     std::uint64_t bytes,
                                     TagId tag) {
  Block& block = space_.at(index);
  block.label.set(label);
  count_in(block, block.quanta.get(), bytes, tag);
  return pointer_at(block.begin.get());
}

// REQUIRES: the block is live, `held` bytes long. Its totals go; its state is the caller's to
// change.
inline void DevicePool::count_out(const Block& block, std::uint64_t held) {
  const std::uint64_t requested = held - block.slack.get();
  tags_.remove(TagId(block.tag.get()), requested);
  stats_.requested_bytes -= requested;
  stats_.allocated_bytes -= held;
  ++stats_.free_count;
}

void DevicePool::end_live(BlockIndex index) {
  const Block& block = space_.at(index);
  count_out(block, bytes_of(block.quanta.get()));
}

// Every so many bytes: whether that is a moment for a mark. Counts on from zero either way.
inline bool DevicePool::is_mark_due(StreamState& state, std::uint64_t bytes) {
  const std::uint64_t unmarked = state.unmarked_bytes + bytes;
  state.unmarked_bytes = unmarked;
  if (unmarked < options_.mark_interval_bytes) return false;
  state.unmarked_bytes = 0;
  return !state.retired && (!is_calm() || streams_.active_count() > 1);
}

bool DevicePool::wants_mark(StreamState& state, std::uint64_t bytes) {
  return is_mark_due(state, bytes);
}

// ---- the two calls

// The smallest block that fits of those that follow this label's order or nobody's.
BlockIndex DevicePool::take_ready(LabelIndex label, Quanta quanta) {
  BlockIndex best = space_.find_free(label, quanta);
  const LabelIndex neutral = space_.neutral_of(space_.group_of(label));
  if (!space_.index_of(neutral).empty()) {
    const BlockIndex other = space_.find_free(neutral, quanta);
    if (best == kNoBlock ||
        (other != kNoBlock && space_.at(other).quanta.get() < space_.at(best).quanta.get()))
      best = other;
  }
  if (best == kNoBlock) return kNoBlock;
  return space_.take(best,
                     quanta,
                     quanta >= kLargeQuanta ? Space::End::kHigh : Space::End::kLow,
                     BlockState::kLive);
}

// None kept of this size: out of a larger one. What is kept merges a few blocks at a time until
// there is one, so that no call pays for all of it.
BlockIndex DevicePool::take_cut(StreamState& state, Quanta quanta) {
  constexpr std::uint32_t kMergedAtOnce = 8;
  if (!space_.reserve(2)) return kNoBlock;
  const LabelIndex label = state.arena_label;
  BlockIndex index = take_ready(label, quanta);
  while (index == kNoBlock && state.kept.count() != 0) {
    for (std::uint32_t i = 0; i < kMergedAtOnce && state.kept.count() != 0; ++i)
      merge(state.kept.take_any(space_.blocks()));
    index = take_ready(label, quanta);
  }
  if (index == kNoBlock && has_kept_) {
    merge_kept();
    index = take_ready(label, quanta);
  }
  if (index != kNoBlock) space_.at(index).label.set(label);
  return index;
}

// Null: not on this path, and no block has changed hands.
inline cu::DevicePtr DevicePool::allocate_quickly(std::uint64_t bytes,
                                                  StreamRef stream,
                                                  TagId tag) {
  if (bytes - 1 >= kArenaBytesMax - kQuantumBytes || may_capture(stream)) [[unlikely]]
    return 0;
  const auto quanta = static_cast<Quanta>((bytes + kQuantumBytes - 1) >> kQuantumShift);
  const QuickSection section(*this);
  StreamState* const state = streams_.find_quickly(stream.id());
  if (state == nullptr || layout_.loaded() || !tags_.has(tag)) [[unlikely]]
    return 0;
  BlockIndex index = state->kept.take(space_.blocks(), quanta);
  if (index == kNoBlock) [[unlikely]] {
    index = take_cut(*state, quanta);
    if (index == kNoBlock) return 0;
  }
  Block& block = space_.at(index);
  const Quanta place = block.begin.get();
  recent_[recent_slot(place)] = index;
  block.state.set(BlockState::kLive);
  count_in(block, quanta, bytes, tag);
  return base_ + bytes_of(place);
}

// False: not on this path, and nothing has changed.
inline bool DevicePool::free_quickly(cu::DevicePtr pointer,
                                     StreamRef stream,
                                     StreamPoint* to_mark) {
  const std::uint64_t offset = pointer - base_;
  if (offset >= arena_bytes_ || offset % kQuantumBytes != 0 || may_capture(stream)) [[unlikely]]
    return false;
  const auto place = static_cast<Quanta>(offset >> kQuantumShift);
  const QuickSection section(*this);
  StreamState* const state = streams_.find_quickly(stream.id());
  if (state == nullptr) [[unlikely]]
    return false;
  BlockIndex index = recent_[recent_slot(place)];
  if (space_.at(index).begin.get() != place || !space_.at(index).is(BlockState::kLive))
      [[unlikely]] {
    index = space_.find_start(place);
    if (index == kNoBlock || !space_.at(index).is(BlockState::kLive)) return false;
  }
  Block& block = space_.at(index);
  const LabelIndex label = block.label.get();
  if (block.link_next != 0 || (label != state->arena_label && space_.group_of(label) != kArena))
      [[unlikely]]
    return false;
  const Quanta quanta = block.quanta.get();
  count_out(block, bytes_of(quanta));
  const std::uint64_t epoch = ++state->epoch;
  keep_block(index, block, quanta, *state, epoch);
  if (is_mark_due(*state, bytes_of(quanta))) [[unlikely]]
    *to_mark = {state->index, epoch};
  return true;
}

Result<cu::DevicePtr> DevicePool::allocate(std::uint64_t bytes, StreamRef stream, TagId tag) {
  const cu::DevicePtr pointer = allocate_quickly(bytes, stream, tag);
  if (pointer == 0) [[unlikely]]
    return allocate_in(kArena, bytes, stream, tag);
  if (observer_ != nullptr) [[unlikely]]
    observer_->block_allocated(pointer, bytes, stream.handle());
  return pointer;
}

Status DevicePool::free(cu::DevicePtr pointer, StreamRef stream) {
  StreamPoint to_mark;
  if (observer_ != nullptr || !free_quickly(pointer, stream, &to_mark)) [[unlikely]]
    return free_generally(pointer, stream);
  // The block is given back whatever comes of the mark; who needs it will try again.
  if (to_mark.stream != kNoStream) [[unlikely]]
    static_cast<void>(mark(to_mark));
  return {};
}

}  // namespace spillway
