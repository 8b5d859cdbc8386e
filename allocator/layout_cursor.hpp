// SPDX-License-Identifier: Apache-2.0
// Where a repeating step stands in its packed layout: which item the next allocation is.
#pragma once

#include "allocator/block.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace spillway {

/// The k-th allocation of a step: so many bytes, at this offset of the layout's range (a multiple
/// of 512).
struct LayoutItem {
  std::uint64_t bytes = 0;
  std::uint64_t offset_bytes = 0;
};

/// Threads: none; the pool's lock.
class LayoutCursor {
 public:
  /// A step that deviates may leave out so many items, or bring in any number of its own, and is
  /// found again.
  static constexpr std::size_t kLookAhead = 16;

  struct Match {
    std::size_t item = 0;
    Quanta offset = 0;  // in the range
  };

  void load(std::vector<LayoutItem> items, Quanta begin, Quanta quanta) {
    items_ = std::move(items);
    begin_ = begin;
    quanta_ = quanta;
    next_ = 0;
  }
  void unload() { load({}, 0, 0); }
  void begin_step() { next_ = 0; }

  [[nodiscard]] bool loaded() const { return quanta_ != 0; }
  [[nodiscard]] Quanta begin() const { return begin_; }
  [[nodiscard]] Quanta quanta() const { return quanta_; }

  /// The nearest item from here on with this size.
  [[nodiscard]] std::optional<Match> match(Quanta quanta) const {
    for (std::size_t i = next_; i < items_.size() && i < next_ + kLookAhead; ++i)
      if (quanta_for(items_[i].bytes) == quanta)
        return Match{i, quanta_for(items_[i].offset_bytes)};
    return std::nullopt;
  }
  void accept(const Match& match) { next_ = match.item + 1; }

 private:
  std::vector<LayoutItem> items_;
  Quanta begin_ = 0;
  Quanta quanta_ = 0;
  std::size_t next_ = 0;
};

}  // namespace spillway
