// SPDX-License-Identifier: Apache-2.0
// Which physical handle is mapped where: one entry per granule of the arena's address range, and
// the handles that are held without a place. The handle is the atom of mapping, so the map is what
// says which stretches of the arena can be moved.
#pragma once

#include "device/driver_types.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace spillway {

/// A granule is the unit of cuMemMap on this device. All places and sizes here are in granules.
using Granule = std::uint32_t;

struct PlacedHandle {
  cu::AllocationHandle handle = 0;
  Granule granules = 0;
};

/// INVARIANT: placed handles do not overlap; mapped_granules is their sum, spare_granules that of
/// the spare ones. Host memory: 12 bytes per granule of address range, touched only where handles
/// are. Threads: none; the pool's lock.
class HandleMap {
 public:
  HandleMap() = default;
  HandleMap(const HandleMap&) = delete;
  HandleMap& operator=(const HandleMap&) = delete;
  HandleMap(HandleMap&&) = delete;
  HandleMap& operator=(HandleMap&&) = delete;
  ~HandleMap();

  /// For granules below `end`. False: out of host memory.
  bool create(Granule end);

  /// REQUIRES: nothing is placed in [at, at + granules).
  void place(Granule at, PlacedHandle handle);
  /// Takes the handle that begins at `at` out; granules == 0 when none does.
  PlacedHandle take(Granule at);
  /// The handle that begins at `at`; granules == 0 when none does.
  [[nodiscard]] PlacedHandle begins_at(Granule at) const {
    return at < end_ ? PlacedHandle{handles_[at], granules_[at]} : PlacedHandle{};
  }

  void add_spare(PlacedHandle handle) {
    spare_.push_back(handle);
    spare_granules_ += handle.granules;
  }
  /// Takes a spare handle of at most `granules_max`, the largest such; granules == 0: none.
  PlacedHandle take_spare(Granule granules_max);
  /// Takes the smallest spare handle; granules == 0: none.
  PlacedHandle take_smallest_spare();

  [[nodiscard]] std::uint64_t mapped_granules() const { return mapped_granules_; }
  [[nodiscard]] std::uint64_t spare_granules() const { return spare_granules_; }
  [[nodiscard]] std::size_t mapped_count() const { return mapped_count_; }
  [[nodiscard]] Granule end() const { return end_; }

 private:
  PlacedHandle take_spare_at(std::size_t index);

  cu::AllocationHandle* handles_ = nullptr;
  Granule* granules_ = nullptr;  // at the first granule of a handle: its length; else 0
  Granule end_ = 0;
  std::uint64_t mapped_granules_ = 0;
  std::size_t mapped_count_ = 0;
  std::vector<PlacedHandle> spare_;
  std::uint64_t spare_granules_ = 0;
};

}  // namespace spillway
