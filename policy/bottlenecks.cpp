// SPDX-License-Identifier: Apache-2.0
// One sweep with a count of storages that cross. In any topological order an op is a bottleneck
// exactly when nothing made before it is read behind it.
#include "policy/bottlenecks.hpp"

#include <algorithm>

namespace spillway {

std::uint64_t element_count(const Storage& storage) {
  const std::uint32_t size = dtype_bytes(storage.tag.dtype);
  return size == 0 ? storage.bytes : storage.bytes / size;
}

std::vector<char> bottleneck_ops(const Profile& profile, std::uint64_t ignored_elements) {
  const std::size_t op_count = profile.ops.size();
  std::vector<std::uint32_t> begins(op_count + 1, 0);  // storages crossing from this op on
  std::vector<std::uint32_t> ends(op_count + 1, 0);
  std::vector<std::uint32_t> own(op_count, 0);  // of those, made by this op
  for (const Storage& storage : profile.storages) {
    if (!storage.created_by.valid() || element_count(storage) <= ignored_elements) continue;
    const std::uint32_t made = storage.created_by.value;
    if (profile.ops[made].tag.phase != Phase::kForward) continue;
    std::uint32_t last = made;
    for (const std::uint32_t op : profile.uses_of(storage)) {
      if (profile.ops[op].tag.phase != Phase::kForward) break;  // the next round's forward
      last = op;
    }
    if (last == made) continue;
    ++begins[made];
    ++ends[last];
    ++own[made];
  }
  std::vector<char> result(op_count, 0);
  std::uint32_t crossing = 0;
  for (std::size_t op = 0; op < op_count; ++op) {
    crossing += begins[op];
    crossing -= ends[op];
    result[op] = own[op] > 0 && own[op] == crossing ? 1 : 0;
  }
  return result;
}

}  // namespace spillway
