// SPDX-License-Identifier: Apache-2.0
// One walk: what leaves right after an op leaves in that op's stage; what comes back is there from
// the stage on in which it is used.
#include "policy/search/program_spots.hpp"

namespace spillway {
namespace {

class Walk {
 public:
  explicit Walk(const StepModel& model)
      : model_(model), now_(model.items.size(), Spot::kAway), retained_(model.items.size(), 0) {
    result_.spots.resize(model.items.size());
    result_.codec.assign(model.items.size(), Codec::kNone);
    for (std::uint32_t s = 0; s < model.items.size(); ++s) {
      if (model.items[s].created_by == OpId::kNoneValue) now_[s] = Spot::kHere;
      result_.spots[s].push_back({0, now_[s]});
    }
  }

  ProgramSpots run(const std::vector<Instruction>& program) {
    for (const Instruction& instruction : program) {
      const std::uint32_t s = instruction.target;
      switch (instruction.kind) {
        case InstructionKind::kCompute:
          settle();
          run_op(s);
          for (const std::uint32_t ends : model_.freed.of(s))
            if (retained_[ends] == 0) set(ends, Spot::kAway);
          ++next_op_;
          open_ = true;
          break;
        case InstructionKind::kRecompute:
          settle();
          run_op(s);
          break;
        case InstructionKind::kDrop:
          // Of what was prefetched and never used the copy on the host is gone too.
          retained_[s] = 0;
          set(s, Spot::kAway);
          break;
        case InstructionKind::kCompress:
          result_.codec[s] = instruction.codec;
          set(s, Spot::kCoded);
          break;
        case InstructionKind::kDecompress:
          settle();
          set(s, Spot::kHere);
          break;
        case InstructionKind::kOffload:
          set(s, now_[s] == Spot::kCoded ? Spot::kHostCoded : Spot::kHost);
          break;
        case InstructionKind::kPrefetch:
          break;
        case InstructionKind::kRetain:
          retained_[s] = 1;
          break;
      }
    }
    settle();
    return std::move(result_);
  }

 private:
  void set(std::uint32_t s, Spot spot) {
    now_[s] = spot;
    changed_.push_back(s);
  }
  void run_op(std::uint32_t op) {
    for (const std::uint32_t s : model_.inputs.of(op)) set(s, Spot::kHere);
    for (const std::uint32_t s : model_.outputs.of(op))
      if (now_[s] == Spot::kAway) set(s, Spot::kHere);
  }
  // The state right after an op and what left behind it is where the next stage begins.
  void settle() {
    if (!open_) return;
    open_ = false;
    for (const std::uint32_t s : changed_) {
      std::vector<SpotSpan>& spots = result_.spots[s];
      if (spots.back().spot == now_[s]) continue;
      if (spots.back().from == next_op_) {
        spots.back().spot = now_[s];
      } else {
        spots.push_back({next_op_, now_[s]});
      }
    }
    changed_.clear();
  }

  const StepModel& model_;
  ProgramSpots result_;
  std::vector<Spot> now_;
  std::vector<char> retained_;
  std::vector<std::uint32_t> changed_;
  std::uint32_t next_op_ = 0;
  bool open_ = false;  // an op has ended and nothing but departures came since
};

}  // namespace

ProgramSpots spots_of(const StepModel& model, const std::vector<Instruction>& program) {
  return Walk(model).run(program);
}

}  // namespace spillway
