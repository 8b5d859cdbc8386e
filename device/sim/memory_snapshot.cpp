// SPDX-License-Identifier: Apache-2.0
#include "device/sim/memory_snapshot.hpp"

#include <cstring>
#include <utility>

namespace spillway::sim {

MemorySnapshot::MemorySnapshot(const Memory& memory, std::vector<ByteRange> flat_ranges)
    : memory_(&memory), ranges_(std::move(flat_ranges)) {
  std::size_t total = 0;
  for (const ByteRange& range : ranges_) {
    begins_.push_back(total);
    total += range.bytes;
  }
  if (!memory.full()) return;
  bytes_.resize(total);
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    std::memcpy(bytes_.data() + begins_[i], memory.window(ranges_[i].begin), ranges_[i].bytes);
  }
}

void MemorySnapshot::restore() const {
  if (!memory_->full()) return;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    std::memcpy(memory_->window(ranges_[i].begin), bytes(i), ranges_[i].bytes);
  }
}

void MemorySnapshot::flip() const {
  if (!memory_->full()) return;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    std::byte* to = memory_->window(ranges_[i].begin);
    const std::byte* from = bytes(i);
    for (std::uint64_t at = 0; at < ranges_[i].bytes; ++at) to[at] = ~from[at];
  }
}

std::uint64_t MemorySnapshot::first_difference(bool flipped) const {
  if (!memory_->full()) return kSame;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const std::byte* now = memory_->window(ranges_[i].begin);
    const std::byte* then = bytes(i);
    if (!flipped && std::memcmp(now, then, ranges_[i].bytes) == 0) continue;
    for (std::uint64_t at = 0; at < ranges_[i].bytes; ++at) {
      if (now[at] != (flipped ? ~then[at] : then[at])) return ranges_[i].begin + at;
    }
  }
  return kSame;
}

}  // namespace spillway::sim
