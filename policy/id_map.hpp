// SPDX-License-Identifier: Apache-2.0
// From 64-bit trace ids to 32-bit indices. Ids are nearly always dense, so a plain array serves
// them; others go to a hash map. A hostile id cannot make the array large: it grows only to a small
// multiple of the ids seen.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace spillway {

class IdMap {
 public:
  static constexpr std::uint32_t kAbsent = 0xffffffffu;

  std::uint32_t find(std::uint64_t id) const {
    if (id < dense_.size()) return dense_[id];
    if (sparse_.empty()) return kAbsent;
    const auto found = sparse_.find(id);
    return found == sparse_.end() ? kAbsent : found->second;
  }

  /// False when `id` is there already.
  bool insert(std::uint64_t id, std::uint32_t index) {
    if (find(id) != kAbsent) return false;
    if (id < dense_.size() || id < 4096 + 2 * static_cast<std::uint64_t>(count_)) {
      if (id >= dense_.size()) grow(id);
      dense_[id] = index;
    } else {
      sparse_.emplace(id, index);
    }
    ++count_;
    return true;
  }

 private:
  void grow(std::uint64_t id) {
    const std::size_t old_size = dense_.size();
    dense_.resize(std::max<std::size_t>(id + 1, old_size + old_size / 2), kAbsent);
    if (sparse_.empty()) return;
    for (std::size_t i = old_size; i < dense_.size(); ++i) {
      const auto found = sparse_.find(i);
      if (found == sparse_.end()) continue;
      dense_[i] = found->second;
      sparse_.erase(found);
    }
  }

  std::vector<std::uint32_t> dense_;
  std::unordered_map<std::uint64_t, std::uint32_t> sparse_;
  std::uint32_t count_ = 0;
};

}  // namespace spillway
