// SPDX-License-Identifier: Apache-2.0
#include "allocator/stream_table.hpp"

#include <algorithm>
#include <string>

namespace spillway {

StreamIndex StreamTable::find(std::uint64_t id, std::uint64_t capture_id) const {
  for (std::size_t i = 0; i < states_.size(); ++i)
    if (states_[i]->id == id && states_[i]->capture_id == capture_id)
      return static_cast<StreamIndex>(i);
  return kNoStream;
}

StreamIndex StreamTable::intern_slowly(StreamRef stream, std::uint64_t capture_id) {
  StreamIndex index = find(stream.id(), capture_id);
  if (index == kNoStream) {
    if (!unused_.empty()) {
      index = unused_.back();
      unused_.pop_back();
    } else {
      if (states_.size() >= kStreamsMax) return kNoStream;
      index = static_cast<StreamIndex>(states_.size());
      states_.push_back(std::make_unique<StreamState>());
    }
    StreamState& state = *states_[index];
    state.handle = stream.handle();
    state.id = stream.id();
    state.capture_id = capture_id;
    state.index = index;
    if (capture_id == 0) ++active_count_;
  }
  cache_[(stream.id() ^ capture_id * 31) % kCacheSlots] = {stream.id(), capture_id, index};
  if (capture_id == 0 && states_[index]->arena_label != kNoLabel)
    labelled_[stream.id() % kCacheSlots] = states_[index].get();
  return index;
}

LabelIndex StreamTable::add_label(Space& space, StreamIndex index, GroupIndex group) {
  StreamState& state = *states_[index];
  if (state.labels.size() <= group) state.labels.resize(std::size_t{group} + 1, kNoLabel);
  LabelIndex label = 0;
  if (unused_labels_.empty()) {
    label = space.add_label(group);
  } else {
    label = unused_labels_.back();
    unused_labels_.pop_back();
    space.move_label(label, group);
  }
  if (owners_.size() <= label) owners_.resize(std::size_t{label} + 1, kNoStream);
  owners_[label] = index;
  state.labels[group] = label;
  if (group == 0) {
    state.arena_label = label;
    if (state.capture_id == 0) labelled_[state.id % kCacheSlots] = &state;
  }
  return label;
}

void StreamTable::note_waited(StreamIndex stream, StreamPoint point) {
  if (point.stream == kNoStream || point.stream == stream) return;
  std::vector<std::uint64_t>& waited = states_[stream]->waited;
  if (waited.size() <= point.stream) waited.resize(std::size_t{point.stream} + 1, 0);
  waited[point.stream] = std::max(waited[point.stream], point.epoch);
}

Mark StreamTable::mark_after(StreamPoint point) const {
  for (const Mark& mark : states_[point.stream]->marks)
    if (mark.epoch >= point.epoch) return mark;
  return {};
}

void StreamTable::add_mark(StreamPoint point, std::shared_ptr<Event> event) {
  StreamState& state = *states_[point.stream];
  // Two threads may have recorded at once, and come here in the other order.
  auto at = state.marks.end();
  while (at != state.marks.begin() && std::prev(at)->epoch > point.epoch) --at;
  state.marks.insert(at, Mark{point.epoch, std::move(event)});
  state.unmarked_bytes = 0;
}

void StreamTable::note_done(StreamPoint point, std::vector<std::shared_ptr<Event>>& over) {
  StreamState& state = *states_[point.stream];
  state.done_epoch = std::max(state.done_epoch, point.epoch);
  while (!state.marks.empty() && state.marks.front().epoch <= state.done_epoch) {
    over.push_back(std::move(state.marks.front().event));
    state.marks.pop_front();
  }
}

void StreamTable::retire(StreamIndex index) {
  StreamState& state = *states_[index];
  if (state.retired) return;
  state.retired = true;
  if (state.capture_id == 0) --active_count_;
}

void StreamTable::forget_capture(std::uint64_t capture_id,
                                 std::vector<std::shared_ptr<Event>>& over) {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    StreamState& state = *states_[i];
    if (state.capture_id != capture_id) continue;
    for (Mark& mark : state.marks) over.push_back(std::move(mark.event));
    for (const LabelIndex label : state.labels)
      if (label != kNoLabel) {
        owners_[label] = kNoStream;
        unused_labels_.push_back(label);
      }
    // The other streams' memory of having waited for this one must not pass to its successor.
    for (const auto& other : states_)
      if (i < other->waited.size()) other->waited[i] = 0;
    for (Slot& slot : cache_)
      if (slot.index == i) slot = {};
    for (StreamState*& known : labelled_)
      if (known == &state) known = nullptr;
    state = StreamState{};
    state.capture_id = ~std::uint64_t{0};  // no stream is found here until it is used again
    unused_.push_back(static_cast<StreamIndex>(i));
  }
}

std::string StreamTable::check_invariants() const {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const StreamState& state = *states_[i];
    const std::string name = "stream " + std::to_string(state.id) + ": ";
    if (state.done_epoch > state.epoch) return name + "more is over than was given back";
    std::uint64_t before = state.done_epoch;
    for (const Mark& mark : state.marks) {
      if (mark.epoch < before || mark.epoch > state.epoch) return name + "marks out of order";
      before = mark.epoch;
    }
  }
  return {};
}

}  // namespace spillway
