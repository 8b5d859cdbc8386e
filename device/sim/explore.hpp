// SPDX-License-Identifier: Apache-2.0
// Runs a program under many schedules: seeds of the random and PCT schedulers, or every schedule of
// a small program. Stops at the first schedule with a report and says how to repeat it.
#pragma once

#include "device/sim/simulator.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace spillway::sim {

using Program = std::function<void(Simulator&)>;

struct Exploration {
  std::uint64_t schedules = 0;  // run
  bool complete = false;        // explore_all: there is no other schedule
  bool failed = false;          // the last one had reports
  Options options;              // of the last one: running it again repeats it
  std::string text;             // its reports, and how to repeat it; empty unless failed
};

/// Seeds first_seed .. first_seed + count - 1 under options.mode. With SPILLWAY_SIM_SEED=N in the
/// environment only that seed is run: what a report asks for.
Exploration explore_seeds(Simulator& simulator,
                          Options options,
                          std::uint64_t first_seed,
                          std::uint64_t count,
                          const Program& program);

/// Every schedule, depth first, at most `schedules_max`. REQUIRES: the program is deterministic but
/// for the simulator.
Exploration explore_all(Simulator& simulator,
                        Options options,
                        std::uint64_t schedules_max,
                        const Program& program);

}  // namespace spillway::sim
