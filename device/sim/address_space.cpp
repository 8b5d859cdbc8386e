// SPDX-License-Identifier: Apache-2.0
#include "device/sim/address_space.hpp"

#include <algorithm>
#include <bit>

namespace spillway::sim {
namespace {

MemoryError fail(Misuse* misuse, MemoryError error, ByteRange asked, ByteRange found) {
  *misuse = Misuse{error, asked, found};
  return error;
}

}  // namespace

AddressSpace::AddressSpace(const MemoryLayout& layout, PhysicalMemory& physical, Mirror& mirror)
    : layout_(layout), physical_(physical), mirror_(mirror) {
  reset();
}

void AddressSpace::reset() {
  reservations_.clear();
  mappings_.clear();
  holes_.clear();
  holes_[layout_.reserve_begin()] = Hole{layout_.options().address_bytes, 0};
  reserved_bytes_ = 0;
  frees_ = 0;
  mirror_.hide_all();
}

MemoryError AddressSpace::reserve(std::uint64_t bytes,
                                  std::uint64_t alignment,
                                  std::uint64_t hint,
                                  std::uint64_t* begin,
                                  Misuse* misuse) {
  const std::uint64_t granularity = layout_.options().granularity_bytes;
  if (bytes == 0 || bytes % granularity != 0) {
    return fail(misuse, MemoryError::kBadSize, {0, bytes}, {0, granularity});
  }
  if (alignment != 0 && (!std::has_single_bit(alignment) || alignment > kAlignmentMax)) {
    return fail(misuse, MemoryError::kBadAlignment, {0, alignment}, {0, granularity});
  }
  const std::uint64_t unit = std::max(alignment, granularity);
  if (hint != 0 && hint % unit == 0) {
    auto hole = holes_.upper_bound(hint);
    if (hole != holes_.begin()) {
      --hole;
      const std::uint64_t before = hint - hole->first;
      if (before < hole->second.bytes && hole->second.bytes - before >= bytes) {
        take(hole, hint, bytes);
        *begin = hint;
        return MemoryError::kOk;
      }
    }
  }
  std::uint64_t best_begin = 0;
  auto best = best_hole(bytes, unit, &best_begin);
  if (best == holes_.end() && join_unused()) best = best_hole(bytes, unit, &best_begin);
  if (best == holes_.end()) {
    const std::uint64_t rest = layout_.options().address_bytes - reserved_bytes_;
    return fail(misuse, MemoryError::kOutOfAddresses, {0, bytes}, {0, rest});
  }
  take(best, best_begin, bytes);
  *begin = best_begin;
  return MemoryError::kOk;
}

AddressSpace::Holes::iterator AddressSpace::best_hole(std::uint64_t bytes,
                                                      std::uint64_t unit,
                                                      std::uint64_t* begin) {
  auto best = holes_.end();
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    const std::uint64_t at = round_up(hole->first, unit);
    const std::uint64_t lost = at - hole->first;
    if (lost >= hole->second.bytes || hole->second.bytes - lost < bytes) continue;
    if (best == holes_.end() || hole->second.freed_at > best->second.freed_at) {
      best = hole;
      *begin = at;
    }
  }
  return best;
}

// Freed holes swallow their unused neighbours: only for a reservation that fits nowhere else, since
// a joined hole would be the most recent one for long. False when there was nothing to join.
bool AddressSpace::join_unused() {
  bool joined = false;
  for (auto hole = holes_.begin(); hole != holes_.end();) {
    const auto next = std::next(hole);
    if (next == holes_.end() || hole->first + hole->second.bytes != next->first) {
      hole = next;
      continue;
    }
    hole->second.bytes += next->second.bytes;
    hole->second.freed_at = 0;
    holes_.erase(next);
    joined = true;
  }
  return joined;
}

void AddressSpace::take(Holes::iterator hole, std::uint64_t begin, std::uint64_t bytes) {
  const std::uint64_t hole_begin = hole->first;
  const Hole old = hole->second;
  holes_.erase(hole);
  if (begin > hole_begin) holes_[hole_begin] = Hole{begin - hole_begin, old.freed_at};
  const std::uint64_t rest = hole_begin + old.bytes - (begin + bytes);
  if (rest > 0) holes_[begin + bytes] = Hole{rest, old.freed_at};
  reservations_[begin] = bytes;
  reserved_bytes_ += bytes;
}

MemoryError AddressSpace::release(std::uint64_t begin, std::uint64_t bytes, Misuse* misuse) {
  const ByteRange asked{begin, bytes};
  const ByteRange whole = find_reservation(begin);
  if (whole.bytes == 0) return fail(misuse, MemoryError::kNotReserved, asked, {});
  if (whole != asked) return fail(misuse, MemoryError::kPartialRelease, asked, whole);
  const auto mapped = mappings_.lower_bound(begin);
  if (mapped != mappings_.end() && mapped->first < asked.end()) {
    return fail(misuse, MemoryError::kStillMapped, asked, mapped->second.range);
  }
  reservations_.erase(begin);
  reserved_bytes_ -= bytes;
  Hole hole{bytes, ++frees_};
  std::uint64_t hole_begin = begin;
  auto next = holes_.lower_bound(begin);
  if (next != holes_.end() && next->first == asked.end() && next->second.freed_at != 0) {
    hole.bytes += next->second.bytes;
    next = holes_.erase(next);
  }
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second.bytes == begin && before->second.freed_at != 0) {
      hole_begin = before->first;
      hole.bytes += before->second.bytes;
      holes_.erase(before);
    }
  }
  holes_[hole_begin] = hole;
  return MemoryError::kOk;
}

MemoryError AddressSpace::map(std::uint64_t begin,
                              std::uint64_t bytes,
                              PhysicalId id,
                              std::uint64_t handle_offset,
                              Misuse* misuse) {
  const ByteRange asked{begin, bytes};
  const std::uint64_t granularity = layout_.options().granularity_bytes;
  const PhysicalBlock* block = physical_.find(id, misuse);
  if (block == nullptr) return misuse->error;
  if (handle_offset != 0) {
    return fail(misuse, MemoryError::kBadOffset, {handle_offset, 0}, {});
  }
  if (bytes != block->flat.bytes) {
    return fail(misuse, MemoryError::kBadSize, asked, {0, block->flat.bytes});
  }
  if (begin % granularity != 0) {
    return fail(misuse, MemoryError::kBadAlignment, {0, begin}, {0, granularity});
  }
  const ByteRange whole = find_reservation(begin);
  if (whole.bytes == 0 || whole.end() - begin < bytes) {
    return fail(misuse, MemoryError::kNotReserved, asked, whole);
  }
  auto next = mappings_.lower_bound(begin);
  if (next != mappings_.end() && next->first < asked.end()) {
    return fail(misuse, MemoryError::kAlreadyMapped, asked, next->second.range);
  }
  if (next != mappings_.begin()) {
    const ByteRange& before = std::prev(next)->second.range;
    if (before.end() > begin) return fail(misuse, MemoryError::kAlreadyMapped, asked, before);
  }
  mappings_.emplace_hint(next, begin, Mapping{asked, block->flat.begin, id, 0});
  physical_.add_mapping(id);
  return MemoryError::kOk;
}

MemoryError AddressSpace::covered(std::uint64_t begin,
                                  std::uint64_t bytes,
                                  MemoryError when_partial,
                                  Mappings::iterator* first,
                                  Misuse* misuse) {
  const ByteRange asked{begin, bytes};
  if (bytes == 0 || asked.end() < begin) {
    return fail(misuse, MemoryError::kBadSize, asked, {0, layout_.options().granularity_bytes});
  }
  auto it = mappings_.upper_bound(begin);
  if (it == mappings_.begin() || std::prev(it)->second.range.end() <= begin) {
    const ByteRange whole = find_reservation(begin);
    return fail(misuse,
                whole.bytes == 0 ? MemoryError::kNotReserved : MemoryError::kNotMapped,
                asked,
                whole);
  }
  --it;
  *first = it;
  if (it->first != begin) return fail(misuse, when_partial, asked, it->second.range);
  std::uint64_t reached = begin;
  for (; it != mappings_.end() && it->first == reached; ++it) {
    reached = it->second.range.end();
    if (reached == asked.end()) return MemoryError::kOk;
    if (reached > asked.end()) return fail(misuse, when_partial, asked, it->second.range);
  }
  return fail(misuse, MemoryError::kNotMapped, {reached, asked.end() - reached}, {});
}

MemoryError AddressSpace::unmap(std::uint64_t begin, std::uint64_t bytes, Misuse* misuse) {
  Mappings::iterator it;
  const MemoryError error = covered(begin, bytes, MemoryError::kPartialUnmap, &it, misuse);
  if (error != MemoryError::kOk) return error;
  mirror_.hide(begin, bytes);
  while (it != mappings_.end() && it->first < begin + bytes) {
    physical_.remove_mapping(it->second.physical);
    it = mappings_.erase(it);
  }
  return MemoryError::kOk;
}

MemoryError AddressSpace::set_access(
    std::uint64_t begin, std::uint64_t bytes, std::uint32_t device, Access access, Misuse* misuse) {
  if (device >= layout_.options().device_count) {
    return fail(misuse, MemoryError::kBadDevice, {device, 0}, {});
  }
  Mappings::iterator first;
  const MemoryError error = covered(begin, bytes, MemoryError::kPartialAccess, &first, misuse);
  if (error != MemoryError::kOk) return error;
  const std::uint64_t clear = ~(std::uint64_t{3} << (2 * device));
  const std::uint64_t set = std::uint64_t{static_cast<std::uint8_t>(access)} << (2 * device);
  for (auto it = first; it != mappings_.end() && it->first < begin + bytes; ++it) {
    Mapping changed = it->second;
    changed.access_bits = (changed.access_bits & clear) | set;
    const MemoryError shown =
        mirror_.show(it->first, changed.range.bytes, changed.flat, changed.access_of_any());
    if (shown == MemoryError::kOk) continue;
    // Nothing has changed in the table yet; what has changed in the mirror goes back.
    for (auto back = first; back != it; ++back) {
      const Mapping& old = back->second;
      (void)mirror_.show(back->first, old.range.bytes, old.flat, old.access_of_any());
    }
    return fail(misuse,
                shown,
                {MemoryBacking::areas_in_use(), 0},
                {MemoryBacking::areas_in_use(), MemoryBacking::areas_max()});
  }
  for (auto it = first; it != mappings_.end() && it->first < begin + bytes; ++it) {
    it->second.access_bits = (it->second.access_bits & clear) | set;
  }
  return MemoryError::kOk;
}

MemoryError AddressSpace::get_access(std::uint64_t at,
                                     std::uint32_t device,
                                     Access* access,
                                     Misuse* misuse) const {
  if (device >= layout_.options().device_count) {
    return fail(misuse, MemoryError::kBadDevice, {device, 0}, {});
  }
  const Mapping* mapping = find_mapping(at);
  if (mapping == nullptr) {
    const ByteRange whole = find_reservation(at);
    return fail(misuse,
                whole.bytes == 0 ? MemoryError::kNotReserved : MemoryError::kNotMapped,
                {at, 1},
                whole);
  }
  *access = mapping->access(device);
  return MemoryError::kOk;
}

const Mapping* AddressSpace::find_mapping(std::uint64_t at) const {
  auto it = mappings_.upper_bound(at);
  if (it == mappings_.begin()) return nullptr;
  --it;
  return at < it->second.range.end() ? &it->second : nullptr;
}

ByteRange AddressSpace::find_reservation(std::uint64_t at) const {
  auto it = reservations_.upper_bound(at);
  if (it == reservations_.begin()) return {};
  --it;
  const ByteRange range{it->first, it->second};
  return at < range.end() ? range : ByteRange{};
}

}  // namespace spillway::sim
