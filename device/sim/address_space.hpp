// SPDX-License-Identifier: Apache-2.0
// Reserved device addresses and what is mapped there (the driver's VMM calls). Handles are mapped
// whole and unmapped whole; a mapping has no access until it is given. The same handle may be
// mapped at two addresses. Addresses here are offsets from the base.
#pragma once

#include "device/sim/mirror.hpp"
#include "device/sim/physical_memory.hpp"

#include <cstdint>
#include <map>
#include <vector>

namespace spillway::sim {

struct Mapping {
  ByteRange range;  // of address offsets
  std::uint64_t flat = 0;
  PhysicalId physical;
  std::uint64_t access_bits = 0;  // two per device

  [[nodiscard]] Access access(std::uint32_t device) const {
    return static_cast<Access>(access_bits >> (2 * device) & 3);
  }
  /// What at least one device may do.
  [[nodiscard]] Access access_of_any() const {
    constexpr std::uint64_t kLowBits = 0x5555555555555555ull;
    if ((access_bits & ~kLowBits) != 0) return Access::kReadWrite;
    return access_bits != 0 ? Access::kRead : Access::kNone;
  }
};

class AddressSpace {
 public:
  AddressSpace(const MemoryLayout& layout, PhysicalMemory& physical, Mirror& mirror);

  /// `alignment` 0 or a power of two; the hint is taken when it is aligned and free there (0:
  /// none).
  MemoryError reserve(std::uint64_t bytes,
                      std::uint64_t alignment,
                      std::uint64_t hint,
                      std::uint64_t* begin,
                      Misuse* misuse);
  /// A whole reservation with nothing mapped in it.
  MemoryError release(std::uint64_t begin, std::uint64_t bytes, Misuse* misuse);

  MemoryError map(std::uint64_t begin,
                  std::uint64_t bytes,
                  PhysicalId id,
                  std::uint64_t handle_offset,
                  Misuse* misuse);
  /// One or several whole neighbouring mappings.
  MemoryError unmap(std::uint64_t begin, std::uint64_t bytes, Misuse* misuse);
  /// Whole neighbouring mappings; all or none of them change.
  MemoryError set_access(std::uint64_t begin,
                         std::uint64_t bytes,
                         std::uint32_t device,
                         Access access,
                         Misuse* misuse);
  MemoryError get_access(std::uint64_t at,
                         std::uint32_t device,
                         Access* access,
                         Misuse* misuse) const;

  /// The mapping or reservation that holds an address; nullptr, or bytes == 0.
  [[nodiscard]] const Mapping* find_mapping(std::uint64_t at) const;
  [[nodiscard]] ByteRange find_reservation(std::uint64_t at) const;

  [[nodiscard]] std::size_t reservation_count() const { return reservations_.size(); }
  [[nodiscard]] std::size_t mapping_count() const { return mappings_.size(); }
  [[nodiscard]] std::uint64_t reserved_bytes() const { return reserved_bytes_; }
  template <typename Visit>
  void for_each_reservation(Visit&& visit) const {
    for (const auto& [begin, bytes] : reservations_) visit(ByteRange{begin, bytes});
  }
  template <typename Visit>
  void for_each_mapping(Visit&& visit) const {
    for (const auto& [begin, mapping] : mappings_) visit(mapping);
  }

  void reset();

 private:
  struct Hole {
    std::uint64_t bytes = 0;
    std::uint64_t freed_at = 0;  // the most recent one is filled first; 0: never reserved so far
  };
  using Holes = std::map<std::uint64_t, Hole>;
  using Mappings = std::map<std::uint64_t, Mapping>;

  /// The hole to fill, and where in it; holes_.end() when none has the room.
  Holes::iterator best_hole(std::uint64_t bytes, std::uint64_t unit, std::uint64_t* begin);
  void take(Holes::iterator hole, std::uint64_t begin, std::uint64_t bytes);
  bool join_unused();
  /// kOk when [begin, begin + bytes) is covered by whole mappings without a hole; `first` is the
  /// first of them.
  MemoryError covered(std::uint64_t begin,
                      std::uint64_t bytes,
                      MemoryError when_partial,
                      Mappings::iterator* first,
                      Misuse* misuse);

  MemoryLayout layout_;
  PhysicalMemory& physical_;
  Mirror& mirror_;
  std::map<std::uint64_t, std::uint64_t> reservations_;  // begin -> bytes
  Holes holes_;  // the rest; freed ones are coalesced, unused ones keep apart while they can
  Mappings mappings_;
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t frees_ = 0;
};

}  // namespace spillway::sim
