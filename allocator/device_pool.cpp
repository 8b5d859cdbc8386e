// SPDX-License-Identifier: Apache-2.0
// Birth and end of the pool, and its calls where pool_quick.cpp does not serve them.
#include "allocator/device_pool.hpp"

#include "allocator/pool_section.hpp"
#include "core/check.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>

namespace spillway {
DevicePool::DevicePool(const Context& context, const DevicePoolOptions& options)
    : driver_(context.driver()),
      context_(context),
      options_(options),
      observer_(options.observer),
      prop_(device_allocation_prop(context.device(), options.physical)),
      chunks_(kCommChunksMax) {}

Result<std::unique_ptr<DevicePool>> DevicePool::create(const Context& context,
                                                       const DevicePoolOptions& options) try {
  std::unique_ptr<DevicePool> pool(new DevicePool(context, options));
  SPW_RETURN_IF_ERROR(pool->start());
  if (options.map_ahead_bytes != 0)
    SPW_RETURN_IF_ERROR(pool->reserve_ahead(options.map_ahead_bytes));
  return pool;
} catch (const std::bad_alloc&) {
  return Status(Code::kOutOfMemory, "device pool: the host has no memory for its tables");
}

Status DevicePool::start() {
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  std::size_t memory_bytes = 0;
  SPW_CU_TRY(driver_.cuDeviceTotalMem(&memory_bytes, context_.device()));
  device_bytes_ = memory_bytes;
  int vmm = 0;
  SPW_CU_TRY(driver_.cuDeviceGetAttribute(
      &vmm, cu::DeviceAttribute::kVirtualMemoryManagementSupported, context_.device()));
  has_vmm_ = vmm != 0;

  const std::uint64_t budget = options_.budget_bytes != 0 ? options_.budget_bytes : device_bytes_;
  if (has_vmm_) {
    SPW_ASSIGN_OR_RETURN(granule_bytes_, allocation_granularity(driver_, prop_));
    if (granule_bytes_ % kQuantumBytes != 0)
      return {Code::kUnsupported,
              fmt::format("device pool: mappings of {} bytes do not fit blocks of 512",
                          granule_bytes_)};
    granule_quanta_ = quanta_for(granule_bytes_);
    // Half of the places are left for the comm pool.
    constexpr std::uint64_t kPlacesMax = kArenaBytesMax / 2;
    const std::uint64_t held = std::min(budget, device_bytes_);
    std::uint64_t wanted =
        options_.address_bytes != 0 ? options_.address_bytes : std::min(held, kPlacesMax / 4) * 4;
    wanted = std::clamp(wanted, granule_bytes_, kPlacesMax) / granule_bytes_ * granule_bytes_;
    SPW_ASSIGN_OR_RETURN(Reservation reservation,
                         Reservation::create(driver_, wanted, granule_bytes_));
    base_ = reservation.pointer();
    arena_bytes_ = wanted;
    reservation_ = std::move(reservation);
  }
  if (observer_ != nullptr) {
    SPW_ASSIGN_OR_RETURN(own_stream_, Stream::create(driver_));
    if (has_vmm_) observer_->arena_begin(base_, arena_bytes_);
    observed_ = has_vmm_;
  }
  const Section section(*this);
  budget_bytes_ = budget;
  const bool made =
      space_.create(quanta_for(kArenaBytesMax) - 1) && space_.reserve(1) &&
      handles_.create(has_vmm_ ? static_cast<Granule>(arena_bytes_ / granule_bytes_) : 1);
  if (!made) return {Code::kOutOfMemory, "device pool: the host has no memory for its tables"};
  space_.add_group();
  space_.add_group();
  space_.add_group();
  if (has_vmm_) space_.add_region(0, quanta_for(arena_bytes_), space_.neutral_of(kArena));
  uses_.emplace_back();
  return {};
}

DevicePool::~DevicePool() {
  // Members that own driver objects end by themselves; what is left are the handles.
  Events events;
  {
    const Section section(*this);
    events.swap(free_events_);
    for (StreamIndex i = 0; i < streams_.count(); ++i)
      for (Mark& mark : streams_.at(i).marks) events.push_back(std::move(mark.event));
  }
  events.clear();
  if (observed_) observer_->arena_end(base_, arena_bytes_);
  std::vector<PlacedHandle> spare;
  std::vector<Granule> placed;
  {
    const Section section(*this);
    for (Granule at = 0; has_vmm_ && at < tail_ / std::max<Quanta>(granule_quanta_, 1);) {
      const PlacedHandle handle = handles_.begins_at(at);
      if (handle.granules != 0) placed.push_back(at);
      at += std::max<Granule>(handle.granules, 1);
    }
    for (const Granule at : placed) spare.push_back(handles_.take(at));
  }
  for (std::size_t i = 0; i < placed.size(); ++i) {
    SPW_CU_END(
        driver_.cuMemUnmap(base_ + placed[i] * granule_bytes_, spare[i].granules * granule_bytes_));
    SPW_CU_END(driver_.cuMemRelease(spare[i].handle));
  }
  for (;;) {
    PlacedHandle handle;
    {
      const Section section(*this);
      handle = handles_.take_spare(handles_.end());
    }
    if (handle.granules == 0) break;
    SPW_CU_END(driver_.cuMemRelease(handle.handle));
  }
  for (const CommChunk& chunk : chunks_) {
    if (chunk.quanta.get() == 0) continue;
    if (observer_ != nullptr)
      observer_->arena_end(chunk.pointer.get(), bytes_of(chunk.quanta.get()));
    SPW_CU_END(driver_.cuMemFree(chunk.pointer.get()));
  }
}

// ---- places and addresses

std::optional<Quanta> DevicePool::place_of(cu::DevicePtr pointer) const {
  if (in_arena(pointer)) return static_cast<Quanta>((pointer - base_) >> kQuantumShift);
  for (const CommChunk& chunk : chunks_) {
    // Any slot may be empty: one whose chunk is still being made, or could not be, precedes others.
    const cu::DevicePtr begin = chunk.pointer.get();
    if (pointer - begin < bytes_of(chunk.quanta.get()))
      return chunk.begin.get() + static_cast<Quanta>((pointer - begin) >> kQuantumShift);
  }
  return std::nullopt;
}

cu::DevicePtr DevicePool::pointer_at(Quanta place) const {
  if (bytes_of(place) < arena_bytes_) return base_ + bytes_of(place);
  for (const CommChunk& chunk : chunks_)
    if (place - chunk.begin.get() < chunk.quanta.get())
      return chunk.pointer.get() + bytes_of(place - chunk.begin.get());
  return 0;
}

GroupIndex DevicePool::home_group(BlockIndex index) const {
  const Quanta place = space_.at(index).begin.get();
  if (bytes_of(place) >= arena_bytes_ && has_vmm_) return kComm;
  return layout_.loaded() && place - layout_.begin() < layout_.quanta() ? kPlanned : kArena;
}

bool DevicePool::owns(cu::DevicePtr pointer) const { return place_of(pointer).has_value(); }

// ---- what allocate_quickly and free_quickly leave

Result<std::uint64_t> DevicePool::capture_of(StreamRef stream) const {
  if (!options_.detect_capture) return std::uint64_t{0};
  cu::StreamCaptureStatus status = cu::StreamCaptureStatus::kNone;
  const cu::Result asked = driver_.cuStreamIsCapturing(stream.handle(), &status);
  // The legacy stream answers so while another thread's capture forbids its use; it is in none.
  if (asked == cu::Result::kStreamCaptureImplicit) return std::uint64_t{0};
  SPW_CU_TRY(asked);
  if (status == cu::StreamCaptureStatus::kNone) [[likely]]
    return std::uint64_t{0};
  if (status == cu::StreamCaptureStatus::kInvalidated)
    return Status(Code::kInvalidArgument,
                  "device pool: the capture of this stream has failed; end it first");
  unsigned long long id = 0;
  SPW_CU_TRY(
      driver_.cuStreamGetCaptureInfo(stream.handle(), &status, &id, nullptr, nullptr, nullptr));
  return status == cu::StreamCaptureStatus::kActive ? std::uint64_t{id} : std::uint64_t{0};
}

cu::DevicePtr DevicePool::hand_out(BlockIndex index, const Request& request) {
  const LabelIndex label = streams_.label_of(space_, request.index, request.group);
  return begin_live(index, label, request.bytes, request.tag);
}

BlockIndex DevicePool::take_ready(const Request& request) {
  return take_ready(streams_.label_of(space_, request.index, request.group), request.quanta);
}

// The place that the layout has for this allocation, when it is free and needs no waiting. When it
// is free and needs some, request.planned says so.
BlockIndex DevicePool::take_planned(Request& request) {
  const std::optional<LayoutCursor::Match> match = layout_.match(request.quanta);
  if (!match) return kNoBlock;
  const Quanta place = layout_.begin() + match->offset;
  bool ready = true;
  std::uint32_t pieces = 0;
  const bool is_free = space_.is_free_range(
      place, request.quanta, kPlanned, [&](const Block& block) SPW_NO_THREAD_SAFETY {
        ready = ready && streams_.may_use(request.index, point_of(block));
        ++pieces;
      });
  if (!is_free) return kNoBlock;
  layout_.accept(*match);
  if (!ready) {
    request.planned = match;
    return kNoBlock;
  }
  ++stats_.planned_count;
  request.group = kPlanned;
  if (pieces == 1) {
    const BlockIndex index = space_.find(place);
    return space_.take_at(
        index, place - space_.at(index).begin.get(), request.quanta, BlockState::kLive);
  }
  return space_.claim_range(place, request.quanta, BlockState::kLive);
}

Result<cu::DevicePtr> DevicePool::allocate_in(GroupIndex group,
                                              std::uint64_t bytes,
                                              StreamRef stream,
                                              TagId tag) {
  if (bytes == 0) return cu::DevicePtr{0};
  SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
  Request request{bytes, quanta_for(bytes), stream, kNoStream, group, tag, capture_id, {}};
  if (capture_id != 0) [[unlikely]]
    return allocate_captured(request);

  cu::DevicePtr pointer = 0;
  {
    const Section section(*this);
    if (!tags_.has(tag)) [[unlikely]]
      return Status(Code::kInvalidArgument, "device pool: there is no such tag");
    request.index = streams_.intern(stream, 0);
    if (request.index == kNoStream || !space_.reserve(2)) [[unlikely]]
      return Status(Code::kOutOfMemory, "device pool: the host has no memory for its tables");
    BlockIndex taken = kNoBlock;
    if (layout_.loaded() && group == kArena) {
      taken = take_planned(request);
      if (taken == kNoBlock && !request.planned) ++stats_.deviated_count;
    }
    if (taken == kNoBlock && !request.planned) taken = take_ready(request);
    if (taken != kNoBlock) [[likely]]
      pointer = hand_out(taken, request);
  }
  if (pointer == 0) [[unlikely]]
    return allocate_slowly(request);
  if (observer_ != nullptr) observer_->block_allocated(pointer, bytes, stream.handle());
  return pointer;
}

Result<cu::DevicePtr> DevicePool::allocate_comm(std::uint64_t bytes, StreamRef stream, TagId tag) {
  return allocate_in(kComm, bytes, stream, tag);
}

Result<BlockIndex> DevicePool::live_block(cu::DevicePtr pointer) const {
  const std::optional<Quanta> place = place_of(pointer);
  const BlockIndex index = place ? space_.find(*place) : kNoBlock;
  if (index == kNoBlock)
    return Status(Code::kNotFound,
                  fmt::format("device pool: {:#x} is not from this pool", pointer));
  if (!space_.at(index).is(BlockState::kLive))
    return Status(
        Code::kInvalidArgument,
        fmt::format("device pool: no block is live at {:#x}; given back twice?", pointer));
  return index;
}

Status DevicePool::free_generally(cu::DevicePtr pointer, StreamRef stream) {
  if (pointer == 0) return {};
  SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
  return free_with_care(pointer, stream, capture_id);
}

}  // namespace spillway
