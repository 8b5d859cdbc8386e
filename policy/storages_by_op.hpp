// SPDX-License-Identifier: Apache-2.0
// Which storages each op makes, and which end with it: what everything that walks a step asks.
#pragma once

#include "policy/number_lists.hpp"
#include "policy/profile.hpp"

namespace spillway {

/// Storage indices per op, ascending. Linear in the profile.
struct StoragesByOp {
  NumberLists made;   // Storage::created_by
  NumberLists freed;  // Storage::freed_after

  explicit StoragesByOp(const Profile& profile);
};

}  // namespace spillway
