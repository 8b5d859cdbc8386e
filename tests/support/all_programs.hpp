// SPDX-License-Identifier: Apache-2.0
// The fastest of all programs for a tiny step, by trying everything: what bounds and planners are
// held against. A search of its own over the rules of the cost model, with states that another one
// beats in every respect left out.
#pragma once

#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

namespace spillway::test {

struct BestProgram {
  bool found = false;
  bool complete = true;  // false: the state limit ended the search, a faster one may exist
  std::int64_t step_ns = std::numeric_limits<std::int64_t>::max();
  std::vector<Instruction> program;
  std::size_t states = 0;
};

class AllPrograms {
 public:
  AllPrograms(const Profile& profile,
              const DeviceModel& device,
              const PlanRequest& request,
              std::size_t state_limit)
      : profile_(profile), device_(device), request_(request), state_limit_(state_limit) {
    made_by_.resize(profile.ops.size());
    for (std::uint32_t s = 0; s < profile.storages.size(); ++s)
      if (profile.storages[s].created_by.valid())
        made_by_[profile.storages[s].created_by.index()].push_back(s);
  }

  BestProgram search() {
    State state;
    state.places.resize(profile_.storages.size());
    for (std::uint32_t s = 0; s < state.places.size(); ++s) {
      if (profile_.storages[s].created_by.valid()) continue;
      if (!take(&state, profile_.storages[s].bytes)) return best_;
      state.places[s].device = kBytes;
    }
    visit(state);
    return best_;
  }

 private:
  enum Form : std::uint8_t { kNowhere, kBytes, kPayload };
  struct PlaceOf {
    std::uint8_t device = kNowhere, host = kNowhere, codec = 0;
    bool retained = false, over = false, lossy = false;
    std::int64_t ready_ns = 0, host_ns = 0;
  };
  struct State {
    std::uint32_t next_op = 0;
    std::vector<PlaceOf> places;
    std::int64_t now_ns = 0, out_ns = 0, in_ns = 0;
    std::uint64_t held = 0;
    std::vector<std::array<std::int64_t, 3>> leaving;  // storage, bytes, when
    std::vector<Instruction> program;
  };

  [[nodiscard]] std::uint64_t bytes_of(std::uint32_t s,
                                       const PlaceOf& place,
                                       std::uint8_t form) const {
    const Storage& storage = profile_.storages[s];
    return form == kPayload
               ? payload_bytes(static_cast<Codec>(place.codec), storage.tag.dtype, storage.bytes)
               : storage.bytes;
  }
  static void settle(State* state) {
    for (std::size_t i = 0; i < state->leaving.size();) {
      if (state->leaving[i][2] > state->now_ns) {
        ++i;
        continue;
      }
      state->held -= static_cast<std::uint64_t>(state->leaving[i][1]);
      state->leaving.erase(state->leaving.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  [[nodiscard]] bool take(State* state, std::uint64_t bytes) const {
    if (bytes == 0) return true;
    settle(state);
    while (state->held + bytes > request_.budget_bytes) {
      if (state->leaving.empty()) return false;
      std::int64_t next = std::numeric_limits<std::int64_t>::max();
      for (const auto& part : state->leaving) next = std::min(next, part[2]);
      state->now_ns = std::max(state->now_ns, next);
      settle(state);
    }
    state->held += bytes;
    return true;
  }

  // Runs `op`; false when an input or memory is missing, or the validator would refuse.
  [[nodiscard]] bool run(State* state, std::uint32_t op_index, bool again) const {
    const Op& op = profile_.ops[op_index];
    const bool random = op.tag.has(kOpRng) && !op.tag.has(kOpRngRestorable);
    if (again && (random || op.tag.has(kOpCollective) || op.tag.has(kOpInPlace) ||
                  op.tag.has(kOpNeverRecompute) || op.tag.has(kOpInferred)))
      return false;
    for (const Use use : profile_.uses_of(op)) {
      const std::uint32_t s = profile_.storage_of(use).value;
      if (use.creates() && use.tensor().value == s) continue;
      const PlaceOf& place = state->places[s];
      if (place.device != kBytes || (again && (use.writes() || place.lossy))) return false;
      if (again && written_between(s, op_index, state->next_op)) return false;
      state->now_ns = std::max(state->now_ns, place.ready_ns);
    }
    std::uint64_t scratch = op.workspace_bytes;
    bool helps = !again;
    for (const std::uint32_t s : made_by_[op_index]) {
      PlaceOf& place = state->places[s];
      const Storage& storage = profile_.storages[s];
      if (again && (place.device != kNowhere || place.host != kNowhere)) {
        scratch += storage.bytes;
        continue;
      }
      if (again && !place.over &&
          (storage.tag.has(kNeverRecompute) || storage.tag.has(kContainsCollective)))
        return false;
      if (!take(state, storage.bytes)) return false;
      place.device = kBytes;
      place.lossy = false;
      place.ready_ns = state->now_ns;
      helps = true;
    }
    if (!helps || !take(state, scratch)) return false;
    state->now_ns += static_cast<std::int64_t>(op.duration_ns);
    state->held -= scratch;
    if (again) return true;
    ++state->next_op;
    for (std::uint32_t s = 0; s < profile_.storages.size(); ++s) {
      const Storage& storage = profile_.storages[s];
      if (!storage.freed_after.valid() || storage.freed_after.value != op_index) continue;
      PlaceOf& place = state->places[s];
      place.over = true;
      if (place.retained && place.device == kBytes) continue;
      if (place.device != kNowhere) {
        const std::uint64_t bytes = bytes_of(s, place, place.device);
        if (place.ready_ns > state->now_ns) {
          state->leaving.push_back({s, static_cast<std::int64_t>(bytes), place.ready_ns});
        } else {
          state->held -= bytes;
        }
      }
      place.device = place.host = kNowhere;
    }
    return true;
  }

  [[nodiscard]] bool written_between(std::uint32_t s,
                                     std::uint32_t after,
                                     std::uint32_t before) const {
    for (std::uint32_t o = after + 1; o < before; ++o)
      for (const Use use : profile_.uses_of(profile_.ops[o]))
        if (use.writes() && profile_.storage_of(use).value == s) return true;
    return false;
  }

  [[nodiscard]] bool move(State* state, std::uint32_t s, InstructionKind kind, Codec codec) const {
    PlaceOf& place = state->places[s];
    const Storage& storage = profile_.storages[s];
    switch (kind) {
      case InstructionKind::kRetain:
        if (place.device != kBytes || place.retained || place.over) return false;
        place.retained = true;
        return true;
      case InstructionKind::kDrop:
        if (place.device == kNowhere) return false;
        state->now_ns = std::max(state->now_ns, place.ready_ns);
        state->held -= bytes_of(s, place, place.device);
        place.device = kNowhere;
        place.retained = false;
        return true;
      case InstructionKind::kCompress:
        if (place.device != kBytes) return false;
        state->now_ns = std::max(state->now_ns, place.ready_ns);
        place.codec = static_cast<std::uint8_t>(codec);
        if (!take(state, bytes_of(s, place, kPayload))) return false;
        state->now_ns += device_.codec_ns(codec, storage.tag.dtype, storage.bytes);
        state->held -= storage.bytes;
        place.device = kPayload;
        place.lossy = place.lossy || !keeps_values(codec, storage.tag);
        place.ready_ns = state->now_ns;
        return true;
      case InstructionKind::kDecompress:
        if (place.device != kPayload) return false;
        state->now_ns = std::max(state->now_ns, place.ready_ns);
        if (!take(state, storage.bytes)) return false;
        state->now_ns +=
            device_.codec_ns(static_cast<Codec>(place.codec), storage.tag.dtype, storage.bytes);
        state->held -= bytes_of(s, place, kPayload);
        place.device = kBytes;
        place.ready_ns = state->now_ns;
        return true;
      case InstructionKind::kOffload: {
        if (place.device == kNowhere || place.host != kNowhere) return false;
        const std::uint64_t bytes = bytes_of(s, place, place.device);
        const std::int64_t begin = std::max({state->now_ns, state->out_ns, place.ready_ns});
        state->out_ns = begin + device_.offload_ns(bytes);
        place.host = place.device;
        place.device = kNowhere;
        place.host_ns = state->out_ns;
        state->leaving.push_back({s, static_cast<std::int64_t>(bytes), state->out_ns});
        return true;
      }
      case InstructionKind::kPrefetch: {
        if (place.host == kNowhere || place.device != kNowhere) return false;
        const std::uint64_t bytes = bytes_of(s, place, place.host);
        if (!take(state, bytes)) return false;
        const std::int64_t begin = std::max({state->now_ns, state->in_ns, place.host_ns});
        state->in_ns = begin + device_.prefetch_ns(bytes);
        place.device = place.host;
        place.host = kNowhere;
        place.ready_ns = state->in_ns;
        return true;
      }
      default:
        return false;
    }
  }

  // Every time that still matters; what has passed is `now`.
  [[nodiscard]] std::vector<std::int64_t> times_of(const State& state) const {
    const auto from_now = [&](std::int64_t at) { return std::max(at, state.now_ns); };
    std::vector<std::int64_t> times = {state.now_ns, from_now(state.out_ns), from_now(state.in_ns)};
    for (const PlaceOf& place : state.places) {
      times.push_back(place.device != kNowhere ? from_now(place.ready_ns) : 0);
      times.push_back(place.host != kNowhere ? from_now(place.host_ns) : 0);
    }
    // In this order: bytes that leave later are never better.
    std::vector<std::array<std::int64_t, 3>> leaving = state.leaving;
    std::sort(leaving.begin(), leaving.end());
    for (const auto& part : leaving) times.push_back(from_now(part[2]));
    return times;
  }
  [[nodiscard]] std::vector<std::int64_t> key_of(const State& state) const {
    std::vector<std::int64_t> key = {state.next_op};
    for (const PlaceOf& place : state.places)
      key.push_back(place.device | place.host << 2 |
                    (place.device == kPayload || place.host == kPayload ? place.codec << 4 : 0) |
                    (place.retained ? 256 : 0) | (place.over ? 512 : 0) | (place.lossy ? 1024 : 0));
    std::vector<std::array<std::int64_t, 3>> leaving = state.leaving;
    std::sort(leaving.begin(), leaving.end());
    for (const auto& part : leaving) key.push_back(part[0] << 40 | part[1]);
    return key;
  }
  bool beaten(const State& state) {
    auto& seen = seen_[key_of(state)];
    const auto times = times_of(state);
    const auto below = [](const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
      for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i] > b[i]) return false;
      return true;
    };
    for (const auto& other : seen)
      if (below(other, times)) return true;
    seen.erase(
        std::remove_if(
            seen.begin(), seen.end(), [&](const auto& other) { return below(times, other); }),
        seen.end());
    seen.push_back(times);
    return false;
  }

  void finish(const State& state) {
    for (std::uint32_t s = 0; s < state.places.size(); ++s)
      if (!profile_.storages[s].freed_after.valid() && state.places[s].device == kNowhere &&
          state.places[s].host == kNowhere)
        return;
    State last = state;
    for (std::uint32_t s = 0; s < last.places.size(); ++s)
      if (last.places[s].over && last.places[s].device != kNowhere)
        (void)advance(&last, s, InstructionKind::kDrop, Codec::kNone);
    const std::int64_t step_ns = std::max({last.now_ns, last.out_ns, last.in_ns});
    if (step_ns >= best_.step_ns) return;
    best_.found = true;
    best_.step_ns = step_ns;
    best_.program = last.program;
  }

  [[nodiscard]] bool advance(State* state,
                             std::uint32_t s,
                             InstructionKind kind,
                             Codec codec) const {
    if (!move(state, s, kind, codec)) return false;
    Instruction instruction;
    instruction.kind = kind;
    instruction.codec = codec;
    instruction.target = s;
    state->program.push_back(instruction);
    return true;
  }
  void try_run(const State& state, std::uint32_t op, bool again) {
    State next = state;
    if (!run(&next, op, again)) return;
    Instruction instruction;
    instruction.kind = again ? InstructionKind::kRecompute : InstructionKind::kCompute;
    instruction.target = op;
    next.program.push_back(instruction);
    visit(next);
  }
  void try_move(const State& state, std::uint32_t s, InstructionKind kind, Codec codec) {
    State next = state;
    if (advance(&next, s, kind, codec)) visit(next);
  }

  void visit(State& state) {
    settle(&state);
    if (best_.states >= state_limit_) {
      best_.complete = false;
      return;
    }
    if (std::max({state.now_ns, state.out_ns, state.in_ns}) >= best_.step_ns || beaten(state))
      return;
    ++best_.states;
    if (state.next_op == profile_.ops.size()) finish(state);
    if (state.next_op < profile_.ops.size()) try_run(state, state.next_op, false);
    for (std::uint32_t s = 0; s < state.places.size(); ++s) {
      const Storage& storage = profile_.storages[s];
      const PlaceOf& place = state.places[s];
      const bool movable = is_movable(storage);
      if ((movable || place.over) && place.device != kNowhere)
        try_move(state, s, InstructionKind::kDrop, Codec::kNone);
      // Right before the op after which it would go: earlier makes no difference.
      const BufferKind kind = storage.tag.kind;
      if (allows(request_.actions, Action::kRecompute) && storage.created_by.valid() &&
          kind != BufferKind::kParameter && kind != BufferKind::kGradient &&
          kind != BufferKind::kOptimizer && kind != BufferKind::kConstant &&
          storage.freed_after.valid() && storage.freed_after.value == state.next_op)
        try_move(state, s, InstructionKind::kRetain, Codec::kNone);
      if (!movable) continue;
      if (allows(request_.actions, Action::kCompress)) {
        for (int c = 1; c < kCodecCount; ++c) {
          const auto codec = static_cast<Codec>(c);
          if (!is_lossless(codec) && (!request_.allow_lossy || storage.tag.has(kExactRequired)))
            continue;
          if (codec_applies(codec, storage.tag, true))
            try_move(state, s, InstructionKind::kCompress, codec);
        }
        try_move(state, s, InstructionKind::kDecompress, Codec::kNone);
      }
      if (allows(request_.actions, Action::kOffload)) {
        try_move(state, s, InstructionKind::kOffload, Codec::kNone);
        try_move(state, s, InstructionKind::kPrefetch, Codec::kNone);
      }
    }
    if (allows(request_.actions, Action::kRecompute))
      for (std::uint32_t o = 0; o < state.next_op; ++o) try_run(state, o, true);
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const PlanRequest& request_;
  std::size_t state_limit_;
  std::vector<std::vector<std::uint32_t>> made_by_;
  std::map<std::vector<std::int64_t>, std::vector<std::vector<std::int64_t>>> seen_;
  BestProgram best_;
};

/// For a budget above 0.
inline BestProgram best_program(const Profile& profile,
                                const DeviceModel& device,
                                const PlanRequest& request,
                                std::size_t state_limit) {
  return AllPrograms(profile, device, request, state_limit).search();
}

}  // namespace spillway::test
