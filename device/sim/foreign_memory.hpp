// SPDX-License-Identifier: Apache-2.0
// Host memory that the simulator does not own: what the program registered, and any other range
// that a copy names. Each byte gets a flat offset in order of first appearance, so that races on
// it can be kept in the same shadow as everything else, without real addresses deciding anything.
#pragma once

#include "device/sim/memory_error.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

namespace spillway::sim {

class ForeignMemory {
 public:
  /// Flat offsets from `flat_begin` on are given out.
  explicit ForeignMemory(std::uint64_t flat_begin) : flat_begin_(flat_begin), next_(flat_begin) {}

  struct Registration {
    ByteRange range;  // of host addresses; bytes == 0: none
    std::uint32_t flags = 0;
  };

  /// kOk, or kBadSize, kAlreadyRegistered (the whole range is), kOverlap (a part of it is).
  MemoryError add(std::uint64_t begin, std::uint64_t bytes, std::uint32_t flags, Misuse* misuse);
  /// By the start of a registration: kOk or kNotRegistered.
  MemoryError remove(std::uint64_t begin, Registration* removed, Misuse* misuse);
  [[nodiscard]] Registration find(std::uint64_t at) const;
  [[nodiscard]] std::size_t live_count() const { return registrations_.size(); }
  template <typename Visit>
  void for_each_live(Visit&& visit) const {
    for (const auto& [begin, registration] : registrations_) visit(registration);
  }

  /// visit(flat begin, bytes, bytes before it in the range) for the pieces of a host range in
  /// order; unseen bytes get offsets now. REQUIRES: the range does not wrap.
  template <typename Visit>
  void flat_of(std::uint64_t begin, std::uint64_t bytes, Visit&& visit) {
    const std::uint64_t end = begin + bytes;
    for (std::uint64_t at = begin; at < end;) {
      auto piece = pieces_.upper_bound(at);
      if (piece != pieces_.begin()) {
        const auto before = std::prev(piece);
        const std::uint64_t inside = at - before->first;
        if (inside < before->second.bytes) {
          const std::uint64_t here = std::min(end - at, before->second.bytes - inside);
          visit(before->second.flat + inside, here, at - begin);
          at += here;
          continue;
        }
      }
      const std::uint64_t until = piece == pieces_.end() ? end : std::min(end, piece->first);
      pieces_.emplace_hint(piece, at, Piece{until - at, next_});
      next_ += until - at;
    }
  }

  void reset() {
    registrations_.clear();
    pieces_.clear();
    next_ = flat_begin_;
  }

 private:
  struct Piece {
    std::uint64_t bytes = 0;
    std::uint64_t flat = 0;
  };

  std::uint64_t flat_begin_;
  std::uint64_t next_;
  std::map<std::uint64_t, Registration> registrations_;  // by begin; never overlap
  std::map<std::uint64_t, Piece> pieces_;                // by host begin; never overlap
};

}  // namespace spillway::sim
