// SPDX-License-Identifier: Apache-2.0
#include "allocator/space.hpp"

#include "core/check.hpp"

#include <algorithm>

namespace spillway {

GroupIndex Space::add_group() {
  const auto group = static_cast<GroupIndex>(neutral_.size());
  neutral_.push_back(static_cast<LabelIndex>(labels_.size()));
  labels_.push_back(std::make_unique<Label>(Label{group, {}}));
  return group;
}

LabelIndex Space::add_label(GroupIndex group) {
  const auto label = static_cast<LabelIndex>(labels_.size());
  labels_.push_back(std::make_unique<Label>(Label{group, {}}));
  return label;
}

void Space::enter(BlockIndex index, BlockState state) {
  Block& block = blocks_.at(index);
  block.state.set(state);
  quanta_[total_of(state)] += block.quanta.get();
  ++counts_[total_of(state)];
}

void Space::leave(BlockIndex index) {
  const Block& block = blocks_.at(index);
  const std::size_t state = total_of(block.state.get());
  quanta_[state] -= block.quanta.get();
  --counts_[state];
}

void Space::set_state(BlockIndex index, BlockState state) {
  leave(index);
  enter(index, state);
}

void Space::list(BlockIndex index) {
  labels_[blocks_.at(index).label.get()]->index.insert(blocks_, index);
}
void Space::unlist(BlockIndex index) {
  labels_[blocks_.at(index).label.get()]->index.erase(blocks_, index);
}

BlockIndex Space::add_region(Quanta begin, Quanta quanta, LabelIndex label) {
  SPW_CHECK_EQ(begin % StartIndex::kChunkQuanta, 0u);
  const BlockIndex index = blocks_.add();
  Block& block = blocks_.at(index);
  block.begin.set(begin);
  block.quanta.set(quanta);
  block.next.set(kNoBlock);
  block.prev = kNoBlock;
  block.link_next = block.link_prev = kNoBlock;
  block.label.set(label);
  block.epoch.set(0);
  starts_.insert(blocks_, index);
  enter(index, BlockState::kUnmapped);
  const auto after = std::find_if(regions_.begin(), regions_.end(), [&](BlockIndex other) {
    return blocks_.at(other).begin.get() > begin;
  });
  regions_.insert(after, index);
  return index;
}

void Space::remove_region(BlockIndex index) {
  const Block& block = blocks_.at(index);
  SPW_CHECK(block.prev == kNoBlock && block.next.get() == kNoBlock &&
            block.is(BlockState::kUnmapped));
  starts_.erase(blocks_, index);
  leave(index);
  std::erase(regions_, index);
  blocks_.remove(index);
}

// The block keeps [begin, begin + quanta); the new one behind it has the same state and label, and
// is in no list.
BlockIndex Space::split(BlockIndex index, Quanta quanta) {
  Block& block = blocks_.at(index);
  const BlockIndex rest_index = blocks_.add();
  Block& rest = blocks_.at(rest_index);
  const BlockIndex next = block.next.get();
  rest.begin.set(block.begin.get() + quanta);
  rest.quanta.set(block.quanta.get() - quanta);
  rest.next.set(next);
  rest.prev = index;
  rest.link_next = rest.link_prev = kNoBlock;
  rest.epoch.set(block.epoch.get());
  rest.label.set(block.label.get());
  rest.state.set(block.state.get());
  if (next != kNoBlock) blocks_.at(next).prev = rest_index;
  block.quanta.set(quanta);
  block.next.set(rest_index);
  starts_.insert(blocks_, rest_index);
  ++counts_[total_of(block.state.get())];
  return rest_index;
}

// The next block disappears into this one, whatever its state was; it is in no list any more.
void Space::absorb_next(BlockIndex index) {
  Block& block = blocks_.at(index);
  const BlockIndex next_index = block.next.get();
  const Block& next = blocks_.at(next_index);
  starts_.erase(blocks_, next_index);
  const std::size_t next_state = total_of(next.state.get());
  const std::size_t state = total_of(block.state.get());
  --counts_[next_state];
  quanta_[next_state] -= next.quanta.get();
  quanta_[state] += next.quanta.get();
  const BlockIndex after = next.next.get();
  block.quanta.set(block.quanta.get() + next.quanta.get());
  block.next.set(after);
  if (after != kNoBlock) blocks_.at(after).prev = index;
  blocks_.remove(next_index);
}

BlockIndex Space::take(BlockIndex free_block, Quanta quanta, End end, BlockState state) {
  unlist(free_block);
  const Quanta whole = blocks_.at(free_block).quanta.get();
  BlockIndex taken = free_block;
  if (whole != quanta) {
    if (end == End::kLow) {
      list(split(free_block, quanta));
    } else {
      taken = split(free_block, whole - quanta);
      list(free_block);
    }
  }
  set_state(taken, state);
  return taken;
}

BlockIndex Space::take_at(BlockIndex free_block, Quanta offset, Quanta quanta, BlockState state) {
  unlist(free_block);
  BlockIndex taken = free_block;
  if (offset != 0) {
    taken = split(free_block, offset);
    list(free_block);
  }
  if (blocks_.at(taken).quanta.get() != quanta) list(split(taken, quanta));
  set_state(taken, state);
  return taken;
}

BlockIndex Space::cut(BlockIndex index, Quanta offset, Quanta quanta) {
  BlockIndex part = index;
  if (offset != 0) part = split(index, offset);
  if (blocks_.at(part).quanta.get() != quanta) split(part, quanta);
  return part;
}

BlockIndex Space::give(BlockIndex index, LabelIndex label, std::uint64_t epoch) {
  set_state(index, BlockState::kFree);
  const LabelIndex neutral = neutral_of(group_of(label));
  // Again after each: behind a neutral neighbour there may be one of this label.
  const auto absorbs = [&](BlockIndex other_index) {
    if (other_index == kNoBlock) return false;
    const Block& other = blocks_.at(other_index);
    const LabelIndex other_label = other.label.get();
    if (!other.is(BlockState::kFree) || (other_label != label && other_label != neutral))
      return false;
    if (other_label == label) epoch = std::max(epoch, other.epoch.get());
    unlist(other_index);
    return true;
  };
  while (absorbs(blocks_.at(index).next.get())) absorb_next(index);
  while (absorbs(blocks_.at(index).prev)) {
    index = blocks_.at(index).prev;
    absorb_next(index);
  }
  Block& merged = blocks_.at(index);
  merged.label.set(label);
  merged.epoch.set(epoch);
  list(index);
  return index;
}

BlockIndex Space::join_equal(BlockIndex index) {
  const auto joins = [&](const Block& a, const Block& b) {
    return a.state.get() == b.state.get() && group_of(a.label.get()) == group_of(b.label.get());
  };
  Block& block = blocks_.at(index);
  if (block.next.get() != kNoBlock && joins(block, blocks_.at(block.next.get())))
    absorb_next(index);
  if (block.prev != kNoBlock && joins(blocks_.at(block.prev), block)) {
    index = block.prev;
    absorb_next(index);
  }
  return index;
}

Space::Run Space::find_run(GroupIndex group,
                           Quanta quanta,
                           const std::function<bool(const Block&)>& usable) const {
  Run best;
  for (const BlockIndex region : regions_) {
    Run run;
    for (BlockIndex i = region; i != kNoBlock;) {
      const Block& block = blocks_.at(i);
      const bool fits =
          block.is(BlockState::kFree) && group_of(block.label.get()) == group && usable(block);
      if (fits) {
        if (run.first == kNoBlock) run.first = i;
        run.last = i;
        run.quanta += block.quanta.get();
      }
      i = block.next.get();
      if (!fits || i == kNoBlock) {
        if (run.quanta >= quanta && (best.first == kNoBlock || run.quanta < best.quanta))
          best = run;
        run = {};
      }
    }
  }
  return best;
}

BlockIndex Space::join(const Run& run, BlockState state) {
  for (BlockIndex i = run.first;; i = blocks_.at(i).next.get()) {
    unlist(i);
    set_state(i, state);
    if (i == run.last) break;
  }
  while (blocks_.at(run.first).quanta.get() < run.quanta) absorb_next(run.first);
  return run.first;
}

BlockIndex Space::claim_range(Quanta begin, Quanta quanta, BlockState state) {
  BlockIndex claimed = kNoBlock;
  for (Quanta place = begin; place - begin < quanta;) {
    const BlockIndex index = find(place);
    const Quanta offset = place - blocks_.at(index).begin.get();
    const Quanta rest = quanta - (place - begin);
    const Quanta length = std::min(blocks_.at(index).quanta.get() - offset, rest);
    const BlockIndex part = take_at(index, offset, length, state);
    if (claimed == kNoBlock)
      claimed = part;
    else
      absorb_next(claimed);
    place += length;
  }
  return claimed;
}

std::uint64_t Space::relabel_up_to(LabelIndex from,
                                   std::uint64_t epoch_max,
                                   LabelIndex to,
                                   std::uint64_t epoch) {
  const FreeIndex& index = labels_[from]->index;
  if (index.empty()) return 0;
  std::vector<BlockIndex> moved;
  for (std::uint32_t bin = 0; bin < kSizeClasses; ++bin)
    for (BlockIndex i = index.head(bin); i != kNoBlock; i = blocks_.at(i).link_next)
      if (blocks_.at(i).epoch.get() <= epoch_max) moved.push_back(i);
  // All leave before the first arrives, so that none is absorbed by another on the way.
  std::uint64_t quanta = 0;
  for (const BlockIndex i : moved) {
    quanta += blocks_.at(i).quanta.get();
    unlist(i);
    set_state(i, BlockState::kClaimed);
  }
  for (const BlockIndex i : moved) give(i, to, epoch);
  return quanta;
}

std::size_t Space::metadata_bytes() const {
  return blocks_.metadata_bytes() + starts_.metadata_bytes() + labels_.size() * sizeof(Label);
}

std::string Space::check_invariants() const {
  const auto broken = [&](BlockIndex i, const char* what) {
    const Block& block = blocks_.at(i);
    return "block " + std::to_string(i) + " at quantum " + std::to_string(block.begin.get()) +
           ", " + std::to_string(block.quanta.get()) + " long, " + name_of(block.state.get()) +
           ": " + what;
  };
  std::uint64_t quanta[kBlockStates] = {};
  std::uint32_t counts[kBlockStates] = {};
  std::vector<std::uint32_t> listed(labels_.size(), 0);
  std::vector<std::uint64_t> listed_quanta(labels_.size(), 0);
  std::uint64_t end = 0;
  for (const BlockIndex region : regions_) {
    if (blocks_.at(region).prev != kNoBlock) return broken(region, "a region starts in the middle");
    if (blocks_.at(region).begin.get() < end)
      return broken(region, "regions overlap or are unsorted");
    BlockIndex prev_index = kNoBlock;
    for (BlockIndex i = region; i != kNoBlock; i = blocks_.at(i).next.get()) {
      const Block& block = blocks_.at(i);
      if (block.is(BlockState::kUnused)) return broken(i, "an unused record is linked");
      if (block.quanta.get() == 0) return broken(i, "it is empty");
      if (block.prev != prev_index) return broken(i, "the neighbour before does not point here");
      if (prev_index != kNoBlock) {
        const Block& prev = blocks_.at(prev_index);
        if (prev.begin.get() + prev.quanta.get() != block.begin.get())
          return broken(i, "it does not begin where the one before ends");
        if (prev.is(BlockState::kFree) && block.is(BlockState::kFree) &&
            prev.label.get() == block.label.get())
          return broken(i, "free neighbours of one label are apart");
      }
      for (const Quanta place : {block.begin.get(),
                                 block.begin.get() + block.quanta.get() / 2,
                                 block.begin.get() + block.quanta.get() - 1})
        if (find(place) != i) return broken(i, "it is not found from a place it covers");
      const std::size_t state = total_of(block.state.get());
      quanta[state] += block.quanta.get();
      ++counts[state];
      if (block.is(BlockState::kFree)) {
        ++listed[block.label.get()];
        listed_quanta[block.label.get()] += block.quanta.get();
      }
      end = std::uint64_t{block.begin.get()} + block.quanta.get();
      prev_index = i;
    }
  }
  for (std::size_t state = 0; state < kBlockStates; ++state)
    if (quanta[state] != quanta_[state] || counts[state] != counts_[state])
      return std::string("totals of state ") + name_of(static_cast<BlockState>(state)) + " are off";
  for (std::size_t label = 0; label < labels_.size(); ++label) {
    const FreeIndex& index = labels_[label]->index;
    if (index.count() != listed[label] || index.quanta() != listed_quanta[label])
      return "free index of label " + std::to_string(label) + " has other totals than its blocks";
    std::uint32_t walked = 0;
    for (std::uint32_t bin = 0; bin < kSizeClasses; ++bin) {
      BlockIndex before = kNoBlock;
      for (BlockIndex i = index.head(bin); i != kNoBlock; i = blocks_.at(i).link_next) {
        const Block& block = blocks_.at(i);
        if (!block.is(BlockState::kFree) || block.label.get() != label)
          return broken(i, "it is in the free index of a label that is not its own");
        if (size_class(block.quanta.get()) != bin) return broken(i, "it is in the wrong bin");
        if (block.link_prev != before) return broken(i, "its bin's links disagree");
        before = i;
        ++walked;
      }
    }
    if (walked != listed[label])
      return "free index of label " + std::to_string(label) + " lost a block";
  }
  return {};
}

}  // namespace spillway
