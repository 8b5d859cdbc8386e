// SPDX-License-Identifier: Apache-2.0
// A profile as a log for the DTR engine: what may be evicted is what the laws let a plan drop and
// recompute; everything else is fixed for as long as it lives.
#pragma once

#include "policy/dtr/dtr_log.hpp"
#include "policy/gaps.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Storages that were there before the step come first, each made by an op of its own without cost;
/// then the step's ops. A storage loses its only name where its life in the step ends.
struct ProfileLog {
  DtrLog log;
  std::uint32_t preexisting_count = 0;    // log op i is the profile's op i - preexisting_count
  std::vector<std::uint32_t> storage_of;  // per storage of the log: that of the profile
};

ProfileLog dtr_log_of(const Profile& profile, const GapTable& gaps);

}  // namespace spillway
