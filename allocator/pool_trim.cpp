// SPDX-License-Identifier: Apache-2.0
// Memory back to the driver: kept handles, comm chunks and handles of the arena in which nothing
// lives, after the host has waited for the streams that used them.
#include "allocator/pool_growth.hpp"
#include "allocator/pool_section.hpp"
#include "core/units.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace spillway {

struct DevicePool::Trimmed {
  struct Placed {
    BlockIndex block = kNoBlock;
    Granule at = 0;
    PlacedHandle handle;
  };
  struct Chunk {
    BlockIndex block = kNoBlock;
    CommChunk* slot = nullptr;
  };
  std::vector<PlacedHandle> spare;
  std::vector<Chunk> chunks;
  std::vector<Placed> placed;
  std::vector<StreamPoint> points;
};

void DevicePool::claim_trimmed(std::uint64_t keep_bytes, Trimmed& trimmed) {
  std::uint64_t left = stats_.reserved_bytes;
  while (left > keep_bytes) {
    const PlacedHandle handle = handles_.take_smallest_spare();
    if (handle.granules == 0) break;
    trimmed.spare.push_back(handle);
    left -= handle.granules * granule_bytes_;
  }
  for (CommChunk& slot : chunks_) {
    if (left <= keep_bytes) return;
    if (slot.quanta.get() == 0) continue;
    const Quanta begin = slot.begin.get();
    const Quanta quanta = slot.quanta.get();
    std::vector<StreamPoint> points;
    const GroupIndex group = space_.group_of(space_.at(space_.find(begin)).label.get());
    if (!space_.is_free_range(begin, quanta, group, [&](const Block& block) SPW_NO_THREAD_SAFETY {
          points.push_back(point_of(block));
        }))
      continue;
    trimmed.points.insert(trimmed.points.end(), points.begin(), points.end());
    left -= bytes_of(quanta);
    trimmed.chunks.push_back({space_.claim_range(begin, quanta, BlockState::kClaimed), &slot});
  }
  // From the upper end, so that what stays is together.
  for (Granule at = has_vmm_ ? tail_ / granule_quanta_ : 0; at-- > 0 && left > keep_bytes;) {
    const PlacedHandle handle = handles_.begins_at(at);
    if (handle.granules == 0 || !space_.reserve(2)) continue;
    std::vector<StreamPoint> points;
    if (!space_.is_free_range(quanta_of(at),
                              quanta_of(handle.granules),
                              kArena,
                              [&](const Block& block)
                                  SPW_NO_THREAD_SAFETY { points.push_back(point_of(block)); }))
      continue;
    trimmed.points.insert(trimmed.points.end(), points.begin(), points.end());
    left -= handle.granules * granule_bytes_;
    trimmed.placed.push_back(
        {space_.claim_range(quanta_of(at), quanta_of(handle.granules), BlockState::kClaimed),
         at,
         handle});
  }
}

Result<std::uint64_t> DevicePool::trim_to(std::uint64_t keep_bytes) {
  Trimmed trimmed;
  {
    const Section section(*this);
    claim_trimmed(keep_bytes, trimmed);
  }
  Status status = wait_on_host(trimmed.points);
  std::uint64_t given_back = 0;
  const auto gone = [&](std::uint64_t bytes) SPW_NO_THREAD_SAFETY {  // under the lock
    stats_.reserved_bytes -= bytes;
    ++stats_.trim_count;
    given_back += bytes;
  };
  for (const PlacedHandle& handle : trimmed.spare) {
    if (status.ok())
      status = [&]() -> Status {
        SPW_CU_TRY(driver_.cuMemRelease(handle.handle));
        return {};
      }();
    const Section section(*this);
    if (status.ok())
      gone(handle.granules * granule_bytes_);
    else
      handles_.add_spare(handle);
  }
  for (const Trimmed::Chunk& chunk : trimmed.chunks) {
    const cu::DevicePtr pointer = chunk.slot->pointer.get();
    const std::uint64_t bytes = bytes_of(chunk.slot->quanta.get());
    if (status.ok() && observer_ != nullptr) observer_->arena_end(pointer, bytes);
    if (status.ok())
      status = [&]() -> Status {
        SPW_CU_TRY(driver_.cuMemFree(pointer));
        return {};
      }();
    const Section section(*this);
    const LabelIndex neutral = space_.neutral_of(home_group(chunk.block));
    if (!status.ok()) {
      const Block& block = space_.at(chunk.block);
      space_.give(chunk.block, block.label.get(), block.epoch.get());
      continue;
    }
    gone(bytes);
    stats_.comm_bytes -= bytes;
    space_.set_state(chunk.block, BlockState::kUnmapped);
    space_.at(chunk.block).label.set(neutral);
    space_.remove_region(chunk.block);
    chunk.slot->quanta.set(0);
    chunk.slot->claimed_quanta = 0;
  }
  for (const Trimmed::Placed& placed : trimmed.placed) {
    bool unmapped = false;
    if (status.ok())
      status = [&]() -> Status {
        SPW_CU_TRY(driver_.cuMemUnmap(base_ + placed.at * granule_bytes_,
                                      placed.handle.granules * granule_bytes_));
        unmapped = true;
        SPW_CU_TRY(driver_.cuMemRelease(placed.handle.handle));
        return {};
      }();
    const Section section(*this);
    Block& block = space_.at(placed.block);
    if (!unmapped) {
      space_.give(placed.block, block.label.get(), block.epoch.get());
      continue;
    }
    handles_.take(placed.at);
    if (status.ok())
      gone(placed.handle.granules * granule_bytes_);
    else
      handles_.add_spare(placed.handle);
    space_.set_state(placed.block, BlockState::kUnmapped);
    block.label.set(space_.neutral_of(kArena));
    space_.join_equal(placed.block);
  }
  if (!status.ok()) return status;
  return given_back;
}

Result<std::uint64_t> DevicePool::trim(std::uint64_t keep_bytes) {
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  SPW_ASSIGN_OR_RETURN(const RelaxedCapture relaxed, RelaxedCapture::enter(driver_));
  SPW_RETURN_IF_ERROR(poll());
  SPW_RETURN_IF_ERROR(settle_deferred(nullptr));
  return trim_to(keep_bytes);
}

Status DevicePool::set_budget(std::uint64_t budget_bytes) {
  if (budget_bytes == 0) budget_bytes = device_bytes_;
  std::uint64_t before = 0;
  {
    const Section section(*this);
    before = budget_bytes_;
    // Nobody grows from here on beyond what is held now.
    budget_bytes_ = std::max(budget_bytes, stats_.reserved_bytes);
    if (budget_bytes_ == budget_bytes) return {};
  }
  const Result<std::uint64_t> trimmed = trim(budget_bytes);
  std::uint64_t held = 0;
  {
    const Section section(*this);
    held = stats_.reserved_bytes;
    budget_bytes_ = held <= budget_bytes ? budget_bytes : std::max(before, held);
    if (held <= budget_bytes) return {};
  }
  if (!trimmed.ok()) return trimmed.status();
  return memory_table(fmt::format("device pool: a budget of {} is not possible, {} stay in use",
                                  format_bytes(budget_bytes),
                                  format_bytes(held)));
}

std::uint64_t DevicePool::budget_bytes() const {
  const Section section(*this);
  return budget_bytes_;
}

Status DevicePool::reserve_ahead(std::uint64_t bytes) {
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  SPW_ASSIGN_OR_RETURN(const RelaxedCapture relaxed, RelaxedCapture::enter(driver_));
  Request request;
  {
    const Section section(*this);
    std::uint64_t free_bytes = 0;
    space_.for_each([&](BlockIndex, const Block& block) {
      if (block.is(BlockState::kFree) && space_.group_of(block.label.get()) == kArena)
        free_bytes += bytes_of(block.quanta.get());
    });
    if (free_bytes >= bytes) return {};
    request.bytes = bytes - free_bytes;
    request.quanta = quanta_for(request.bytes);
  }
  SPW_ASSIGN_OR_RETURN(const BlockIndex block, grow(request, false));
  if (block == kNoBlock)
    return {Code::kOutOfMemory,
            "device pool: the budget or the device has no room for memory ahead"};
  const Section section(*this);
  space_.set_state(block, BlockState::kClaimed);
  space_.give(block, space_.neutral_of(kArena), 0);
  return {};
}

}  // namespace spillway
