// SPDX-License-Identifier: Apache-2.0
// What an allocation tries when no block is ready for its stream, in this order: what other streams
// are done with, several neighbours as one, other streams' memory after a wait, growth; and at the
// budget: blocks that are still in use elsewhere after a wait, memory that other pools hold for
// nothing, remapping, the layout's range, the pressure callback. Each at most once per attempt.
#include "allocator/pool_section.hpp"
#include "core/units.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace spillway {
namespace {

// How often the callback may say "try again" for one allocation.
constexpr std::uint32_t kPressureAttempts = 16;

thread_local bool t_in_pressure_callback = false;

}  // namespace

// Cuts what was asked for out of a claimed block and makes it live; the rest is free.
BlockIndex DevicePool::keep_part(BlockIndex claimed,
                                 const Request& request,
                                 LabelIndex rest,
                                 std::uint64_t epoch) {
  if (space_.at(claimed).quanta.get() != request.quanta) {
    const BlockIndex kept = space_.cut(claimed, 0, request.quanta);
    const BlockIndex behind = space_.at(kept).next.get();
    space_.set_state(kept, BlockState::kLive);
    space_.give(behind, rest, epoch);
    return kept;
  }
  space_.set_state(claimed, BlockState::kLive);
  return claimed;
}

// The stream waits for all points; the claimed block is then its own. When it cannot wait, the
// block stays out of use until the points are over.
Result<BlockIndex> DevicePool::wait_for(const Request& request,
                                        BlockIndex claimed,
                                        const std::vector<StreamPoint>& points) {
  const Status waited = make_wait(request.index, points);
  const Section section(*this);
  StreamState& state = streams_.at(request.index);
  const std::uint64_t epoch = ++state.epoch;
  if (!waited.ok()) {
    if (const Capture* capture = find_group(request.group)) {
      // The capture is broken; what it took goes home with the rest of it.
      space_.give(claimed, capture->parked, epoch);
      return waited;
    }
    space_.set_state(claimed, BlockState::kDeferred);
    deferred_.push_back({claimed, {request.index, epoch}, points});
    return waited;
  }
  const LabelIndex label = streams_.label_of(space_, request.index, request.group);
  if (!space_.reserve(1)) {
    space_.give(claimed, label, epoch);
    return kNoBlock;
  }
  return keep_part(claimed, request, label, epoch);
}

// `except`: a label whose memory is out of reach.
Result<BlockIndex> DevicePool::take_run(const Request& request, bool may_wait, LabelIndex except) {
  std::vector<StreamPoint> points;
  BlockIndex claimed = kNoBlock;
  {
    const Section section(*this);
    if (!space_.reserve(2)) return kNoBlock;
    const Space::Run run = space_.find_run(
        request.group, request.quanta, [&](const Block& block) SPW_NO_THREAD_SAFETY {
          return block.label.get() != except &&
                 (may_wait || streams_.may_use(request.index, point_of(block)));
        });
    if (run.first == kNoBlock) return kNoBlock;
    bool neutral = true;
    for (BlockIndex i = run.first;; i = space_.at(i).next.get()) {
      const StreamPoint point = point_of(space_.at(i));
      neutral = neutral && point.stream == kNoStream;
      if (!streams_.may_use(request.index, point)) points.push_back(point);
      if (i == run.last) break;
    }
    claimed = space_.join(run, BlockState::kClaimed);
    if (points.empty()) {
      const LabelIndex label = neutral ? space_.neutral_of(request.group)
                                       : streams_.label_of(space_, request.index, request.group);
      const std::uint64_t epoch = neutral ? 0 : ++streams_.at(request.index).epoch;
      return keep_part(claimed, request, label, epoch);
    }
  }
  return wait_for(request, claimed, points);
}

// The place of request.planned, after a wait for whoever had it before.
Result<BlockIndex> DevicePool::take_planned_range(const Request& request) {
  std::vector<StreamPoint> points;
  BlockIndex claimed = kNoBlock;
  {
    const Section section(*this);
    const Quanta place = layout_.begin() + request.planned->offset;
    if (!layout_.loaded() || !space_.reserve(2) ||
        !space_.is_free_range(
            place, request.quanta, kPlanned, [&](const Block& block) SPW_NO_THREAD_SAFETY {
              const StreamPoint point = point_of(block);
              if (!streams_.may_use(request.index, point)) points.push_back(point);
            }))
      return kNoBlock;
    claimed = space_.claim_range(place, request.quanta, BlockState::kClaimed);
    ++stats_.planned_count;
  }
  return wait_for(request, claimed, points);
}

Result<BlockIndex> DevicePool::try_everything(Request& request) {
  if (request.planned) {
    Request planned = request;
    planned.group = kPlanned;
    SPW_ASSIGN_OR_RETURN(const BlockIndex taken, take_planned_range(planned));
    request.planned.reset();
    if (taken != kNoBlock) {
      request.group = kPlanned;
      return taken;
    }
  }
  {
    const Section section(*this);
    // More lives than ever: a program that is still on its way up.
    const std::uint64_t peak = stats_.allocated_bytes_peak;
    if (peak > remap_peak_bytes_ + remap_peak_bytes_ / kPeakPartPerRemap) {
      remap_peak_bytes_ = peak;
      remap_credit_ = std::min(kRemapCredit, remap_credit_ + 1);
    }
    const std::uint64_t earned = stats_.allocation_count / kAllocationsPerRemap;
    if (earned > remap_credit_earned_) {
      remap_credit_ = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(kRemapCredit, remap_credit_ + earned - remap_credit_earned_));
      remap_credit_earned_ = earned;
    }
  }
  const auto ready = [&]() -> BlockIndex {
    const Section section(*this);
    return space_.reserve(2) ? take_ready(request) : kNoBlock;
  };

  // What has become usable meanwhile.
  SPW_RETURN_IF_ERROR(poll());
  SPW_RETURN_IF_ERROR(settle_deferred(nullptr));
  if (const BlockIndex taken = ready(); taken != kNoBlock) return taken;
  SPW_ASSIGN_OR_RETURN(BlockIndex taken, take_run(request, false));
  if (taken != kNoBlock) return taken;

  const bool wait_first = options_.cross_stream == CrossStream::kWaitFirst;
  for (const bool press : {false, true}) {
    if (press || wait_first) {
      SPW_RETURN_IF_ERROR(settle_deferred(&request));
      SPW_ASSIGN_OR_RETURN(taken, take_run(request, true));
      if (taken != kNoBlock) return taken;
    }
    SPW_ASSIGN_OR_RETURN(taken, grow(request, press));
    if (taken != kNoBlock) return taken;
  }
  // The range of a layout is ours as well, before anybody is asked for memory.
  if (request.group == kArena) {
    Request borrowed = request;
    borrowed.group = kPlanned;
    SPW_ASSIGN_OR_RETURN(taken, take_run(borrowed, true));
    if (taken != kNoBlock) request.group = kPlanned;
  }
  return taken;
}

Result<cu::DevicePtr> DevicePool::allocate_slowly(Request request) {
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  SPW_ASSIGN_OR_RETURN(const RelaxedCapture relaxed, RelaxedCapture::enter(driver_));
  std::uint32_t asked = 0;
  BlockIndex taken = kNoBlock;
  for (;;) {
    SPW_ASSIGN_OR_RETURN(taken, try_everything(request));
    if (taken != kNoBlock) break;
    if (options_.on_pressure == nullptr || t_in_pressure_callback || asked == kPressureAttempts)
      break;
    PressureRequest pressure{request.bytes, 0, 0, request.stream, asked++};
    {
      const Section section(*this);
      pressure.reserved_bytes = stats_.reserved_bytes;
      pressure.budget_bytes = budget_bytes_;
      ++stats_.pressure_count;
    }
    t_in_pressure_callback = true;
    const bool again = options_.on_pressure(options_.user, pressure);
    t_in_pressure_callback = false;
    if (!again) break;
  }
  if (taken == kNoBlock) return out_of_memory(request, asked);
  cu::DevicePtr pointer = 0;
  {
    const Section section(*this);
    pointer = hand_out(taken, request);
  }
  if (observer_ != nullptr)
    observer_->block_allocated(pointer, request.bytes, request.stream.handle());
  return pointer;
}

}  // namespace spillway
