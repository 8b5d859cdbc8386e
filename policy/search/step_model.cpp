// SPDX-License-Identifier: Apache-2.0
// Flattening a profile; every price comes from the device model.
#include "policy/search/step_model.hpp"

#include "policy/codec_choice.hpp"

#include <algorithm>

namespace spillway {
namespace {

StepModel::Coding coding_of(const Storage& storage, Codec codec, const DeviceModel& device) {
  StepModel::Coding coding;
  coding.codec = codec;
  if (coding.codec == Codec::kNone) return coding;
  coding.payload_bytes = payload_bytes(coding.codec, storage.tag.dtype, storage.bytes);
  coding.once_ns = device.codec_ns(coding.codec, storage.tag.dtype, storage.bytes);
  coding.out_ns = device.offload_ns(coding.payload_bytes);
  coding.in_ns = device.prefetch_ns(coding.payload_bytes);
  return coding;
}

bool is_of_the_step(const Storage& storage) {
  switch (storage.tag.kind) {
    case BufferKind::kParameter:
    case BufferKind::kGradient:
    case BufferKind::kOptimizer:
    case BufferKind::kConstant:
      return false;
    default:
      return storage.created_by.valid();
  }
}

}  // namespace

StepModel::StepModel(const Profile& profile, const DeviceModel& device, const PlanRequest& request)
    : actions(request.actions),
      pinned_bytes(request.pinned_bytes),
      out_bytes_per_ns(device.d2h_gbps),
      in_bytes_per_ns(device.h2d_gbps) {
  const std::size_t op_count = profile.ops.size();
  const std::size_t storage_count = profile.storages.size();
  items.resize(storage_count);
  ops.resize(op_count);
  std::vector<std::vector<std::uint32_t>> in(op_count), out(op_count), ends(op_count),
      read_by(storage_count);
  for (std::uint32_t o = 0; o < op_count; ++o) {
    const Op& op = profile.ops[o];
    ops[o].duration_ns = static_cast<std::int64_t>(op.duration_ns);
    ops[o].workspace_bytes = op.workspace_bytes;
    ops[o].recomputable = is_recomputable(profile, op);
    for (const Use use : profile.uses_of(op)) {
      const std::uint32_t s = profile.storage_of(use).value;
      if (use.creates() && use.tensor().index() < storage_count) continue;
      if (profile.storages[s].created_by.valid() && profile.storages[s].created_by.value == o)
        continue;  // a view of its own output
      if (std::find(in[o].begin(), in[o].end(), s) == in[o].end()) in[o].push_back(s);
    }
    for (const std::uint32_t s : in[o]) read_by[s].push_back(o);
  }
  for (std::uint32_t w = 0; w < op_count; ++w) {
    for (const Use use : profile.uses_of(profile.ops[w])) {
      if (!use.writes()) continue;
      for (const std::uint32_t reader : read_by[profile.storage_of(use).value])
        if (reader < w) ops[reader].rerun_until = std::min(ops[reader].rerun_until, w);
    }
  }
  for (std::uint32_t s = 0; s < storage_count; ++s) {
    const Storage& storage = profile.storages[s];
    Item& item = items[s];
    item.bytes = storage.bytes;
    if (storage.created_by.valid()) {
      item.created_by = storage.created_by.value;
      out[item.created_by].push_back(s);
    }
    if (storage.freed_after.valid()) {
      item.freed_after = storage.freed_after.value;
      ends[item.freed_after].push_back(s);
    }
    item.movable = is_movable(storage);
    const bool rewritten = storage.tag.has(kRewritten);
    item.rebuildable =
        storage.created_by.valid() && ops[storage.created_by.index()].recomputable && !rewritten;
    item.retainable = storage.freed_after.valid() && is_of_the_step(storage) && !rewritten;
    item.out_ns = device.offload_ns(item.bytes);
    item.in_ns = device.prefetch_ns(item.bytes);
    if (!item.movable || !allows(actions, Action::kCompress)) continue;
    item.exact = coding_of(storage, best_codec(profile, s, request, true), device);
    item.lossy = coding_of(storage, best_codec(profile, s, request), device);
  }
  inputs = NumberLists(in);
  outputs = NumberLists(out);
  freed = NumberLists(ends);
  readers = NumberLists(read_by);
}

}  // namespace spillway
