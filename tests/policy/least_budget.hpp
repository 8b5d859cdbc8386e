// SPDX-License-Identifier: Apache-2.0
// The smallest budget in which any program of a tiny step runs, by trying everything: where each
// storage is when each op begins, reached over the least peak first. Whether a program fits does
// not depend on time (offloads can be waited for), so a state is a few bits. Shares no code with
// planners.
#pragma once

#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <unordered_map>
#include <vector>

namespace spillway::test {

class LeastBudget {
 public:
  static constexpr std::size_t kMaxStorages = 14;  // that may be away

  LeastBudget(const Profile& profile, ActionSet actions, bool allow_lossy)
      : profile_(profile), actions_(actions) {
    const std::size_t ops = profile.ops.size();
    fixed_bytes_.assign(ops + 1, 0);
    outputs_.resize(ops);
    slot_of_.assign(profile.storages.size(), -1);
    for (std::uint32_t s = 0; s < profile.storages.size(); ++s) {
      const Storage& storage = profile.storages[s];
      const bool made = storage.created_by.valid();
      if (made) outputs_[storage.created_by.index()].push_back(s);
      const bool movable = is_movable(storage);
      if (!made || (!movable && !may_retain(storage))) continue;
      slot_of_[s] = static_cast<int>(slots_.size());
      Slot slot;
      slot.storage = s;
      slot.movable = movable;
      for (int c = 1; c < kCodecCount; ++c) {
        const auto codec = static_cast<Codec>(c);
        if (!codec_applies(codec, storage.tag, true)) continue;
        if (!is_lossless(codec) && (!allow_lossy || storage.tag.has(kExactRequired))) continue;
        const std::uint64_t bytes = payload_bytes(codec, storage.tag.dtype, storage.bytes);
        slot.coded_bytes[1] = std::min(slot.coded_bytes[1], bytes);
        if (is_lossless(codec)) slot.coded_bytes[0] = std::min(slot.coded_bytes[0], bytes);
        slot.has_lossy = slot.has_lossy || !is_lossless(codec);
      }
      slots_.push_back(slot);
    }
    // What is always there while it lives: everything without a slot.
    for (std::uint32_t s = 0; s < profile.storages.size(); ++s) {
      if (slot_of_[s] >= 0) continue;
      const Storage& storage = profile.storages[s];
      const std::size_t from = storage.created_by.valid() ? storage.created_by.index() + 1 : 0;
      const std::size_t to = storage.freed_after.valid() ? storage.freed_after.index() : ops;
      for (std::size_t t = from; t <= to; ++t) fixed_bytes_[t] += storage.bytes;
    }
    written_.assign(ops, {});
    for (std::uint32_t o = 0; o < ops; ++o)
      for (const Use use : profile.uses_of(profile.ops[o]))
        if (use.writes()) written_[o].push_back(profile.storage_of(use).value);
    find_helpful();
  }

  /// Nothing when the state limit ended the search, or the step has too many storages.
  std::optional<std::uint64_t> search(std::size_t state_limit) {
    if (slots_.size() > kMaxStorages || profile_.ops.size() > 250) return std::nullopt;
    push(State{}, 0, least_of_any_op());
    std::size_t states = 0;
    while (!queue_.empty()) {
      const Entry entry = queue_.top();
      queue_.pop();
      if (seen_[key_of(entry.state, entry.next_op)] < entry.peak) continue;
      if (entry.next_op == profile_.ops.size() && is_whole(entry.state)) return entry.peak;
      if (++states > state_limit) return std::nullopt;
      expand(entry);
    }
    return std::nullopt;
  }

 private:
  // Lossy content stays lossy until it is made again.
  enum Where : std::uint8_t {
    kAway,
    kHere,
    kHereLossy,
    kCoded,
    kCodedLossy,
    kHost,
    kHostLossy,
    kHostCoded,
    kHostCodedLossy
  };
  using State = std::array<std::uint8_t, kMaxStorages>;
  struct Slot {
    std::uint32_t storage = 0;
    bool movable = false, has_lossy = false;
    std::uint64_t coded_bytes[2] = {UINT64_MAX, UINT64_MAX};  // exact, lossy content
  };
  struct Entry {
    std::uint64_t peak;
    std::uint32_t next_op;
    State state;
    // Least peak first; of equal ones, the one that has come furthest.
    friend bool operator<(const Entry& a, const Entry& b) {
      if (a.peak != b.peak) return a.peak > b.peak;
      if (a.next_op != b.next_op) return a.next_op < b.next_op;
      return a.state < b.state;
    }
  };

  static bool may_retain(const Storage& storage) {
    const BufferKind kind = storage.tag.kind;
    return kind != BufferKind::kParameter && kind != BufferKind::kGradient &&
           kind != BufferKind::kOptimizer && kind != BufferKind::kConstant &&
           storage.freed_after.valid();
  }
  static std::uint64_t key_of(const State& state, std::uint32_t next_op) {
    std::uint64_t key = next_op;
    for (const std::uint8_t where : state) key = key << 4 | where;
    return key;
  }
  void push(const State& state, std::uint32_t next_op, std::uint64_t peak) {
    const auto [at, fresh] = seen_.try_emplace(key_of(state, next_op), peak);
    if (!fresh && at->second <= peak) return;
    at->second = peak;
    queue_.push({peak, next_op, state});
  }
  [[nodiscard]] std::uint64_t bytes_of(std::size_t slot, std::uint8_t where) const {
    if (where == kHere || where == kHereLossy) return profile_.storages[slots_[slot].storage].bytes;
    if (where == kCoded || where == kCodedLossy)
      return slots_[slot].coded_bytes[where == kCodedLossy ? 1 : 0];
    return 0;
  }
  [[nodiscard]] std::uint64_t held(const Entry& entry) const {
    std::uint64_t bytes = fixed_bytes_[entry.next_op];
    for (std::size_t i = 0; i < slots_.size(); ++i) bytes += bytes_of(i, entry.state[i]);
    return bytes;
  }
  [[nodiscard]] bool is_over(std::size_t slot, std::uint32_t next_op) const {
    const OpId freed = profile_.storages[slots_[slot].storage].freed_after;
    return freed.valid() && freed.value < next_op;
  }
  [[nodiscard]] bool is_whole(const State& state) const {
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (!profile_.storages[slots_[i].storage].freed_after.valid() && state[i] == kAway)
        return false;
    return true;
  }

  // Which ops are worth running again before op t: those that make what an own op still needs, or
  // what such an op reads. Nothing else can be of use.
  void find_helpful() {
    const std::size_t ops = profile_.ops.size();
    helpful_.assign(ops + 1, std::vector<char>(ops, 0));
    for (std::size_t t = 0; t <= ops; ++t)
      for (std::size_t o = t; o-- > 0;)
        for (const std::uint32_t s : outputs_[o])
          if (is_wanted(s, t)) helpful_[t][o] = 1;
  }
  [[nodiscard]] bool is_wanted(std::uint32_t s, std::size_t t) const {
    const Storage& storage = profile_.storages[s];
    if (is_movable(storage) && !storage.freed_after.valid()) return true;
    for (const std::uint32_t reader : profile_.uses_of(storage)) {
      if (reader >= t && is_movable(storage)) return true;
      if (reader < t && reader > storage.created_by.value && helpful_[t][reader] != 0) return true;
    }
    return false;
  }

  // The most that running `op` holds; nothing when it cannot run.
  [[nodiscard]] std::optional<std::uint64_t> run(const Entry& entry,
                                                 std::uint32_t op_index,
                                                 bool again,
                                                 State* after) const {
    const Op& op = profile_.ops[op_index];
    const bool random = op.tag.has(kOpRng) && !op.tag.has(kOpRngRestorable);
    if (again && (random || op.tag.has(kOpCollective) || op.tag.has(kOpInPlace) ||
                  op.tag.has(kOpNeverRecompute) || op.tag.has(kOpInferred)))
      return std::nullopt;
    for (const Use use : profile_.uses_of(op)) {
      const std::uint32_t s = profile_.storage_of(use).value;
      if (use.creates() && use.tensor().value == s) continue;
      if (again && (use.writes() || written_between(s, op_index, entry.next_op)))
        return std::nullopt;
      const int slot = slot_of_[s];
      if (slot < 0) {
        const OpId freed = profile_.storages[s].freed_after;
        if (again && freed.valid() && freed.value < entry.next_op) return std::nullopt;
        continue;
      }
      const std::uint8_t where = entry.state[static_cast<std::size_t>(slot)];
      const bool own = profile_.storages[s].created_by.value == op_index;
      if (own) continue;
      if (where != kHere && (again || where != kHereLossy)) return std::nullopt;
    }
    *after = entry.state;
    std::uint64_t more = op.workspace_bytes;
    bool helps = !again;
    for (const std::uint32_t s : outputs_[op_index]) {
      const Storage& storage = profile_.storages[s];
      more += storage.bytes;
      const int slot = slot_of_[s];
      if (slot < 0) continue;  // made beside what is there, or for nobody
      std::uint8_t& where = (*after)[static_cast<std::size_t>(slot)];
      if (where != kAway) continue;
      const bool over = is_over(static_cast<std::size_t>(slot), entry.next_op);
      if (again && !over &&
          (storage.tag.has(kNeverRecompute) || storage.tag.has(kContainsCollective)))
        return std::nullopt;
      if (again && written_between(s, op_index, entry.next_op)) return std::nullopt;
      where = kHere;
      helps = true;
    }
    if (!helps) return std::nullopt;
    return held(entry) + more;
  }
  [[nodiscard]] bool written_between(std::uint32_t s,
                                     std::uint32_t after,
                                     std::uint32_t before) const {
    for (std::uint32_t o = after + 1; o < before; ++o)
      if (std::find(written_[o].begin(), written_[o].end(), s) != written_[o].end()) return true;
    return false;
  }

  // No program does with less than one of its ops: a peak to begin with.
  [[nodiscard]] std::uint64_t least_of_any_op() const {
    std::uint64_t least = fixed_bytes_[0];
    for (std::uint32_t o = 0; o < profile_.ops.size(); ++o) {
      const Op& op = profile_.ops[o];
      std::uint64_t bytes = fixed_bytes_[o] + op.workspace_bytes;
      std::vector<std::uint32_t> touched = outputs_[o];
      for (const Use use : profile_.uses_of(op)) touched.push_back(profile_.storage_of(use).value);
      std::sort(touched.begin(), touched.end());
      touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
      for (const std::uint32_t s : touched)
        if (slot_of_[s] >= 0 || profile_.storages[s].created_by == OpId(o))
          bytes += profile_.storages[s].bytes;
      least = std::max(least, bytes);
    }
    return least;
  }

  void expand(const Entry& entry) {
    const auto ops = static_cast<std::uint32_t>(profile_.ops.size());
    State after{};
    if (entry.next_op < ops)
      if (const auto peak = run(entry, entry.next_op, false, &after))
        finish_op(entry, after, std::max(entry.peak, *peak));
    if (allows(actions_, Action::kRecompute))
      for (std::uint32_t o = 0; o < entry.next_op; ++o) {
        if (helpful_[entry.next_op][o] == 0) continue;
        if (const auto peak = run(entry, o, true, &after))
          push(after, entry.next_op, std::max(entry.peak, *peak));
      }
    for (std::size_t i = 0; i < slots_.size(); ++i) expand_slot(entry, i);
  }

  // What ends with the op goes, or stays for recompute to read.
  void finish_op(const Entry& entry, State after, std::uint64_t peak) {
    std::vector<std::size_t> may_stay;
    // What was kept for a chain that is of no use any more.
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (is_over(i, entry.next_op) && !is_wanted(slots_[i].storage, entry.next_op + 1))
        after[i] = kAway;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const Storage& storage = profile_.storages[slots_[i].storage];
      if (!storage.freed_after.valid() || storage.freed_after.value != entry.next_op) continue;
      if (after[i] == kHere && may_retain(storage) && allows(actions_, Action::kRecompute) &&
          storage.created_by.value != entry.next_op &&
          is_wanted(slots_[i].storage, entry.next_op + 1))
        may_stay.push_back(i);
      else
        after[i] = kAway;
    }
    for (std::size_t bits = 0; bits < std::size_t{1} << may_stay.size(); ++bits) {
      State next = after;
      for (std::size_t k = 0; k < may_stay.size(); ++k)
        if ((bits >> k & 1) != 0) next[may_stay[k]] = kAway;
      push(next, entry.next_op + 1, peak);
    }
  }

  void expand_slot(const Entry& entry, std::size_t i) {
    const Slot& slot = slots_[i];
    const std::uint8_t where = entry.state[i];
    if (where == kAway) return;
    const Storage& storage = profile_.storages[slot.storage];
    const auto go = [&](std::uint8_t to, std::uint64_t more) {
      State next = entry.state;
      next[i] = to;
      push(next, entry.next_op, std::max(entry.peak, held(entry) + more));
    };
    const bool on_host = where >= kHost;
    const bool over = is_over(i, entry.next_op);
    // To drop what still lives is a matter of recompute, even where it never comes back.
    if (!on_host && (over || (slot.movable && allows(actions_, Action::kRecompute)))) go(kAway, 0);
    if (!slot.movable) return;
    if (allows(actions_, Action::kCompress)) {
      const auto code = [&](std::uint8_t to) {
        const std::uint64_t payload = slot.coded_bytes[to == kCodedLossy ? 1 : 0];
        if (payload != UINT64_MAX) go(to, payload);
      };
      if (where == kHere) code(kCoded);
      if (where == kHereLossy || (where == kHere && slot.has_lossy)) code(kCodedLossy);
      if (where == kCoded || where == kCodedLossy)
        go(where == kCoded ? kHere : kHereLossy, storage.bytes);
    }
    if (!allows(actions_, Action::kOffload)) return;
    if (!on_host) go(static_cast<std::uint8_t>(where + kHost - kHere), 0);
    if (on_host) {
      const auto back = static_cast<std::uint8_t>(where - kHost + kHere);
      go(back, bytes_of(i, back));
    }
  }

  const Profile& profile_;
  ActionSet actions_;
  std::vector<Slot> slots_;
  std::vector<int> slot_of_;                         // per storage: its slot, or -1
  std::vector<std::vector<std::uint32_t>> outputs_;  // per op
  std::vector<std::vector<std::uint32_t>> written_;  // per op: storages it writes in place
  std::vector<std::vector<char>> helpful_;           // per op to come, per op
  std::vector<std::uint64_t> fixed_bytes_;           // per op: what it finds and cannot be away
  std::priority_queue<Entry> queue_;
  std::unordered_map<std::uint64_t, std::uint64_t> seen_;  // least peak of a state
};

}  // namespace spillway::test
