// SPDX-License-Identifier: Apache-2.0
// A vector clock: for each agent, the newest of its steps that is known to have happened. Sixteen
// agents lie inside the object and only those in use are copied, because every event record copies
// one; more agents go to the heap, and that memory is kept until destruction.
#pragma once

#include "device/sim/access.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>

namespace spillway::sim {

class VectorClock {
 public:
  static constexpr std::uint32_t kInlineAgents = 16;

  VectorClock() = default;
  VectorClock(const VectorClock& other) { assign(other); }
  VectorClock(VectorClock&& other) noexcept { take(other); }
  VectorClock& operator=(const VectorClock& other) {
    if (this != &other) assign(other);
    return *this;
  }
  VectorClock& operator=(VectorClock&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }
  ~VectorClock() = default;

  /// Newest known tick of `agent`, 0 when none is known.
  [[nodiscard]] std::uint64_t get(AgentId agent) const { return agent < size_ ? data()[agent] : 0; }

  /// True when the step at `epoch` happened before (or is) the step that this clock belongs to.
  [[nodiscard]] bool covers(Epoch epoch) const { return epoch.tick <= get(epoch.agent); }

  /// True when it knows of no step at all: an event that was never recorded.
  [[nodiscard]] bool empty() const { return size_ == 0; }

  /// Element-wise maximum.
  void join(const VectorClock& other) {
    if (other.size_ > size_) grow(other.size_);
    std::uint64_t* mine = data();
    const std::uint64_t* theirs = other.data();
    for (std::uint32_t i = 0; i < other.size_; ++i) mine[i] = std::max(mine[i], theirs[i]);
  }

  /// At least `tick` for `agent`.
  void raise(AgentId agent, std::uint64_t tick) {
    if (tick == 0) return;
    if (agent >= size_) grow(agent + 1);
    data()[agent] = std::max(data()[agent], tick);
  }

  /// The next step of `agent`; returns its tick.
  std::uint64_t tick(AgentId agent) {
    const std::uint64_t next = get(agent) + 1;
    raise(agent, next);
    return next;
  }

  /// Knows nothing again; keeps its memory.
  void clear() { size_ = 0; }

 private:
  [[nodiscard]] std::uint64_t* data() { return heap_ ? heap_.get() : inline_.data(); }
  [[nodiscard]] const std::uint64_t* data() const { return heap_ ? heap_.get() : inline_.data(); }

  /// Makes room for `count` agents and drops what is there.
  void reserve_empty(std::uint32_t count) {
    if (count <= capacity_) return;
    const std::uint32_t capacity = std::max(count, capacity_ * 2);
    heap_ = std::make_unique<std::uint64_t[]>(capacity);
    capacity_ = capacity;
  }

  void grow(std::uint32_t count) {
    if (count > capacity_) {
      const std::uint32_t capacity = std::max(count, capacity_ * 2);
      auto wider = std::make_unique<std::uint64_t[]>(capacity);
      std::copy_n(data(), size_, wider.get());
      heap_ = std::move(wider);
      capacity_ = capacity;
    }
    std::fill(data() + size_, data() + count, 0);
    size_ = count;
  }

  void assign(const VectorClock& other) {
    reserve_empty(other.size_);
    size_ = other.size_;
    std::copy_n(other.data(), size_, data());
  }

  void take(VectorClock& other) noexcept {
    if (other.heap_) {
      heap_ = std::move(other.heap_);
      capacity_ = std::exchange(other.capacity_, kInlineAgents);
      size_ = std::exchange(other.size_, 0);
    } else {  // at most kInlineAgents, so there is always room
      size_ = std::exchange(other.size_, 0);
      std::copy_n(other.inline_.data(), size_, data());
    }
  }

  // INVARIANT: size_ <= capacity_; the ticks are in heap_ when that is set, in inline_ otherwise.
  std::uint32_t size_ = 0;  // agents known; all above are 0
  std::uint32_t capacity_ = kInlineAgents;
  std::unique_ptr<std::uint64_t[]> heap_;
  std::array<std::uint64_t, kInlineAgents> inline_{};
};

}  // namespace spillway::sim
