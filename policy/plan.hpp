// SPDX-License-Identifier: Apache-2.0
// The planner's output: what happens to each storage, and the program that does it. The program is
// the whole truth: one list in the order of the compute stream; validator and simulator run it.
// Decisions are its summary per storage, for people and for files.
#pragma once

#include "core/codec.hpp"
#include "core/ids.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace spillway {

enum class Action : std::uint8_t { kKeep = 0, kCompress = 1, kOffload = 2, kRecompute = 3 };
inline constexpr int kActionCount = 4;
std::string_view name_of(Action action);

/// Set of actions, as bits 1 << Action. Keep is always allowed.
using ActionSet = std::uint8_t;
inline constexpr ActionSet kAllActions = 0x0f;
constexpr ActionSet action_bit(Action action) {
  return static_cast<ActionSet>(1u << static_cast<unsigned>(action));
}
constexpr bool allows(ActionSet set, Action action) { return (set & action_bit(action)) != 0; }

/// What finally happens to a storage. An offload through a codec has action kOffload and that
/// codec.
struct Decision {
  Action action = Action::kKeep;
  Codec codec = Codec::kNone;
  friend bool operator==(const Decision&, const Decision&) = default;
};

/// What one instruction does, in compute-stream order. "Form" is what of a storage is on the
/// device: its bytes, or a codec's payload.
enum class InstructionKind : std::uint8_t {
  kCompute,  // target op: the step's own op. Every op exactly once, in order. After op freed_after
             // the storage is gone for good
  kRecompute,   // target op again: needs its inputs; makes each output that is nowhere, even one
                // freed before (the rest is scratch)
  kDrop,        // target storage: whatever of it is on the device is freed
  kCompress,    // target storage: payload is encoded beside the source, then the source is freed
  kDecompress,  // target storage: bytes are decoded beside the payload, then the payload is freed
  kOffload,   // target storage: its form is copied to the host; the device bytes are freed when the
              // copy ends
  kPrefetch,  // target storage: device bytes are taken now, the copy back starts when the engine is
              // free
  kRetain,  // target storage: when its life in the step ends it stays, for recompute to read, until
            // the plan drops it. Only for resident activations and temporaries of the step
};

struct Instruction {
  InstructionKind kind = InstructionKind::kCompute;
  Codec codec = Codec::kNone;  // kCompress, kDecompress
  std::uint16_t reserved = 0;
  std::uint32_t target = 0;  // op or storage index

  friend bool operator==(const Instruction&, const Instruction&) = default;
};
static_assert(sizeof(Instruction) == 8);

struct Plan {
  std::string policy;               // name as in the registry
  std::uint64_t budget_bytes = 0;   // what it was made for; 0: none
  std::vector<Decision> decisions;  // per storage
  std::vector<Instruction> program;
};

/// Activation bytes by final action; they sum to ProfileSummary::activation_bytes.
struct ActionBytes {
  std::uint64_t keep = 0;
  std::uint64_t compress = 0;
  std::uint64_t offload = 0;
  std::uint64_t recompute = 0;
};
ActionBytes bytes_by_action(const Profile& profile,
                            const ProfileSummary& summary,
                            const Plan& plan);

/// Who holds the most device bytes when the smallest feasible budget is needed: largest first.
struct Holder {
  std::string what;  // "parameter", "optimizer", "activation layer 3", ...
  std::uint64_t bytes = 0;
};

/// Proven by running the policy's program with instant copies: below this budget the policy has no
/// schedule.
struct Infeasible {
  std::uint64_t min_budget_bytes = 0;
  std::string at;  // the op where the bytes are needed
  std::vector<Holder> holders;
};

/// The work limit ended the search; `best` is the plan with the smallest budget found.
struct GaveUp {
  std::uint64_t best_budget_bytes = 0;
  Plan best;
};

using PlanOutcome = std::variant<Plan, Infeasible, GaveUp>;

}  // namespace spillway
