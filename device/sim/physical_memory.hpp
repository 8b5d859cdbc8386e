// SPDX-License-Identifier: Apache-2.0
// Bytes of each device: who took how many, and physical handles as ranges of the flat space. An
// offset belongs to one device for ever, and a freed one is the next to be handed out.
//   used + free + other tenant >= capacity, with equality unless the other tenant overdraws
#pragma once

#include "device/sim/memory_layout.hpp"

#include <cstdint>
#include <vector>

namespace spillway::sim {

/// A physical handle: index and generation, so that a released one is known as such.
struct PhysicalId {
  std::uint64_t value = 0;  // 0 is no handle
  friend bool operator==(PhysicalId, PhysicalId) = default;
};

struct PhysicalBlock {
  PhysicalId id;
  ByteRange flat;
  std::uint32_t device = 0;
  std::uint32_t references = 0;  // handles that the program holds
  std::uint32_t mappings = 0;
};

class PhysicalMemory {
 public:
  explicit PhysicalMemory(const MemoryLayout& layout);

  // Accounting. REQUIRES: device < device_count, for all of these.
  [[nodiscard]] std::uint64_t capacity_bytes(std::uint32_t) const { return capacity_bytes_; }
  [[nodiscard]] std::uint64_t used_bytes(std::uint32_t device) const { return at(device).used; }
  [[nodiscard]] std::uint64_t peak_bytes(std::uint32_t device) const { return at(device).peak; }
  [[nodiscard]] std::uint64_t free_bytes(std::uint32_t device) const;
  /// Bytes that somebody outside of this process holds; may exceed what is free.
  void set_other_tenant_bytes(std::uint32_t device, std::uint64_t bytes);
  [[nodiscard]] std::uint64_t other_tenant_bytes(std::uint32_t device) const {
    return at(device).other_tenant;
  }
  /// Takes `bytes` from the device, or says that they are not there.
  bool charge(std::uint32_t device, std::uint64_t bytes);
  void refund(std::uint32_t device, std::uint64_t bytes);

  /// A handle of `bytes`, a multiple of the granularity.
  MemoryError create(std::uint32_t device, std::uint64_t bytes, PhysicalId* id, Misuse* misuse);
  /// One more handle to the same memory.
  MemoryError retain(PhysicalId id, Misuse* misuse);
  /// Gives one handle back. The memory lives on while another handle or a mapping holds it.
  MemoryError release(PhysicalId id, Misuse* misuse);
  /// The block behind a handle that the program still holds; nullptr and the reason otherwise.
  const PhysicalBlock* find(PhysicalId id, Misuse* misuse) const;
  /// The block at a flat offset, whoever holds it; nullptr when nothing lives there.
  [[nodiscard]] const PhysicalBlock* at_flat(std::uint64_t flat) const;

  void add_mapping(PhysicalId id);
  /// True when that was the last hold on the memory and it is gone now.
  bool remove_mapping(PhysicalId id);

  [[nodiscard]] std::uint64_t live_count() const { return live_count_; }
  /// In order of creation slot: visit(block) for each block that still holds memory.
  template <typename Visit>
  void for_each_live(Visit&& visit) const {
    for (const PhysicalBlock& block : blocks_) {
      if (block.flat.bytes != 0) visit(block);
    }
  }
  /// Freed ranges whose pages may be given back: visit(flat begin, bytes).
  template <typename Visit>
  void for_each_idle(Visit&& visit) const {
    for (std::uint32_t device = 0; device < arenas_.size(); ++device) {
      const std::uint64_t begin = layout_.physical_begin(device);
      arenas_[device].for_each_idle(
          [&](std::uint64_t offset, std::uint64_t bytes) { visit(begin + offset, bytes); });
    }
  }

  void reset();

 private:
  struct Device {
    std::uint64_t used = 0;
    std::uint64_t peak = 0;
    std::uint64_t other_tenant = 0;
  };

  [[nodiscard]] const Device& at(std::uint32_t device) const { return devices_[device]; }
  static std::uint32_t index_of(PhysicalId id) {
    return static_cast<std::uint32_t>(id.value & 0xffffffffu);
  }
  bool drop_if_unheld(PhysicalBlock& block);

  MemoryLayout layout_;
  std::uint64_t capacity_bytes_;
  std::vector<Device> devices_;
  std::vector<SlotArena> arenas_;  // of each device's physical part
  std::vector<PhysicalBlock> blocks_;
  std::vector<std::uint32_t> free_blocks_;  // a stack of indices
  std::uint64_t live_count_ = 0;
};

}  // namespace spillway::sim
