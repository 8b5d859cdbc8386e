// SPDX-License-Identifier: Apache-2.0
// One walk over the ops with a small state per storage. Recompute chains are collected with a
// worklist and run in op order, so depth is bounded by memory, not by the stack.
#include "policy/lowering.hpp"

#include "core/check.hpp"
#include "policy/search/range_max.hpp"

#include <algorithm>
#include <numeric>

namespace spillway {
namespace {

enum class Where : std::uint8_t {
  kUnborn,
  kResident,
  kCompressed,
  kOnHost,
  kPrefetched,
  kDropped,
  kDead
};

struct State {
  Where where = Where::kUnborn;
  Codec codec = Codec::kNone;  // of the payload when compressed, on the host or prefetched
  std::uint32_t gap = StorageId::kNoneValue;  // the gap it is away for
};

class Emitter {
 public:
  Emitter(const Profile& profile,
          const DeviceModel& device,
          const GapTable& gaps,
          const StoragesByOp& by_op,
          const Choices& choices,
          const Triggers& triggers,
          const std::vector<std::uint32_t>& by_begin,
          const std::vector<std::uint32_t>& by_end)
      : profile_(profile),
        device_(device),
        gaps_(gaps),
        by_op_(by_op),
        choices_(choices),
        by_begin_(by_begin),
        by_end_(by_end),
        states_(profile.storages.size()),
        storage_stamps_(profile.storages.size(), 0),
        last_consumer_(profile.storages.size(), 0),
        op_stamps_(profile.ops.size(), 0) {
    for (std::uint32_t g = 0; g < gaps.gaps.size(); ++g)
      if (choices[g].action == Action::kOffload && gaps.gaps[g].returns &&
          triggers[g] < gaps.gaps[g].before_op)
        by_trigger_.push_back(g);
    // Same trigger: the one needed first goes first.
    std::sort(by_trigger_.begin(), by_trigger_.end(), [&](std::uint32_t a, std::uint32_t b) {
      if (triggers[a] != triggers[b]) return triggers[a] < triggers[b];
      if (gaps.gaps[a].before_op != gaps.gaps[b].before_op)
        return gaps.gaps[a].before_op < gaps.gaps[b].before_op;
      return a < b;
    });
    triggers_ = &triggers;
  }

  Lowered run();

 private:
  void emit(InstructionKind kind, std::uint32_t target, Codec codec = Codec::kNone) {
    Instruction instruction;
    instruction.kind = kind;
    instruction.codec = codec;
    instruction.target = target;
    out_.program.push_back(instruction);
  }
  std::uint64_t bytes(std::uint32_t storage) const { return profile_.storages[storage].bytes; }
  std::uint64_t form_bytes(std::uint32_t storage) const {
    const Storage& info = profile_.storages[storage];
    const Codec codec = states_[storage].codec;
    return codec == Codec::kNone ? info.bytes : payload_bytes(codec, info.tag.dtype, info.bytes);
  }
  void take(std::uint64_t count) {
    instant_ += count;
    high_ = std::max(high_, instant_);
  }
  void give(std::uint64_t count) { instant_ -= count; }
  void came_back(std::uint32_t storage) {
    State& state = states_[storage];
    if (state.gap != StorageId::kNoneValue) out_.back_at[state.gap] = op_;
    state.gap = StorageId::kNoneValue;
  }

  template <typename Visit>
  void for_each_touched(std::uint32_t op, const Visit& visit) const {
    for (const Use use : profile_.uses_of(profile_.ops[op])) visit(profile_.storage_of(use).value);
    for (const std::uint32_t storage : by_op_.made.of(op)) visit(storage);
  }

  void prefetch(std::uint32_t storage);
  void decompress(std::uint32_t storage);
  void drop(std::uint32_t storage, Where where);
  void recompute(std::uint32_t op);
  void bring_back(std::uint32_t storage);
  void evict(std::uint32_t gap);

  const Profile& profile_;
  const DeviceModel& device_;
  const GapTable& gaps_;
  const StoragesByOp& by_op_;
  const Choices& choices_;
  const Triggers* triggers_ = nullptr;
  const std::vector<std::uint32_t>& by_begin_;
  const std::vector<std::uint32_t>& by_end_;
  std::vector<std::uint32_t> by_trigger_;
  std::vector<State> states_;
  std::vector<std::uint32_t> storage_stamps_, last_consumer_, op_stamps_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t> worklist_, chain_, fetched_;
  std::uint32_t op_ = 0;
  std::uint64_t instant_ = 0;
  std::uint64_t high_ = 0;
  std::int64_t now_ns_ = 0;
  Lowered out_;
};

void Emitter::prefetch(std::uint32_t storage) {
  emit(InstructionKind::kPrefetch, storage);
  take(form_bytes(storage));
  states_[storage].where = Where::kPrefetched;
  came_back(storage);
}

void Emitter::decompress(std::uint32_t storage) {
  State& state = states_[storage];
  emit(InstructionKind::kDecompress, storage, state.codec);
  take(bytes(storage));
  give(form_bytes(storage));
  const std::int64_t ns =
      device_.codec_ns(state.codec, profile_.storages[storage].tag.dtype, bytes(storage));
  now_ns_ += ns;
  out_.codec_ns += ns;
  state.where = Where::kResident;
  state.codec = Codec::kNone;
  came_back(storage);
}

void Emitter::drop(std::uint32_t storage, Where where) {
  emit(InstructionKind::kDrop, storage);
  give(form_bytes(storage));
  states_[storage].where = where;
}

void Emitter::recompute(std::uint32_t op_index) {
  const Op& op = profile_.ops[op_index];
  emit(InstructionKind::kRecompute, op_index);
  std::uint64_t scratch = op.workspace_bytes;
  for (const std::uint32_t storage : by_op_.made.of(op_index)) {
    State& state = states_[storage];
    if (state.where == Where::kDropped || state.where == Where::kDead) {
      take(bytes(storage));
      // A storage whose life is over is here for this chain only.
      if (state.where == Where::kDropped) {
        state.where = Where::kResident;
        came_back(storage);
      }
    } else {
      scratch += bytes(storage);
    }
  }
  take(scratch);
  give(scratch);
  now_ns_ += static_cast<std::int64_t>(op.duration_ns);
  out_.recompute_ns += static_cast<std::int64_t>(op.duration_ns);
}

// Makes `storage` resident, and for that every input of every op that has to run again.
void Emitter::bring_back(std::uint32_t wanted) {
  if (states_[wanted].where == Where::kResident) return;
  ++stamp_;
  worklist_.assign(1, wanted);
  chain_.clear();
  fetched_.clear();
  while (!worklist_.empty()) {
    const std::uint32_t storage = worklist_.back();
    worklist_.pop_back();
    if (storage_stamps_[storage] == stamp_) continue;
    storage_stamps_[storage] = stamp_;
    const Where where = states_[storage].where;
    if (where == Where::kResident) continue;
    if (where != Where::kDropped && where != Where::kDead) {
      fetched_.push_back(storage);
      continue;
    }
    SPW_CHECK(profile_.storages[storage].created_by.valid());  // find_gaps promised a way back
    const std::uint32_t producer = profile_.storages[storage].created_by.value;
    if (op_stamps_[producer] == stamp_) continue;
    op_stamps_[producer] = stamp_;
    chain_.push_back(producer);
    for (const Use use : profile_.uses_of(profile_.ops[producer])) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      worklist_.push_back(profile_.storage_of(use).value);
    }
  }
  for (const std::uint32_t storage : fetched_)
    if (states_[storage].where == Where::kOnHost) prefetch(storage);
  for (const std::uint32_t storage : fetched_) {
    if (states_[storage].codec != Codec::kNone) {
      decompress(storage);
    } else {
      states_[storage].where = Where::kResident;
    }
  }
  std::sort(chain_.begin(), chain_.end());
  for (const std::uint32_t op : chain_)
    for_each_touched(op, [&](std::uint32_t storage) { last_consumer_[storage] = op; });
  for (const std::uint32_t op : chain_) {
    recompute(op);
    for_each_touched(op, [&](std::uint32_t storage) {
      if (states_[storage].where != Where::kDead || last_consumer_[storage] != op) return;
      last_consumer_[storage] = StorageId::kNoneValue;
      drop(storage, Where::kDead);
    });
  }
}

void Emitter::evict(std::uint32_t g) {
  const Decision& decision = choices_[g];
  const std::uint32_t storage = gaps_.gaps[g].storage;
  State& state = states_[storage];
  if (decision.action == Action::kKeep || state.where != Where::kResident) return;
  state.gap = g;
  if (decision.action == Action::kRecompute) return drop(storage, Where::kDropped);
  if (decision.codec != Codec::kNone) {
    emit(InstructionKind::kCompress, storage, decision.codec);
    state.codec = decision.codec;
    take(form_bytes(storage));
    give(bytes(storage));
    const std::int64_t ns =
        device_.codec_ns(decision.codec, profile_.storages[storage].tag.dtype, bytes(storage));
    now_ns_ += ns;
    out_.codec_ns += ns;
    state.where = Where::kCompressed;
  }
  if (decision.action != Action::kOffload) return;
  emit(InstructionKind::kOffload, storage);
  give(form_bytes(storage));
  state.where = Where::kOnHost;
}

Lowered Emitter::run() {
  const auto op_count = static_cast<std::uint32_t>(profile_.ops.size());
  out_.instant_bytes.reserve(op_count);
  out_.begin_ns.reserve(op_count);
  for (const Gap& gap : gaps_.gaps) out_.back_at.push_back(gap.before_op);
  out_.program.reserve(op_count + 2 * by_begin_.size());
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    if (profile_.storages[i].created_by.valid()) continue;
    states_[i].where = Where::kResident;
    take(bytes(i));
  }
  std::size_t next_trigger = 0;
  std::size_t next_end = 0;
  std::size_t next_begin = 0;
  for (std::uint32_t op_index = 0; op_index < op_count; ++op_index) {
    const Op& op = profile_.ops[op_index];
    op_ = op_index;
    high_ = op_index == 0 ? high_ : instant_;
    for (; next_trigger < by_trigger_.size() && (*triggers_)[by_trigger_[next_trigger]] <= op_index;
         ++next_trigger) {
      const std::uint32_t storage = gaps_.gaps[by_trigger_[next_trigger]].storage;
      if (states_[storage].where == Where::kOnHost) prefetch(storage);
    }
    for (; next_end < by_end_.size() && gaps_.gaps[by_end_[next_end]].before_op <= op_index;
         ++next_end)
      bring_back(gaps_.gaps[by_end_[next_end]].storage);
    for (const std::uint32_t storage : by_op_.made.of(op_index)) {
      take(bytes(storage));
      states_[storage].where = Where::kResident;
    }
    take(op.workspace_bytes);
    give(op.workspace_bytes);
    emit(InstructionKind::kCompute, op_index);
    out_.begin_ns.push_back(now_ns_);
    now_ns_ += static_cast<std::int64_t>(op.duration_ns);
    for (const std::uint32_t storage : by_op_.freed.of(op_index)) {
      State& state = states_[storage];
      if (state.where != Where::kOnHost && state.where != Where::kDropped)
        give(form_bytes(storage));
      state.where = Where::kDead;
      state.codec = Codec::kNone;
    }
    // An eviction's side-by-side bytes belong to the op before it in time, and are charged to it.
    for (; next_begin < by_begin_.size() && gaps_.gaps[by_begin_[next_begin]].after_op <= op_index;
         ++next_begin)
      evict(by_begin_[next_begin]);
    out_.instant_bytes.push_back(high_);
  }
  return std::move(out_);
}

}  // namespace

std::uint64_t Lowered::min_budget_bytes() const {
  return instant_bytes.empty() ? 0 : *std::max_element(instant_bytes.begin(), instant_bytes.end());
}

Lowering::Lowering(const Profile& profile, const DeviceModel& device, const GapTable& gaps)
    : profile_(profile), device_(device), gaps_(gaps), by_op_(profile) {
  by_begin_.resize(gaps.gaps.size());
  std::iota(by_begin_.begin(), by_begin_.end(), 0u);
  std::stable_sort(by_begin_.begin(), by_begin_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return gaps.gaps[a].after_op < gaps.gaps[b].after_op;
  });
  for (std::uint32_t g = 0; g < gaps.gaps.size(); ++g)
    if (gaps.gaps[g].returns) by_end_.push_back(g);
  std::stable_sort(by_end_.begin(), by_end_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return gaps.gaps[a].before_op < gaps.gaps[b].before_op;
  });
}

Lowered Lowering::lower(const Choices& choices, const Triggers& triggers) const {
  return Emitter(profile_, device_, gaps_, by_op_, choices, triggers, by_begin_, by_end_).run();
}

Lowered Lowering::just_in_time(const Choices& choices) const {
  Triggers triggers(gaps_.gaps.size());
  for (std::size_t g = 0; g < triggers.size(); ++g) triggers[g] = gaps_.gaps[g].before_op;
  return lower(choices, triggers);
}

Lowered Lowering::ahead(const Choices& choices, std::uint64_t budget_bytes) const {
  return ahead(choices, budget_bytes, just_in_time(choices));
}

Lowered Lowering::ahead(const Choices& choices,
                        std::uint64_t budget_bytes,
                        const Lowered& base) const {
  Triggers triggers(gaps_.gaps.size());
  RangeMax bytes(base.instant_bytes);
  std::int64_t next_copy_ns = base.begin_ns.empty() ? 0 : base.begin_ns.back();
  for (std::size_t i = by_end_.size(); i-- > 0;) {
    const std::uint32_t g = by_end_[i];
    const Gap& gap = gaps_.gaps[g];
    triggers[g] = gap.before_op;
    if (choices[g].action != Action::kOffload) continue;
    const Storage& storage = profile_.storages[gap.storage];
    const std::uint64_t form_bytes =
        choices[g].codec == Codec::kNone
            ? storage.bytes
            : payload_bytes(choices[g].codec, storage.tag.dtype, storage.bytes);
    const std::int64_t end_ns = std::min(next_copy_ns, base.begin_ns[gap.before_op]);
    const std::int64_t begin_ns = end_ns - device_.prefetch_ns(form_bytes);
    next_copy_ns = begin_ns;
    // As early as the copy must begin, and no earlier than the op behind the last one that has no
    // room for it.
    const auto first = base.begin_ns.begin();
    const auto in_time = static_cast<std::size_t>(
        std::upper_bound(first + gap.after_op + 1, first + gap.before_op + 1, begin_ns) - first);
    std::size_t trigger = std::max<std::size_t>(in_time, gap.after_op + 2) - 1;
    if (budget_bytes != 0 && form_bytes > budget_bytes) {
      trigger = gap.before_op;
    } else if (budget_bytes != 0) {
      const std::size_t full = bytes.last_above(trigger, gap.before_op, budget_bytes - form_bytes);
      if (full != gap.before_op) trigger = full + 1;
    }
    bytes.add(trigger, gap.before_op, form_bytes);
    triggers[g] = static_cast<std::uint32_t>(trigger);
  }
  return lower(choices, triggers);
}

Plan make_plan(const Profile& profile,
               const GapTable& gaps,
               const Choices& choices,
               Lowered lowered,
               std::string policy,
               std::uint64_t budget_bytes) {
  Plan plan;
  plan.policy = std::move(policy);
  plan.budget_bytes = budget_bytes;
  plan.decisions.resize(profile.storages.size());
  std::vector<std::uint32_t> widest(profile.storages.size(), 0);
  for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
    const Gap& gap = gaps.gaps[g];
    const std::uint32_t width = gap.before_op - gap.after_op;
    if (choices[g].action == Action::kKeep || width <= widest[gap.storage]) continue;
    widest[gap.storage] = width;
    plan.decisions[gap.storage] = choices[g];
  }
  plan.program = std::move(lowered.program);
  return plan;
}

}  // namespace spillway
