// SPDX-License-Identifier: Apache-2.0
// Who lives when. A snapshot's history usually begins in the middle of a run: what is freed in it
// without having been allocated in it, and what is in use at its end without either, was there
// before.
#include "core/units.hpp"
#include "integration/trace/snapshot_model.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

namespace spillway {
namespace {

struct Live {
  SnapshotStorage storage;
  bool requested = false;
};

class Lifetimes {
 public:
  explicit Lifetimes(SnapshotModel& model) : model_(model) {}

  void run() {
    for (std::uint32_t i = 0; i < model_.events.size(); ++i) visit(i);
    close();
    report();
  }

 private:
  void visit(std::uint32_t index) {
    SnapshotEvent& event = model_.events[index];
    switch (event.action) {
      case SnapshotAction::kAlloc:
        allocate(index, event);
        break;
      case SnapshotAction::kFreeRequested:
        request(index, event);
        break;
      case SnapshotAction::kFreeCompleted:
      case SnapshotAction::kFree:
        complete(index, event);
        break;
      default:
        break;
    }
  }

  void allocate(std::uint32_t index, SnapshotEvent& event) {
    event.storage.number = model_.alloc_count++ & SnapshotStorage::kNone;
    event.storage.preexisting = 0;
    const auto [place, fresh] = live_.try_emplace(event.address, Live{event.storage, false});
    if (!fresh) {
      // Its free fell out of the history.
      model_.replaced.push_back({index, place->second.storage, place->second.requested});
      place->second = Live{event.storage, false};
    }
    seen_.insert(event.address);
  }

  /// The storage that an event frees without an allocation in the history; invalid when the address
  /// was used before in it.
  SnapshotStorage before_history(std::uint32_t index, const SnapshotEvent& event, bool pending) {
    SnapshotStorage storage;
    if (!seen_.insert(event.address).second) {
      ++stray_count_;
      return storage;
    }
    storage.number = static_cast<std::uint32_t>(model_.preexisting.size()) & SnapshotStorage::kNone;
    storage.preexisting = 1;
    SnapshotPreexisting found;
    found.address = event.address;
    found.bytes = event.bytes;
    found.stream = event.stream;
    found.freed_at = index;
    found.pending_free = pending;
    model_.preexisting.push_back(found);
    return storage;
  }

  void request(std::uint32_t index, SnapshotEvent& event) {
    const auto place = live_.find(event.address);
    if (place == live_.end()) {
      event.storage = before_history(index, event, false);
      if (event.storage.valid()) live_.emplace(event.address, Live{event.storage, true});
    } else if (place->second.requested) {
      ++stray_count_;
    } else {
      event.storage = place->second.storage;
      place->second.requested = true;
    }
  }

  void complete(std::uint32_t index, SnapshotEvent& event) {
    const auto place = live_.find(event.address);
    const bool whole = event.action == SnapshotAction::kFree;
    if (place == live_.end()) {
      event.storage = before_history(index, event, !whole);
      event.request_missing = whole;
      return;
    }
    event.storage = place->second.storage;
    event.request_missing = !place->second.requested;
    live_.erase(place);
  }

  void close() {
    for (const SnapshotBlock& block : model_.blocks) {
      held_bytes_ += block.block_bytes;
      asked_bytes_ += block.bytes;
      if (live_.erase(block.address) != 0) continue;
      if (!seen_.insert(block.address).second) {
        ++contradicted_count_;
        continue;
      }
      SnapshotPreexisting found;
      found.address = block.address;
      found.bytes = block.bytes;
      found.stack = block.stack;
      found.stream = block.stream;
      found.pending_free = block.pending_free;
      model_.preexisting.push_back(found);
    }
  }

  void report() {
    const auto note = [this](std::size_t count, const std::string& text) {
      if (count != 0) model_.notes.push_back(std::to_string(count) + text);
    };
    note(stray_count_, " frees name an address that is already free and were left out");
    note(model_.replaced.size(), " allocations reuse an address whose free is not in the history");
    note(live_.size(), " storages live at the end of the history are not among the final blocks");
    note(contradicted_count_, " final blocks were freed in the history and were left out");
    if (held_bytes_ > asked_bytes_)
      model_.notes.push_back("sizes are as asked for; at the end the framework's blocks held " +
                             format_bytes(held_bytes_ - asked_bytes_) + " more");
  }

  SnapshotModel& model_;
  std::unordered_map<std::uint64_t, Live> live_;
  std::unordered_set<std::uint64_t> seen_;
  std::size_t stray_count_ = 0;
  std::size_t contradicted_count_ = 0;
  std::uint64_t held_bytes_ = 0;
  std::uint64_t asked_bytes_ = 0;
};

/// Address ranges, each begin -> {end, stream}; they do not overlap.
using Ranges = std::map<std::uint64_t, std::pair<std::uint64_t, std::uint32_t>>;

void erase_range(Ranges& ranges, std::uint64_t begin, std::uint64_t end) {
  auto place = ranges.upper_bound(begin);
  if (place != ranges.begin()) --place;
  while (place != ranges.end() && place->first < end) {
    const auto [old_begin, old] = *place;
    if (old.first <= begin) {
      ++place;
      continue;
    }
    place = ranges.erase(place);
    if (old_begin < begin) ranges[old_begin] = {begin, old.second};
    if (old.first > end) ranges[end] = old;
  }
}

void rebuild_segments(SnapshotModel& model) {
  Ranges ranges;
  for (const SnapshotSegment& segment : model.segments) {
    erase_range(ranges, segment.address, segment.address + segment.bytes);
    if (segment.bytes != 0)
      ranges[segment.address] = {segment.address + segment.bytes, segment.stream};
  }
  for (std::size_t i = model.events.size(); i-- > 0;) {
    const SnapshotEvent& event = model.events[i];
    if (event.bytes == 0) continue;
    const std::uint64_t end = event.address + event.bytes;
    if (event.action == SnapshotAction::kMap) erase_range(ranges, event.address, end);
    if (event.action == SnapshotAction::kUnmap) {
      erase_range(ranges, event.address, end);
      ranges[event.address] = {end, event.stream};
    }
  }
  for (const auto& [begin, range] : ranges)
    model.preexisting_segments.push_back({begin, range.first - begin, range.second});
}

}  // namespace

void rebuild_lifetimes(SnapshotModel& model) {
  Lifetimes(model).run();
  rebuild_segments(model);
}

}  // namespace spillway
