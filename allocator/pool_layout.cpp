// SPDX-License-Identifier: Apache-2.0
// Serving a repeating step from a packed layout: its range is a group of its own inside the arena,
// in which the k-th allocation goes to its place. What does not match, or finds its place taken, is
// an ordinary allocation.
#include "allocator/pool_section.hpp"

#include <fmt/format.h>

namespace spillway {

Status DevicePool::load_layout(std::vector<LayoutItem> items,
                               std::uint64_t height_bytes,
                               StreamRef stream) {
  const std::uint64_t height = bytes_of(quanta_for(height_bytes));
  for (const LayoutItem& item : items) {
    const bool inside = item.bytes != 0 && item.offset_bytes % kQuantumBytes == 0 &&
                        item.offset_bytes < height && item.bytes <= height - item.offset_bytes;
    if (!inside)
      return {
          Code::kInvalidArgument,
          fmt::format("device pool: an item of {} bytes at {} does not fit a layout of {} bytes, "
                      "or is not at a multiple of {}",
                      item.bytes,
                      item.offset_bytes,
                      height_bytes,
                      kQuantumBytes)};
  }
  unload_layout();
  if (height_bytes == 0) return {};
  SPW_ASSIGN_OR_RETURN(const cu::DevicePtr pointer, allocate(height_bytes, stream));
  BlockIndex range = kNoBlock;
  {
    const Section section(*this);
    range = space_.find(*place_of(pointer));
    end_live(range);
    space_.set_state(range, BlockState::kClaimed);
  }
  if (observer_ != nullptr) observer_->block_freed(pointer, stream.handle());
  const Section section(*this);
  const Block& block = space_.at(range);
  const StreamIndex owner = streams_.intern(stream, 0);
  StreamState& state = streams_.at(owner);
  // Two threads may have come here at once: the later one's layout stands.
  if (layout_.loaded()) end_layout();
  layout_.load(std::move(items), block.begin.get(), block.quanta.get());
  space_.give(range, streams_.label_of(space_, owner, kPlanned), ++state.epoch);
  return {};
}

// What is free of the range goes back to the arena; live blocks follow when they are given back.
void DevicePool::end_layout() {
  layout_.unload();
  space_.relabel(space_.neutral_of(kPlanned), space_.neutral_of(kArena), 0);
  for (StreamIndex i = 0; i < streams_.count(); ++i) {
    StreamState& state = streams_.at(i);
    if (state.capture_id == 0 && state.labels.size() > kPlanned &&
        streams_.owner_of(state.labels[kPlanned]) == i)
      space_.relabel(state.labels[kPlanned], streams_.label_of(space_, i, kArena), state.epoch);
  }
}

void DevicePool::unload_layout() {
  const Section section(*this);
  if (layout_.loaded()) end_layout();
}

void DevicePool::begin_step() {
  const QuickSection section(*this);
  layout_.begin_step();
}

}  // namespace spillway
