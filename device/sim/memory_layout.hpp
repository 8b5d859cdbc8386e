// SPDX-License-Identifier: Apache-2.0
// Where everything lies in the two spaces of the simulated memory.
//
//   addresses (offset from base)      flat space (offset into the memfd, shadow key of races)
//   [device 0 plain]...[device n-1]   the same offsets
//   [pinned][managed]                 the same offsets
//   [reservations (VMM)]              [device 0 physical handles]...[device n-1][foreign host]
#pragma once

#include "core/status.hpp"
#include "device/sim/options.hpp"
#include "device/sim/slot_arena.hpp"

#include <cstdint>

namespace spillway::sim {

struct MemoryOptions {
  std::uint32_t device_count = 1;                       // at most kDevicesMax
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;  // of each device
  std::uint64_t granularity_bytes = 2u << 20;  // of physical handles; a power of two >= 4 KiB
  std::uint64_t address_bytes = 0;     // room for reservations; 0: 1 TiB, 16 TiB without contents
  std::uint64_t pinned_bytes_max = 0;  // pinned and managed each; 0: 4 GiB, 1 TiB without contents
  std::uint64_t idle_bytes_max = 256u << 20;  // freed bytes kept in host memory for reuse
  Contents contents = Contents::kFull;
};

inline constexpr std::uint32_t kDevicesMax = 32;
inline constexpr std::uint64_t kPageBytes = 4096;
/// The base is aligned to this, so alignments up to it do not depend on where the base lies.
inline constexpr std::uint64_t kAlignmentMax = std::uint64_t{1} << 32;
/// Base without contents: an address that no x86-64 process has, so that a host pointer is never
/// taken for a device address and a touch faults.
inline constexpr std::uint64_t kBaseWithoutContents = std::uint64_t{1} << 48;

/// Block rounded to what it takes from the device: pages below the granularity, granules above.
inline std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) & ~(unit - 1);
}

class MemoryLayout {
 public:
  /// Fails with kInvalidArgument on options that make no sense. Fills in the defaults.
  static Result<MemoryLayout> make(const MemoryOptions& options);

  [[nodiscard]] const MemoryOptions& options() const { return options_; }

  // Address offsets.
  [[nodiscard]] std::uint64_t plain_begin(std::uint32_t device) const {
    return std::uint64_t{device} << plain_shift_;
  }
  /// REQUIRES: offset < pinned_begin().
  [[nodiscard]] std::uint32_t plain_device(std::uint64_t offset) const {
    return static_cast<std::uint32_t>(offset >> plain_shift_);
  }
  [[nodiscard]] std::uint64_t pinned_begin() const { return pinned_begin_; }
  [[nodiscard]] std::uint64_t managed_begin() const { return managed_begin_; }
  /// Below this an address offset is a flat offset.
  [[nodiscard]] std::uint64_t linear_end() const { return linear_end_; }
  [[nodiscard]] std::uint64_t reserve_begin() const { return linear_end_; }
  [[nodiscard]] std::uint64_t address_end() const { return linear_end_ + options_.address_bytes; }

  // Flat offsets.
  [[nodiscard]] std::uint64_t physical_begin(std::uint32_t device) const {
    return linear_end_ + (std::uint64_t{device} << physical_shift_);
  }
  /// REQUIRES: linear_end() <= flat < flat_end().
  [[nodiscard]] std::uint32_t physical_device(std::uint64_t flat) const {
    return static_cast<std::uint32_t>((flat - linear_end_) >> physical_shift_);
  }
  [[nodiscard]] std::uint64_t flat_end() const { return physical_begin(options_.device_count); }
  [[nodiscard]] std::uint64_t foreign_begin() const { return flat_end(); }

  [[nodiscard]] SlotArena plain_arena() const;
  [[nodiscard]] SlotArena physical_arena() const;
  [[nodiscard]] SlotArena pinned_arena() const;  // also for managed memory

  /// What a block of `bytes` takes from its device; 0 when that overflows.
  [[nodiscard]] std::uint64_t plain_bytes(std::uint64_t bytes) const {
    const std::uint64_t unit =
        bytes < options_.granularity_bytes ? kPageBytes : options_.granularity_bytes;
    return round_up(bytes, unit);
  }

 private:
  MemoryOptions options_;
  unsigned plain_shift_ = 0;
  unsigned physical_shift_ = 0;
  std::uint64_t pinned_begin_ = 0;
  std::uint64_t managed_begin_ = 0;
  std::uint64_t linear_end_ = 0;
};

}  // namespace spillway::sim
