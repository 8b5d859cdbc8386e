// SPDX-License-Identifier: Apache-2.0
// Blocks given back on a stream, whole, by size: the next allocation of exactly such a size takes
// one without searching, splitting and merging, which is what most allocations of a training step
// find: its sizes are few. How many are kept, and when they are merged, is a matter of memory
// (docs/allocator.md).
#pragma once

#include "allocator/block.hpp"

#include <array>
#include <cstdint>

namespace spillway {

/// Lists of blocks of one size each, through link_next, the newest first. A size lives in one of
/// four places, found by hashing, and keeps it while its list is empty until another size wants it.
/// INVARIANT: all blocks of a list have its size; no size has two places.
/// Threads: none; the pool's lock.
class KeptSizes {
 public:
  static constexpr std::uint32_t kBlocksMax = 32;

  /// The newest block of exactly `quanta`, which leaves; none if there is none.
  /// REQUIRES: quanta > 0.
  BlockIndex take(const BlockTable& blocks, Quanta quanta) {
    List* list = &lists_[home(quanta)];
    if (list->quanta != quanta) [[unlikely]] {
      list = find_beside(quanta);
      if (list == nullptr) return kNoBlock;
    }
    const BlockIndex index = list->newest;
    if (index == kNoBlock) return kNoBlock;
    list->newest = blocks.at(index).link_next;
    --count_;
    return index;
  }

  /// Enters a block. False: there is no room; after take_rival(), perhaps several times, there is.
  bool put(Block& block, BlockIndex index, Quanta quanta) {
    List* list = &lists_[home(quanta)];
    if (list->quanta != quanta) [[unlikely]] {
      list = find_place(quanta);
      if (list == nullptr) return false;
    }
    if (count_ == kBlocksMax) [[unlikely]]
      return false;
    block.link_next = list->newest;
    list->newest = index;
    ++count_;
    return true;
  }

  /// A block that leaves so that one of `quanta` may enter. REQUIRES: put() found no room.
  BlockIndex take_rival(const BlockTable& blocks, Quanta quanta) {
    if (count_ == kBlocksMax || find_place(quanta) != nullptr) return take_any(blocks);
    // All four places are those of other sizes.
    return pop(blocks, lists_[home(quanta) ^ (count_ % kPlaces)]);
  }

  /// A block that leaves, of one size after another; none when there is none.
  BlockIndex take_any(const BlockTable& blocks) {
    if (count_ == 0) return kNoBlock;
    while (lists_[hand_ % kLists].newest == kNoBlock) ++hand_;
    return pop(blocks, lists_[hand_ % kLists]);
  }

  template <typename Body>
  void for_each(const BlockTable& blocks, Body body) const {
    for (const List& list : lists_)
      for (BlockIndex i = list.newest; i != kNoBlock; i = blocks.at(i).link_next)
        body(i, list.quanta);
  }
  [[nodiscard]] std::uint32_t count() const { return count_; }

 private:
  static constexpr std::uint32_t kListShift = 7;
  static constexpr std::uint32_t kLists = 1u << kListShift;
  static constexpr std::uint32_t kPlaces = 4;  // home, and home ^ 1, 2, 3

  struct List {
    Quanta quanta = 0;  // 0: nobody's place
    BlockIndex newest = kNoBlock;
  };

  static std::uint32_t home(Quanta quanta) { return (quanta * 0x9e3779b1u) >> (32 - kListShift); }

  [[nodiscard]] List* find_beside(Quanta quanta) {
    for (std::uint32_t i = 1; i < kPlaces; ++i)
      if (List& list = lists_[home(quanta) ^ i]; list.quanta == quanta) return &list;
    return nullptr;
  }
  // The size's place, or a new one that no other size needs; null when there is none.
  [[nodiscard]] List* find_place(Quanta quanta) {
    if (List& list = lists_[home(quanta)]; list.quanta == quanta) return &list;
    if (List* const list = find_beside(quanta)) return list;
    for (std::uint32_t i = 0; i < kPlaces; ++i)
      if (List& list = lists_[home(quanta) ^ i]; list.newest == kNoBlock) {
        list.quanta = quanta;
        return &list;
      }
    return nullptr;
  }

  BlockIndex pop(const BlockTable& blocks, List& list) {
    const BlockIndex index = list.newest;
    list.newest = blocks.at(index).link_next;
    --count_;
    return index;
  }

  std::array<List, kLists> lists_{};
  std::uint32_t hand_ = 0;  // whose block leaves next
  std::uint32_t count_ = 0;
};

}  // namespace spillway
