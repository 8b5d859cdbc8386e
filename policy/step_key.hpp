// SPDX-License-Identifier: Apache-2.0
// Names for ops and storages that survive from one recording of a step to the next: tag and ordinal
// among equals, never a raw position.
#pragma once

#include "policy/profile.hpp"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace spillway {

/// Keys of a profile. Ops: "phase/layer/micro-batch/kind#ordinal"; storages:
/// "kind/phase/layer/micro-batch#ordinal"; "-" for unknown layer or micro-batch. Each key is
/// unique.
struct StepKeys {
  std::vector<std::string> op_keys;
  std::vector<std::string> storage_keys;
  std::unordered_map<std::string, std::uint32_t> ops;
  std::unordered_map<std::string, std::uint32_t> storages;
};
StepKeys step_keys(const Profile& profile);

/// A number that is the same for steps with the same ops, tags and sizes in the same order (times
/// do not count).
std::uint64_t step_signature(const Profile& profile);

}  // namespace spillway
