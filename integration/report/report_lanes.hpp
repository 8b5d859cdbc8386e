// SPDX-License-Identifier: Apache-2.0
// The report's lanes: what the compute stream and the two copy engines did when, stalls, and the
// bands of phases and layers. Neighbours too short to be seen are merged once a lane has more
// slices than the page should carry.
#pragma once

#include "integration/report/report_series.hpp"
#include "policy/profile.hpp"
#include "policy/simulator.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway {

/// What a slice is drawn as.
enum class SliceLook : std::uint8_t {
  kForward,
  kBackward,
  kOptimizer,
  kOther,
  kRecompute,
  kCodec,
  kOffload,
  kPrefetch
};
inline constexpr int kSliceLookCount = 8;

struct DrawnSlice {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  SliceLook look = SliceLook::kOther;
  InstructionKind kind = InstructionKind::kCompute;  // of the first of the merged
  std::uint32_t target = 0;                          // op or storage of the first of the merged
  std::uint32_t merged = 1;                          // slices in this one
};

/// One lane of `sim` in time order; the step's ops one after the other for the compute lane without
/// a timeline.
std::vector<DrawnSlice> drawn_slices(const Profile& profile,
                                     const SimResult& sim,
                                     const StepAxis& axis,
                                     Lane lane,
                                     std::size_t limit);

struct DrawnStall {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  StallCause cause = StallCause::kMemory;
};
std::vector<DrawnStall> drawn_stalls(const SimResult& sim, std::int64_t end_ns, std::size_t limit);

/// A run of ops with one phase (and one layer, for layer bands).
struct Band {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  Phase phase = Phase::kUnknown;
  std::uint16_t layer = kNoLayer;
};
/// Phases; runs shorter than a thousandth of the step join their neighbour when there are more than
/// `limit`.
std::vector<Band> phase_bands(const Profile& profile, const StepAxis& axis, std::size_t limit);
/// Layers; empty when there would be more than `limit`.
std::vector<Band> layer_bands(const Profile& profile, const StepAxis& axis, std::size_t limit);

}  // namespace spillway
