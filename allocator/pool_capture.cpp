// SPDX-License-Identifier: Apache-2.0
// Memory of stream captures. A graph keeps the addresses that it was captured with, so what a
// capture takes is carved out of the arena for it alone until release_capture(): reused inside the
// capture in the order of its streams, never remapped, trimmed or handed to others. While a stream
// captures, nothing is queried and the host waits for nothing.
#include "allocator/pool_section.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace spillway {

DevicePool::Capture* DevicePool::find_capture(std::uint64_t id) {
  for (Capture& capture : captures_)
    if (capture.id == id) return &capture;
  return nullptr;
}

DevicePool::Capture* DevicePool::find_group(GroupIndex group) {
  for (Capture& capture : captures_)
    if (capture.id != 0 && capture.group == group) return &capture;
  return nullptr;
}

DevicePool::Capture* DevicePool::open_capture(std::uint64_t id) {
  if (Capture* known = find_capture(id)) return known;
  Capture* slot = find_capture(0);
  if (slot == nullptr) {
    captures_.emplace_back();
    slot = &captures_.back();
    slot->group = space_.add_group();
    slot->parked = space_.add_label(slot->group);
  }
  slot->id = id;
  slot->released = false;
  return slot;
}

// Memory of the arena that no stream uses any more becomes the capture's.
Result<BlockIndex> DevicePool::carve(Request& request) {
  Request arena = request;
  arena.group = kArena;
  BlockIndex taken = kNoBlock;
  {
    const Section section(*this);
    if (!space_.reserve(2))
      return Status(Code::kOutOfMemory, "device pool: the host has no memory for its tables");
    const Space::Run run =
        space_.find_run(kArena, request.quanta, [&](const Block& block) SPW_NO_THREAD_SAFETY {
          return streams_.may_use(kNoStream, point_of(block));
        });
    if (run.first != kNoBlock) {
      const LabelIndex label = space_.neutral_of(kArena);
      taken = keep_part(space_.join(run, BlockState::kClaimed), request, label, 0);
    }
  }
  for (const bool press : {false, true})
    if (taken == kNoBlock) {
      SPW_ASSIGN_OR_RETURN(taken, grow(arena, press));
    }
  if (taken == kNoBlock) return taken;
  cu::DevicePtr pointer = 0;
  {
    const Section section(*this);
    space_.set_state(taken, BlockState::kClaimed);
    pointer = pointer_at(space_.at(taken).begin.get());
    if (Capture* capture = find_capture(request.capture_id))
      capture->carved.push_back({space_.at(taken).begin.get(), request.quanta});
  }
  if (observer_ != nullptr) {
    // The observer learns of the carved range once: the graph uses it again and again. It is live
    // for whatever comes later, on any stream.
    observer_->block_allocated(pointer, bytes_of(request.quanta), own_stream_->handle());
    static_cast<void>(synchronize(driver_, own_stream_->ref()));
  }
  const Section section(*this);
  space_.set_state(taken, BlockState::kLive);
  return taken;
}

Result<cu::DevicePtr> DevicePool::allocate_captured(Request request) {
  if (request.group == kComm)
    return Status(Code::kUnsupported, "device pool: no comm memory inside a stream capture");
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context_));
  SPW_ASSIGN_OR_RETURN(const RelaxedCapture relaxed, RelaxedCapture::enter(driver_));
  BlockIndex taken = kNoBlock;
  {
    const Section section(*this);
    if (!tags_.has(request.tag))
      return Status(Code::kInvalidArgument, "device pool: there is no such tag");
    Capture* capture = open_capture(request.capture_id);
    request.index = streams_.intern(request.stream, request.capture_id);
    if (request.index == kNoStream || !space_.reserve(2))
      return Status(Code::kOutOfMemory, "device pool: the host has no memory for its tables");
    request.group = capture->group;
    taken = take_ready(request);
  }
  if (taken == kNoBlock) {
    SPW_ASSIGN_OR_RETURN(taken, carve(request));
  }
  // Other streams of the capture: an event recorded there becomes an edge of the graph.
  if (taken == kNoBlock) {
    const LabelIndex parked = [&] {
      const Section section(*this);
      return find_capture(request.capture_id)->parked;
    }();
    SPW_ASSIGN_OR_RETURN(taken, take_run(request, true, parked));
  }
  if (taken == kNoBlock) return out_of_memory(request, 0);
  const Section section(*this);
  return hand_out(taken, request);
}

// Whose a block becomes that is given back on `owner`. Inside a capture, and for memory of one, the
// rules are stricter than for the rest.
LabelIndex DevicePool::label_for_freed(BlockIndex index,
                                       StreamIndex owner,
                                       std::uint64_t capture_id,
                                       bool used) {
  const Block& block = space_.at(index);
  const GroupIndex group = space_.group_of(block.label.get());
  Capture* owning = group >= kFirstCapture ? find_group(group) : nullptr;
  if (capture_id == 0) {
    if (owning == nullptr) return streams_.label_of(space_, owner, home_group(index));
    // Memory of a capture, given back by ordinary work: the graph may still write it at any launch.
    return owning->parked;
  }
  Capture* capture = open_capture(capture_id);
  if (owning == capture && !used) return streams_.label_of(space_, owner, capture->group);
  // An ordinary block, or another capture's, whose address this graph now holds.
  if (owning == nullptr) capture->carved.push_back({block.begin.get(), block.quanta.get()});
  return owning == nullptr ? capture->parked : owning->parked;
}

// Ranges of a released capture in which nothing lives any more go home.
void DevicePool::return_carved(GroupIndex group, StreamRef stream) {
  for (;;) {
    BlockIndex claimed = kNoBlock;
    cu::DevicePtr pointer = 0;
    Events over;
    {
      const Section section(*this);
      Capture* capture = find_group(group);
      if (capture == nullptr || !capture->released) return;
      for (std::size_t i = 0; i < capture->carved.size(); ++i) {
        const Carved carved = capture->carved[i];
        if (!space_.reserve(2) ||
            !space_.is_free_range(carved.begin, carved.quanta, group, [](const Block&) {}))
          continue;
        claimed = space_.claim_range(carved.begin, carved.quanta, BlockState::kClaimed);
        pointer = pointer_at(carved.begin);
        capture->carved[i] = capture->carved.back();
        capture->carved.pop_back();
        break;
      }
      if (capture->carved.empty() && claimed == kNoBlock) {
        streams_.forget_capture(capture->id, over);
        capture->id = 0;
      }
    }
    if (claimed == kNoBlock) {
      return_events(std::move(over));
      return;
    }
    if (observer_ != nullptr) observer_->block_freed(pointer, stream.handle());
    const Section section(*this);
    const StreamIndex owner = streams_.intern(stream, 0);
    StreamState& state = streams_.at(owner);
    const std::uint64_t epoch = ++state.epoch;
    space_.give(claimed, streams_.label_of(space_, owner, home_group(claimed)), epoch);
  }
}

Status DevicePool::release_capture(std::uint64_t capture_id, StreamRef stream) {
  SPW_ASSIGN_OR_RETURN(const std::uint64_t inside, capture_of(stream));
  if (inside != 0)
    return {Code::kInvalidArgument, "device pool: a capture cannot be released inside a capture"};
  GroupIndex group = 0;
  {
    const Section section(*this);
    Capture* capture = capture_id == 0 ? nullptr : find_capture(capture_id);
    if (capture == nullptr || capture->released)
      return {Code::kNotFound, "device pool: no memory belongs to this capture"};
    if (streams_.intern(stream, 0) == kNoStream)
      return {Code::kOutOfMemory, "device pool: too many streams"};
    capture->released = true;
    group = capture->group;
    for (std::size_t label = 0; label < space_.label_count(); ++label)
      if (const auto from = static_cast<LabelIndex>(label);
          space_.group_of(from) == group && !space_.is_neutral(from))
        space_.relabel(from, space_.neutral_of(group), 0);
  }
  return_carved(group, stream);
  return {};
}

Status DevicePool::free_with_care(cu::DevicePtr pointer,
                                  StreamRef stream,
                                  std::uint64_t capture_id) {
  BlockIndex index = kNoBlock;
  StreamIndex owner = kNoStream;
  GroupIndex group = kArena;
  std::vector<StreamPoint> points;
  bool used = false;
  {
    const Section section(*this);
    SPW_ASSIGN_OR_RETURN(index, live_block(pointer));
    Block& block = space_.at(index);
    if (pointer_at(block.begin.get()) != pointer)
      return {
          Code::kInvalidArgument,
          fmt::format("device pool: {:#x} lies inside the block at {:#x}; give back its beginning",
                      pointer,
                      pointer_at(block.begin.get()))};
    owner = streams_.intern(stream, capture_id);
    if (owner == kNoStream) return {Code::kOutOfMemory, "device pool: too many streams"};
    for (std::uint32_t use = block.link_next; use != 0; use = uses_[use].next) {
      const StreamIndex user = uses_[use].stream;
      if (user == owner) continue;
      used = true;
      StreamState& state = streams_.at(user);
      if (state.capture_id == 0) points.push_back({user, ++state.epoch});
    }
    drop_uses(index);
    end_live(index);
    group = space_.group_of(block.label.get());
    space_.set_state(index, BlockState::kClaimed);
  }
  const bool of_capture = capture_id != 0 || group >= kFirstCapture;
  if (!of_capture && !points.empty()) {
    // Each user's stream is marked where it stands now. One that cannot be is waited for.
    std::vector<StreamPoint> unmarked;
    for (const StreamPoint& point : points)
      if (!mark(point).ok()) unmarked.push_back(point);
    Status waited = wait_on_host(unmarked);
    const Section section(*this);
    const std::uint64_t epoch = ++streams_.at(owner).epoch;
    space_.set_state(index, BlockState::kDeferred);
    deferred_.push_back({index, {owner, epoch}, std::move(points)});
    return waited;
  }
  if (!of_capture && observer_ != nullptr) observer_->block_freed(pointer, stream.handle());
  bool released = false;
  StreamPoint to_mark;
  {
    const Section section(*this);
    StreamState& state = streams_.at(owner);
    const std::uint64_t epoch = ++state.epoch;
    const Capture* capture = group >= kFirstCapture ? find_group(group) : nullptr;
    released = capture != nullptr && capture->released;
    const LabelIndex label =
        released ? space_.neutral_of(group) : label_for_freed(index, owner, capture_id, used);
    const std::uint64_t bytes = bytes_of(space_.at(index).quanta.get());
    if (!of_capture && group == kArena && home_group(index) == kArena) {
      static_cast<void>(streams_.label_of(space_, owner, kArena));  // made when new
      space_.set_state(index, BlockState::kLive);
      keep(index, state, epoch);
    } else {
      space_.give(index, label, epoch);
    }
    if (!of_capture && wants_mark(state, bytes)) to_mark = {owner, epoch};
  }
  if (released) return_carved(group, stream);
  if (to_mark.stream != kNoStream) static_cast<void>(mark(to_mark));
  return {};
}

}  // namespace spillway
