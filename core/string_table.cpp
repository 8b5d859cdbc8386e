// SPDX-License-Identifier: Apache-2.0
// The arena and the index of StringTable.
#include "core/string_table.hpp"

#include <algorithm>
#include <cstring>

namespace spillway {
namespace {
constexpr std::size_t kBlockBytes = std::size_t{64} * 1024;
}  // namespace

StringTable::StringTable() { intern(""); }

StringTable::StringTable(const StringTable& other) { *this = other; }

StringTable& StringTable::operator=(const StringTable& other) {
  if (this == &other) return *this;
  blocks_.clear();
  block_used_bytes_ = block_bytes_ = 0;
  views_.clear();
  index_.clear();
  for (std::string_view text : other.views_) intern(text);
  return *this;
}

std::string_view StringTable::store(std::string_view text) {
  if (text.empty()) return {};
  if (block_bytes_ - block_used_bytes_ < text.size()) {
    block_bytes_ = std::max(kBlockBytes, text.size());
    blocks_.push_back(std::make_unique<char[]>(block_bytes_));
    block_used_bytes_ = 0;
  }
  char* place = blocks_.back().get() + block_used_bytes_;
  std::memcpy(place, text.data(), text.size());
  block_used_bytes_ += text.size();
  return {place, text.size()};
}

StringId StringTable::intern(std::string_view text) {
  if (auto found = index_.find(text); found != index_.end()) return StringId(found->second);
  const auto id = static_cast<std::uint32_t>(views_.size());
  const std::string_view stored = store(text);
  views_.push_back(stored);
  index_.emplace(stored, id);
  return StringId(id);
}

StringId StringTable::find(std::string_view text) const {
  const auto found = index_.find(text);
  return found == index_.end() ? StringId::none() : StringId(found->second);
}

std::string_view StringTable::view(StringId id) const {
  return id.index() < views_.size() ? views_[id.index()] : std::string_view{};
}

}  // namespace spillway
