// SPDX-License-Identifier: Apache-2.0
#include "device/sim/pinned_memory.hpp"

#include <algorithm>
#include <cstring>

namespace spillway::sim {
namespace {

// A block and the hole behind it, in the host's view.
constexpr std::int64_t kAreasPerBlock = 2;

Access access_under(const PageGuard& guard) {
  if (guard.no_access != 0) return Access::kNone;
  return guard.read_only != 0 ? Access::kRead : Access::kReadWrite;
}

}  // namespace

PinnedMemory::PinnedMemory(const MemoryLayout& layout, MemoryBacking* backing)
    : layout_(layout),
      backing_(backing),
      pinned_(layout.pinned_arena()),
      managed_(layout.pinned_arena()),
      limit_bytes_(layout.options().pinned_bytes_max) {}

PinnedMemory::~PinnedMemory() {
  if (backing_ != nullptr) {
    MemoryBacking::add_areas(-kAreasPerBlock * static_cast<std::int64_t>(live_count()));
  }
}

void PinnedMemory::set_limit_bytes(std::uint64_t bytes) {
  limit_bytes_ = std::min(bytes, layout_.options().pinned_bytes_max);
}

bool PinnedMemory::charge(std::uint64_t bytes) {
  if (pinned_bytes_ > limit_bytes_ || bytes > limit_bytes_ - pinned_bytes_) return false;
  pinned_bytes_ += bytes;
  pinned_bytes_peak_ = std::max(pinned_bytes_peak_, pinned_bytes_);
  return true;
}

MemoryError PinnedMemory::allocate(std::uint64_t bytes,
                                   bool managed,
                                   std::uint64_t serial,
                                   std::uint32_t flags,
                                   std::uint64_t* begin,
                                   Misuse* misuse) {
  if (bytes == 0) {
    *misuse = {MemoryError::kBadSize, {}, {}};
    return misuse->error;
  }
  const std::uint64_t limit = layout_.options().pinned_bytes_max;
  const std::uint64_t taken = managed ? managed_bytes_ : pinned_bytes_;
  const std::uint64_t allowed = managed ? limit : limit_bytes_;
  const std::uint64_t rounded = round_up(bytes, kPageBytes);
  const std::uint64_t rest = allowed > taken ? allowed - taken : 0;
  if (rounded < bytes || rounded > rest) {
    *misuse = {MemoryError::kOutOfMemory, {0, bytes}, {0, rest}};
    return misuse->error;
  }
  SlotArena& arena = managed ? managed_ : pinned_;
  const std::uint64_t offset = arena.allocate(bytes, rounded, serial, flags);
  if (offset == SlotArena::kNowhere) {
    *misuse = {MemoryError::kOutOfAddresses, {0, bytes}, {0, rest}};
    return misuse->error;
  }
  const std::uint64_t at = (managed ? layout_.managed_begin() : layout_.pinned_begin()) + offset;
  if (backing_ != nullptr) {
    if (MemoryBacking::areas_in_use() + kAreasPerBlock > MemoryBacking::areas_max() ||
        !backing_->protect_host(at, rounded, Access::kReadWrite)) {
      ByteRange found;
      arena.free(offset, &found);
      *misuse = {MemoryError::kTooManyMappings,
                 {},
                 {MemoryBacking::areas_in_use(), MemoryBacking::areas_max()}};
      return misuse->error;
    }
    MemoryBacking::add_areas(kAreasPerBlock);
  }
  if (managed) {
    managed_bytes_ += rounded;
  } else {
    charge(rounded);
  }
  *begin = at;
  return MemoryError::kOk;
}

MemoryError PinnedMemory::free(std::uint64_t begin,
                               bool managed,
                               PinnedBlock* freed,
                               Misuse* misuse) {
  const PinnedBlock block = find(begin);
  if (block.range.bytes != 0 && block.managed != managed) {
    *misuse = {MemoryError::kWrongKind, {begin, 0}, block.range};
    return misuse->error;
  }
  const bool in_managed = begin >= layout_.managed_begin();
  const std::uint64_t base = in_managed ? layout_.managed_begin() : layout_.pinned_begin();
  ByteRange found;
  const MemoryError error = (in_managed ? managed_ : pinned_).free(begin - base, &found);
  if (error != MemoryError::kOk) {
    found.begin += base;
    *misuse = {error, {begin, 0}, found};
    return error;
  }
  const std::uint64_t rounded = round_up(block.range.bytes, kPageBytes);
  (managed ? managed_bytes_ : pinned_bytes_) -= rounded;
  close(block.range);
  *freed = block;
  return MemoryError::kOk;
}

void PinnedMemory::close(const ByteRange& block) {
  if (backing_ == nullptr) return;
  const std::uint64_t rounded = round_up(block.bytes, kPageBytes);
  std::memset(static_cast<void*>(&page(block.begin)), 0, rounded / kPageBytes * sizeof(PageGuard));
  backing_->protect_host(block.begin, rounded, Access::kNone);
  MemoryBacking::add_areas(-kAreasPerBlock);
}

PinnedBlock PinnedMemory::find(std::uint64_t at) const {
  if (!holds(at)) return {};
  const bool managed = at >= layout_.managed_begin();
  const std::uint64_t base = managed ? layout_.managed_begin() : layout_.pinned_begin();
  const SlotArena::Found found = (managed ? managed_ : pinned_).find(at - base);
  if (found.slot == nullptr) return {};
  return {{base + found.begin, found.slot->bytes}, found.slot->serial, found.slot->flags, managed};
}

MemoryError PinnedMemory::why_not(std::uint64_t at, ByteRange* found) const {
  *found = {};
  if (!holds(at)) return MemoryError::kForeign;
  const bool managed = at >= layout_.managed_begin();
  const std::uint64_t base = managed ? layout_.managed_begin() : layout_.pinned_begin();
  const MemoryError error = (managed ? managed_ : pinned_).why_not(at - base, found);
  found->begin += base;
  return error;
}

MemoryError PinnedMemory::guard(std::uint64_t begin,
                                std::uint64_t bytes,
                                GuardKind kind,
                                Misuse* misuse) {
  return change(begin, bytes, kind, true, misuse);
}

MemoryError PinnedMemory::unguard(std::uint64_t begin,
                                  std::uint64_t bytes,
                                  GuardKind kind,
                                  Misuse* misuse) {
  return change(begin, bytes, kind, false, misuse);
}

MemoryError PinnedMemory::change(
    std::uint64_t begin, std::uint64_t bytes, GuardKind kind, bool add, Misuse* misuse) {
  const PinnedBlock block = find(begin);
  if (block.range.bytes == 0) {
    ByteRange found;
    const MemoryError error = why_not(begin, &found);
    *misuse = {error, {begin, bytes}, found};
    return error;
  }
  if (bytes > block.range.end() - begin) {
    *misuse = {MemoryError::kOutOfBounds, {begin, bytes}, block.range};
    return misuse->error;
  }
  if (backing_ == nullptr || bytes == 0) return MemoryError::kOk;
  const std::uint64_t first = begin & ~(kPageBytes - 1);
  const std::uint64_t end = round_up(begin + bytes, kPageBytes);
  bool shown = true;
  // One call for each run of pages that change to the same protection.
  std::uint64_t run = first;
  Access run_access = Access::kNone;
  bool run_open = false;
  const auto flush = [&](std::uint64_t to) {
    if (run_open) shown = backing_->protect_host(run, to - run, run_access) && shown;
    run_open = false;
  };
  for (std::uint64_t at = first; at < end; at += kPageBytes) {
    PageGuard& guards = page(at);
    const Access before = access_under(guards);
    std::uint32_t& count = kind == GuardKind::kNoAccess ? guards.no_access : guards.read_only;
    if (add) {
      ++count;
    } else if (count != 0) {
      --count;
    }
    const Access after = access_under(guards);
    // A page that stays as it is may be in the run: it has that protection already.
    if (run_open && after != run_access) flush(at);
    if (before != after && !run_open) {
      run = at;
      run_access = after;
      run_open = true;
    }
  }
  flush(end);
  if (shown) return MemoryError::kOk;
  *misuse = {MemoryError::kTooManyMappings,
             {},
             {MemoryBacking::areas_in_use(), MemoryBacking::areas_max()}};
  return misuse->error;
}

Access PinnedMemory::host_access(std::uint64_t at) const {
  // The last page of a block is the host's to its end: that is how page tables are.
  const PinnedBlock block = find(at & ~(kPageBytes - 1));
  if (block.range.bytes == 0) return Access::kNone;
  return backing_ == nullptr ? Access::kReadWrite : access_under(page(at));
}

void PinnedMemory::restore_page(std::uint64_t at) {
  if (backing_ == nullptr) return;
  backing_->protect_host(at & ~(kPageBytes - 1), kPageBytes, host_access(at));
}

void PinnedMemory::restore_everything() {
  if (backing_ == nullptr) return;
  const std::uint64_t begin = layout_.pinned_begin();
  backing_->protect_host(begin, layout_.linear_end() - begin, Access::kNone);
  for_each_live([&](const PinnedBlock& block) {
    const std::uint64_t end = round_up(block.range.end(), kPageBytes);
    std::uint64_t run = block.range.begin;
    while (run < end) {
      const Access access = access_under(page(run));
      std::uint64_t to = run + kPageBytes;
      while (to < end && access_under(page(to)) == access) to += kPageBytes;
      backing_->protect_host(run, to - run, access);
      run = to;
    }
  });
}

void PinnedMemory::reset() {
  if (backing_ != nullptr && live_count() != 0) {
    for_each_live([&](const PinnedBlock& block) { close(block.range); });
  }
  pinned_.reset();
  managed_.reset();
  limit_bytes_ = layout_.options().pinned_bytes_max;
  pinned_bytes_ = 0;
  pinned_bytes_peak_ = 0;
  managed_bytes_ = 0;
}

}  // namespace spillway::sim
