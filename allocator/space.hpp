// SPDX-License-Identifier: Apache-2.0
// Which bytes of an arena are whose: blocks side by side, each free one under the label whose order
// it follows. Pure bookkeeping: no driver, no device memory, no lock. The device pool is this plus
// streams, mappings and a budget.
//
//   region   |live|free a|free b|live|        unmapped        |     a, b: labels
//            by address: doubly linked; by place: StartIndex; free ones by size: FreeIndex of the
//            label
//
// Labels come in groups. The neutral label of a group holds what anybody in the group may take at
// once; the others hold what was given back on one stream. A block that is given back becomes one
// with free neighbours of its own label and with neutral ones, which then follow its label. Other
// neighbours stay apart until somebody who has waited for both joins them.
#pragma once

#include "allocator/block.hpp"
#include "allocator/free_index.hpp"
#include "allocator/quantum.hpp"
#include "allocator/start_index.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway {

/// Blocks that may become one another's: the arena, the "comm" chunks, a capture, a planned layout.
using GroupIndex = std::uint16_t;

/// INVARIANTS, executed by check_invariants():
///   regions are tiled: every place belongs to exactly one block, neighbours point at each other
///   quanta(live and kept) + quanta(free) + quanta(deferred) + quanta(claimed) == mapped
///   quanta a free block is in the index of its label, and in no other no two free neighbours have
///   one label every block is found from every place it covers
/// Threads: none; the pool's lock. find() may be called by readers inside BriefMutex::try_read.
class Space {
 public:
  Space() = default;

  /// For places below `end`. False: out of host memory.
  bool create(Quanta end) { return starts_.create(end); }

  /// A new group with its neutral label, and a further label of a group. Labels are never taken
  /// back, but may be used for something else when empty.
  LabelIndex add_label(GroupIndex group);
  [[nodiscard]] GroupIndex group_of(LabelIndex label) const { return labels_[label]->group; }
  [[nodiscard]] LabelIndex neutral_of(GroupIndex group) const { return neutral_[group]; }
  [[nodiscard]] bool is_neutral(LabelIndex label) const {
    return neutral_of(group_of(label)) == label;
  }
  GroupIndex add_group();
  [[nodiscard]] const FreeIndex& index_of(LabelIndex label) const { return labels_[label]->index; }
  [[nodiscard]] std::size_t label_count() const { return labels_.size(); }
  /// REQUIRES: its label index is empty, it is not neutral.
  void move_label(LabelIndex label, GroupIndex group) { labels_[label]->group = group; }

  /// All functions that may create blocks fail only when reserve() does. `count`: how many.
  bool reserve(std::uint32_t count) { return blocks_.reserve(count) && starts_.reserve(count); }

  /// [begin, begin + quanta) becomes a region of its own, one unmapped block of `label`'s group.
  /// REQUIRES: overlaps no region; begin is a multiple of StartIndex::kChunkQuanta (a chunk belongs
  /// to one region, or look-ups would end at the border); reserve(1).
  BlockIndex add_region(Quanta begin, Quanta quanta, LabelIndex label);
  /// REQUIRES: the region is one unmapped block.
  void remove_region(BlockIndex index);

  /// Best fit among the free blocks of a label.
  [[nodiscard]] BlockIndex find_free(LabelIndex label, Quanta quanta) const {
    return labels_[label]->index.find(blocks_, quanta);
  }
  /// The block that covers `place`; none outside every region.
  [[nodiscard]] BlockIndex find(Quanta place) const {
    const BlockIndex index = starts_.find(blocks_, place);
    if (index == kNoBlock) return kNoBlock;
    const Block& block = blocks_.at(index);
    return place - block.begin.get() < block.quanta.get() ? index : kNoBlock;
  }

  /// The block that begins at `place`; none if none does.
  [[nodiscard]] BlockIndex find_start(Quanta place) const {
    return starts_.find_start(blocks_, place);
  }

  /// Takes `quanta` from a free block, at its low or its high end, or at `offset`; the rest stays
  /// free under its label. The block becomes `state`. REQUIRES: reserve(1), or 2 for take_at.
  enum class End : std::uint8_t { kLow, kHigh };
  BlockIndex take(BlockIndex free_block, Quanta quanta, End end, BlockState state);
  BlockIndex take_at(BlockIndex free_block, Quanta offset, Quanta quanta, BlockState state);

  /// A block that is not free becomes free under `label`, given back at `epoch` of it, and one with
  /// its neighbours as the rules above say. Returns the block that it is part of now.
  BlockIndex give(BlockIndex index, LabelIndex label, std::uint64_t epoch);

  /// As take_at for a block in any state but free: cuts, all parts keep the state. Returns the part
  /// [offset, offset + quanta). REQUIRES: reserve(2).
  BlockIndex cut(BlockIndex index, Quanta offset, Quanta quanta);
  /// Unmapped or claimed neighbours with the same state and group become one.
  BlockIndex join_equal(BlockIndex index);

  /// Among runs of free neighbours in a group all of which `usable` accepts, the shortest of at
  /// least `quanta`, the lowest among equals; [first, last], or none. Walks all blocks.
  struct Run {
    BlockIndex first = kNoBlock;
    BlockIndex last = kNoBlock;
    Quanta quanta = 0;
  };
  [[nodiscard]] Run find_run(GroupIndex group,
                             Quanta quanta,
                             const std::function<bool(const Block&)>& usable) const;
  /// The run becomes one block in `state`.
  BlockIndex join(const Run& run, BlockState state);

  /// Whether [begin, begin + quanta) lies in free blocks of `group` alone; `body(block)` for each.
  template <typename Body>
  [[nodiscard]] bool is_free_range(Quanta begin, Quanta quanta, GroupIndex group, Body body) const {
    BlockIndex i = find(begin);
    for (std::uint64_t place = begin; place < std::uint64_t{begin} + quanta;) {
      if (i == kNoBlock) return false;
      const Block& block = blocks_.at(i);
      if (!block.is(BlockState::kFree) || group_of(block.label.get()) != group) return false;
      body(block);
      place = std::uint64_t{block.begin.get()} + block.quanta.get();
      i = block.next.get();
    }
    return true;
  }
  /// The range becomes one block in `state`; what its free blocks have beyond it stays free.
  /// REQUIRES: is_free_range; reserve(2).
  BlockIndex claim_range(Quanta begin, Quanta quanta, BlockState state);
  /// The block behind becomes part of this one. REQUIRES: neither is free.
  void merge_next(BlockIndex index) { absorb_next(index); }

  /// All free blocks of a label follow another label from now on, with its epoch. Returns quanta.
  std::uint64_t relabel(LabelIndex from, LabelIndex to, std::uint64_t epoch) {
    return relabel_up_to(from, ~std::uint64_t{0}, to, epoch);
  }

  /// Every free block of `label` given back at `epoch` or before becomes neutral. Returns quanta.
  std::uint64_t neutralize(LabelIndex label, std::uint64_t epoch) {
    return relabel_up_to(label, epoch, neutral_of(group_of(label)), 0);
  }

  [[nodiscard]] BlockTable& blocks() { return blocks_; }
  [[nodiscard]] const BlockTable& blocks() const { return blocks_; }
  [[nodiscard]] Block& at(BlockIndex index) { return blocks_.at(index); }
  [[nodiscard]] const Block& at(BlockIndex index) const { return blocks_.at(index); }
  void set_state(BlockIndex index, BlockState state);

  /// Live and kept blocks have totals in common, so that a block which goes to and fro between the
  /// two needs nothing but its state set.
  [[nodiscard]] std::uint64_t quanta_in(BlockState state) const { return quanta_[total_of(state)]; }
  [[nodiscard]] std::uint32_t count_in(BlockState state) const { return counts_[total_of(state)]; }
  /// First blocks of all regions, by address.
  [[nodiscard]] std::span<const BlockIndex> regions() const { return regions_; }
  /// Visits every block, region by region, by address.
  template <typename Body>
  void for_each(Body body) const {
    for (const BlockIndex region : regions_)
      for (BlockIndex i = region; i != kNoBlock; i = blocks_.at(i).next.get())
        body(i, blocks_.at(i));
  }

  [[nodiscard]] std::size_t metadata_bytes() const;
  [[nodiscard]] const StartIndex& starts() const { return starts_; }

  /// Empty, or what is broken.
  [[nodiscard]] std::string check_invariants() const;

 private:
  struct Label {
    GroupIndex group = 0;
    FreeIndex index;
  };

  std::uint64_t relabel_up_to(LabelIndex from,
                              std::uint64_t epoch_max,
                              LabelIndex to,
                              std::uint64_t epoch);
  static std::size_t total_of(BlockState state) {
    return static_cast<std::size_t>(state == BlockState::kKept ? BlockState::kLive : state);
  }
  void unlist(BlockIndex index);
  void list(BlockIndex index);
  void enter(BlockIndex index, BlockState state);
  void leave(BlockIndex index);
  BlockIndex split(BlockIndex index, Quanta quanta);
  void absorb_next(BlockIndex index);

  BlockTable blocks_;
  StartIndex starts_;
  std::vector<std::unique_ptr<Label>> labels_;
  std::vector<LabelIndex> neutral_;  // by group
  std::vector<BlockIndex> regions_;
  std::uint64_t quanta_[kBlockStates] = {};
  std::uint32_t counts_[kBlockStates] = {};
};

}  // namespace spillway
