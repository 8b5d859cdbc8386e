// SPDX-License-Identifier: Apache-2.0
// Interned strings: each distinct text is stored once and named by a dense StringId. Id 0 is the
// empty string. Texts live in an append-only arena, so views stay valid for the table's life. One
// thread at a time.
#pragma once

#include "core/ids.hpp"

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace spillway {

class StringTable {
 public:
  StringTable();
  StringTable(const StringTable& other);
  StringTable& operator=(const StringTable& other);
  StringTable(StringTable&&) = default;
  StringTable& operator=(StringTable&&) = default;
  ~StringTable() = default;

  StringId intern(std::string_view text);
  /// The id of `text` if it was interned, else none.
  StringId find(std::string_view text) const;
  /// The text of `id`; "" for an id that is not in the table.
  std::string_view view(StringId id) const;
  std::size_t size() const { return views_.size(); }

 private:
  std::string_view store(std::string_view text);

  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t block_used_bytes_ = 0;
  std::size_t block_bytes_ = 0;
  std::vector<std::string_view> views_;
  std::unordered_map<std::string_view, std::uint32_t> index_;
};

}  // namespace spillway
