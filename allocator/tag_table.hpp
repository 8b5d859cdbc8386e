// SPDX-License-Identifier: Apache-2.0
// The registry of tags: each distinct (tag, name) gets a dense id that a block carries in four
// bytes, and its own totals and peaks. Id 0 is "untagged".
#pragma once

#include "core/ids.hpp"
#include "core/seq_lock.hpp"
#include "core/tag.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace spillway {

using TagId = Id<struct TagIdKind>;
inline constexpr TagId kUntagged{std::uint32_t{0}};

/// INVARIANT: allocated <= peak; live blocks carry exactly `live_count` and `allocated_bytes`.
struct TagTotals {
  std::uint64_t allocated_bytes = 0;  // asked for, now
  std::uint64_t allocated_bytes_peak = 0;
  std::uint64_t live_count = 0;
  std::uint64_t total_count = 0;  // allocations ever
};

struct TagEntry {
  Tag tag;
  std::string name;
  TagTotals totals;
};

/// Threads: tag_of and name_of from anywhere with an id that was given out, everything else under
/// the pool's lock.
class TagTable {
 public:
  TagTable();
  TagTable(const TagTable&) = delete;
  TagTable& operator=(const TagTable&) = delete;
  TagTable(TagTable&&) = delete;
  TagTable& operator=(TagTable&&) = delete;
  ~TagTable();

  /// The id of (tag, name); the first 255 bytes of the name count. kUntagged when the table is full
  /// (65,536 tags) or the host has no memory left: the block is then held without a tag.
  TagId intern(const Tag& tag, std::string_view name);

  void add(TagId id, std::uint64_t bytes) {
    Counters& counters = counters_[id.value];
    const std::uint64_t now = counters.bytes + bytes;
    counters.bytes = now;
    if (now > counters.bytes_peak) [[unlikely]]
      counters.bytes_peak = now;
    ++counters.added_count;
  }
  void remove(TagId id, std::uint64_t bytes) {
    Counters& counters = counters_[id.value];
    counters.bytes -= bytes;
    ++counters.removed_count;
  }
  void reset_peaks();

  [[nodiscard]] bool has(TagId id) const { return id.value < count_; }
  [[nodiscard]] std::uint32_t count() const { return count_; }
  [[nodiscard]] TagEntry entry(TagId id) const { return {tag_of(id), name_of(id), totals_of(id)}; }
  [[nodiscard]] TagTotals totals_of(TagId id) const {
    const Counters& now = counters_[id.value];
    return {now.bytes, now.bytes_peak, now.added_count - now.removed_count, now.added_count};
  }
  [[nodiscard]] const Tag& tag_of(TagId id) const { return at(id.value).tag; }
  [[nodiscard]] const std::string& name_of(TagId id) const { return at(id.value).name; }
  [[nodiscard]] std::size_t metadata_bytes() const;

 private:
  static constexpr std::uint32_t kChunkShift = 8;
  static constexpr std::uint32_t kChunkTags = 1u << kChunkShift;
  static constexpr std::uint32_t kTagsMax = 1u << 16;

  // What changes with every block, apart from what does not. In bytes asked for.
  struct Counters {
    std::uint64_t bytes = 0;
    std::uint64_t bytes_peak = 0;
    std::uint64_t added_count = 0;
    std::uint64_t removed_count = 0;
  };
  struct Words {
    Tag tag;
    std::string name;
  };

  [[nodiscard]] Words& at(std::uint32_t value) const {
    return chunks_[value >> kChunkShift].get()[value & (kChunkTags - 1)];
  }

  std::array<SharedField<Words*>, kTagsMax / kChunkTags> chunks_;
  std::vector<Counters> counters_;  // by id
  std::uint32_t count_ = 0;
  std::unordered_map<std::string, std::uint32_t> ids_;  // 8 bytes of the tag, then the name
};

}  // namespace spillway
