// SPDX-License-Identifier: Apache-2.0
// A training step seen as chains of stages, one per round of forward and backward: stages are what
// lies between layer cuts, a stage's input is what crosses the cut before it. Chain planners decide
// on the numbers of a round's Chain; a schedule of it becomes an order of op runs.
#pragma once

#include "policy/chain/schedule.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <vector>

namespace spillway {

struct ChainStage {
  std::uint32_t begin_op = 0;  // forward ops [begin_op, end_op)
  std::uint32_t end_op = 0;
  std::uint32_t backward_end = 0;    // its backward is over before this op
  std::vector<std::uint32_t> input;  // storages made before it, read in forward at or behind it
  std::vector<std::uint32_t> saved;  // storages made in it that its backward reads
};

/// One forward pass and the backward that follows it. Backward of the stages runs in [backward
/// begin, stages[0].backward_end), last stage first; ops up to end_op belong to no stage.
struct ChainRound {
  std::uint32_t begin_op = 0;
  std::uint32_t backward_begin = 0;
  std::uint32_t end_op = 0;
  std::vector<ChainStage> stages;
  Chain chain;  // input of stage 0 is 0 bytes; transients are beyond what is always there
};

struct ProfileChain {
  std::vector<ChainRound> rounds;  // in op order; they cover all ops
  /// Storages that schedules let go and make again. All others stay as in the profile.
  std::vector<char> managed;
  /// Storages that can be made again even when their life in the step is over.
  std::vector<char> remakable;
};

/// Stages by layer_cuts. Rounds of more than `max_stages` are made coarser: of each stretch of
/// about equal bytes the cut that the fewest bytes cross stays. Linear in the profile, times the
/// cuts that a storage crosses.
ProfileChain chain_of(const Profile& profile, std::uint32_t max_stages);

/// The order of op runs, the step's own and repeated ones, of one schedule per round.
std::vector<std::uint32_t> order_of(const Profile& profile,
                                    const ProfileChain& chain,
                                    const std::vector<ChainSchedule>& schedules);

/// Everything run once, every stage in "save all" mode: what order_of makes of it is the step.
ChainSchedule save_all_schedule(std::size_t stages);

}  // namespace spillway
