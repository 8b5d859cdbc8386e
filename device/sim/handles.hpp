// SPDX-License-Identifier: Apache-2.0
// Driver handles are addresses of slots in a table of ours. A freed slot is taken again at once or
// never, as the run chooses: programs must not tell objects apart by handle. A stale handle is
// recognised as long as its slot was not given out again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::sim {

template <typename T>
class HandleTable {
 public:
  enum class State : std::uint8_t { kUnknown, kLive, kDestroyed };

  /// Index of a fresh object (T()); `reuse` takes the slot that was freed last if there is one.
  std::uint32_t create(bool reuse) {
    std::uint32_t index = 0;
    if (reuse && !free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      if (used_ == slots_.size()) slots_.push_back(std::make_unique<Slot>());
      index = static_cast<std::uint32_t>(used_++);
    }
    slots_[index]->object = T();
    slots_[index]->live = true;
    ++live_;
    return index;
  }

  void destroy(std::uint32_t index) {
    slots_[index]->live = false;
    free_.push_back(index);
    --live_;
  }

  T& operator[](std::uint32_t index) { return slots_[index]->object; }
  const T& operator[](std::uint32_t index) const { return slots_[index]->object; }
  [[nodiscard]] bool live(std::uint32_t index) const { return slots_[index]->live; }
  [[nodiscard]] std::size_t size() const { return used_; }  // live and destroyed
  [[nodiscard]] std::size_t live_count() const { return live_; }

  [[nodiscard]] void* handle(std::uint32_t index) const { return slots_[index].get(); }

  /// What `handle` stands for; `index` is set unless unknown.
  State find(const void* handle, std::uint32_t* index) const {
    for (std::size_t i = 0; i < used_; ++i) {
      const std::size_t at = (hint_ + i) % used_;  // the same handle is asked for again and again
      if (slots_[at].get() != handle) continue;
      hint_ = at;
      *index = static_cast<std::uint32_t>(at);
      return slots_[at]->live ? State::kLive : State::kDestroyed;
    }
    return State::kUnknown;
  }

  /// Forgets everything and keeps the memory, so that handles repeat from run to run.
  void reset() {
    used_ = 0;
    live_ = 0;
    hint_ = 0;
    free_.clear();
  }

 private:
  struct Slot {
    T object{};
    bool live = false;
  };
  std::vector<std::unique_ptr<Slot>> slots_;  // [0, used_) are of this run
  std::size_t used_ = 0;
  std::size_t live_ = 0;
  mutable std::size_t hint_ = 0;
  std::vector<std::uint32_t> free_;
};

}  // namespace spillway::sim
