// SPDX-License-Identifier: Apache-2.0
#include "allocator/free_index.hpp"

namespace spillway {

void FreeIndex::insert(BlockTable& blocks, BlockIndex index) {
  Block& block = blocks.at(index);
  const Quanta quanta = block.quanta.get();
  const std::uint32_t bin = size_class(quanta);
  BlockIndex before = kNoBlock;
  BlockIndex after = heads_[bin];
  for (std::uint32_t scanned = 0; after != kNoBlock && scanned < kScanBlocks; ++scanned) {
    const Block& other = blocks.at(after);
    const Quanta size = other.quanta.get();
    if (size > quanta || (size == quanta && other.begin.get() > block.begin.get())) break;
    before = after;
    after = other.link_next;
  }
  block.link_prev = before;
  block.link_next = after;
  if (after != kNoBlock) blocks.at(after).link_prev = index;
  if (before != kNoBlock) {
    blocks.at(before).link_next = index;
  } else {
    heads_[bin] = index;
    bits_[bin / 32] |= 1u << (bin % 32);
    rows_ |= 1u << (bin / 32);
  }
  quanta_ += quanta;
  ++count_;
}

void FreeIndex::erase(BlockTable& blocks, BlockIndex index) {
  Block& block = blocks.at(index);
  const BlockIndex before = block.link_prev;
  const BlockIndex after = block.link_next;
  if (after != kNoBlock) blocks.at(after).link_prev = before;
  if (before != kNoBlock) {
    blocks.at(before).link_next = after;
  } else {
    const std::uint32_t bin = size_class(block.quanta.get());
    heads_[bin] = after;
    if (after == kNoBlock) {
      bits_[bin / 32] &= ~(1u << (bin % 32));
      if (bits_[bin / 32] == 0) rows_ &= ~(1u << (bin / 32));
    }
  }
  block.link_next = kNoBlock;
  block.link_prev = kNoBlock;
  quanta_ -= block.quanta.get();
  --count_;
}

BlockIndex FreeIndex::head_from(std::uint32_t bin) const {
  if (bin >= kSizeClasses) return kNoBlock;
  const std::uint32_t row = bin / 32;
  const std::uint32_t bits = bits_[row] & (~0u << (bin % 32));
  if (bits != 0) return heads_[row * 32 + static_cast<std::uint32_t>(std::countr_zero(bits))];
  const std::uint32_t rows = row >= 31 ? 0 : rows_ & (~0u << (row + 1));
  if (rows == 0) return kNoBlock;
  const auto next = static_cast<std::uint32_t>(std::countr_zero(rows));
  return heads_[next * 32 + static_cast<std::uint32_t>(std::countr_zero(bits_[next]))];
}

BlockIndex FreeIndex::find(const BlockTable& blocks, Quanta quanta) const {
  const std::uint32_t bin = size_class(quanta);
  BlockIndex index = heads_[bin];
  for (std::uint32_t scanned = 0; index != kNoBlock && scanned < kScanBlocks; ++scanned) {
    const Block& block = blocks.at(index);
    if (block.quanta.get() >= quanta) return index;
    index = block.link_next;
  }
  return head_from(bin + 1);
}

BlockIndex FreeIndex::any_large() const {
  if (rows_ == 0) return kNoBlock;
  const auto row = static_cast<std::uint32_t>(std::bit_width(rows_)) - 1;
  const auto bit = static_cast<std::uint32_t>(std::bit_width(bits_[row])) - 1;
  return heads_[row * 32 + bit];
}

}  // namespace spillway
