// SPDX-License-Identifier: Apache-2.0
#include "allocator/tag_table.hpp"

#include <cstring>
#include <new>

namespace spillway {
namespace {

constexpr std::size_t kNameBytesMax = 255;

std::string key_of(const Tag& tag, std::string_view name) {
  const std::uint64_t bits = pack(tag);
  std::string key(sizeof bits + name.size(), '\0');
  std::memcpy(key.data(), &bits, sizeof bits);
  std::memcpy(key.data() + sizeof bits, name.data(), name.size());
  return key;
}

}  // namespace

TagTable::TagTable() { intern(Tag{}, ""); }

TagTable::~TagTable() {
  for (const auto& chunk : chunks_) delete[] chunk.get();
}

TagId TagTable::intern(const Tag& tag, std::string_view name) try {
  name = name.substr(0, kNameBytesMax);
  const std::string key = key_of(tag, name);
  if (const auto found = ids_.find(key); found != ids_.end()) return TagId(found->second);
  if (count_ == kTagsMax) return kUntagged;
  SharedField<Words*>& chunk = chunks_[count_ >> kChunkShift];
  if (chunk.get() == nullptr) chunk.set(new Words[kChunkTags]);
  if (counters_.size() == count_) counters_.emplace_back();
  Words& entry = at(count_);
  entry.tag = tag;
  entry.name = name;
  ids_.emplace(key, count_);
  return TagId(count_++);
} catch (const std::bad_alloc&) {
  return kUntagged;
}

void TagTable::reset_peaks() {
  for (Counters& counters : counters_) counters.bytes_peak = counters.bytes;
}

std::size_t TagTable::metadata_bytes() const {
  const std::size_t chunks = (count_ + kChunkTags - 1) / kChunkTags;
  return chunks * kChunkTags * sizeof(Words) + counters_.capacity() * sizeof(Counters);
}

}  // namespace spillway
