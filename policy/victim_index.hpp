// SPDX-License-Identifier: Apache-2.0
// Evictable storages by score, with a victim found without looking at them all: the score is price
// / (bytes * time since last use), and the last factor moves for all of them with the clock.
// Storages of nearly the same price per byte share a class; within a class the one used longest ago
// is best, so a search compares one storage per class that is not empty: tens, whatever their
// number.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace spillway {

/// Classes are a factor 2^(1/4) wide: the victim's score is at most 2^(1/4) = 1.19 times the least.
/// Storages of no bytes are never victims. Deterministic: ties go to the longer unused, then to
/// the smaller id. A value: a copy goes the same way.
class VictimIndex {
 public:
  static constexpr int kClassesPerDoubling = 4;

  /// REQUIRES: `id` is not in. `price_ns` is what its eviction costs; below 0 counts as 0.
  void insert(std::uint32_t id, double price_ns, std::uint64_t bytes, std::int64_t last_use_ns);
  /// Nothing happens when `id` is not in.
  void erase(std::uint32_t id);
  void reprice(std::uint32_t id, double price_ns);
  bool contains(std::uint32_t id) const { return entries_.count(id) != 0; }
  std::size_t size() const { return entries_.size(); }

  /// The victim at `now_ns`; none when there is none. Storages used at `now_ns` come last.
  std::optional<std::uint32_t> best(std::int64_t now_ns) const;
  /// Its class, to see whether a price has changed enough to matter.
  static int class_of(double price_ns, std::uint64_t bytes);
  int class_of(std::uint32_t id) const { return entries_.at(id).price_class; }

  /// Storages compared by best() so far: what a search costs.
  std::uint64_t compared() const { return compared_; }

 private:
  struct Entry {
    int price_class = 0;
    std::uint64_t bytes = 0;
    std::int64_t last_use_ns = 0;
  };

  std::map<int, std::set<std::pair<std::int64_t, std::uint32_t>>> classes_;  // (last use, id)
  std::unordered_map<std::uint32_t, Entry> entries_;
  mutable std::uint64_t compared_ = 0;
};

}  // namespace spillway
