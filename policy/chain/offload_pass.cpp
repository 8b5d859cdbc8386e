// SPDX-License-Identifier: Apache-2.0
// Two walks over the program: where each marked storage is used around the turn from forward to
// backward, then what is held and when each instruction begins, from which the prefetches follow.
#include "policy/chain/offload_pass.hpp"

#include "policy/storages_by_op.hpp"

#include <algorithm>
#include <limits>

namespace spillway {
namespace {

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

/// A storage away while instructions (after, before) run.
struct Trip {
  std::uint32_t storage;
  std::uint32_t after;
  std::uint32_t before;
  std::uint32_t trigger;  // the prefetch stands before this instruction
};

class OffloadPass {
 public:
  OffloadPass(const Profile& profile,
              const DeviceModel& device,
              const std::vector<Instruction>& program)
      : profile_(profile), device_(device), program_(program), by_op_(profile) {}

  std::vector<Instruction> run(const std::vector<char>& marks, std::uint64_t budget_bytes) {
    find_trips(marks);
    if (budget_bytes != 0) move_ahead(budget_bytes);
    return write();
  }

 private:
  void find_trips(const std::vector<char>& marks);
  void measure();
  void move_ahead(std::uint64_t budget_bytes);
  [[nodiscard]] std::vector<Instruction> write() const;
  [[nodiscard]] std::uint64_t bytes(std::uint32_t storage) const {
    return profile_.storages[storage].bytes;
  }
  static bool runs_op(const Instruction& instruction) {
    return instruction.kind == InstructionKind::kCompute ||
           instruction.kind == InstructionKind::kRecompute;
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const std::vector<Instruction>& program_;
  StoragesByOp by_op_;
  std::vector<Trip> trips_;                // by `before`
  std::vector<std::uint64_t> held_bytes_;  // per instruction: the most while it runs
  std::vector<std::int64_t> begin_ns_;
};

// The turn is the first backward op. A storage makes one trip, over the turn after which it is
// away longest.
void OffloadPass::find_trips(const std::vector<char>& marks) {
  std::vector<std::uint32_t> last_use(profile_.storages.size(), kNone);
  std::vector<Trip> best(profile_.storages.size(), Trip{0, 0, 0, 0});
  std::vector<std::uint32_t> turns;  // instruction indices
  bool forward = true;
  for (std::uint32_t i = 0; i < program_.size(); ++i) {
    if (program_[i].kind != InstructionKind::kCompute) continue;
    const Phase phase = profile_.ops[program_[i].target].tag.phase;
    if (forward && phase == Phase::kBackward) turns.push_back(i);
    if (phase == Phase::kForward || phase == Phase::kBackward) forward = phase == Phase::kForward;
  }
  const auto passes_turn = [&](std::uint32_t from, std::uint32_t to) {
    const auto turn = std::upper_bound(turns.begin(), turns.end(), from);
    return turn != turns.end() && *turn <= to;
  };
  for (std::uint32_t i = 0; i < program_.size(); ++i) {
    const Instruction& instruction = program_[i];
    if (!runs_op(instruction)) {
      // A drop ends what could be a trip; after it the storage is made again.
      last_use[instruction.target] = kNone;
      continue;
    }
    const auto visit = [&](std::uint32_t s, bool makes) {
      if (marks[s] == 0 || !is_movable(profile_.storages[s])) return;
      const std::uint32_t from = last_use[s];
      last_use[s] = i;
      if (makes || from == kNone || from + 1 >= i || !passes_turn(from, i)) return;
      if (i - from > best[s].before - best[s].after) best[s] = {s, from, i, i};
    };
    for (const Use use : profile_.uses_of(profile_.ops[instruction.target])) {
      const bool makes = use.creates() && use.tensor().index() < profile_.storages.size();
      visit(profile_.storage_of(use).value, makes);
    }
    for (const std::uint32_t s : by_op_.made.of(instruction.target)) last_use[s] = i;
  }
  for (const Trip& trip : best)
    if (trip.before > trip.after) trips_.push_back(trip);
  std::stable_sort(trips_.begin(), trips_.end(), [](const Trip& a, const Trip& b) {
    return a.before < b.before;
  });
}

void OffloadPass::measure() {
  std::vector<char> present(profile_.storages.size(), 0);
  std::vector<char> retained(profile_.storages.size(), 0);
  std::vector<std::vector<std::uint32_t>> leave(program_.size()), arrive(program_.size());
  for (const Trip& trip : trips_) {
    leave[trip.after].push_back(trip.storage);
    arrive[trip.before].push_back(trip.storage);
  }
  std::uint64_t held = 0;
  std::int64_t now_ns = 0;
  for (std::uint32_t s = 0; s < present.size(); ++s)
    if (!profile_.storages[s].created_by.valid()) {
      present[s] = 1;
      held += bytes(s);
    }
  held_bytes_.resize(program_.size());
  begin_ns_.resize(program_.size());
  for (std::size_t i = 0; i < program_.size(); ++i) {
    const Instruction& instruction = program_[i];
    const std::uint32_t target = instruction.target;
    begin_ns_[i] = now_ns;
    for (const std::uint32_t s : arrive[i]) held += bytes(s);
    std::uint64_t scratch = 0;
    if (runs_op(instruction)) {
      const Op& op = profile_.ops[target];
      scratch = op.workspace_bytes;
      for (const std::uint32_t s : by_op_.made.of(target)) {
        if (present[s] != 0) {
          scratch += bytes(s);
          continue;
        }
        present[s] = 1;
        held += bytes(s);
      }
      now_ns += static_cast<std::int64_t>(op.duration_ns);
    } else if (instruction.kind == InstructionKind::kRetain) {
      retained[target] = 1;
    }
    held_bytes_[i] = held + scratch;
    if (instruction.kind == InstructionKind::kDrop && present[target] != 0) {
      present[target] = retained[target] = 0;
      held -= bytes(target);
    }
    if (instruction.kind == InstructionKind::kCompute)
      for (const std::uint32_t s : by_op_.freed.of(target)) {
        if (present[s] == 0 || retained[s] != 0) continue;
        present[s] = 0;
        held -= bytes(s);
      }
    for (const std::uint32_t s : leave[i]) held -= bytes(s);
  }
}

void OffloadPass::move_ahead(std::uint64_t budget_bytes) {
  measure();
  std::int64_t next_copy_ns = std::numeric_limits<std::int64_t>::max();
  for (std::size_t t = trips_.size(); t-- > 0;) {
    Trip& trip = trips_[t];
    const std::int64_t end_ns = std::min(next_copy_ns, begin_ns_[trip.before]);
    const std::int64_t begin_ns = end_ns - device_.prefetch_ns(bytes(trip.storage));
    next_copy_ns = begin_ns;
    while (trip.trigger > trip.after + 1 && begin_ns_[trip.trigger] > begin_ns &&
           held_bytes_[trip.trigger - 1] + bytes(trip.storage) <= budget_bytes) {
      --trip.trigger;
      held_bytes_[trip.trigger] += bytes(trip.storage);
    }
  }
}

std::vector<Instruction> OffloadPass::write() const {
  std::vector<std::vector<std::uint32_t>> leave(program_.size()), arrive(program_.size());
  for (const Trip& trip : trips_) {
    leave[trip.after].push_back(trip.storage);
    arrive[trip.trigger].push_back(trip.storage);
  }
  std::vector<Instruction> result;
  result.reserve(program_.size() + 2 * trips_.size());
  const auto emit = [&](InstructionKind kind, std::uint32_t storage) {
    Instruction instruction;
    instruction.kind = kind;
    instruction.target = storage;
    result.push_back(instruction);
  };
  for (std::size_t i = 0; i < program_.size(); ++i) {
    for (const std::uint32_t s : arrive[i]) emit(InstructionKind::kPrefetch, s);
    result.push_back(program_[i]);
    for (const std::uint32_t s : leave[i]) emit(InstructionKind::kOffload, s);
  }
  return result;
}

}  // namespace

std::vector<Instruction> offload_in_program(const Profile& profile,
                                            const DeviceModel& device,
                                            const std::vector<Instruction>& program,
                                            const std::vector<char>& marks,
                                            std::uint64_t budget_bytes) {
  return OffloadPass(profile, device, program).run(marks, budget_bytes);
}

}  // namespace spillway
