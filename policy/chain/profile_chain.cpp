// SPDX-License-Identifier: Apache-2.0
// Finds rounds, stages, what crosses and what is saved; then the chain's numbers. Storages that
// cannot be made again, or that are read by the backward of a stage that has them neither as input
// nor as its own, stay where the profile has them.
#include "policy/chain/profile_chain.hpp"

#include "policy/chain/rerun.hpp"
#include "policy/cuts.hpp"
#include "policy/gaps.hpp"

#include <algorithm>
#include <limits>

namespace spillway {
namespace {

constexpr std::uint32_t kNone = StorageId::kNoneValue;

bool made_in_step(const Storage& storage) {
  return storage.created_by.valid() && storage.tag.kind != BufferKind::kParameter &&
         storage.tag.kind != BufferKind::kConstant && storage.tag.kind != BufferKind::kOptimizer &&
         storage.tag.kind != BufferKind::kGradient && storage.bytes > 0;
}

/// Where a storage's uses lie inside its round.
struct Span {
  std::uint32_t made_in = kNone;  // stage
  std::uint32_t read_until = 0;   // last stage that reads it in forward
  bool read_by_backward = false;
  bool read_by_own = false;  // by the backward of the stage that made it
  bool leaves_round = false;
};

class ChainFinder {
 public:
  ChainFinder(const Profile& profile, std::uint32_t max_stages)
      : profile_(profile),
        max_stages_(std::max(max_stages, 1u)),
        stage_of_op_(profile.ops.size(), 0),
        spans_(profile.storages.size()),
        rebuildable_(profile.storages.size(), 0) {
    chain_.managed.assign(profile.storages.size(), 0);
    chain_.remakable.assign(profile.storages.size(), 0);
  }

  ProfileChain run() {
    find_rounds();
    const GapTable gaps = find_gaps(profile_);
    for (const Gap& gap : gaps.gaps) rebuildable_[gap.storage] = gap.rebuildable ? 1 : 0;
    const std::vector<Cut> cuts = layer_cuts(profile_);
    for (ChainRound& round : chain_.rounds) {
      cut(round, cuts);
      find_remakable(round);
      find_spans(round);
    }
    group_by_round();
    for (std::size_t r = 0; r < chain_.rounds.size(); ++r) fill(r);
    measure();
    return std::move(chain_);
  }

 private:
  void find_rounds();
  void cut(ChainRound& round, const std::vector<Cut>& cuts);
  void find_remakable(const ChainRound& round);
  void find_spans(const ChainRound& round);
  void group_by_round();
  void fill(std::size_t round_index);
  void end_backward(ChainRound& round);
  void measure();
  [[nodiscard]] bool is_written_in(std::uint32_t storage,
                                   std::uint32_t after,
                                   std::uint32_t until) const;

  const Profile& profile_;
  std::uint32_t max_stages_;
  std::vector<std::uint32_t> stage_of_op_;  // of forward ops
  std::vector<Span> spans_;
  std::vector<char> rebuildable_;
  std::vector<std::vector<std::uint32_t>> storages_of_round_;
  ProfileChain chain_;
};

void ChainFinder::find_rounds() {
  const auto op_count = static_cast<std::uint32_t>(profile_.ops.size());
  ChainRound round;
  bool in_backward = false;
  for (std::uint32_t op = 0; op < op_count; ++op) {
    const Phase phase = profile_.ops[op].tag.phase;
    if (in_backward && phase == Phase::kForward) {
      round.end_op = op;
      chain_.rounds.push_back(round);
      round = ChainRound();
      round.begin_op = op;
      in_backward = false;
    }
    if (!in_backward && phase == Phase::kBackward) {
      in_backward = true;
      round.backward_begin = op;
    }
  }
  if (!in_backward) round.backward_begin = op_count;
  round.end_op = op_count;
  chain_.rounds.push_back(round);
}

void ChainFinder::cut(ChainRound& round, const std::vector<Cut>& cuts) {
  std::uint32_t last_forward = round.begin_op;
  for (std::uint32_t op = round.begin_op; op < round.backward_begin; ++op)
    if (profile_.ops[op].tag.phase == Phase::kForward) last_forward = op;
  std::vector<Cut> inside;
  for (const Cut& c : cuts)
    if (c.after_op >= round.begin_op && c.after_op < last_forward) inside.push_back(c);
  if (inside.size() + 1 > max_stages_) {
    // Positions are measured in bytes made; ops count a little, so that empty stretches have width.
    std::vector<std::uint64_t> made(round.backward_begin - round.begin_op + 1, 0);
    for (const Storage& storage : profile_.storages)
      if (made_in_step(storage) && storage.created_by.value >= round.begin_op &&
          storage.created_by.value < round.backward_begin)
        made[storage.created_by.value - round.begin_op + 1] += storage.bytes / 256;
    for (std::size_t i = 1; i < made.size(); ++i) made[i] += made[i - 1] + 1;
    const std::uint64_t stretch = made.back() / max_stages_ + 1;
    std::vector<Cut> chosen;
    std::uint64_t chosen_stretch = std::numeric_limits<std::uint64_t>::max();
    for (const Cut& c : inside) {
      const std::uint64_t at = made[c.after_op - round.begin_op + 1] / stretch;
      if (at != chosen_stretch) {
        chosen.push_back(c);
      } else if (c.crossing_bytes < chosen.back().crossing_bytes) {
        chosen.back() = c;
      }
      chosen_stretch = at;
    }
    inside = std::move(chosen);
  }
  std::uint32_t begin = round.begin_op;
  for (const Cut& c : inside) {
    ChainStage stage;
    stage.begin_op = begin;
    stage.end_op = begin = c.after_op + 1;
    round.stages.push_back(stage);
  }
  ChainStage last;
  last.begin_op = begin;
  last.end_op = round.backward_begin;
  round.stages.push_back(last);
  for (std::uint32_t s = 0; s < round.stages.size(); ++s)
    for (std::uint32_t op = round.stages[s].begin_op; op < round.stages[s].end_op; ++op)
      stage_of_op_[op] = s;
}

bool ChainFinder::is_written_in(std::uint32_t storage,
                                std::uint32_t after,
                                std::uint32_t until) const {
  if (!profile_.storages[storage].tag.has(kRewritten)) return false;
  for (const std::uint32_t op : profile_.uses_of(profile_.storages[storage])) {
    if (op <= after || op >= until) continue;
    for (const Use use : profile_.uses_of(profile_.ops[op]))
      if (use.writes() && profile_.storage_of(use).value == storage) return true;
  }
  return false;
}

// Ops come in order, so what an op reads is settled before the op.
void ChainFinder::find_remakable(const ChainRound& round) {
  std::uint32_t last_backward = round.backward_begin;
  for (std::uint32_t op = round.backward_begin; op < round.end_op; ++op)
    if (profile_.ops[op].tag.phase == Phase::kBackward) last_backward = op;
  for (std::uint32_t op = round.begin_op; op < round.backward_begin; ++op) {
    bool can = is_recomputable(profile_, profile_.ops[op]);
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      if (!can) break;
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      const std::uint32_t input = profile_.storage_of(use).value;
      const Storage& info = profile_.storages[input];
      if (info.created_by.valid() && info.created_by.value == op) continue;  // a view of an output
      const bool stays = !is_movable(info) &&
                         (!info.freed_after.valid() || info.freed_after.value >= last_backward);
      can = (stays || chain_.remakable[input] != 0) && !is_written_in(input, op, last_backward + 1);
    }
    if (!can) continue;
    for (const Use use : profile_.uses_of(profile_.ops[op]))
      if (use.creates() && use.tensor().index() < profile_.storages.size())
        chain_.remakable[profile_.storage_of(use).index()] = 1;
  }
}

void ChainFinder::find_spans(const ChainRound& round) {
  for (std::uint32_t op = round.begin_op; op < round.backward_begin; ++op) {
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      Span& span = spans_[profile_.storage_of(use).index()];
      if (use.creates() && use.tensor().index() < profile_.storages.size()) {
        span.made_in = stage_of_op_[op];
        span.read_until = stage_of_op_[op];
      } else if (span.made_in != kNone) {
        span.read_until = stage_of_op_[op];
      }
    }
  }
  for (std::uint32_t op = round.backward_begin; op < round.end_op; ++op)
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      Span& span = spans_[profile_.storage_of(use).index()];
      if (span.made_in == kNone || use.creates()) continue;
      span.read_by_backward = true;
      if (profile_.ops[op].tag.phase != Phase::kBackward) span.leaves_round = true;
    }
}

void ChainFinder::group_by_round() {
  storages_of_round_.resize(chain_.rounds.size());
  for (std::uint32_t s = 0; s < profile_.storages.size(); ++s) {
    const Storage& storage = profile_.storages[s];
    if (!made_in_step(storage)) continue;
    const auto after = std::upper_bound(
        chain_.rounds.begin(),
        chain_.rounds.end(),
        storage.created_by.value,
        [](std::uint32_t op, const ChainRound& round) { return op < round.begin_op; });
    const auto r = static_cast<std::size_t>(after - chain_.rounds.begin()) - 1;
    const ChainRound& round = chain_.rounds[r];
    Span& span = spans_[s];
    if (storage.created_by.value >= round.backward_begin || span.made_in == kNone) continue;
    const auto uses = profile_.uses_of(storage);
    if (!uses.empty() && uses.back() >= round.end_op) span.leaves_round = true;
    const bool again = is_movable(storage) ? rebuildable_[s] != 0 || chain_.remakable[s] != 0
                                           : chain_.remakable[s] != 0;
    const bool matters =
        span.read_until > span.made_in || (is_movable(storage) && span.read_by_backward);
    if (!again || !matters || span.leaves_round || storage.tag.has(kRewritten)) continue;
    chain_.managed[s] = 1;
    storages_of_round_[r].push_back(s);
  }
}

// The backward of a stage ends with the last backward op that reads what a stage at or behind it
// made.
void ChainFinder::end_backward(ChainRound& round) {
  for (ChainStage& stage : round.stages) stage.backward_end = round.backward_begin;
  for (std::uint32_t op = round.backward_begin; op < round.end_op; ++op) {
    if (profile_.ops[op].tag.phase != Phase::kBackward) continue;
    std::uint32_t latest = kNone;
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      const std::uint32_t s = profile_.storage_of(use).value;
      if (use.creates() || chain_.managed[s] == 0) continue;
      latest = latest == kNone ? spans_[s].made_in : std::max(latest, spans_[s].made_in);
    }
    if (latest != kNone) round.stages[latest].backward_end = op + 1;
  }
  for (std::size_t s = round.stages.size(); s-- > 1;)
    round.stages[s - 1].backward_end =
        std::max(round.stages[s - 1].backward_end, round.stages[s].backward_end);
}

void ChainFinder::fill(std::size_t round_index) {
  ChainRound& round = chain_.rounds[round_index];
  end_backward(round);
  // Which stage's backward an op belongs to, and whether that stage has what it reads.
  std::uint32_t stage = static_cast<std::uint32_t>(round.stages.size()) - 1;
  for (std::uint32_t op = round.backward_begin; op < round.end_op; ++op) {
    while (stage > 0 && op >= round.stages[stage].backward_end) --stage;
    for (const Use use : profile_.uses_of(profile_.ops[op])) {
      const std::uint32_t s = profile_.storage_of(use).value;
      if (chain_.managed[s] == 0 || use.creates()) continue;
      Span& span = spans_[s];
      const bool own = span.made_in == stage;
      span.read_by_own = span.read_by_own || own;
      const bool input = span.made_in < stage && span.read_until >= stage;
      if (!own && !input) chain_.managed[s] = 0;
    }
  }
  for (const std::uint32_t s : storages_of_round_[round_index]) {
    if (chain_.managed[s] == 0) continue;
    const Span& span = spans_[s];
    for (std::uint32_t k = span.made_in + 1; k <= span.read_until; ++k)
      round.stages[k].input.push_back(s);
    if (span.read_by_own) round.stages[span.made_in].saved.push_back(s);
  }
}

void ChainFinder::measure() {
  // What is held whatever the schedule says.
  const std::size_t op_count = profile_.ops.size();
  std::vector<std::uint64_t> others(op_count + 1, 0);
  std::vector<std::uint64_t> gone(op_count + 1, 0);
  for (std::size_t s = 0; s < profile_.storages.size(); ++s) {
    const Storage& storage = profile_.storages[s];
    if (chain_.managed[s] != 0) continue;
    others[storage.created_by.valid() ? storage.created_by.index() : 0] += storage.bytes;
    if (storage.freed_after.valid()) gone[storage.freed_after.index() + 1] += storage.bytes;
  }
  std::uint64_t live = 0;
  for (std::size_t op = 0; op < op_count; ++op) {
    live += others[op];
    live -= gone[op];
    others[op] = live;
  }
  RerunCollector rerun(profile_);
  std::vector<std::uint32_t> at_hand(profile_.storages.size(), 0);
  std::uint32_t stamp = 0;
  for (ChainRound& round : chain_.rounds) {
    std::uint64_t base = std::numeric_limits<std::uint64_t>::max();
    for (std::uint32_t op = round.begin_op; op < round.end_op; ++op)
      base = std::min(base, others[op]);
    const auto extra = [&](std::uint32_t begin, std::uint32_t end) {
      std::uint64_t most = 0;
      for (std::uint32_t op = begin; op < end; ++op)
        most = std::max(most, others[op] - base + profile_.ops[op].workspace_bytes);
      return most;
    };
    const auto time = [&](std::uint32_t begin, std::uint32_t end) {
      std::int64_t ns = 0;
      for (std::uint32_t op = begin; op < end; ++op)
        ns += static_cast<std::int64_t>(profile_.ops[op].duration_ns);
      return ns;
    };
    Chain& chain = round.chain;
    std::uint32_t backward_begin = round.backward_begin;
    chain.input_bytes.assign(round.stages.size() + 1, 0);
    const std::size_t n = round.stages.size();
    chain.forward_ns.resize(n);
    chain.forward_leaf_ns.resize(n);
    chain.backward_ns.resize(n);
    chain.saved_bytes.resize(n);
    chain.forward_extra_bytes.resize(n);
    chain.backward_extra_bytes.resize(n);
    for (std::size_t k = n; k-- > 0;) {
      const ChainStage& stage = round.stages[k];
      ++stamp;
      for (const std::uint32_t s : stage.input) {
        chain.input_bytes[k] += profile_.storages[s].bytes;
        at_hand[s] = stamp;
      }
      std::vector<std::uint32_t> targets = stage.saved;
      // A storage from before the stage that is not managed is there, or is a temporary that the
      // stage's own ops do not read.
      const auto there = [&](std::uint32_t s) {
        const OpId made = profile_.storages[s].created_by;
        return at_hand[s] == stamp || !made.valid() || made.value < stage.begin_op;
      };
      for (const std::uint32_t op : rerun.collect(targets, there))
        chain.forward_leaf_ns[k] += static_cast<std::int64_t>(profile_.ops[op].duration_ns);
      if (k + 1 < n)
        for (const std::uint32_t s : round.stages[k + 1].input)
          if (spans_[s].made_in == k && !spans_[s].read_by_own)  // the others are in `saved`
            targets.push_back(s);
      for (const std::uint32_t s : targets) chain.saved_bytes[k] += profile_.storages[s].bytes;
      for (const std::uint32_t op : rerun.collect(targets, there))
        chain.forward_ns[k] += static_cast<std::int64_t>(profile_.ops[op].duration_ns);
      chain.forward_extra_bytes[k] = extra(stage.begin_op, stage.end_op);
      chain.backward_ns[k] = time(backward_begin, stage.backward_end);
      chain.backward_extra_bytes[k] = extra(backward_begin, stage.backward_end);
      backward_begin = stage.backward_end;
    }
  }
}

}  // namespace

ProfileChain chain_of(const Profile& profile, std::uint32_t max_stages) {
  return ChainFinder(profile, max_stages).run();
}

}  // namespace spillway
