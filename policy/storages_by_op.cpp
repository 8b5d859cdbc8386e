// SPDX-License-Identifier: Apache-2.0
// Count, then place.
#include "policy/storages_by_op.hpp"

#include <numeric>

namespace spillway {
namespace {

template <typename OpOf>
NumberLists group(const Profile& profile, const OpOf& op_of) {
  NumberLists lists;
  lists.begin.assign(profile.ops.size() + 1, 0);
  for (const Storage& storage : profile.storages)
    if (const OpId op = op_of(storage); op.valid()) ++lists.begin[op.index() + 1];
  std::partial_sum(lists.begin.begin(), lists.begin.end(), lists.begin.begin());
  lists.items.resize(lists.begin.back());
  std::vector<std::uint32_t> next(lists.begin.begin(), lists.begin.end() - 1);
  for (std::uint32_t s = 0; s < profile.storages.size(); ++s)
    if (const OpId op = op_of(profile.storages[s]); op.valid()) lists.items[next[op.index()]++] = s;
  return lists;
}

}  // namespace

StoragesByOp::StoragesByOp(const Profile& profile)
    : made(group(profile, [](const Storage& s) { return s.created_by; })),
      freed(group(profile, [](const Storage& s) { return s.freed_after; })) {}

}  // namespace spillway
