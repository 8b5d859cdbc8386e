// SPDX-License-Identifier: Apache-2.0
#include "device/sim/slot_arena.hpp"

#include <algorithm>
#include <bit>

namespace spillway::sim {

SlotArena::SlotArena(std::uint64_t capacity_bytes,
                     std::uint64_t unit_bytes,
                     std::uint64_t gap_bytes)
    : gap_bytes_(gap_bytes),
      min_shift_(static_cast<unsigned>(std::bit_width(unit_bytes + gap_bytes - 1))) {
  // A slot of S bytes serves blocks of more than S/2 - gap, so 2 x capacity is room for as many as
  // can live at once; and the largest slot, of at least capacity + gap, fits once.
  const std::uint64_t top = std::max(capacity_bytes, unit_bytes) + gap_bytes;
  const unsigned max_shift = std::max(min_shift_, static_cast<unsigned>(std::bit_width(top - 1)));
  class_shift_ = max_shift + 1;
  classes_.resize(std::bit_ceil(std::size_t{max_shift - min_shift_} + 1));
  span_bytes_ = std::uint64_t{classes_.size()} << class_shift_;
}

std::uint64_t SlotArena::allocate(std::uint64_t bytes,
                                  std::uint64_t rounded_bytes,
                                  std::uint64_t serial,
                                  std::uint32_t flags) {
  const std::uint64_t room = rounded_bytes + gap_bytes_;
  if (room < rounded_bytes || rounded_bytes == 0) return kNowhere;
  const unsigned shift = std::max(min_shift_, static_cast<unsigned>(std::bit_width(room - 1)));
  if (shift >= class_shift_) return kNowhere;
  Class& c = classes_[shift - min_shift_];
  std::uint32_t number = c.next;
  if (reuse_ && !c.freed.empty()) {
    number = c.freed.back();
    c.freed.pop_back();
  } else {
    if (std::uint64_t{number} >= std::uint64_t{1} << (class_shift_ - shift)) return kNowhere;
    ++c.next;
    c.touched = std::max(c.touched, c.next);
    if (c.next > c.slots.size()) c.slots.emplace_back();
  }
  c.slots[number] = Slot{bytes, serial, flags, true};
  ++live_count_;
  return begin_of(shift - min_shift_, number);
}

MemoryError SlotArena::free(std::uint64_t offset, ByteRange* found) {
  const Found at = find(offset);
  if (at.slot == nullptr) {
    const MemoryError why = why_not(offset, found);
    return why == MemoryError::kFreed && found->begin == offset ? MemoryError::kDoubleFree : why;
  }
  *found = ByteRange{at.begin, at.slot->bytes};
  if (at.begin != offset) return MemoryError::kInterior;
  const std::size_t index = offset >> class_shift_;
  Class& c = classes_[index];
  const auto number =
      static_cast<std::uint32_t>((offset - begin_of(index, 0)) >> (min_shift_ + index));
  c.slots[number].live = false;
  c.freed.push_back(number);
  --live_count_;
  return MemoryError::kOk;
}

SlotArena::Found SlotArena::find(std::uint64_t offset) const {
  if (offset >= span_bytes_) return {};
  const std::size_t index = offset >> class_shift_;
  const Class& c = classes_[index];
  const std::uint64_t number = (offset - begin_of(index, 0)) >> (min_shift_ + index);
  if (number >= c.next) return {};
  const Slot& slot = c.slots[number];
  const std::uint64_t begin = begin_of(index, number);
  if (!slot.live || offset - begin >= slot.bytes) return {};
  return Found{begin, &slot};
}

MemoryError SlotArena::why_not(std::uint64_t offset, ByteRange* found) const {
  *found = {};
  if (offset >= span_bytes_) return MemoryError::kForeign;
  const std::size_t index = offset >> class_shift_;
  const Class& c = classes_[index];
  const std::uint64_t number = (offset - begin_of(index, 0)) >> (min_shift_ + index);
  if (number >= c.next) return MemoryError::kForeign;
  *found = ByteRange{begin_of(index, number), c.slots[number].bytes};
  if (c.slots[number].live) return MemoryError::kOutOfBounds;
  return offset < found->end() ? MemoryError::kFreed : MemoryError::kForeign;
}

void SlotArena::reset() {
  for (Class& c : classes_) {
    c.freed.clear();
    c.next = 0;
  }
  live_count_ = 0;
}

}  // namespace spillway::sim
