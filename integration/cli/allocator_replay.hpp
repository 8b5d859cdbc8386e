// SPDX-License-Identifier: Apache-2.0
// replay --allocator: the trace's allocations and frees over an allocator or a model of one.
#pragma once

#include "integration/cli/command.hpp"
#include "integration/cli/study.hpp"

#include <string>

namespace spillway::cli {

struct AllocatorReplayOptions {
  std::string allocator;  // a name, or "all"
  std::string snapshot;   // output name of a memory snapshot; "" for none
  std::string html;       // output name of the page; "" for none
  bool json = false;
};

/// Runs and prints. Out of memory under the budget is a result with exit code 3.
Status replay_allocator(const AllocatorReplayOptions& options,
                        const StudyOptions& study_options,
                        Session& session);

}  // namespace spillway::cli
