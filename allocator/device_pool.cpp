// SPDX-License-Identifier: Apache-2.0
// Birth and end of the pool, and the path that nearly every call takes: one short critical section,
// no driver call but the question whether the stream is capturing.
#include "allocator/device_pool.hpp"

#include "allocator/pool_section.hpp"
#include "core/check.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>

namespace spillway {
namespace {

// Larger blocks go to the upper end of the hole that fits them, smaller ones to the lower end: the
// rest of a hole then grows towards its own kind.
constexpr Quanta kLargeQuanta = quanta_for(std::uint64_t{1} << 20);

}  // namespace

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
  if (has_vmm_ && observer_ != nullptr && arena_bytes_ != 0)
    observer_->arena_end(base_, arena_bytes_);
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
    const cu::DevicePtr begin = chunk.pointer.get();
    if (begin == 0) break;  // slots are filled from the front and kept
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

// ---- the hot path

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
  Block& block = space_.at(index);
  block.label.set(streams_.label_of(space_, request.index, request.group));
  block.epoch.set(++stats_.allocation_count);
  block.tag.set(request.tag.value);
  block.slack.set(static_cast<std::uint16_t>(bytes_of(request.quanta) - request.bytes));
  block.link_next = 0;  // no use by another stream yet
  tags_.add(request.tag, request.bytes);
  stats_.requested_bytes += request.bytes;
  stats_.requested_bytes_peak = std::max(stats_.requested_bytes_peak, stats_.requested_bytes);
  stats_.allocated_bytes += bytes_of(request.quanta);
  stats_.allocated_bytes_peak = std::max(stats_.allocated_bytes_peak, stats_.allocated_bytes);
  return pointer_at(block.begin.get());
}

// ---- blocks given back a moment ago

BlockIndex DevicePool::take_kept(const Request& request) {
  const BlockIndex index = streams_.at(request.index).kept.take(request.quanta);
  if (index == kNoBlock) return kNoBlock;
  --kept_count_;
  space_.change_state(index, BlockState::kKept, BlockState::kLive);
  return index;
}

// REQUIRES: a live block of the arena, whose totals are gone.
void DevicePool::keep(BlockIndex index, StreamIndex owner, std::uint64_t epoch) {
  Block& block = space_.at(index);
  const LabelIndex label = streams_.label_of(space_, owner, kArena);
  block.label.set(label);
  block.epoch.set(epoch);
  space_.change_state(index, BlockState::kLive, BlockState::kKept);
  ++kept_count_;
  const BlockIndex leaves = streams_.at(owner).kept.put(index, block.quanta.get());
  if (leaves == kNoBlock) return;
  --kept_count_;
  space_.give(leaves, label, space_.at(leaves).epoch.get());
}

void DevicePool::merge_kept() {
  for (StreamIndex i = 0; kept_count_ != 0 && i < streams_.count(); ++i) {
    streams_.at(i).kept.drain([&](BlockIndex index) {
      const Block& block = space_.at(index);
      --kept_count_;
      space_.give(index, block.label.get(), block.epoch.get());
    });
  }
}

BlockIndex DevicePool::take_ready(const Request& request) {
  const LabelIndex label = streams_.label_of(space_, request.index, request.group);
  BlockIndex best = space_.find_free(label, request.quanta);
  const LabelIndex neutral = space_.neutral_of(request.group);
  if (!space_.index_of(neutral).empty()) {
    const BlockIndex other = space_.find_free(neutral, request.quanta);
    if (best == kNoBlock ||
        (other != kNoBlock && space_.at(other).quanta.get() < space_.at(best).quanta.get()))
      best = other;
  }
  if (best == kNoBlock) return kNoBlock;
  return space_.take(best,
                     request.quanta,
                     request.quanta >= kLargeQuanta ? Space::End::kHigh : Space::End::kLow,
                     BlockState::kLive);
}

// The place that the layout has for this allocation, when it is free and needs no waiting. When it
// is free and needs some, request.planned says so.
BlockIndex DevicePool::take_planned(Request& request) {
  const std::optional<LayoutCursor::Match> match = layout_.match(request.quanta);
  if (!match) return kNoBlock;
  const Quanta place = layout_.begin() + match->offset;
  bool ready = true;
  std::uint32_t pieces = 0;
  const bool is_free =
      space_.is_free_range(place, request.quanta, kPlanned, [&](const Block& block) {
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
    const QuickSection section(*this);
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
    if (taken == kNoBlock && group == kArena && !request.planned) taken = take_kept(request);
    if (taken == kNoBlock && !request.planned) taken = take_ready(request);
    if (taken != kNoBlock) [[likely]]
      pointer = hand_out(taken, request);
  }
  if (pointer == 0) [[unlikely]]
    return allocate_slowly(request);
  if (observer_ != nullptr) observer_->block_allocated(pointer, bytes, stream.handle());
  return pointer;
}

Result<cu::DevicePtr> DevicePool::allocate(std::uint64_t bytes, StreamRef stream, TagId tag) {
  return allocate_in(kArena, bytes, stream, tag);
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

// REQUIRES: the block is live. Its totals go; its state is the caller's to change.
void DevicePool::end_live(BlockIndex index) {
  const Block& block = space_.at(index);
  const std::uint64_t held = bytes_of(block.quanta.get());
  const std::uint64_t requested = held - block.slack.get();
  tags_.remove(TagId(block.tag.get()), requested);
  stats_.requested_bytes -= requested;
  stats_.allocated_bytes -= held;
  ++stats_.free_count;
}

bool DevicePool::wants_mark(StreamState& state, std::uint64_t bytes) {
  state.unmarked_bytes += bytes;
  if (frees_until_calm_ == 0 && streams_.active_count() < 2) [[likely]]
    return false;
  if (frees_until_calm_ != 0) --frees_until_calm_;
  if (state.unmarked_bytes < options_.mark_interval_bytes || state.retired) return false;
  state.unmarked_bytes = 0;
  return true;
}

Status DevicePool::free(cu::DevicePtr pointer, StreamRef stream) {
  if (pointer == 0) return {};
  SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
  if (capture_id != 0 || observer_ != nullptr) [[unlikely]]
    return free_with_care(pointer, stream, capture_id);
  StreamPoint to_mark;
  {
    const QuickSection section(*this);
    const std::optional<Quanta> place = place_of(pointer);
    const BlockIndex index = place ? space_.find_start(*place) : kNoBlock;
    Block* block = index == kNoBlock ? nullptr : &space_.at(index);
    const StreamIndex owner = streams_.intern(stream, 0);
    const GroupIndex group = block == nullptr ? kArena : space_.group_of(block->label.get());
    // Everything out of the ordinary, errors included, is decided on the other path.
    if (block == nullptr || !block->is(BlockState::kLive) || block->begin.get() != *place ||
        pointer_at(*place) != pointer || block->link_next != 0 || group >= kPlanned ||
        owner == kNoStream) [[unlikely]] {
      to_mark.epoch = 1;
    } else {
      end_live(index);
      StreamState& state = streams_.at(owner);
      const std::uint64_t epoch = ++state.epoch;
      const std::uint64_t bytes = bytes_of(block->quanta.get());
      if (group == kArena)
        keep(index, owner, epoch);
      else
        space_.give(index, streams_.label_of(space_, owner, group), epoch);
      if (wants_mark(state, bytes)) to_mark = {owner, epoch};
    }
  }
  if (to_mark.epoch == 0) [[likely]]
    return {};
  if (to_mark.stream == kNoStream) return free_with_care(pointer, stream, capture_id);
  // The block is given back whatever comes of the mark; who needs it will try again.
  static_cast<void>(mark(to_mark));
  return {};
}

}  // namespace spillway
