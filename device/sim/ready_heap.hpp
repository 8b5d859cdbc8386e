// SPDX-License-Identifier: Apache-2.0
// Operations in the order (priority, time, sequence), smallest first. The sequence number makes the
// order total, so that a run does not depend on the standard library's heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace spillway::sim {

struct ReadyEntry {
  int priority;
  std::int64_t time;
  std::uint64_t sequence;
  std::uint32_t op;

  /// Standard heaps keep the largest first.
  bool operator<(const ReadyEntry& other) const {
    if (priority != other.priority) return priority > other.priority;
    if (time != other.time) return time > other.time;
    return sequence > other.sequence;
  }
};

class ReadyHeap {
 public:
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const ReadyEntry& front() const { return entries_.front(); }

  void push(const ReadyEntry& entry) {
    entries_.push_back(entry);
    std::push_heap(entries_.begin(), entries_.end());
  }

  /// REQUIRES: !empty().
  ReadyEntry pop() {
    std::pop_heap(entries_.begin(), entries_.end());
    const ReadyEntry entry = entries_.back();
    entries_.pop_back();
    return entry;
  }

  template <typename Predicate>
  void erase_if(Predicate predicate) {
    std::erase_if(entries_, predicate);
    std::make_heap(entries_.begin(), entries_.end());
  }

  void clear() { entries_.clear(); }

 private:
  std::vector<ReadyEntry> entries_;
};

}  // namespace spillway::sim
