// SPDX-License-Identifier: Apache-2.0
#include "allocator/handle_map.hpp"

#include "core/check.hpp"

#include <cstdlib>

namespace spillway {

HandleMap::~HandleMap() {
  std::free(handles_);
  std::free(granules_);
}

bool HandleMap::create(Granule end) {
  // calloc: pages that nobody touches cost nothing.
  handles_ = static_cast<cu::AllocationHandle*>(std::calloc(end, sizeof(cu::AllocationHandle)));
  granules_ = static_cast<Granule*>(std::calloc(end, sizeof(Granule)));
  end_ = end;
  return handles_ != nullptr && granules_ != nullptr;
}

void HandleMap::place(Granule at, PlacedHandle handle) {
  SPW_CHECK(handle.granules != 0 && at < end_ && handle.granules <= end_ - at);
  SPW_CHECK_EQ(granules_[at], 0u);
  handles_[at] = handle.handle;
  granules_[at] = handle.granules;
  mapped_granules_ += handle.granules;
  ++mapped_count_;
}

PlacedHandle HandleMap::take(Granule at) {
  const PlacedHandle handle = begins_at(at);
  if (handle.granules == 0) return {};
  handles_[at] = 0;
  granules_[at] = 0;
  mapped_granules_ -= handle.granules;
  --mapped_count_;
  return handle;
}

PlacedHandle HandleMap::take_spare(Granule granules_max) {
  std::size_t best = spare_.size();
  for (std::size_t i = 0; i < spare_.size(); ++i)
    if (spare_[i].granules <= granules_max &&
        (best == spare_.size() || spare_[i].granules > spare_[best].granules))
      best = i;
  return best == spare_.size() ? PlacedHandle{} : take_spare_at(best);
}

PlacedHandle HandleMap::take_smallest_spare() {
  if (spare_.empty()) return {};
  std::size_t best = 0;
  for (std::size_t i = 1; i < spare_.size(); ++i)
    if (spare_[i].granules < spare_[best].granules) best = i;
  return take_spare_at(best);
}

PlacedHandle HandleMap::take_spare_at(std::size_t index) {
  const PlacedHandle handle = spare_[index];
  spare_[index] = spare_.back();
  spare_.pop_back();
  spare_granules_ -= handle.granules;
  return handle;
}

}  // namespace spillway
