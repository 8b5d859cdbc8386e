// SPDX-License-Identifier: Apache-2.0
// From an address to the block that covers it, in O(1), also for interior addresses and without a
// lock. Space is cut into chunks of 16 quanta (8 KiB); a hash table names the first block that
// starts in a chunk, and a tree of bitmaps says which chunks have one. A look-up goes to the
// nearest such chunk at or before the address and from there at most 16 blocks along.
#pragma once

#include "allocator/block.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace spillway {

/// INVARIANT: the bit of a chunk is set iff a block starts in it, and the table then holds the
/// first of them. Host memory: 16 to 32 bytes per chunk with a block, and 2 KiB per GiB of address
/// range (touched only where blocks are). Threads: find() from anywhere inside
/// BriefMutex::try_read, the rest under the pool's lock.
class StartIndex {
 public:
  static constexpr std::uint32_t kChunkShift = 4;
  static constexpr Quanta kChunkQuanta = Quanta{1} << kChunkShift;

  StartIndex() = default;
  StartIndex(const StartIndex&) = delete;
  StartIndex& operator=(const StartIndex&) = delete;
  StartIndex(StartIndex&&) = delete;
  StartIndex& operator=(StartIndex&&) = delete;
  ~StartIndex() = default;

  /// For places below `end`. False: out of host memory.
  bool create(Quanta end);

  /// Makes sure that `count` calls of insert() succeed. False: out of host memory.
  bool reserve(std::uint32_t count) { return (used_ + count) * 2 <= capacity_ || grow(count); }
  /// The block is linked to its neighbours already. REQUIRES: reserved.
  void insert(const BlockTable& blocks, BlockIndex index);
  /// The block is still linked.
  void erase(const BlockTable& blocks, BlockIndex index);

  /// The block with the largest begin at or below `place`; none if there is none. The caller sees
  /// to it that the block really reaches that far.
  [[nodiscard]] BlockIndex find(const BlockTable& blocks, Quanta place) const;
  /// The block that begins at `place`, if one does. For the holder of the pool's lock.
  [[nodiscard]] BlockIndex find_start(const BlockTable& blocks, Quanta place) const {
    const std::uint32_t chunk = chunk_of(place);
    std::uint32_t i = (chunk * kMultiplier) >> shift_;
    std::uint64_t slot = slots_[i].get();
    while (static_cast<std::uint32_t>(slot >> 32) != chunk) {
      if (slot == 0) return kNoBlock;
      i = (i + 1) & (capacity_ - 1);
      slot = slots_[i].get();
    }
    // An empty slot is also one of chunk 0: block 0, which is none.
    auto index = static_cast<BlockIndex>(slot);
    for (;;) {
      const Block& block = blocks.at(index);
      const Quanta begin = block.begin.get();
      if (begin == place) return index;
      if (begin > place || index == kNoBlock) return kNoBlock;
      index = block.next.get();
    }
  }

  [[nodiscard]] std::size_t metadata_bytes() const;  // of the table; the bitmaps are apart
  [[nodiscard]] std::size_t bitmap_bytes() const { return bitmap_words_ * sizeof(std::uint64_t); }

 private:
  static constexpr std::uint32_t kMinCapacity = 1024;
  static constexpr std::uint32_t kMultiplier = 0x9e3779b1u;
  static constexpr std::uint32_t kLevels = 5;  // 64^5 > 2^28 chunks

  // A slot is chunk << 32 | block; 0 is empty (no block has index 0).
  using Slot = SharedField<std::uint64_t>;
  struct Table {
    std::uint32_t mask = 0;
    std::uint32_t shift = 0;
    std::unique_ptr<Slot[]> slots;
  };
  using Words = std::unique_ptr<SharedField<std::uint64_t>[], void (*)(void*)>;

  static std::uint32_t chunk_of(Quanta place) { return place >> kChunkShift; }
  static std::uint32_t home(const Table& table, std::uint32_t chunk) {
    return (chunk * kMultiplier) >> table.shift;
  }
  bool grow(std::uint32_t count);
  static void put(Table& table, std::uint32_t chunk, BlockIndex index);
  [[nodiscard]] Slot& slot_of(std::uint32_t chunk) const;  // REQUIRES: present
  void remove(std::uint32_t chunk);
  [[nodiscard]] bool has_bit(std::uint32_t chunk) const;
  void set_bit(std::uint32_t chunk);
  void clear_bit(std::uint32_t chunk);
  [[nodiscard]] std::uint32_t at_or_before(std::uint32_t chunk) const;

  SharedField<Table*> table_;
  std::vector<std::unique_ptr<Table>> tables_;  // older ones stay for readers that are inside
  const Slot* slots_ = nullptr;  // of the table, as its shift: for the holder of the lock
  std::uint32_t shift_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t used_ = 0;
  std::size_t bitmap_words_ = 0;
  std::uint32_t levels_ = 0;
  std::array<Words, kLevels> words_{Words(nullptr, nullptr),
                                    Words(nullptr, nullptr),
                                    Words(nullptr, nullptr),
                                    Words(nullptr, nullptr),
                                    Words(nullptr, nullptr)};
};

}  // namespace spillway
