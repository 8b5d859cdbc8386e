// SPDX-License-Identifier: Apache-2.0
// A program read as spots, so that the local search can start from any planner's plan.
#pragma once

#include "policy/search/schedule.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

/// Where a storage is when each op begins, and the codec it takes.
struct ProgramSpots {
  std::vector<std::vector<SpotSpan>> spots;  // per storage
  std::vector<Codec> codec;                  // per storage: the last one it was encoded with
};

/// REQUIRES: a program that the simulator accepts. Linear in the program.
ProgramSpots spots_of(const StepModel& model, const std::vector<Instruction>& program);

}  // namespace spillway
