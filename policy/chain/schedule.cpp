// SPDX-License-Identifier: Apache-2.0
// Replays a chain schedule with one flag per checkpoint, saved stage and the running input.
#include "policy/chain/schedule.hpp"

#include <algorithm>
#include <numeric>

namespace spillway {
namespace {

class Runner {
 public:
  explicit Runner(const Chain& chain)
      : chain_(chain),
        checkpoints_(chain.length() + 1, 0),
        saved_(chain.length(), false),
        went_backward_(chain.length(), false) {}

  ChainReplay run(const ChainSchedule& schedule) {
    result_.legal = true;
    for (std::size_t i = 0; i < schedule.size(); ++i) {
      const ChainStep& step = schedule[i];
      if (step.stage >= chain_.length()) continue;
      leaf_ = i + 1 < schedule.size() && step.kind == ChainStepKind::kForwardAll &&
              schedule[i + 1] == ChainStep{ChainStepKind::kBackward, step.stage};
      if (!apply(step)) {
        result_.legal = false;
        return result_;
      }
    }
    result_.legal =
        std::find(went_backward_.begin(), went_backward_.end(), false) == went_backward_.end();
    return result_;
  }

 private:
  static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

  bool apply(const ChainStep& step) {
    const std::size_t s = step.stage;
    switch (step.kind) {
      case ChainStepKind::kForwardKeep:
      case ChainStepKind::kForwardDrop:
        if (front_ != s) return false;
        if (step.kind == ChainStepKind::kForwardKeep) ++checkpoints_[s];
        hold(chain_.input_bytes[s + 1] + chain_.forward_extra_bytes[s]);
        front_ = s + 1;
        result_.time_ns += chain_.forward_ns[s];
        ++result_.forward_runs;
        return true;
      case ChainStepKind::kForwardAll:
        if (front_ != s || saved_[s]) return false;
        ++checkpoints_[s];  // its backward reads the input
        hold(chain_.saved_bytes[s] + chain_.forward_extra_bytes[s]);
        saved_[s] = true;
        front_ = s + 1;
        result_.time_ns += leaf_ && !chain_.forward_leaf_ns.empty() ? chain_.forward_leaf_ns[s]
                                                                    : chain_.forward_ns[s];
        return true;
      case ChainStepKind::kBackward:
        if (!saved_[s] || went_backward_[s]) return false;
        if (s + 1 < chain_.length() && !went_backward_[s + 1]) return false;
        front_ = kNowhere;
        hold(chain_.backward_extra_bytes[s]);
        saved_[s] = false;
        went_backward_[s] = true;
        --checkpoints_[s];
        result_.time_ns += chain_.backward_ns[s];
        return true;
      case ChainStepKind::kRestore:
        if (checkpoints_[s] == 0) return false;
        --checkpoints_[s];
        front_ = s;
        return true;
    }
    return false;
  }

  // The input at hand, checkpoints and saved tensors, each once; the output of a saved stage is
  // part of what it saved. The chain's own input is not counted.
  void hold(std::uint64_t extra_bytes) {
    std::uint64_t bytes = extra_bytes;
    for (std::size_t s = 0; s < saved_.size(); ++s) {
      if (saved_[s]) bytes += chain_.saved_bytes[s];
      const bool inside_saved = s > 0 && saved_[s - 1];
      if (s > 0 && !inside_saved && (checkpoints_[s] > 0 || front_ == s))
        bytes += chain_.input_bytes[s];
    }
    result_.peak_bytes = std::max(result_.peak_bytes, bytes);
  }

  const Chain& chain_;
  std::vector<std::uint32_t> checkpoints_;
  std::vector<bool> saved_;
  std::vector<bool> went_backward_;
  std::size_t front_ = 0;
  bool leaf_ = false;  // the step saves all right before the stage's own backward
  ChainReplay result_;
};

}  // namespace

bool Chain::consistent() const {
  const std::size_t n = forward_ns.size();
  return backward_ns.size() == n && input_bytes.size() == n + 1 && saved_bytes.size() == n &&
         forward_extra_bytes.size() == n && backward_extra_bytes.size() == n &&
         (forward_leaf_ns.empty() || forward_leaf_ns.size() == n);
}

std::int64_t Chain::time_without_recompute() const {
  return std::accumulate(forward_ns.begin(), forward_ns.end(), std::int64_t{0}) +
         std::accumulate(backward_ns.begin(), backward_ns.end(), std::int64_t{0});
}

ChainReplay replay(const Chain& chain, const ChainSchedule& schedule) {
  if (!chain.consistent()) return {};
  return Runner(chain).run(schedule);
}

}  // namespace spillway
