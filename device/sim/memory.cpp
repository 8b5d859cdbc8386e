// SPDX-License-Identifier: Apache-2.0
#include "device/sim/memory.hpp"

#include <algorithm>
#include <cstring>

namespace spillway::sim {
namespace {

bool allows(Access has, Access wanted) {
  const auto bits = static_cast<std::uint8_t>(wanted);
  return (static_cast<std::uint8_t>(has) & bits) == bits;
}

// [range.begin, range.end) minus each of the sorted `holes`.
void add_rest(ByteRange range, const std::vector<ByteRange>& holes, std::vector<ByteRange>* rest) {
  auto hole = std::upper_bound(
      holes.begin(), holes.end(), range.begin, [](std::uint64_t at, const ByteRange& h) {
        return at < h.end();
      });
  std::uint64_t at = range.begin;
  for (; hole != holes.end() && hole->begin < range.end(); ++hole) {
    if (hole->begin > at) rest->push_back({at, hole->begin - at});
    at = std::max(at, hole->end());
  }
  if (at < range.end()) rest->push_back({at, range.end() - at});
}

}  // namespace

Result<std::unique_ptr<Memory>> Memory::create(const MemoryOptions& options) {
  SPW_ASSIGN_OR_RETURN(const MemoryLayout layout, MemoryLayout::make(options));
  std::unique_ptr<MemoryBacking> backing;
  if (options.contents == Contents::kFull) {
    SPW_ASSIGN_OR_RETURN(backing, MemoryBacking::create(layout));
  }
  return std::unique_ptr<Memory>(new Memory(layout, std::move(backing)));
}

Memory::Memory(const MemoryLayout& layout, std::unique_ptr<MemoryBacking> backing)
    : layout_(layout),
      backing_(std::move(backing)),
      base_(backing_ == nullptr ? kBaseWithoutContents : backing_->base()),
      span_bytes_(layout.address_end()),
      physical_(layout),
      plain_(layout.options().device_count, layout.plain_arena()),
      peers_(layout.options().device_count, 0),
      mirror_(layout, backing_.get()),
      space_(layout, physical_, mirror_),
      pinned_(layout, backing_.get()),
      foreign_(layout.foreign_begin()) {}

MemoryError Memory::allocate(std::uint32_t device,
                             std::uint64_t bytes,
                             std::uint32_t flags,
                             std::uint64_t* address) {
  if (device >= plain_.size()) return refuse(MemoryError::kBadDevice, {device, 0}, {});
  if (bytes == 0) return refuse(MemoryError::kBadSize, {}, {});
  const std::uint64_t taken = layout_.plain_bytes(bytes);
  if (taken < bytes || !physical_.charge(device, taken)) {
    return refuse(MemoryError::kOutOfMemory, {0, bytes}, {0, physical_.free_bytes(device)});
  }
  const std::uint64_t offset = plain_[device].allocate(bytes, taken, serial_ + 1, flags);
  if (offset == SlotArena::kNowhere) {
    physical_.refund(device, taken);
    return refuse(MemoryError::kOutOfAddresses, {0, bytes}, {0, physical_.free_bytes(device)});
  }
  ++serial_;
  note_growth(taken);
  *address = base_ + layout_.plain_begin(device) + offset;
  return MemoryError::kOk;
}

MemoryError Memory::free(std::uint64_t address, AddressInfo* freed) {
  const std::uint64_t offset = address - base_;
  if (offset >= layout_.pinned_begin()) {
    const AddressInfo info = find(address);
    return refuse(info.kind == MemoryKind::kNone ? MemoryError::kForeign : MemoryError::kWrongKind,
                  {offset, 0},
                  {info.range.begin - base_, info.range.bytes});
  }
  const std::uint32_t device = layout_.plain_device(offset);
  if (freed != nullptr) *freed = find_block(offset);
  ByteRange found;
  const MemoryError error = plain_[device].free(offset - layout_.plain_begin(device), &found);
  if (error != MemoryError::kOk) {
    found.begin += layout_.plain_begin(device);
    return refuse(error, {offset, 0}, found);
  }
  physical_.refund(device, layout_.plain_bytes(found.bytes));
  return MemoryError::kOk;
}

void Memory::set_peer_access(std::uint32_t device, std::uint32_t owner, bool on) {
  const std::uint32_t bit = std::uint32_t{1} << owner;
  peers_[device] = on ? peers_[device] | bit : peers_[device] & ~bit;
}

MemoryError Memory::create_physical(std::uint32_t device, std::uint64_t bytes, PhysicalId* id) {
  const MemoryError error = physical_.create(device, bytes, id, &misuse_);
  if (error == MemoryError::kOk) note_growth(bytes);
  return error;
}

MemoryError Memory::reserve(std::uint64_t bytes,
                            std::uint64_t alignment,
                            std::uint64_t hint,
                            std::uint64_t* address) {
  // A hint outside is no hint; only multiples of kAlignmentMax map to offsets of that alignment.
  const std::uint64_t wanted = owns(hint) ? hint - base_ : 0;
  std::uint64_t begin = 0;
  const MemoryError error = space_.reserve(bytes, alignment, wanted, &begin, &misuse_);
  if (error == MemoryError::kOk) *address = base_ + begin;
  return error;
}

MemoryError Memory::free_reservation(std::uint64_t address, std::uint64_t bytes) {
  return space_.release(address - base_, bytes, &misuse_);
}

MemoryError Memory::map(std::uint64_t address,
                        std::uint64_t bytes,
                        PhysicalId id,
                        std::uint64_t handle_offset) {
  return space_.map(address - base_, bytes, id, handle_offset, &misuse_);
}

MemoryError Memory::unmap(std::uint64_t address, std::uint64_t bytes) {
  return space_.unmap(address - base_, bytes, &misuse_);
}

MemoryError Memory::set_access(std::uint64_t address,
                               std::uint64_t bytes,
                               std::uint32_t device,
                               Access access) {
  return space_.set_access(address - base_, bytes, device, access, &misuse_);
}

MemoryError Memory::get_access(std::uint64_t address, std::uint32_t device, Access* access) {
  return space_.get_access(address - base_, device, access, &misuse_);
}

MemoryError Memory::allocate_pinned(std::uint64_t bytes,
                                    std::uint32_t flags,
                                    std::uint64_t* address) {
  std::uint64_t begin = 0;
  const MemoryError error = pinned_.allocate(bytes, false, serial_ + 1, flags, &begin, &misuse_);
  if (error != MemoryError::kOk) return error;
  ++serial_;
  note_growth(bytes);
  *address = base_ + begin;
  return error;
}

MemoryError Memory::allocate_managed(std::uint64_t bytes,
                                     std::uint32_t flags,
                                     std::uint64_t* address) {
  std::uint64_t begin = 0;
  const MemoryError error = pinned_.allocate(bytes, true, serial_ + 1, flags, &begin, &misuse_);
  if (error != MemoryError::kOk) return error;
  ++serial_;
  note_growth(bytes);
  *address = base_ + begin;
  return error;
}

MemoryError Memory::free_pinned(std::uint64_t address, AddressInfo* freed) {
  return free_host(address, false, freed);
}

MemoryError Memory::free_managed(std::uint64_t address, AddressInfo* freed) {
  return free_host(address, true, freed);
}

MemoryError Memory::free_host(std::uint64_t address, bool managed, AddressInfo* freed) {
  const AddressInfo info = find(address);
  if (!pinned_.holds(address - base_)) {
    return refuse(info.kind == MemoryKind::kNone ? MemoryError::kForeign : MemoryError::kWrongKind,
                  {address - base_, 0},
                  {info.range.begin - base_, info.range.bytes});
  }
  PinnedBlock block;
  const MemoryError error = pinned_.free(address - base_, managed, &block, &misuse_);
  if (error == MemoryError::kOk && freed != nullptr) *freed = info;
  return error;
}

MemoryError Memory::register_host(std::uint64_t address, std::uint64_t bytes, std::uint32_t flags) {
  const ByteRange asked{address - base_, bytes};
  if (owns(address)) {
    const AddressInfo info = find(address);
    return refuse(
        MemoryError::kAlreadyRegistered, asked, {info.range.begin - base_, info.range.bytes});
  }
  if (address < base_ && address + bytes > base_ && address + bytes > address) {
    return refuse(MemoryError::kOverlap, asked, {0, span_bytes_});
  }
  const MemoryError error = foreign_.add(address, bytes, flags, &misuse_);
  if (error == MemoryError::kOk) {
    if (pinned_.charge(bytes)) return error;
    ForeignMemory::Registration removed;
    (void)foreign_.remove(address, &removed, &misuse_);
    const std::uint64_t limit = pinned_.limit_bytes();
    const std::uint64_t taken = pinned_.pinned_bytes();
    return refuse(MemoryError::kOutOfMemory, {0, bytes}, {0, limit > taken ? limit - taken : 0});
  }
  return refuse(error, asked, {misuse_.found.begin - base_, misuse_.found.bytes});
}

MemoryError Memory::unregister_host(std::uint64_t address) {
  ForeignMemory::Registration removed;
  const MemoryError error = foreign_.remove(address, &removed, &misuse_);
  if (error != MemoryError::kOk) return refuse(error, {address - base_, 0}, {});
  pinned_.refund(removed.range.bytes);
  return error;
}

AddressInfo Memory::find_block(std::uint64_t offset) const {
  AddressInfo info;
  if (offset < layout_.pinned_begin()) {
    const std::uint32_t device = layout_.plain_device(offset);
    const std::uint64_t begin = layout_.plain_begin(device);
    const SlotArena::Found found = plain_[device].find(offset - begin);
    if (found.slot == nullptr) return info;
    info.kind = MemoryKind::kPlain;
    info.device = device;
    info.flags = found.slot->flags;
    info.serial = found.slot->serial;
    info.range = {base_ + begin + found.begin, found.slot->bytes};
  } else {
    const PinnedBlock block = pinned_.find(offset);
    if (block.range.bytes == 0) return info;
    info.kind = block.managed ? MemoryKind::kManaged : MemoryKind::kPinned;
    info.flags = block.flags;
    info.serial = block.serial;
    info.range = {base_ + block.range.begin, block.range.bytes};
  }
  info.flat = offset;
  return info;
}

AddressInfo Memory::find(std::uint64_t address) const {
  const std::uint64_t offset = address - base_;
  AddressInfo info;
  if (!owns(address)) {
    const ForeignMemory::Registration there = foreign_.find(address);
    if (there.range.bytes == 0) return info;
    info.kind = MemoryKind::kRegistered;
    info.flags = there.flags;
    info.range = there.range;
    return info;
  }
  if (offset < layout_.linear_end()) return find_block(offset);
  const ByteRange whole = space_.find_reservation(offset);
  if (whole.bytes == 0) return info;
  info.kind = MemoryKind::kReserved;
  info.range = {base_ + whole.begin, whole.bytes};
  if (const Mapping* mapping = space_.find_mapping(offset); mapping != nullptr) {
    info.mapping = {base_ + mapping->range.begin, mapping->range.bytes};
    info.flat = mapping->flat + (offset - mapping->range.begin);
    info.device = layout_.physical_device(mapping->flat);
    info.physical = mapping->physical;
  }
  return info;
}

Translation Memory::reach(std::uint64_t offset,
                          std::uint64_t bytes,
                          std::uint32_t device,
                          Access access) {
  if (bytes > span_bytes_ - offset) return cannot(MemoryError::kForeign, span_bytes_);
  if (offset < layout_.linear_end()) {
    const AddressInfo block = find_block(offset);
    if (block.kind == MemoryKind::kNone) {
      ByteRange found;
      if (offset >= layout_.pinned_begin()) {
        return cannot(pinned_.why_not(offset, &found), offset);
      }
      const std::uint32_t owner = layout_.plain_device(offset);
      return cannot(plain_[owner].why_not(offset - layout_.plain_begin(owner), &found), offset);
    }
    if (block.kind == MemoryKind::kPlain && block.device != device &&
        (peers_[device] >> block.device & 1) == 0) {
      return cannot(MemoryError::kNoAccess, offset);
    }
    const std::uint64_t end = block.range.end() - base_;
    if (bytes > end - offset) return cannot(MemoryError::kOutOfBounds, end);
    return {};
  }
  for (std::uint64_t at = offset; at < offset + bytes;) {
    const Mapping* mapping = space_.find_mapping(at);
    if (mapping == nullptr) {
      const bool reserved = space_.find_reservation(at).bytes != 0;
      return cannot(reserved ? MemoryError::kNotMapped : MemoryError::kNotReserved, at);
    }
    if (!allows(mapping->access(device), access)) return cannot(MemoryError::kNoAccess, at);
    at = mapping->range.end();
  }
  return {};
}

void Memory::fill_flat(std::uint64_t flat, std::uint64_t bytes, std::byte value) {
  if (backing_ == nullptr) return;
  std::memset(backing_->window(flat), static_cast<int>(value), bytes);
}

void Memory::fill(std::uint64_t address, std::uint64_t bytes, std::byte value) {
  if (backing_ == nullptr || !owns(address)) return;
  const std::uint64_t offset = address - base_;
  if (offset < layout_.linear_end()) {
    const AddressInfo block = find_block(offset);
    if (block.kind == MemoryKind::kNone) return;
    fill_flat(offset, std::min(bytes, block.range.end() - address), value);
    return;
  }
  for (std::uint64_t done = 0; done < bytes;) {
    const Mapping* mapping = space_.find_mapping(offset + done);
    if (mapping == nullptr) return;
    const std::uint64_t inside = offset + done - mapping->range.begin;
    const std::uint64_t piece = std::min(bytes - done, mapping->range.bytes - inside);
    fill_flat(mapping->flat + inside, piece, value);
    done += piece;
  }
}

std::vector<ByteRange> Memory::undeclared(std::span<const DeclaredRange> declared) {
  std::vector<ByteRange> holes;
  for (const DeclaredRange& range : declared) {
    if (!owns(range.begin)) continue;
    // Byte by byte what is reachable at all: rights are another question.
    std::uint64_t at = range.begin;
    while (at < range.begin + range.bytes) {
      const AddressInfo info = find(at);
      const ByteRange& there = info.kind == MemoryKind::kReserved ? info.mapping : info.range;
      if (info.kind == MemoryKind::kNone || there.bytes == 0) break;
      const std::uint64_t piece = std::min(range.begin + range.bytes, there.end()) - at;
      holes.push_back({info.flat, piece});
      at += piece;
    }
  }
  std::sort(holes.begin(), holes.end(), [](const ByteRange& a, const ByteRange& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.bytes < b.bytes;
  });
  // Ends must rise as well for the search in add_rest().
  std::vector<ByteRange> merged;
  for (const ByteRange& hole : holes) {
    if (!merged.empty() && hole.begin <= merged.back().end()) {
      merged.back().bytes = std::max(merged.back().end(), hole.end()) - merged.back().begin;
    } else {
      merged.push_back(hole);
    }
  }
  std::vector<ByteRange> rest;
  for (std::uint32_t device = 0; device < plain_.size(); ++device) {
    const std::uint64_t begin = layout_.plain_begin(device);
    plain_[device].for_each_live([&](std::uint64_t offset, const SlotArena::Slot& slot) {
      add_rest({begin + offset, slot.bytes}, merged, &rest);
    });
  }
  pinned_.for_each_live([&](const PinnedBlock& block) { add_rest(block.range, merged, &rest); });
  const std::size_t first_physical = rest.size();
  physical_.for_each_live([&](const PhysicalBlock& block) { add_rest(block.flat, merged, &rest); });
  std::sort(rest.begin() + static_cast<std::ptrdiff_t>(first_physical),
            rest.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  return rest;
}

bool Memory::take_faults(std::vector<HostFault>* faults) {
  if (backing_ == nullptr || !backing_->guard().any()) return true;
  const bool overflow = backing_->guard().take([&](const HostFault& fault) {
    faults->push_back(fault);
    const std::uint64_t offset = fault.address - base_;
    switch (fault.kind) {
      case HostFaultKind::kDeviceAddress:
        backing_->close_host(offset & ~(kPageBytes - 1), kPageBytes);
        break;
      case HostFaultKind::kGuarded:
      case HostFaultKind::kNotAllocated:
        pinned_.restore_page(offset);
        break;
      case HostFaultKind::kKernel:
        mirror_.restore_page(offset);
        break;
    }
  });
  if (overflow) {
    backing_->close_host(0, layout_.pinned_begin());
    backing_->close_host(layout_.linear_end(), span_bytes_ - layout_.linear_end());
    pinned_.restore_everything();
    mirror_.restore_everything();
  }
  return !overflow;
}

MemoryInUse Memory::in_use() const {
  MemoryInUse use;
  for (const SlotArena& arena : plain_) use.plain_blocks += arena.live_count();
  use.physical_handles = physical_.live_count();
  use.reservations = space_.reservation_count();
  use.mappings = space_.mapping_count();
  use.pinned_blocks = pinned_.live_count();
  use.registrations = foreign_.live_count();
  return use;
}

void Memory::reset() {
  for (SlotArena& arena : plain_) arena.reset();
  space_.reset();
  physical_.reset();
  pinned_.reset();
  foreign_.reset();
  std::fill(peers_.begin(), peers_.end(), 0);
  if (backing_ != nullptr) {
    std::vector<HostFault> dropped;
    take_faults(&dropped);
    backing_->guard().rearm();
  }
  misuse_ = {};
  serial_ = 0;
}

// Freed slots keep their pages, which is what makes reuse cheap; a program that uses one size after
// another would keep them all. Looked at now and then; nothing but host memory depends on it.
void Memory::note_growth(std::uint64_t bytes) {
  if (backing_ == nullptr) return;
  grown_bytes_ += bytes;
  const std::uint64_t idle_max = layout_.options().idle_bytes_max;
  if (grown_bytes_ <= idle_max) return;
  grown_bytes_ = 0;
  std::uint64_t used = pinned_.pinned_bytes() + pinned_.managed_bytes();
  for (std::uint32_t device = 0; device < plain_.size(); ++device) {
    used += physical_.used_bytes(device);
  }
  if (backing_->resident_bytes() <= used + idle_max) return;
  const auto give_back = [&](std::uint64_t flat, std::uint64_t idle) {
    backing_->give_back(flat, idle);
  };
  for (std::uint32_t device = 0; device < plain_.size(); ++device) {
    const std::uint64_t begin = layout_.plain_begin(device);
    plain_[device].for_each_idle(
        [&](std::uint64_t offset, std::uint64_t idle) { give_back(begin + offset, idle); });
  }
  physical_.for_each_idle(give_back);
  pinned_.for_each_idle(give_back);
}

}  // namespace spillway::sim
