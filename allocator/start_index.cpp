// SPDX-License-Identifier: Apache-2.0
#include "allocator/start_index.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

namespace spillway {
namespace {

constexpr std::uint32_t kNoChunk = 0xffffffffu;

constexpr std::uint64_t slot_value(std::uint32_t chunk, BlockIndex index) {
  return std::uint64_t{chunk} << 32 | index;
}
constexpr std::uint32_t chunk_in(std::uint64_t slot) {
  return static_cast<std::uint32_t>(slot >> 32);
}
constexpr BlockIndex block_in(std::uint64_t slot) { return static_cast<BlockIndex>(slot); }

}  // namespace

bool StartIndex::create(Quanta end) {
  std::uint64_t bits = std::uint64_t{chunk_of(end)} + 1;
  levels_ = 0;
  bitmap_words_ = 0;
  do {
    const std::uint64_t words = (bits + 63) / 64;
    // calloc: pages that nobody touches cost nothing, and zero bytes are zero words.
    void* memory = std::calloc(words, sizeof(SharedField<std::uint64_t>));
    if (memory == nullptr) return false;
    words_[levels_++] = Words(static_cast<SharedField<std::uint64_t>*>(memory), &std::free);
    bitmap_words_ += words;
    bits = words;
  } while (bits > 1);
  return grow(0);
}

bool StartIndex::grow(std::uint32_t count) {
  const std::uint64_t wanted =
      std::max<std::uint64_t>(kMinCapacity, std::bit_ceil((std::uint64_t{used_} + count) * 2));
  if (wanted > (1u << 30)) return false;
  std::unique_ptr<Table> made(new (std::nothrow) Table);
  if (made == nullptr) return false;
  made->slots.reset(new (std::nothrow) Slot[wanted]);
  if (made->slots == nullptr) return false;
  made->mask = static_cast<std::uint32_t>(wanted - 1);
  made->shift = 32 - static_cast<std::uint32_t>(std::countr_zero(wanted));
  if (const Table* old = table_.get()) {
    for (std::uint32_t i = 0; i <= old->mask; ++i) {
      const std::uint64_t slot = old->slots[i].get();
      if (slot != 0) put(*made, chunk_in(slot), block_in(slot));
    }
  }
  table_.set(made.get());
  slots_ = made->slots.get();
  shift_ = made->shift;
  tables_.push_back(std::move(made));
  capacity_ = static_cast<std::uint32_t>(wanted);
  return true;
}

void StartIndex::put(Table& table, std::uint32_t chunk, BlockIndex index) {
  std::uint32_t i = home(table, chunk);
  while (table.slots[i].get() != 0) i = (i + 1) & table.mask;
  table.slots[i].set(slot_value(chunk, index));
}

StartIndex::Slot& StartIndex::slot_of(std::uint32_t chunk) const {
  const Table& table = *table_.get();
  std::uint32_t i = home(table, chunk);
  while (chunk_in(table.slots[i].get()) != chunk) i = (i + 1) & table.mask;
  return table.slots[i];
}

void StartIndex::remove(std::uint32_t chunk) {
  const Table& table = *table_.get();
  std::uint32_t hole = home(table, chunk);
  while (chunk_in(table.slots[hole].get()) != chunk || table.slots[hole].get() == 0)
    hole = (hole + 1) & table.mask;
  // Backward shift: whoever was pushed past the hole moves into it, so no tombstones are needed.
  for (std::uint32_t i = (hole + 1) & table.mask;; i = (i + 1) & table.mask) {
    const std::uint64_t slot = table.slots[i].get();
    if (slot == 0) break;
    const std::uint32_t wanted = home(table, chunk_in(slot));
    if (((i - wanted) & table.mask) < ((i - hole) & table.mask)) continue;
    table.slots[hole].set(slot);
    hole = i;
  }
  table.slots[hole].set(0);
  --used_;
}

bool StartIndex::has_bit(std::uint32_t chunk) const {
  return (words_[0][chunk / 64].get() >> (chunk % 64) & 1) != 0;
}

void StartIndex::set_bit(std::uint32_t chunk) {
  std::uint32_t bit = chunk;
  for (std::uint32_t level = 0; level < levels_; ++level) {
    SharedField<std::uint64_t>& word = words_[level][bit / 64];
    const std::uint64_t before = word.get();
    word.set(before | std::uint64_t{1} << (bit % 64));
    if (before != 0) return;
    bit /= 64;
  }
}

void StartIndex::clear_bit(std::uint32_t chunk) {
  std::uint32_t bit = chunk;
  for (std::uint32_t level = 0; level < levels_; ++level) {
    SharedField<std::uint64_t>& word = words_[level][bit / 64];
    const std::uint64_t after = word.get() & ~(std::uint64_t{1} << (bit % 64));
    word.set(after);
    if (after != 0) return;
    bit /= 64;
  }
}

std::uint32_t StartIndex::at_or_before(std::uint32_t chunk) const {
  std::uint32_t bit = chunk;
  for (std::uint32_t level = 0; level < levels_; ++level) {
    // Bits at or before `bit` in its word; above level 0 strictly before, as the word itself had
    // none.
    const std::uint32_t in_word = bit % 64;
    std::uint64_t mask =
        level == 0 ? ~std::uint64_t{0} >> (63 - in_word) : (std::uint64_t{1} << in_word) - 1;
    std::uint64_t word = words_[level][bit / 64].get() & mask;
    if (word == 0) {
      bit /= 64;
      continue;
    }
    std::uint32_t found = bit / 64 * 64 + static_cast<std::uint32_t>(std::bit_width(word)) - 1;
    while (level-- > 0) {
      word = words_[level][found].get();
      if (word == 0) return kNoChunk;  // a reader without the lock, in the middle of a change
      found = found * 64 + static_cast<std::uint32_t>(std::bit_width(word)) - 1;
    }
    return found;
  }
  return kNoChunk;
}

void StartIndex::insert(const BlockTable& blocks, BlockIndex index) {
  const Quanta begin = blocks.at(index).begin.get();
  const std::uint32_t chunk = chunk_of(begin);
  if (!has_bit(chunk)) {
    set_bit(chunk);
    put(*table_.get(), chunk, index);
    ++used_;
    return;
  }
  Slot& slot = slot_of(chunk);
  if (begin < blocks.at(block_in(slot.get())).begin.get()) slot.set(slot_value(chunk, index));
}

void StartIndex::erase(const BlockTable& blocks, BlockIndex index) {
  const Block& block = blocks.at(index);
  const std::uint32_t chunk = chunk_of(block.begin.get());
  Slot& slot = slot_of(chunk);
  if (block_in(slot.get()) != index) return;
  const BlockIndex next = block.next.get();
  if (next != kNoBlock && chunk_of(blocks.at(next).begin.get()) == chunk) {
    slot.set(slot_value(chunk, next));
    return;
  }
  remove(chunk);
  clear_bit(chunk);
}

BlockIndex StartIndex::find(const BlockTable& blocks, Quanta place) const {
  std::uint32_t chunk = chunk_of(place);
  BlockIndex index = kNoBlock;
  for (int attempt = 0; attempt < 2; ++attempt) {
    chunk = at_or_before(chunk);
    if (chunk == kNoChunk) return kNoBlock;
    const Table& table = *table_.get();
    std::uint32_t i = home(table, chunk);
    std::uint64_t slot = table.slots[i].get();
    // Bounded, since a reader without the lock may look while slots move.
    for (std::uint32_t probes = 0; chunk_in(slot) != chunk || slot == 0; ++probes) {
      if (probes > table.mask || slot == 0) return kNoBlock;
      i = (i + 1) & table.mask;
      slot = table.slots[i].get();
    }
    index = block_in(slot);
    if (blocks.at(index).begin.get() <= place) break;
    // The first block of this chunk starts behind the place: the one before it does not.
    if (chunk == 0) return kNoBlock;
    --chunk;
    index = kNoBlock;
  }
  if (index == kNoBlock) return kNoBlock;
  for (std::uint32_t step = 0; step < (1u << kChunkShift); ++step) {
    const BlockIndex next = blocks.at(index).next.get();
    if (next == kNoBlock || blocks.at(next).begin.get() > place) break;
    index = next;
  }
  return index;
}

std::size_t StartIndex::metadata_bytes() const {
  std::size_t bytes = 0;
  for (const auto& table : tables_) bytes += (std::size_t{table->mask} + 1) * sizeof(Slot);
  return bytes;
}

}  // namespace spillway
