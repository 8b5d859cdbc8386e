// SPDX-License-Identifier: Apache-2.0
// Adds offload to a program that has none: storages that lie unused from forward until backward go
// to the host in between, and come back as late as the link allows and as early as memory does.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// The program with an offload after the last use before the first backward op, and a prefetch
/// before the next use, of each marked storage that is movable and on the device in between.
/// Prefetches are moved ahead so that copies can end in time, as far as `budget_bytes` allows; with
/// 0 each stands right before the use: the least memory. REQUIRES: a legal program without offload
/// and compress.
std::vector<Instruction> offload_in_program(const Profile& profile,
                                            const DeviceModel& device,
                                            const std::vector<Instruction>& program,
                                            const std::vector<char>& marks,
                                            std::uint64_t budget_bytes);

}  // namespace spillway
