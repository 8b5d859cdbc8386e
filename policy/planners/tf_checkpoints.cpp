// SPDX-License-Identifier: Apache-2.0
// collection, speed, memory: the three ways in which TensorFlow's gradient-checkpointing package
// (Salimans & Bulatov 2018) chooses checkpoints. Everything else is recomputed from them.
#include "policy/bottlenecks.hpp"
#include "policy/cuts.hpp"
#include "policy/planners/presets.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string_view>

namespace spillway {
namespace {

constexpr std::uint64_t kSmallElements = 1024;  // the package's MIN_CHECKPOINT_NODE_SIZE

bool says_checkpoint(std::string_view name) {
  constexpr std::string_view kWord = "checkpoint";
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  return std::search(name.begin(), name.end(), kWord.begin(), kWord.end(), same) != name.end();
}

bool made_by_matmul(const Profile& profile, const Op& op) {
  if (op.tag.kind == OpKind::kMatmul || op.tag.kind == OpKind::kConv) return true;
  if (op.tag.kind != OpKind::kAttention) return false;
  // Attention is two matmuls, fused or not; its softmax and dropout do few operations per byte.
  constexpr std::uint64_t kMatmulFlopsPerByte = 16;
  std::uint64_t bytes = 0;
  for (const Use use : profile.uses_of(op))
    if (use.creates()) bytes += profile.storages[profile.storage_of(use).index()].bytes;
  return op.flops == 0 || op.flops / kMatmulFlopsPerByte >= bytes;
}

std::vector<char> speed_checkpoints(const Profile& profile) {
  std::vector<char> kept(profile.storages.size(), 0);
  for (std::size_t s = 0; s < kept.size(); ++s)
    if (is_movable(profile.storages[s]))
      kept[s] =
          made_by_matmul(profile, profile.ops[profile.storages[s].created_by.index()]) ? 1 : 0;
  return kept;
}

/// The package drops small tensors, and outputs of dropout and of casts, from its candidates.
bool is_candidate(const Profile& profile, const Storage& storage) {
  if (!is_movable(storage) || element_count(storage) <= kSmallElements) return false;
  const Op& producer = profile.ops[storage.created_by.index()];
  return producer.tag.phase == Phase::kForward && producer.tag.kind != OpKind::kDropout &&
         producer.tag.kind != OpKind::kLoss;
}

bool is_read_by_backward(const Profile& profile, const Storage& storage) {
  for (const std::uint32_t op : profile.uses_of(storage))
    if (profile.ops[op].tag.phase == Phase::kBackward) return true;
  return false;
}

/// About sqrt(N) bottlenecks, N the number of candidates that backward reads. First among those
/// that backward reads, then among all; empty when there is none.
std::vector<char> memory_checkpoints(const Profile& profile) {
  const std::vector<char> bottleneck = bottleneck_ops(profile, kSmallElements);
  std::vector<std::uint32_t> read, all;  // bottleneck storages in the order of their ops
  std::size_t read_candidates = 0;
  for (std::uint32_t s = 0; s < profile.storages.size(); ++s) {
    const Storage& storage = profile.storages[s];
    if (!is_candidate(profile, storage)) continue;
    const bool is_read = is_read_by_backward(profile, storage);
    if (is_read) ++read_candidates;
    if (bottleneck[storage.created_by.index()] == 0) continue;
    all.push_back(s);
    if (is_read) read.push_back(s);
  }
  const double root = std::sqrt(static_cast<double>(read_candidates));
  std::vector<std::uint32_t>& chosen = static_cast<double>(read.size()) >= root ? read : all;
  std::stable_sort(chosen.begin(), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
    return profile.storages[a].created_by.value < profile.storages[b].created_by.value;
  });
  std::vector<char> kept;
  if (chosen.empty()) return kept;
  kept.assign(profile.storages.size(), 0);
  const auto step =
      static_cast<double>(chosen.size()) <= std::ceil(root)
          ? std::size_t{1}
          : static_cast<std::size_t>(std::ceil(static_cast<double>(chosen.size()) / root));
  for (std::size_t i = step == 1 ? 0 : step; i < chosen.size(); i += step) kept[chosen[i]] = 1;
  return kept;
}

}  // namespace

PlanOutcome plan_collection(const Profile& profile,
                            const ProfileSummary& /*summary*/,
                            const DeviceModel& device,
                            const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  std::vector<char> kept(profile.storages.size(), 0);
  bool any = false;
  for (std::size_t s = 0; s < kept.size(); ++s) {
    kept[s] = says_checkpoint(profile.text(profile.storages[s].name)) ? 1 : 0;
    any = any || kept[s] != 0;
  }
  const Choices choices =
      any ? keep_only(profile, gaps, kept) : checkpoint_at(profile, gaps, layer_cuts(profile));
  return outcome_of(profile, device, request, gaps, choices, "collection");
}

PlanOutcome plan_speed(const Profile& profile,
                       const ProfileSummary& /*summary*/,
                       const DeviceModel& device,
                       const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  return outcome_of(profile,
                    device,
                    request,
                    gaps,
                    keep_only(profile, gaps, speed_checkpoints(profile)),
                    "speed");
}

PlanOutcome plan_memory(const Profile& profile,
                        const ProfileSummary& /*summary*/,
                        const DeviceModel& device,
                        const PlanRequest& request) {
  const GapTable gaps = find_gaps(profile);
  std::vector<char> kept = memory_checkpoints(profile);
  if (kept.empty()) kept = speed_checkpoints(profile);  // what the package tells its user to do
  return outcome_of(profile, device, request, gaps, keep_only(profile, gaps, kept), "memory");
}

}  // namespace spillway
