// SPDX-License-Identifier: Apache-2.0
// The real pages behind the simulated memory: one sparse memfd that holds the flat space, and four
// views of it in one big reservation of addresses.
//
//   base    what the program sees: PROT_NONE, except pinned and managed memory
//   mirror  what kernel bodies see, base + a constant: the same offsets, mapped as the device maps
//   window  what the engine sees: the whole flat space, always readable and writable
#pragma once

#include "core/status.hpp"
#include "device/sim/host_guard.hpp"
#include "device/sim/memory_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace spillway::sim {

/// What may be done with a page or a mapping.
enum class Access : std::uint8_t { kNone = 0, kRead = 1, kReadWrite = 3 };

class MemoryBacking {
 public:
  /// Fails with kOutOfMemory when the machine gives no such reservation, kIo without memfd.
  static Result<std::unique_ptr<MemoryBacking>> create(const MemoryLayout& layout);
  ~MemoryBacking();
  MemoryBacking(const MemoryBacking&) = delete;
  MemoryBacking& operator=(const MemoryBacking&) = delete;
  MemoryBacking(MemoryBacking&&) = delete;
  MemoryBacking& operator=(MemoryBacking&&) = delete;

  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::byte* mirror(std::uint64_t offset) const { return mirror_ + offset; }
  [[nodiscard]] std::byte* window(std::uint64_t flat) const { return window_ + flat; }
  [[nodiscard]] HostGuard& guard() { return guard_; }
  /// One per page of pinned and managed addresses; untouched ones cost nothing.
  [[nodiscard]] PageGuard* page_guards() const { return page_guards_; }

  // Each returns false when the kernel is out of mapping areas.
  bool map_mirror(std::uint64_t offset, std::uint64_t bytes, std::uint64_t flat, Access access);
  bool protect_mirror(std::uint64_t offset, std::uint64_t bytes, Access access);
  bool clear_mirror(std::uint64_t offset, std::uint64_t bytes);
  /// Pinned and managed addresses, as the host sees them.
  bool protect_host(std::uint64_t offset, std::uint64_t bytes, Access access);
  /// Device addresses back to untouchable, whatever a fault put there.
  bool close_host(std::uint64_t offset, std::uint64_t bytes);

  /// Bytes of the memfd that take host memory.
  [[nodiscard]] std::uint64_t resident_bytes() const;
  /// Gives the pages back; they read as zero afterwards.
  void give_back(std::uint64_t flat, std::uint64_t bytes);

  // Mapping areas of all simulators of the process, against a share of vm.max_map_count.
  static std::uint64_t areas_in_use();
  static std::uint64_t areas_max();
  /// For tests: a smaller share; 0 restores the machine's.
  static void set_areas_max(std::uint64_t areas);
  static void add_areas(std::int64_t areas);

 private:
  explicit MemoryBacking(const MemoryLayout& layout) : layout_(layout) {}
  Status open();

  MemoryLayout layout_;
  int file_ = -1;
  void* reservation_ = nullptr;
  std::uint64_t reservation_bytes_ = 0;
  std::uint64_t base_ = 0;
  std::byte* mirror_ = nullptr;
  std::byte* window_ = nullptr;
  PageGuard* page_guards_ = nullptr;
  std::uint64_t page_guards_bytes_ = 0;
  HostGuard guard_;
};

}  // namespace spillway::sim
