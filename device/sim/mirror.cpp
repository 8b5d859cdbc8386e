// SPDX-License-Identifier: Apache-2.0
#include "device/sim/mirror.hpp"

#include <algorithm>

namespace spillway::sim {
namespace {

// A segment and the hole behind it.
constexpr std::int64_t kAreasPerSegment = 2;

}  // namespace

Mirror::~Mirror() {
  const std::size_t before = segments_.size();
  segments_.clear();
  count(before);
}

void Mirror::count(std::size_t before) {
  MemoryBacking::add_areas(
      (static_cast<std::int64_t>(segments_.size()) - static_cast<std::int64_t>(before)) *
      kAreasPerSegment);
}

Mirror::Segments::iterator Mirror::first_in(std::uint64_t offset) {
  auto it = segments_.upper_bound(offset);
  if (it != segments_.begin()) {
    auto before = std::prev(it);
    if (before->first + before->second.bytes > offset) return before;
  }
  return it;
}

MemoryError Mirror::show(std::uint64_t offset,
                         std::uint64_t bytes,
                         std::uint64_t flat,
                         Access access) {
  if (backing_ == nullptr) return MemoryError::kOk;
  const auto it = segments_.find(offset);
  if (it != segments_.end() && it->second.bytes == bytes && it->second.flat == flat) {
    if (it->second.access == access) return MemoryError::kOk;
    if (!backing_->protect_mirror(offset, bytes, access)) return MemoryError::kTooManyMappings;
    it->second.access = access;
    return MemoryError::kOk;
  }
  if (access == Access::kNone) return MemoryError::kOk;  // nothing to see is not worth a mapping
  if (MemoryBacking::areas_in_use() + 2 * kAreasPerSegment > MemoryBacking::areas_max()) {
    drop_hidden();
    if (MemoryBacking::areas_in_use() + 2 * kAreasPerSegment > MemoryBacking::areas_max()) {
      return MemoryError::kTooManyMappings;
    }
  }
  if (!backing_->map_mirror(offset, bytes, flat, access)) {
    drop_hidden();
    if (!backing_->map_mirror(offset, bytes, flat, access)) return MemoryError::kTooManyMappings;
  }
  const std::size_t before = segments_.size();
  forget(offset, bytes);
  segments_[offset] = Segment{bytes, flat, access};
  count(before);
  return MemoryError::kOk;
}

// What an earlier program left under [offset, offset + bytes) has just been overlaid.
void Mirror::forget(std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t end = offset + bytes;
  auto it = first_in(offset);
  while (it != segments_.end() && it->first < end) {
    const std::uint64_t begin = it->first;
    const Segment old = it->second;
    it = segments_.erase(it);
    if (begin < offset) {
      segments_[begin] = Segment{offset - begin, old.flat, old.access};
    }
    if (begin + old.bytes > end) {
      segments_[end] = Segment{begin + old.bytes - end, old.flat + (end - begin), old.access};
    }
  }
}

void Mirror::hide(std::uint64_t offset, std::uint64_t bytes) {
  if (backing_ == nullptr) return;
  for (auto it = first_in(offset); it != segments_.end() && it->first < offset + bytes; ++it) {
    if (it->second.access == Access::kNone) continue;
    if (backing_->protect_mirror(it->first, it->second.bytes, Access::kNone)) {
      it->second.access = Access::kNone;
    }
  }
}

void Mirror::hide_all() {
  for (auto& [begin, segment] : segments_) {
    if (segment.access == Access::kNone) continue;
    if (backing_->protect_mirror(begin, segment.bytes, Access::kNone)) {
      segment.access = Access::kNone;
    }
  }
}

void Mirror::drop_hidden() {
  const std::size_t before = segments_.size();
  for (auto it = segments_.begin(); it != segments_.end();) {
    if (it->second.access == Access::kNone && backing_->clear_mirror(it->first, it->second.bytes)) {
      it = segments_.erase(it);
    } else {
      ++it;
    }
  }
  count(before);
}

void Mirror::only_accessible(std::span<const DeclaredRange> declared, std::uint64_t base) {
  if (backing_ == nullptr) return;
  restricted_ = true;
  backing_->protect_mirror(0, linear_end_, Access::kNone);
  for (const auto& [begin, segment] : segments_) {
    if (segment.access != Access::kNone) {
      backing_->protect_mirror(begin, segment.bytes, Access::kNone);
    }
  }
  // Two passes, so that a page that one range reads and another writes ends writable.
  for (const bool writable : {false, true}) {
    for (const DeclaredRange& range : declared) {
      if (range.writable != writable || range.bytes == 0) continue;
      if (!range.readable && !range.writable) continue;
      const std::uint64_t begin = (range.begin - base) & ~(kPageBytes - 1);
      const std::uint64_t end = round_up(range.begin - base + range.bytes, kPageBytes);
      const Access access = writable ? Access::kReadWrite : Access::kRead;
      if (begin < linear_end_) {
        if (end <= linear_end_) backing_->protect_mirror(begin, end - begin, access);
        continue;
      }
      for (auto it = first_in(begin); it != segments_.end() && it->first < end; ++it) {
        const std::uint64_t from = std::max(begin, it->first);
        const std::uint64_t to = std::min(end, it->first + it->second.bytes);
        // What the device itself may not do is not allowed by a declaration.
        const Access both = std::min(access, it->second.access);
        if (both != Access::kNone) backing_->protect_mirror(from, to - from, both);
      }
    }
  }
}

void Mirror::all_accessible() {
  if (backing_ == nullptr || !restricted_) return;
  restricted_ = false;
  backing_->protect_mirror(0, linear_end_, Access::kReadWrite);
  for (const auto& [begin, segment] : segments_) {
    if (segment.access != Access::kNone) {
      backing_->protect_mirror(begin, segment.bytes, segment.access);
    }
  }
}

void Mirror::restore_page(std::uint64_t offset) {
  if (backing_ == nullptr) return;
  const std::uint64_t page = offset & ~(kPageBytes - 1);
  const Access open = restricted_ ? Access::kNone : Access::kReadWrite;
  if (page < linear_end_) {
    backing_->map_mirror(page, kPageBytes, page, open);
    return;
  }
  const auto it = first_in(page);
  if (it == segments_.end() || it->first > page) {
    backing_->clear_mirror(page, kPageBytes);
    return;
  }
  const Access access = std::min(open, it->second.access);
  backing_->map_mirror(page, kPageBytes, it->second.flat + (page - it->first), access);
}

void Mirror::restore_everything() {
  if (backing_ == nullptr) return;
  const Access open = restricted_ ? Access::kNone : Access::kReadWrite;
  backing_->map_mirror(0, linear_end_, 0, open);
  // Whatever lies between the segments goes first.
  std::uint64_t end = linear_end_;
  for (const auto& [begin, segment] : segments_) {
    if (begin > end) backing_->clear_mirror(end, begin - end);
    backing_->map_mirror(begin, segment.bytes, segment.flat, std::min(open, segment.access));
    end = begin + segment.bytes;
  }
  backing_->clear_mirror(end, address_end_ - end);
}

}  // namespace spillway::sim
