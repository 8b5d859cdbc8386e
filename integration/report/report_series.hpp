// SPDX-License-Identifier: Apache-2.0
// What the report page draws over time: who holds device bytes when, under the plan and under
// keep-all. Long steps are reduced to a few thousand points; the highest and the lowest total of
// every stretch of time survive.
#pragma once

#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway {

inline constexpr int kBufferKindCount = 8;

/// When each op runs, on the clock of the plan where there is a timeline, else one after the other.
struct StepAxis {
  bool from_timeline = false;
  std::int64_t end_ns = 0;
  std::vector<std::int64_t> op_begin_ns;
  std::vector<std::int64_t> op_end_ns;
};
StepAxis step_axis(const Profile& profile, const SimResult& sim);

/// The changes of `sim`, or those of keep-all (creation, last use) on `axis` where there is no
/// timeline. Time order.
std::vector<PlaceChange> place_changes(const Profile& profile,
                                       const SimResult& sim,
                                       const StepAxis& axis);

/// Bytes held from at_ns on. Invariant: the sum over kinds equals the sum over places; kNone and
/// kOnHost hold no device bytes.
struct MemorySample {
  std::int64_t at_ns = 0;
  std::array<std::uint64_t, kBufferKindCount> by_kind{};
  std::array<std::uint64_t, kPlaceCount> by_place{};
  std::uint64_t host_bytes = 0;

  [[nodiscard]] std::uint64_t device_bytes() const;
};

/// Who held what when the plan held the most.
struct PeakInstant {
  std::int64_t at_ns = 0;
  std::uint64_t bytes = 0;                   // storages and workspace
  std::uint64_t workspace_bytes = 0;         // of ops; part of `bytes`
  std::vector<std::uint64_t> storage_bytes;  // device bytes per storage
};

struct MemorySeries {
  std::vector<MemorySample>
      samples;  // in time order; two of one instant: a spike, then what the instant ends with
  bool reduced = false;  // samples are fewer than there were instants
  PeakInstant peak;
};
/// REQUIRES: point_count >= 3.
MemorySeries memory_series(const Profile& profile,
                           const SimResult& sim,
                           const StepAxis& axis,
                           const std::vector<PlaceChange>& changes,
                           std::size_t point_count);

/// Bytes that keep-all holds while each op runs, at the time `axis` runs it.
struct BytesPoint {
  std::int64_t at_ns = 0;
  std::uint64_t bytes = 0;
};
std::vector<BytesPoint> keep_all_series(const Profile& profile,
                                        const StepAxis& axis,
                                        std::size_t point_count);

/// Mean device bytes of what a plan may move, per row (layers, in equal groups when there are many)
/// and column of time.
struct HeatMap {
  struct Row {
    std::uint32_t first_layer = 0;  // kNoLayer: everything without a layer
    std::uint32_t last_layer = 0;
    std::vector<std::uint64_t> mean_bytes;  // one per column
    std::array<std::uint64_t, kActionCount>
        by_action{};  // bytes of this row's activations by final action
  };
  std::vector<Row> rows;
  std::size_t columns = 0;
};
HeatMap heat_map(const Profile& profile,
                 const StepAxis& axis,
                 const std::vector<PlaceChange>& changes,
                 const Plan& plan,
                 std::size_t row_count,
                 std::size_t column_count);

/// True for what is made and read in the step: neither state of the model nor an input.
bool is_transient(BufferKind kind);

}  // namespace spillway
