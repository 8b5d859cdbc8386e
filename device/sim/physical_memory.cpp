// SPDX-License-Identifier: Apache-2.0
#include "device/sim/physical_memory.hpp"

#include <algorithm>

namespace spillway::sim {

PhysicalMemory::PhysicalMemory(const MemoryLayout& layout)
    : layout_(layout),
      capacity_bytes_(layout.options().memory_bytes),
      devices_(layout.options().device_count),
      arenas_(layout.options().device_count, layout.physical_arena()) {}

std::uint64_t PhysicalMemory::free_bytes(std::uint32_t device) const {
  const Device& d = at(device);
  const std::uint64_t taken = d.used + std::min(d.other_tenant, capacity_bytes_);
  return taken < capacity_bytes_ ? capacity_bytes_ - taken : 0;
}

void PhysicalMemory::set_other_tenant_bytes(std::uint32_t device, std::uint64_t bytes) {
  devices_[device].other_tenant = bytes;
}

bool PhysicalMemory::charge(std::uint32_t device, std::uint64_t bytes) {
  if (bytes > free_bytes(device)) return false;
  Device& d = devices_[device];
  d.used += bytes;
  d.peak = std::max(d.peak, d.used);
  return true;
}

void PhysicalMemory::refund(std::uint32_t device, std::uint64_t bytes) {
  devices_[device].used -= bytes;
}

MemoryError PhysicalMemory::create(std::uint32_t device,
                                   std::uint64_t bytes,
                                   PhysicalId* id,
                                   Misuse* misuse) {
  const std::uint64_t granularity = layout_.options().granularity_bytes;
  if (device >= devices_.size()) {
    *misuse = {MemoryError::kBadDevice, {device, 0}, {}};
    return misuse->error;
  }
  if (bytes == 0 || bytes % granularity != 0) {
    *misuse = {MemoryError::kBadSize, {0, bytes}, {0, granularity}};
    return misuse->error;
  }
  if (!charge(device, bytes)) {
    *misuse = {MemoryError::kOutOfMemory, {0, bytes}, {0, free_bytes(device)}};
    return misuse->error;
  }
  const bool recycled = !free_blocks_.empty();
  const std::uint32_t index =
      recycled ? free_blocks_.back() : static_cast<std::uint32_t>(blocks_.size());
  const std::uint64_t offset = arenas_[device].allocate(bytes, bytes, index, 0);
  if (offset == SlotArena::kNowhere) {
    refund(device, bytes);
    *misuse = {MemoryError::kOutOfAddresses, {0, bytes}, {0, free_bytes(device)}};
    return misuse->error;
  }
  std::uint64_t generation = 1;
  if (recycled) {
    free_blocks_.pop_back();
    generation = (blocks_[index].id.value >> 32) + 1;
  } else {
    blocks_.emplace_back();
  }
  PhysicalBlock& block = blocks_[index];
  block = PhysicalBlock{PhysicalId{generation << 32 | index},
                        ByteRange{layout_.physical_begin(device) + offset, bytes},
                        device,
                        1,
                        0};
  ++live_count_;
  *id = block.id;
  return MemoryError::kOk;
}

const PhysicalBlock* PhysicalMemory::find(PhysicalId id, Misuse* misuse) const {
  const std::uint32_t index = index_of(id);
  if (id.value == 0 || index >= blocks_.size() || id.value >> 32 > blocks_[index].id.value >> 32 ||
      id.value >> 32 == 0) {
    *misuse = {MemoryError::kUnknownHandle, {id.value, 0}, {}};
    return nullptr;
  }
  const PhysicalBlock& block = blocks_[index];
  if (block.id != id || block.references == 0) {
    *misuse = {MemoryError::kReleasedHandle, {id.value, 0}, {}};
    return nullptr;
  }
  return &block;
}

MemoryError PhysicalMemory::retain(PhysicalId id, Misuse* misuse) {
  if (find(id, misuse) == nullptr) return misuse->error;
  ++blocks_[index_of(id)].references;
  return MemoryError::kOk;
}

MemoryError PhysicalMemory::release(PhysicalId id, Misuse* misuse) {
  if (find(id, misuse) == nullptr) return misuse->error;
  PhysicalBlock& block = blocks_[index_of(id)];
  --block.references;
  drop_if_unheld(block);
  return MemoryError::kOk;
}

const PhysicalBlock* PhysicalMemory::at_flat(std::uint64_t flat) const {
  if (flat < layout_.linear_end() || flat >= layout_.flat_end()) return nullptr;
  const std::uint32_t device = layout_.physical_device(flat);
  const SlotArena::Found found = arenas_[device].find(flat - layout_.physical_begin(device));
  return found.slot == nullptr ? nullptr : &blocks_[found.slot->serial];
}

void PhysicalMemory::add_mapping(PhysicalId id) { ++blocks_[index_of(id)].mappings; }

bool PhysicalMemory::remove_mapping(PhysicalId id) {
  PhysicalBlock& block = blocks_[index_of(id)];
  --block.mappings;
  return drop_if_unheld(block);
}

bool PhysicalMemory::drop_if_unheld(PhysicalBlock& block) {
  if (block.references != 0 || block.mappings != 0) return false;
  ByteRange found;
  arenas_[block.device].free(block.flat.begin - layout_.physical_begin(block.device), &found);
  refund(block.device, block.flat.bytes);
  block.flat = {};
  free_blocks_.push_back(index_of(block.id));
  --live_count_;
  return true;
}

void PhysicalMemory::reset() {
  std::fill(devices_.begin(), devices_.end(), Device{});
  for (SlotArena& arena : arenas_) arena.reset();
  blocks_.clear();
  free_blocks_.clear();
  live_count_ = 0;
}

}  // namespace spillway::sim
