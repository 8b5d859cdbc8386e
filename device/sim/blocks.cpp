// SPDX-License-Identifier: Apache-2.0
#include "device/sim/blocks.hpp"

#include <iterator>

namespace spillway::sim {
namespace {

template <typename Map>
auto at_or_before(Map& map, std::uint64_t address) {
  auto it = map.upper_bound(address);
  return it == map.begin() ? map.end() : std::prev(it);
}

}  // namespace

bool Blocks::begin_arena(ByteRange range) {
  const auto next = arenas_.lower_bound(range.begin);
  if (next != arenas_.end() && next->first < range.end()) return false;
  const auto before = at_or_before(arenas_, range.begin);
  if (before != arenas_.end() && before->second > range.begin) return false;
  arenas_.emplace(range.begin, range.end());
  return true;
}

bool Blocks::end_arena(ByteRange range) {
  const auto arena = arenas_.find(range.begin);
  if (arena == arenas_.end() || arena->second != range.end()) return false;
  arenas_.erase(arena);
  for (auto it = blocks_.lower_bound(range.begin);
       it != blocks_.end() && it->first < range.end();) {
    if (it->second.live) --live_;
    it = blocks_.erase(it);
  }
  return true;
}

void Blocks::erase_freed(ByteRange range) {
  // What is left of freed blocks around the new one stays known as freed.
  auto it = at_or_before(blocks_, range.begin);
  if (it == blocks_.end()) it = blocks_.lower_bound(range.begin);
  while (it != blocks_.end() && it->first < range.end()) {
    const std::uint64_t begin = it->first;
    const std::uint64_t end = it->second.end;
    if (end <= range.begin) {
      ++it;
      continue;
    }
    it = blocks_.erase(it);
    if (begin < range.begin) blocks_.emplace(begin, Block{range.begin, false});
    if (end > range.end()) it = blocks_.emplace(range.end(), Block{end, false}).first;
  }
}

bool Blocks::allocate(ByteRange range) {
  const auto arena = at_or_before(arenas_, range.begin);
  if (range.bytes == 0 || arena == arenas_.end() || range.end() > arena->second) return false;
  const auto before = at_or_before(blocks_, range.begin);
  if (before != blocks_.end() && before->second.live && before->second.end > range.begin)
    return false;
  for (auto it = blocks_.lower_bound(range.begin); it != blocks_.end() && it->first < range.end();
       ++it)
    if (it->second.live) return false;
  erase_freed(range);
  blocks_.emplace(range.begin, Block{range.end(), true});
  ++live_;
  return true;
}

ByteRange Blocks::free(std::uint64_t begin) {
  const auto it = blocks_.find(begin);
  if (it == blocks_.end() || !it->second.live) return {begin, 0};
  it->second.live = false;
  --live_;
  return {begin, it->second.end - begin};
}

Blocks::Verdict Blocks::check(ByteRange access, ByteRange* hit) const {
  if (arenas_.empty()) return Verdict::kOk;
  const auto arena = at_or_before(arenas_, access.begin);
  if (arena == arenas_.end() || arena->second <= access.begin) {
    // Not in an arena; it may still run into one.
    const auto next = arenas_.lower_bound(access.begin);
    if (next == arenas_.end() || next->first >= access.end()) return Verdict::kOk;
    *hit = {next->first, next->second - next->first};
    return Verdict::kOutOfBounds;
  }
  *hit = {arena->first, arena->second - arena->first};
  const auto block = at_or_before(blocks_, access.begin);
  if (block == blocks_.end() || block->second.end <= access.begin) return Verdict::kNoBlock;
  *hit = {block->first, block->second.end - block->first};
  if (!block->second.live) return Verdict::kFreed;
  return access.end() <= block->second.end ? Verdict::kOk : Verdict::kOutOfBounds;
}

void Blocks::reset() {
  arenas_.clear();
  blocks_.clear();
  live_ = 0;
}

}  // namespace spillway::sim
