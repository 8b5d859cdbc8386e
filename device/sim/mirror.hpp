// SPDX-License-Identifier: Apache-2.0
// Which pages kernel bodies can reach. Plain, pinned and managed memory is one linear view that is
// never remapped; reservations are mapped segment by segment, and a segment stays in place (without
// access) when it is unmapped, so that a program that repeats itself makes no new mappings.
// Without contents every call is a no-op. Offsets are address offsets from the base.
#pragma once

#include "device/sim/memory_backing.hpp"

#include <cstdint>
#include <map>
#include <span>

namespace spillway::sim {

/// A part of memory that a kernel says it touches.
struct DeclaredRange {
  std::uint64_t begin = 0;  // address
  std::uint64_t bytes = 0;
  bool readable = false;
  bool writable = false;
};

class Mirror {
 public:
  /// `backing` may be null: no contents.
  Mirror(const MemoryLayout& layout, MemoryBacking* backing)
      : linear_end_(layout.linear_end()), address_end_(layout.address_end()), backing_(backing) {}
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;
  Mirror(Mirror&&) = delete;
  Mirror& operator=(Mirror&&) = delete;

  /// Flat bytes [flat, flat + bytes) appear at `offset`. kOk or kTooManyMappings.
  MemoryError show(std::uint64_t offset, std::uint64_t bytes, std::uint64_t flat, Access access);
  /// Nothing in [offset, offset + bytes) is reachable any more. REQUIRES: no segment is cut.
  void hide(std::uint64_t offset, std::uint64_t bytes);
  void hide_all();

  /// From here to all_accessible() only the pages of `declared` are reachable. Addresses that do
  /// not belong to `base` are skipped. Not reentrant.
  void only_accessible(std::span<const DeclaredRange> declared, std::uint64_t base);
  void all_accessible();

  /// Puts a page back that a fault replaced by garbage.
  void restore_page(std::uint64_t offset);
  void restore_everything();

  [[nodiscard]] std::size_t segment_count() const { return segments_.size(); }

 private:
  struct Segment {
    std::uint64_t bytes = 0;
    std::uint64_t flat = 0;
    Access access = Access::kNone;
  };
  using Segments = std::map<std::uint64_t, Segment>;  // by begin; never overlap

  void forget(std::uint64_t offset, std::uint64_t bytes);
  void drop_hidden();
  Segments::iterator first_in(std::uint64_t offset);
  void count(std::size_t before);

  std::uint64_t linear_end_;
  std::uint64_t address_end_;
  MemoryBacking* backing_;
  bool restricted_ = false;
  Segments segments_;
};

}  // namespace spillway::sim
