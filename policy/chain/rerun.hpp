// SPDX-License-Identifier: Apache-2.0
// Which ops have to run again so that some storages exist: a walk back over producers until
// everything read is at hand.
#pragma once

#include "policy/profile.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

class RerunCollector {
 public:
  explicit RerunCollector(const Profile& profile)
      : profile_(profile),
        storage_stamps_(profile.storages.size(), 0),
        op_stamps_(profile.ops.size(), 0) {}

  /// The ops, ascending, that make every one of `targets` for which at_hand(storage) is false from
  /// storages for which it is true. REQUIRES: producers exist for all others on the way. The result
  /// is valid until the next call.
  template <typename AtHand>
  const std::vector<std::uint32_t>& collect(std::span<const std::uint32_t> targets,
                                            const AtHand& at_hand) {
    ++stamp_;
    ops_.clear();
    worklist_.assign(targets.begin(), targets.end());
    while (!worklist_.empty()) {
      const std::uint32_t storage = worklist_.back();
      worklist_.pop_back();
      if (storage_stamps_[storage] == stamp_) continue;
      storage_stamps_[storage] = stamp_;
      if (at_hand(storage) || !profile_.storages[storage].created_by.valid()) continue;
      const std::uint32_t producer = profile_.storages[storage].created_by.value;
      if (op_stamps_[producer] == stamp_) continue;
      op_stamps_[producer] = stamp_;
      ops_.push_back(producer);
      for (const Use use : profile_.uses_of(profile_.ops[producer])) {
        if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
        worklist_.push_back(profile_.storage_of(use).value);
      }
    }
    std::sort(ops_.begin(), ops_.end());
    return ops_;
  }

 private:
  const Profile& profile_;
  std::vector<std::uint32_t> storage_stamps_, op_stamps_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t> worklist_, ops_;
};

}  // namespace spillway
