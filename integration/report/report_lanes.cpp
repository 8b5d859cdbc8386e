// SPDX-License-Identifier: Apache-2.0
// Merging keeps begin and end of what it merges, so a lane's busy time is never drawn outside of
// where it was.
#include "integration/report/report_lanes.hpp"

#include <algorithm>

namespace spillway {
namespace {

SliceLook look_of_phase(Phase phase) {
  switch (phase) {
    case Phase::kForward:
      return SliceLook::kForward;
    case Phase::kBackward:
      return SliceLook::kBackward;
    case Phase::kOptimizer:
      return SliceLook::kOptimizer;
    case Phase::kUnknown:
    case Phase::kOther:
      break;
  }
  return SliceLook::kOther;
}

SliceLook look_of(const Profile& profile, InstructionKind kind, std::uint32_t target) {
  switch (kind) {
    case InstructionKind::kCompute:
      return target < profile.ops.size() ? look_of_phase(profile.ops[target].tag.phase)
                                         : SliceLook::kOther;
    case InstructionKind::kRecompute:
      return SliceLook::kRecompute;
    case InstructionKind::kCompress:
    case InstructionKind::kDecompress:
      return SliceLook::kCodec;
    case InstructionKind::kOffload:
      return SliceLook::kOffload;
    case InstructionKind::kPrefetch:
      return SliceLook::kPrefetch;
    case InstructionKind::kDrop:
    case InstructionKind::kRetain:
      break;
  }
  return SliceLook::kOther;
}

/// Merges neighbours closer and shorter than a time that doubles until at most `limit` are left:
/// first only alike ones, up to a five-hundredth of the step; then any.
template <typename Item, typename Alike, typename Join>
std::vector<Item> merged_to(
    std::vector<Item> items, std::int64_t end_ns, std::size_t limit, Alike alike, Join join) {
  const std::int64_t whole_ns = std::max<std::int64_t>(1, end_ns);
  for (const bool only_alike : {true, false}) {
    const std::int64_t most_ns = only_alike ? whole_ns / 500 : 2 * whole_ns;
    for (std::int64_t short_ns = std::max<std::int64_t>(1, whole_ns / 8000);
         items.size() > limit && short_ns <= most_ns;
         short_ns *= 2) {
      std::vector<Item> out;
      for (const Item& item : items) {
        const bool near = !out.empty() && item.begin_ns - out.back().end_ns < short_ns &&
                          (item.end_ns - item.begin_ns < short_ns ||
                           out.back().end_ns - out.back().begin_ns < short_ns);
        if (near && (!only_alike || alike(out.back(), item))) {
          join(out.back(), item);
          out.back().end_ns = std::max(out.back().end_ns, item.end_ns);
        } else {
          out.push_back(item);
        }
      }
      items = std::move(out);
    }
  }
  return items;
}

std::vector<Band> bands(const Profile& profile, const StepAxis& axis, bool by_layer) {
  std::vector<Band> out;
  for (std::size_t i = 0; i < profile.ops.size(); ++i) {
    const OpTag& tag = profile.ops[i].tag;
    const std::uint16_t layer = by_layer ? tag.layer : kNoLayer;
    if (out.empty() || out.back().phase != tag.phase || out.back().layer != layer)
      out.push_back({axis.op_begin_ns[i], axis.op_end_ns[i], tag.phase, layer});
    out.back().end_ns = axis.op_end_ns[i];
  }
  return out;
}

}  // namespace

std::vector<DrawnSlice> drawn_slices(const Profile& profile,
                                     const SimResult& sim,
                                     const StepAxis& axis,
                                     Lane lane,
                                     std::size_t limit) {
  std::vector<DrawnSlice> slices;
  if (sim.timeline) {
    for (const Slice& slice : sim.timeline->slices)
      if (slice.lane == lane && slice.end_ns > slice.begin_ns)
        slices.push_back({slice.begin_ns,
                          slice.end_ns,
                          look_of(profile, slice.kind, slice.target),
                          slice.kind,
                          slice.target,
                          1});
  } else if (lane == Lane::kCompute) {
    for (std::uint32_t i = 0; i < profile.ops.size(); ++i)
      if (axis.op_end_ns[i] > axis.op_begin_ns[i])
        slices.push_back({axis.op_begin_ns[i],
                          axis.op_end_ns[i],
                          look_of(profile, InstructionKind::kCompute, i),
                          InstructionKind::kCompute,
                          i,
                          1});
  }
  return merged_to(
      std::move(slices),
      axis.end_ns,
      limit,
      [](const DrawnSlice& a, const DrawnSlice& b) { return a.look == b.look; },
      [](DrawnSlice& into, const DrawnSlice& from) { into.merged += from.merged; });
}

std::vector<DrawnStall> drawn_stalls(const SimResult& sim, std::int64_t end_ns, std::size_t limit) {
  std::vector<DrawnStall> stalls;
  if (!sim.timeline) return stalls;
  for (const Stall& stall : sim.timeline->stalls)
    stalls.push_back({stall.begin_ns, stall.begin_ns + stall.ns, stall.cause});
  std::stable_sort(stalls.begin(), stalls.end(), [](const DrawnStall& a, const DrawnStall& b) {
    return a.begin_ns < b.begin_ns;
  });
  return merged_to(
      std::move(stalls),
      end_ns,
      limit,
      [](const DrawnStall& a, const DrawnStall& b) { return a.cause == b.cause; },
      [](DrawnStall&, const DrawnStall&) {});
}

std::vector<Band> phase_bands(const Profile& profile, const StepAxis& axis, std::size_t limit) {
  std::vector<Band> all = bands(profile, axis, false);
  if (all.size() <= limit) return all;
  const std::int64_t short_ns = axis.end_ns / 1000;
  std::vector<Band> out;
  for (const Band& band : all) {
    const bool join =
        !out.empty() && (band.end_ns - band.begin_ns < short_ns || band.phase == out.back().phase);
    if (!join) out.push_back(band);
    out.back().end_ns = std::max(out.back().end_ns, band.end_ns);
  }
  return out;
}

std::vector<Band> layer_bands(const Profile& profile, const StepAxis& axis, std::size_t limit) {
  std::vector<Band> all = bands(profile, axis, true);
  all.erase(std::remove_if(
                all.begin(), all.end(), [](const Band& band) { return band.layer == kNoLayer; }),
            all.end());
  if (all.size() > limit) all.clear();
  return all;
}

}  // namespace spillway
