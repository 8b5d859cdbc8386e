// SPDX-License-Identifier: Apache-2.0
// What the report's tables say about single tensors: when each was used, left and came back, and
// which line of code made it.
#pragma once

#include "integration/report/report_series.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// Times on the page's axis; -1: never.
struct TensorLife {
  std::int64_t first_use_ns = -1;  // start of the first op that touches it in the step
  std::int64_t last_use_ns = -1;   // end of the last one
  std::int64_t evicted_ns = -1;    // first time its bytes began to leave, in whatever way
  std::int64_t back_ns = -1;       // last time it became usable again
  std::int64_t on_host_ns = 0;     // how long the host held a copy
  std::uint32_t evictions = 0;
};

/// One per storage.
std::vector<TensorLife> tensor_lives(const Profile& profile,
                                     const StepAxis& axis,
                                     const std::vector<PlaceChange>& changes);

/// The line of code that a stack belongs to: the innermost Python frame outside of libraries, else
/// the innermost Python frame, else the innermost frame; "" without one. Frames as readers write
/// them: "path/file.py:12 function".
std::string_view source_line(const Profile& profile, StackId stack);

/// Frames of `stack`, innermost first, at most `limit`.
std::vector<StringId> stack_frames(const Profile& profile, StackId stack, std::size_t limit);

}  // namespace spillway
