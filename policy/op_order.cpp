// SPDX-License-Identifier: Apache-2.0
// Two passes: the events of each storage (made, used) by position in the order, then the program
// with what follows from each storage's next event.
#include "policy/op_order.hpp"

#include "policy/storages_by_op.hpp"

#include <algorithm>

namespace spillway {
namespace {

struct Event {
  std::uint32_t position;
  bool makes;
};

class OrderWriter {
 public:
  OrderWriter(const Profile& profile, std::span<const std::uint32_t> order, bool drop_tails)
      : profile_(profile),
        order_(order),
        drop_tails_(drop_tails),
        events_(profile.storages.size()),
        next_event_(profile.storages.size(), 0),
        present_(profile.storages.size(), 0),
        by_op_(profile) {}

  Result<std::vector<Instruction>> run();

 private:
  void collect();
  template <typename Visit>
  void for_each_input(std::uint32_t op, const Visit& visit) const {
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      visit(profile_.storage_of(use).value);
    }
  }
  const Event* next_event(std::uint32_t storage) const {
    return next_event_[storage] < events_[storage].size() ? &events_[storage][next_event_[storage]]
                                                          : nullptr;
  }
  void emit(InstructionKind kind, std::uint32_t target) {
    Instruction instruction;
    instruction.kind = kind;
    instruction.target = target;
    program_.push_back(instruction);
  }
  bool is_over(std::uint32_t storage) const {
    const OpId freed = profile_.storages[storage].freed_after;
    return freed.valid() && freed.value < next_op_;
  }
  void settle(std::uint32_t storage);

  const Profile& profile_;
  std::span<const std::uint32_t> order_;
  bool drop_tails_;
  std::vector<std::vector<Event>> events_;  // per storage, by position
  std::vector<std::size_t> next_event_;     // per storage
  std::vector<char> present_;
  StoragesByOp by_op_;
  std::uint32_t next_op_ = 0;
  std::vector<Instruction> program_;
};

void OrderWriter::collect() {
  for (std::uint32_t s = 0; s < profile_.storages.size(); ++s)
    if (!profile_.storages[s].created_by.valid()) present_[s] = 1;
  for (std::uint32_t p = 0; p < order_.size(); ++p) {
    for_each_input(order_[p], [&](std::uint32_t s) {
      if (events_[s].empty() || events_[s].back().position != p) events_[s].push_back({p, false});
    });
    for (const std::uint32_t s : by_op_.made.of(order_[p]))
      if (events_[s].empty() || events_[s].back().position != p) events_[s].push_back({p, true});
  }
}

// After the op at the current position: is `storage` still of use before it is made again?
void OrderWriter::settle(std::uint32_t storage) {
  if (present_[storage] == 0) return;
  const Event* next = next_event(storage);
  if (next != nullptr && !next->makes) return;
  const bool over = is_over(storage);
  const bool may_drop =
      over ||
      (is_movable(profile_.storages[storage]) &&
       (next != nullptr || (drop_tails_ && profile_.storages[storage].freed_after.valid())));
  if (!may_drop) return;
  emit(InstructionKind::kDrop, storage);
  present_[storage] = 0;
}

Result<std::vector<Instruction>> OrderWriter::run() {
  for (const std::uint32_t op : order_)
    if (op >= profile_.ops.size())
      return Status(Code::kInvalidArgument, "there is no op " + std::to_string(op));
  collect();
  for (std::uint32_t p = 0; p < order_.size(); ++p) {
    const std::uint32_t op = order_[p];
    if (op > next_op_)
      return Status(
          Code::kInvalidArgument,
          "expected op " + std::to_string(next_op_) + " first, found op " + std::to_string(op));
    const bool again = op < next_op_;
    std::uint32_t missing = StorageId::kNoneValue;
    for_each_input(op, [&](std::uint32_t s) {
      if (present_[s] == 0 && profile_.storages[s].created_by.value != op) missing = s;
    });
    if (missing != StorageId::kNoneValue)
      return Status(Code::kInvalidArgument,
                    "op " + std::to_string(op) + " at position " + std::to_string(p) +
                        " needs storage " + std::to_string(missing) + ", which is gone");
    const auto advance = [&](std::uint32_t s) {
      while (next_event_[s] < events_[s].size() && events_[s][next_event_[s]].position <= p)
        ++next_event_[s];
    };
    for_each_input(op, advance);
    for (const std::uint32_t s : by_op_.made.of(op)) advance(s);
    if (!again) {
      for (const std::uint32_t s : by_op_.freed.of(op)) {
        const Event* next = next_event(s);
        const bool wanted = next != nullptr && !next->makes;
        if (wanted && present_[s] != 0) emit(InstructionKind::kRetain, s);
        if (!wanted) present_[s] = 0;
      }
      // An op's own output that dies with it cannot be retained before it exists.
      ++next_op_;
    }
    emit(again ? InstructionKind::kRecompute : InstructionKind::kCompute, op);
    for (const std::uint32_t s : by_op_.made.of(op)) {
      const OpId freed = profile_.storages[s].freed_after;
      present_[s] = again || !freed.valid() || freed.value != op ? 1 : 0;
    }
    for_each_input(op, [&](std::uint32_t s) { settle(s); });
    for (const std::uint32_t s : by_op_.made.of(op)) settle(s);
  }
  if (next_op_ != profile_.ops.size())
    return Status(Code::kInvalidArgument, "the order ends before op " + std::to_string(next_op_));
  return std::move(program_);
}

}  // namespace

std::vector<Decision> decisions_of(const Profile& profile,
                                   const std::vector<Instruction>& program) {
  struct Away {
    Decision decision;
    std::uint32_t since = 0;
    bool open = false;
  };
  std::vector<Decision> decisions(profile.storages.size());
  std::vector<std::uint32_t> widest(profile.storages.size(), 0);
  std::vector<Away> away(profile.storages.size());
  std::uint32_t next_op = 0;
  const auto close = [&](std::uint32_t storage, std::uint32_t until) {
    Away& a = away[storage];
    if (!a.open) return;
    a.open = false;
    const std::uint32_t width = until - a.since + 1;
    if (width <= widest[storage]) return;
    widest[storage] = width;
    decisions[storage] = a.decision;
  };
  const StoragesByOp by_op(profile);
  for (const Instruction& instruction : program) {
    const std::uint32_t s = instruction.target;
    switch (instruction.kind) {
      case InstructionKind::kCompute:
        ++next_op;
        break;
      case InstructionKind::kRecompute:
        for (const std::uint32_t made : by_op.made.of(s))
          if (away[made].decision.action == Action::kRecompute) close(made, next_op);
        break;
      case InstructionKind::kDrop: {
        const OpId freed = profile.storages[s].freed_after;
        if (freed.valid() && freed.value < next_op) break;
        close(s, next_op);  // what was encoded is gone now
        away[s] = {{Action::kRecompute, Codec::kNone}, next_op, true};
        break;
      }
      case InstructionKind::kCompress:
        away[s] = {{Action::kCompress, instruction.codec}, next_op, true};
        break;
      case InstructionKind::kOffload: {
        const bool encoded = away[s].open && away[s].decision.action == Action::kCompress;
        const Codec codec = encoded ? away[s].decision.codec : Codec::kNone;
        away[s] = {{Action::kOffload, codec}, encoded ? away[s].since : next_op, true};
        break;
      }
      case InstructionKind::kPrefetch:
        if (away[s].decision.codec == Codec::kNone) close(s, next_op);
        break;
      case InstructionKind::kDecompress:
        close(s, next_op);
        break;
      case InstructionKind::kRetain:
        break;
    }
  }
  for (std::uint32_t s = 0; s < away.size(); ++s) {
    const OpId freed = profile.storages[s].freed_after;
    close(s, freed.valid() ? freed.value + 1 : next_op);
  }
  return decisions;
}

Result<Plan> plan_of_order(const Profile& profile,
                           std::span<const std::uint32_t> order,
                           bool drop_tails,
                           std::string policy,
                           std::uint64_t budget_bytes) {
  auto program = OrderWriter(profile, order, drop_tails).run();
  if (!program.ok()) return program.status();
  Plan plan;
  plan.policy = std::move(policy);
  plan.budget_bytes = budget_bytes;
  plan.program = std::move(program).value();
  plan.decisions = decisions_of(profile, plan.program);
  return plan;
}

}  // namespace spillway
