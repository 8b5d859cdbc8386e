// SPDX-License-Identifier: Apache-2.0
// The planner's input: one training step as a sequence of ops over storages. Two kinds of source
// fill it: op graphs (inputs and outputs known, so an op can be run again) and lifetime-only traces
// (each allocation is an op; reads are inferred). Time is the op sequence: storages are created by
// an op, read by ops, and freed between two ops.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"
#include "core/string_table.hpp"
#include "core/tag.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway {

/// How an op touches a tensor. Packed to 4 bytes: real traces have millions.
struct Use {
  static constexpr std::uint32_t kRead = 1u << 30;
  static constexpr std::uint32_t kWrite = 1u << 31;  // writes bytes that existed before the op
  static constexpr std::uint32_t kCreate = kRead | kWrite;  // the op makes the tensor
  static constexpr std::uint32_t kTensorMask = kRead - 1;

  std::uint32_t bits = 0;

  Use() = default;
  Use(TensorId tensor, std::uint32_t access) : bits(tensor.value | access) {}

  [[nodiscard]] TensorId tensor() const { return TensorId(bits & kTensorMask); }
  [[nodiscard]] bool creates() const { return (bits & kCreate) == kCreate; }
  [[nodiscard]] bool reads() const { return (bits & kCreate) == kRead; }
  [[nodiscard]] bool writes() const { return (bits & kCreate) == kWrite; }
};

struct Op {
  OpTag tag;
  std::uint64_t duration_ns = 0;
  std::uint64_t flops = 0;            // 0 when unknown
  std::uint64_t workspace_bytes = 0;  // held only while the op runs
  StringId name;
  std::uint32_t uses_begin = 0;  // [uses_begin, uses_end) in Profile::uses
  std::uint32_t uses_end = 0;
  StackId stack;
};

/// A distinct piece of device memory. Invariants (check_invariants):
///   created_by < every op that reads it <= freed_after, where present; bytes counts once however
///   many views exist.
struct Storage {
  std::uint64_t bytes = 0;
  Tag tag;
  StringId name;
  StackId stack;                 // who allocated it
  OpId created_by;               // none: alive before the step
  OpId freed_after;              // none: alive after the step
  std::uint32_t uses_begin = 0;  // [uses_begin, uses_end) in Profile::storage_uses: ops that touch
                                 // it, ascending, each once
  std::uint32_t uses_end = 0;
};

/// A tensor looks into a storage. Tensor i < storages.size() is the root of storage i; later ones
/// are views.
struct TensorInfo {
  StorageId storage;
  OpId created_by;  // the op that makes the view (or the storage); none: preexisting
};

/// A node of the call tree: frame `text` called from `parent`. Node 0 is the root.
struct CallFrame {
  StackId parent;
  StringId text;
};

struct Profile {
  std::string source_format;  // "pytorch-snapshot", ...
  std::string model;          // as the trace names it; may be ""
  std::string gpu;  // calibration name the trace was recorded or generated for; "" when unknown
  std::string times_from;  // where durations come from, in words
  std::uint64_t step_number = 0;
  std::uint64_t step_count = 1;       // steps in the trace this one was chosen from
  bool can_recompute = false;         // ops have inputs and outputs
  std::vector<std::string> inferred;  // what was concluded rather than recorded, one line each
  std::vector<std::string> notes;     // what is odd in the trace, one line each

  StringTable strings;
  std::vector<CallFrame> frames;
  std::vector<Op> ops;
  std::vector<Storage> storages;
  std::vector<TensorInfo> tensors;
  std::vector<Use> uses;
  std::vector<std::uint32_t> storage_uses;  // op indices, see Storage

  std::span<const Use> uses_of(const Op& op) const {
    return std::span<const Use>(uses).subspan(op.uses_begin, op.uses_end - op.uses_begin);
  }
  /// Ops that touch `storage`, ascending, the creating one included.
  std::span<const std::uint32_t> uses_of(const Storage& storage) const {
    return std::span<const std::uint32_t>(storage_uses)
        .subspan(storage.uses_begin, storage.uses_end - storage.uses_begin);
  }
  StorageId storage_of(Use use) const { return tensors[use.tensor().index()].storage; }
  std::string_view text(StringId id) const { return strings.view(id); }
};

/// May the planner move this storage? Activations and anything else made in forward for backward;
/// never parameters, gradients, optimizer state, constants or temporaries.
bool is_movable(const Storage& storage);

/// May `op` be run a second time? Needs inputs, and none of: collective, in-place, RNG without
/// restorable state, never-recompute.
bool is_recomputable(const Profile& profile, const Op& op);

/// First and last op of `phase` that touch `storage`; both none when none does.
struct UseSpan {
  OpId first;
  OpId last;
};
UseSpan uses_in(const Profile& profile, const Storage& storage, Phase phase);

/// Facts of the step that budgets and reports refer to. Bytes.
struct ProfileSummary {
  std::uint64_t keep_all_peak_bytes = 0;
  std::uint32_t keep_all_peak_op = 0;  // first op at which the peak is reached
  std::uint64_t activation_bytes =
      0;  // distinct movable storages alive at the end of forward under keep-all
  std::uint64_t unmovable_bytes =
      0;  // most that any op needs when everything movable that it does not touch is away
  std::uint32_t unmovable_op = 0;  // the op where that is
  std::uint64_t persistent_bytes =
      0;  // parameters, gradients, optimizer state and constants alive at unmovable_op
  std::uint32_t last_forward_op =
      0;  // activation bytes are counted after it; ops.size() when there is no backward
  std::int64_t compute_ns = 0;  // sum of all durations
  std::int64_t forward_ns = 0;
  std::uint32_t movable_count = 0;
};
ProfileSummary summarize(const Profile& profile);

/// The activations that ProfileSummary::activation_bytes counts, ascending.
std::vector<StorageId> activations(const Profile& profile, const ProfileSummary& summary);

/// Checks every invariant above (indices in range, orders, sizes); the first one broken as text.
Status check_invariants(const Profile& profile);

}  // namespace spillway
