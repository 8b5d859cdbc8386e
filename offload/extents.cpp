// SPDX-License-Identifier: Apache-2.0
// A disk tier holds hundreds of ranges, not millions: one ordered map is enough.
#include "offload/extents.hpp"

#include <iterator>

namespace spillway {

std::optional<std::uint64_t> Extents::take(std::uint64_t bytes, std::uint64_t limit_bytes) {
  auto best = free_.end();
  for (auto range = free_.begin(); range != free_.end(); ++range)
    if (range->second >= bytes && (best == free_.end() || range->second < best->second))
      best = range;
  if (best == free_.end()) {
    if (bytes > limit_bytes || end_bytes_ > limit_bytes - bytes) return std::nullopt;
    const std::uint64_t offset = end_bytes_;
    end_bytes_ += bytes;
    used_bytes_ += bytes;
    return offset;
  }
  const auto [offset, length] = *best;
  free_.erase(best);
  if (length > bytes) free_.emplace(offset + bytes, length - bytes);
  used_bytes_ += bytes;
  return offset;
}

void Extents::give(std::uint64_t offset, std::uint64_t bytes) {
  used_bytes_ -= bytes;
  auto range = free_.emplace(offset, bytes).first;
  const auto next = std::next(range);
  if (next != free_.end() && range->first + range->second == next->first) {
    range->second += next->second;
    free_.erase(next);
  }
  if (range != free_.begin()) {
    const auto before = std::prev(range);
    if (before->first + before->second == range->first) {
      before->second += range->second;
      free_.erase(range);
      range = before;
    }
  }
  if (range->first + range->second != end_bytes_) return;
  end_bytes_ = range->first;
  free_.erase(range);
}

bool Extents::check() const {
  std::uint64_t free_bytes = 0;
  std::uint64_t after = 0;
  bool first = true;
  for (const auto& [offset, bytes] : free_) {
    if (bytes == 0 || (!first && offset <= after)) return false;
    after = offset + bytes;
    free_bytes += bytes;
    first = false;
  }
  return (first || after < end_bytes_) && free_bytes + used_bytes_ == end_bytes_;
}

}  // namespace spillway
