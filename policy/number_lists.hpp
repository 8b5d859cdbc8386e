// SPDX-License-Identifier: Apache-2.0
// Many lists of small numbers in two arrays: what flat models of a step are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

/// Lists of small numbers, one after another.
struct NumberLists {
  std::vector<std::uint32_t> begin;  // per list, plus one
  std::vector<std::uint32_t> items;

  NumberLists() = default;
  explicit NumberLists(const std::vector<std::vector<std::uint32_t>>& nested) {
    begin.reserve(nested.size() + 1);
    begin.push_back(0);
    for (const auto& list : nested) {
      items.insert(items.end(), list.begin(), list.end());
      begin.push_back(static_cast<std::uint32_t>(items.size()));
    }
  }

  [[nodiscard]] std::span<const std::uint32_t> of(std::size_t list) const {
    return std::span<const std::uint32_t>(items).subspan(begin[list],
                                                         begin[list + 1] - begin[list]);
  }
};

}  // namespace spillway
