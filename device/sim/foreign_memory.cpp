// SPDX-License-Identifier: Apache-2.0
#include "device/sim/foreign_memory.hpp"

namespace spillway::sim {

MemoryError ForeignMemory::add(std::uint64_t begin,
                               std::uint64_t bytes,
                               std::uint32_t flags,
                               Misuse* misuse) {
  const ByteRange asked{begin, bytes};
  if (bytes == 0 || asked.end() < begin) {
    *misuse = {MemoryError::kBadSize, asked, {}};
    return misuse->error;
  }
  const Registration there = find(begin);
  if (there.range.bytes != 0) {
    const bool whole = asked.end() <= there.range.end();
    *misuse = {whole ? MemoryError::kAlreadyRegistered : MemoryError::kOverlap, asked, there.range};
    return misuse->error;
  }
  const auto next = registrations_.lower_bound(begin);
  if (next != registrations_.end() && next->first < asked.end()) {
    *misuse = {MemoryError::kOverlap, asked, next->second.range};
    return misuse->error;
  }
  registrations_.emplace_hint(next, begin, Registration{asked, flags});
  return MemoryError::kOk;
}

MemoryError ForeignMemory::remove(std::uint64_t begin, Registration* removed, Misuse* misuse) {
  const auto it = registrations_.find(begin);
  if (it == registrations_.end()) {
    *misuse = {MemoryError::kNotRegistered, {begin, 0}, find(begin).range};
    return misuse->error;
  }
  *removed = it->second;
  registrations_.erase(it);
  return MemoryError::kOk;
}

ForeignMemory::Registration ForeignMemory::find(std::uint64_t at) const {
  auto it = registrations_.upper_bound(at);
  if (it == registrations_.begin()) return {};
  --it;
  return at < it->second.range.end() ? it->second : Registration{};
}

}  // namespace spillway::sim
