// SPDX-License-Identifier: Apache-2.0
// Places blocks in an offset space that is far larger than the memory: one region per power of two,
// cut into slots. Look-up of any inside address is two shifts, nothing fragments, a freed slot is
// the next one handed out (so a use after free hits the new owner), and a reset forgets everything.
#pragma once

#include "device/sim/memory_error.hpp"

#include <cstdint>
#include <vector>

namespace spillway::sim {

class SlotArena {
 public:
  static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};

  struct Slot {
    std::uint64_t bytes = 0;   // as asked for; the block is [slot begin, + bytes)
    std::uint64_t serial = 0;  // the owner's number for this block
    std::uint32_t flags = 0;   // the owner's
    bool live = false;
  };
  /// A live block, or where one would be (slot == nullptr).
  struct Found {
    std::uint64_t begin = kNowhere;
    const Slot* slot = nullptr;
  };

  /// Room for any set of live blocks whose rounded sizes sum to at most `capacity_bytes`, each a
  /// multiple of `unit_bytes`, and each followed by at least `gap_bytes` that belong to nobody.
  /// REQUIRES: unit_bytes is a power of two.
  SlotArena(std::uint64_t capacity_bytes, std::uint64_t unit_bytes, std::uint64_t gap_bytes);

  /// Bytes of offset space: a power of two.
  [[nodiscard]] std::uint64_t span_bytes() const { return span_bytes_; }

  /// Offset of a new block, or kNowhere when there is no slot for it.
  std::uint64_t allocate(std::uint64_t bytes,
                         std::uint64_t rounded_bytes,
                         std::uint64_t serial,
                         std::uint32_t flags);

  /// kOk, or kForeign, kDoubleFree, kFreed, kInterior; `found` is the block that was hit.
  MemoryError free(std::uint64_t offset, ByteRange* found);

  /// The live block that holds `offset`.
  [[nodiscard]] Found find(std::uint64_t offset) const;

  /// Why find() said no: kForeign, kFreed (or kOutOfBounds behind a live block), with the block.
  [[nodiscard]] MemoryError why_not(std::uint64_t offset, ByteRange* found) const;

  /// Whether a freed slot is the next one handed out (the default), or none ever again.
  void set_reuse(bool reuse) { reuse_ = reuse; }

  /// All blocks gone, in O(classes); the next blocks come where the first ones came.
  void reset();

  [[nodiscard]] std::uint64_t live_count() const { return live_count_; }

  /// In address order: visit(begin, slot).
  template <typename Visit>
  void for_each_live(Visit&& visit) const {
    if (live_count_ == 0) return;
    for (std::size_t index = 0; index < classes_.size(); ++index) {
      for (std::uint32_t number = 0; number < classes_[index].next; ++number) {
        const Slot& slot = classes_[index].slots[number];
        if (slot.live) visit(begin_of(index, number), slot);
      }
    }
  }

  /// Slots that were used at any time, even before a reset, and hold nothing now: visit(begin,
  /// bytes of the slot). Their pages may be given back to the machine.
  template <typename Visit>
  void for_each_idle(Visit&& visit) const {
    for (std::size_t index = 0; index < classes_.size(); ++index) {
      const Class& c = classes_[index];
      for (std::uint32_t number = 0; number < c.touched; ++number) {
        if (number >= c.next || !c.slots[number].live) {
          visit(begin_of(index, number), std::uint64_t{1} << (min_shift_ + index));
        }
      }
    }
  }

 private:
  struct Class {
    std::vector<Slot> slots;           // grows; [next, size) are leftovers of before a reset
    std::vector<std::uint32_t> freed;  // a stack
    std::uint32_t next = 0;
    std::uint32_t touched = 0;  // highest next ever
  };

  [[nodiscard]] std::uint64_t begin_of(std::size_t index, std::uint64_t number) const {
    return (std::uint64_t{index} << class_shift_) + (number << (min_shift_ + index));
  }

  std::uint64_t gap_bytes_;
  unsigned min_shift_;    // log2 of the smallest slot
  unsigned class_shift_;  // log2 of the bytes of one class's region
  std::uint64_t span_bytes_;
  std::uint64_t live_count_ = 0;
  bool reuse_ = true;
  std::vector<Class> classes_;
};

}  // namespace spillway::sim
