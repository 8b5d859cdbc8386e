// SPDX-License-Identifier: Apache-2.0
// One walk over the events in their order for phases and steps, then one look at each forward pass
// for layers.
#include "integration/trace/snapshot_phases.hpp"

#include <algorithm>
#include <map>

namespace spillway {
namespace {

class PhaseWalk {
 public:
  PhaseWalk(SnapshotModel& model, const SnapshotStacks& stacks, SnapshotPhases& out)
      : model_(model), stacks_(stacks), out_(out) {
    for (std::size_t i = 0; i < stacks.size(); ++i)
      any_forward_call_ |= has(stacks.stack(static_cast<std::uint32_t>(i)), kStackForward);
  }

  void run() {
    out_.first_run_of_step.push_back(0);
    std::size_t next_annotation = 0;
    int optimizer_depth = 0;
    for (std::uint32_t i = 0; i < model_.events.size(); ++i) {
      for (; next_annotation < model_.annotations.size() &&
             model_.annotations[next_annotation].position <= i;
           ++next_annotation) {
        const SnapshotAnnotation& annotation = model_.annotations[next_annotation];
        if (annotation.optimizer) optimizer_depth += annotation.start ? 1 : -1;
      }
      visit(model_.events[i], optimizer_depth > 0);
    }
    for (std::size_t step = 0; step < out_.first_run_of_step.size(); ++step) {
      const bool last = step + 1 == out_.first_run_of_step.size();
      out_.runs_of_step.push_back((last ? runs_ : out_.first_run_of_step[step + 1]) -
                                  out_.first_run_of_step[step]);
    }
  }

 private:
  static bool has(const SnapshotStack& stack, StackFlag flag) { return (stack.flags & flag) != 0; }

  void visit(SnapshotEvent& event, bool optimizer_range) {
    const SnapshotStack& stack = stacks_.stack(event.stack);
    const bool allocates = event.action == SnapshotAction::kAlloc;
    if (optimizer_range || has(stack, kStackOptimizer)) {
      phase_ = Phase::kOptimizer;
      optimizer_ended_step_ = optimizer_ended_step_ || trained_in_step_;
    } else if (has(stack, kStackBackward)) {
      phase_ = Phase::kBackward;
      trained_in_step_ = true;
      out_.has_backward = true;
    } else if (has(stack, kStackPython)) {
      // Where no function is called forward, any allocation from Python may open the forward pass.
      const bool opens = allocates && (has(stack, kStackForward) || !any_forward_call_);
      if (phase_ == Phase::kUnknown)
        phase_ = Phase::kForward, ++runs_;
      else if (phase_ != Phase::kForward && opens)
        begin_forward(event);
      else if (phase_ == Phase::kOptimizer && allocates)
        phase_ = Phase::kOther;
    }
    event.phase = phase_ == Phase::kUnknown ? Phase::kOther : phase_;
    event.forward_run = runs_;
  }

  void begin_forward(SnapshotEvent& event) {
    phase_ = Phase::kForward;
    if (optimizer_ended_step_) {
      event.begins_step = true;
      out_.first_run_of_step.push_back(runs_);
      optimizer_ended_step_ = trained_in_step_ = false;
    }
    ++runs_;
  }

  SnapshotModel& model_;
  const SnapshotStacks& stacks_;
  SnapshotPhases& out_;
  Phase phase_ = Phase::kUnknown;
  bool any_forward_call_ = false;
  bool trained_in_step_ = false;       // a backward pass since the step began
  bool optimizer_ended_step_ = false;  // and an optimizer after it
  std::uint32_t runs_ = 0;             // forward passes that have begun
};

/// Layers of a network run the same code: a stack that allocates L times in a forward pass
/// allocates once per layer. L is the count that most bytes repeat with; a stack with a multiple of
/// L allocates several times per layer.
class LayerWalk {
 public:
  LayerWalk(SnapshotModel& model, const SnapshotStacks& stacks, SnapshotPhases& out)
      : model_(model),
        out_(out),
        count_(stacks.size(), 0),
        bytes_(stacks.size(), 0),
        index_(stacks.size(), 0) {}

  void run() {
    std::size_t begin = 0;
    while (begin < model_.events.size()) {
      std::size_t end = begin;
      while (end < model_.events.size() &&
             model_.events[end].forward_run == model_.events[begin].forward_run)
        ++end;
      visit_pass(begin, end);
      begin = end;
    }
  }

 private:
  template <typename Visit>
  void for_each_alloc(std::size_t begin, std::size_t end, Visit visit) {
    for (std::size_t i = begin; i < end; ++i) {
      SnapshotEvent& event = model_.events[i];
      if (event.action == SnapshotAction::kAlloc && event.phase == Phase::kForward &&
          event.stack != 0)
        visit(event);
    }
  }

  void visit_pass(std::size_t begin, std::size_t end) {
    for_each_alloc(begin, end, [this](SnapshotEvent& event) {
      if (count_[event.stack]++ == 0) touched_.push_back(event.stack);
      bytes_[event.stack] += event.bytes;
      ++out_.forward_alloc_count;
    });
    std::map<std::uint32_t, std::uint64_t> bytes_of_count;
    for (const std::uint32_t stack : touched_)
      if (count_[stack] >= 2) bytes_of_count[count_[stack]] += bytes_[stack];
    std::uint32_t layers = 0;
    std::uint64_t most_bytes = 0;
    for (const auto& [count, bytes] : bytes_of_count) {
      if (layers != 0 && bytes <= most_bytes) continue;
      layers = count;
      most_bytes = bytes;
    }
    if (layers != 0 && layers < kNoLayer) {
      for_each_alloc(begin, end, [this, layers](SnapshotEvent& event) {
        const std::uint32_t count = count_[event.stack];
        if (count % layers != 0) return;
        event.layer = static_cast<std::uint16_t>(index_[event.stack]++ / (count / layers));
        ++out_.layered_alloc_count;
      });
      out_.layer_count = std::max(out_.layer_count, layers);
    }
    for (const std::uint32_t stack : touched_) count_[stack] = index_[stack] = 0, bytes_[stack] = 0;
    touched_.clear();
  }

  SnapshotModel& model_;
  SnapshotPhases& out_;
  std::vector<std::uint32_t> count_;  // per stack, in the pass being looked at
  std::vector<std::uint64_t> bytes_;
  std::vector<std::uint32_t> index_;
  std::vector<std::uint32_t> touched_;
};

}  // namespace

SnapshotPhases infer_phases(SnapshotModel& model, const SnapshotStacks& stacks) {
  SnapshotPhases phases;
  PhaseWalk(model, stacks, phases).run();
  LayerWalk(model, stacks, phases).run();
  return phases;
}

}  // namespace spillway
