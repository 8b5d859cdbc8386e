// SPDX-License-Identifier: Apache-2.0
// The analytic step simulator: runs a plan's program against the cost model, by events. One compute
// stream in program order, one copy engine per direction (first in, first out), device bytes under
// a budget. docs/policy.md has the model with its symbols.
//  - memory is taken in program order; when it is not there, the stream waits for the earliest
//  offloads to end (stall: memory)
//  - an op waits for the prefetches of its inputs (stall: late prefetch)
//  - a prefetch takes its bytes when the stream reaches it, its copy starts when offload of the
//  same storage and earlier copies are done
#pragma once

#include "core/status.hpp"
#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

enum class Lane : std::uint8_t { kCompute, kOffloadCopy, kPrefetchCopy };

/// Something that took time on a lane. For kCompute lanes `kind` tells ops, recomputes and codecs
/// apart.
struct Slice {
  Lane lane = Lane::kCompute;
  InstructionKind kind = InstructionKind::kCompute;
  std::uint32_t target = 0;  // op or storage index, as in the instruction
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
};

enum class StallCause : std::uint8_t { kMemory, kLatePrefetch };
inline constexpr int kStallCauseCount = 2;
std::string_view name_of(StallCause cause);

struct Stall {
  StallCause cause = StallCause::kMemory;
  std::uint32_t storage = 0;  // the storage waited for (late prefetch) or asked for (memory)
  std::uint32_t op = 0;       // the op that waited
  std::int64_t begin_ns = 0;
  std::int64_t ns = 0;
};

/// Where a storage's bytes are (design: Residency); kNone: not created yet, freed, or dropped.
enum class Place : std::uint8_t {
  kNone,
  kResident,
  kCompressed,
  kOffloading,
  kOnHost,
  kPrefetching
};
inline constexpr int kPlaceCount = 6;
std::string_view name_of(Place place);

/// From `at_ns` on `storage` is at `place` and holds `device_bytes` and `host_bytes`.
struct PlaceChange {
  std::int64_t at_ns = 0;
  std::uint32_t storage = 0;
  Place place = Place::kNone;
  std::uint64_t device_bytes = 0;
  std::uint64_t host_bytes = 0;
};

/// Everything a picture needs. Changes are in time order; slices are ordered per lane.
struct Timeline {
  std::vector<Slice> slices;
  std::vector<Stall> stalls;
  std::vector<PlaceChange> changes;
};

struct SimOptions {
  std::uint64_t budget_bytes = 0;  // 0: no limit (memory never waits)
  std::uint64_t pinned_bytes = 0;  // host bytes for offload; 0: no limit
  bool timeline = false;           // fill SimResult::timeline
};

struct SimResult {
  bool fits = true;             // false: an allocation could not be served however long it waited
  std::string reason;           // when !fits: the op or storage and the bytes missing
  std::int64_t step_ns = 0;     // end of the last op or copy
  std::int64_t compute_ns = 0;  // the step's own ops
  std::int64_t recompute_ns = 0;
  std::int64_t codec_ns = 0;
  std::int64_t stall_ns[kStallCauseCount] = {0, 0};
  std::uint64_t peak_bytes = 0;  // most device bytes held at any instant
  std::uint64_t activation_peak_bytes =
      0;                      // the same for movable storages alone, codec payloads included
  std::uint32_t peak_op = 0;  // op being run or prepared then
  std::int64_t peak_ns = 0;
  std::uint64_t min_budget_bytes =
      0;  // peak if every offload ended at once: the program fits no smaller budget
  std::uint32_t min_budget_op = 0;
  std::uint64_t pinned_peak_bytes = 0;
  std::uint64_t offload_bytes = 0;   // copied out
  std::uint64_t prefetch_bytes = 0;  // copied back
  std::int64_t offload_busy_ns = 0;  // copy engines
  std::int64_t prefetch_busy_ns = 0;
  std::optional<Timeline> timeline;

  [[nodiscard]] std::int64_t total_stall_ns() const { return stall_ns[0] + stall_ns[1]; }
};

/// Runs the program. Fails with kInvalidArgument when the program is not legal (an input that is
/// not resident, a drop of nothing, ...): planners never make such programs, files may. Linear in
/// the program, plus a logarithm for pending copies.
Result<SimResult> simulate(const Profile& profile,
                           const DeviceModel& device,
                           const Plan& plan,
                           const SimOptions& options);

/// Holders at the program's min_budget instant: unmovable kinds and activations by layer, largest
/// first, at most `count`.
std::vector<Holder> holders_at_min_budget(const Profile& profile,
                                          const DeviceModel& device,
                                          const Plan& plan,
                                          std::size_t count);

}  // namespace spillway
