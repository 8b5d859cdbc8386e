// SPDX-License-Identifier: Apache-2.0
// Host memory that the simulator owns: pinned and managed blocks. The host has a view of them that
// can be taken away page by page while copies are in flight; kernels and the engine have their own.
// Every block starts on its own page, so a page belongs to one block. Freed pages are untouchable.
// Addresses are offsets from the base.
#pragma once

#include "device/sim/memory_backing.hpp"

#include <cstdint>

namespace spillway::sim {

struct PinnedBlock {
  ByteRange range;  // as asked for; bytes == 0: no block
  std::uint64_t serial = 0;
  std::uint32_t flags = 0;  // the caller's
  bool managed = false;
};

enum class GuardKind : std::uint8_t {
  kNoAccess,  // the device writes it: the host may neither read nor write
  kReadOnly,  // the device reads it: the host may read
};

class PinnedMemory {
 public:
  /// `backing` may be null: no contents.
  PinnedMemory(const MemoryLayout& layout, MemoryBacking* backing);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  PinnedMemory(PinnedMemory&&) = delete;
  PinnedMemory& operator=(PinnedMemory&&) = delete;

  /// Pinned bytes that the machine gives, registered ones included; at most pinned_bytes_max.
  void set_limit_bytes(std::uint64_t bytes);
  [[nodiscard]] std::uint64_t limit_bytes() const { return limit_bytes_; }
  [[nodiscard]] std::uint64_t pinned_bytes() const { return pinned_bytes_; }
  [[nodiscard]] std::uint64_t pinned_bytes_peak() const { return pinned_bytes_peak_; }
  [[nodiscard]] std::uint64_t managed_bytes() const { return managed_bytes_; }
  /// For memory that others own and register.
  bool charge(std::uint64_t bytes);
  void refund(std::uint64_t bytes) { pinned_bytes_ -= bytes; }

  MemoryError allocate(std::uint64_t bytes,
                       bool managed,
                       std::uint64_t serial,
                       std::uint32_t flags,
                       std::uint64_t* begin,
                       Misuse* misuse);
  /// `freed` is the block as it was. Guards on it are lifted.
  MemoryError free(std::uint64_t begin, bool managed, PinnedBlock* freed, Misuse* misuse);

  [[nodiscard]] PinnedBlock find(std::uint64_t at) const;
  [[nodiscard]] bool holds(std::uint64_t at) const {
    return at - layout_.pinned_begin() < layout_.linear_end() - layout_.pinned_begin();
  }
  [[nodiscard]] MemoryError why_not(std::uint64_t at, ByteRange* found) const;

  /// Every page that [begin, begin + bytes) touches, once more. The range must lie in one block.
  MemoryError guard(std::uint64_t begin, std::uint64_t bytes, GuardKind kind, Misuse* misuse);
  /// The same range and kind as one guard() before.
  MemoryError unguard(std::uint64_t begin, std::uint64_t bytes, GuardKind kind, Misuse* misuse);
  /// What the host may do with the page at `at` by the tables.
  [[nodiscard]] Access host_access(std::uint64_t at) const;

  void restore_page(std::uint64_t at);
  void restore_everything();

  [[nodiscard]] std::uint64_t live_count() const {
    return pinned_.live_count() + managed_.live_count();
  }
  template <typename Visit>
  void for_each_live(Visit&& visit) const {
    const auto visit_arena = [&](const SlotArena& arena, std::uint64_t base, bool managed) {
      arena.for_each_live([&](std::uint64_t offset, const SlotArena::Slot& slot) {
        visit(PinnedBlock{{base + offset, slot.bytes}, slot.serial, slot.flags, managed});
      });
    };
    visit_arena(pinned_, layout_.pinned_begin(), false);
    visit_arena(managed_, layout_.managed_begin(), true);
  }
  template <typename Visit>
  void for_each_idle(Visit&& visit) const {
    pinned_.for_each_idle([&](std::uint64_t offset, std::uint64_t bytes) {
      visit(layout_.pinned_begin() + offset, bytes);
    });
    managed_.for_each_idle([&](std::uint64_t offset, std::uint64_t bytes) {
      visit(layout_.managed_begin() + offset, bytes);
    });
  }

  void reset();

 private:
  MemoryError change(
      std::uint64_t begin, std::uint64_t bytes, GuardKind kind, bool add, Misuse* misuse);
  [[nodiscard]] PageGuard& page(std::uint64_t at) const {
    return backing_->page_guards()[(at - layout_.pinned_begin()) / kPageBytes];
  }
  void close(const ByteRange& block);

  MemoryLayout layout_;
  MemoryBacking* backing_;
  SlotArena pinned_;
  SlotArena managed_;
  std::uint64_t limit_bytes_;
  std::uint64_t pinned_bytes_ = 0;
  std::uint64_t pinned_bytes_peak_ = 0;
  std::uint64_t managed_bytes_ = 0;
};

}  // namespace spillway::sim
