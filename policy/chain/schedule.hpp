// SPDX-License-Identifier: Apache-2.0
// A chain of stages and what chain planners say about it: which stage runs forward when, what it
// leaves behind, and when its backward runs. The words follow Beaumont et al. 2019
// (arXiv 1911.13214): a stage reads the output of the one before it and saves tensors for its own
// backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway {

/// Stages 0..L-1 of a chain. Times are ns, sizes bytes (tests use any unit).
struct Chain {
  std::vector<std::int64_t> forward_ns;    // uF, per stage
  std::vector<std::int64_t> backward_ns;   // uB, per stage
  std::vector<std::uint64_t> input_bytes;  // a: L + 1 entries; [L] is the final output
  std::vector<std::uint64_t> saved_bytes;  // abar: what "save all" keeps, the output included
  std::vector<std::uint64_t> forward_extra_bytes;   // oF: transient, beyond input, output and saved
  std::vector<std::uint64_t> backward_extra_bytes;  // oB

  /// Time of a "save all" run right before the stage's own backward, where nothing that only the
  /// output needs has to run. Empty: forward_ns. The papers know no such difference.
  std::vector<std::int64_t> forward_leaf_ns;

  [[nodiscard]] std::size_t length() const { return forward_ns.size(); }
  /// All vectors have the lengths above.
  [[nodiscard]] bool consistent() const;
  /// Time of one forward and backward with nothing run twice.
  [[nodiscard]] std::int64_t time_without_recompute() const;
};

enum class ChainStepKind : std::uint8_t {
  kForwardKeep,  // run the stage; its input stays stored, as a checkpoint, until kRestore
  kForwardDrop,  // run the stage; its input goes, unless a checkpoint holds it
  kForwardAll,   // run the stage, save what its backward needs; its input stays until then
  kBackward,     // run the stage's backward; what kForwardAll saved goes, its input too
  kRestore,      // the checkpoint of the stage's input is the next stage's input again, and is over
};

struct ChainStep {
  ChainStepKind kind = ChainStepKind::kForwardAll;
  std::uint32_t stage = 0;

  friend bool operator==(const ChainStep&, const ChainStep&) = default;
};

using ChainSchedule = std::vector<ChainStep>;

/// What a schedule costs in the model of the chain, found by running it step by step.
struct ChainReplay {
  bool legal = false;            // every step found its input; every stage went backward once
  std::int64_t time_ns = 0;      // all forwards and backwards
  std::uint64_t peak_bytes = 0;  // checkpoints, saved tensors, outputs and transients; without a_0
  std::uint64_t forward_runs = 0;  // kForwardKeep and kForwardDrop
};

/// Runs `schedule`. Steps of stages beyond the chain (a loss without cost) are skipped.
ChainReplay replay(const Chain& chain, const ChainSchedule& schedule);

}  // namespace spillway
