// SPDX-License-Identifier: Apache-2.0
// Ordinals are counted per distinct tag in step order.
#include "policy/step_key.hpp"

namespace spillway {
namespace {

std::string layer_text(std::uint16_t layer) {
  return layer == kNoLayer ? "-" : std::to_string(layer);
}
std::string batch_text(std::uint8_t batch) {
  return batch == kNoMicroBatch ? "-" : std::to_string(batch);
}

void mix(std::uint64_t* hash, std::uint64_t value) {
  *hash ^= value + 0x9e3779b97f4a7c15ull + (*hash << 6) + (*hash >> 2);
  *hash *= 0xff51afd7ed558ccdull;
  *hash ^= *hash >> 32;
}

}  // namespace

StepKeys step_keys(const Profile& profile) {
  StepKeys keys;
  std::unordered_map<std::string, std::uint32_t> next;
  keys.op_keys.reserve(profile.ops.size());
  for (std::uint32_t i = 0; i < profile.ops.size(); ++i) {
    const OpTag& tag = profile.ops[i].tag;
    std::string key = std::string(name_of(tag.phase)) + "/" + layer_text(tag.layer) + "/" +
                      batch_text(tag.micro_batch) + "/" + std::string(name_of(tag.kind));
    key += "#" + std::to_string(next["op " + key]++);
    keys.ops.emplace(key, i);
    keys.op_keys.push_back(std::move(key));
  }
  keys.storage_keys.reserve(profile.storages.size());
  for (std::uint32_t i = 0; i < profile.storages.size(); ++i) {
    const Tag& tag = profile.storages[i].tag;
    std::string key = std::string(name_of(tag.kind)) + "/" + std::string(name_of(tag.phase)) + "/" +
                      layer_text(tag.layer) + "/" + batch_text(tag.micro_batch);
    key += "#" + std::to_string(next["storage " + key]++);
    keys.storages.emplace(key, i);
    keys.storage_keys.push_back(std::move(key));
  }
  return keys;
}

std::uint64_t step_signature(const Profile& profile) {
  std::uint64_t hash = 0x5370696c6c776179ull;
  for (const Op& op : profile.ops) mix(&hash, pack(op.tag));
  for (const Storage& storage : profile.storages) {
    mix(&hash, pack(storage.tag));
    mix(&hash, storage.bytes);
    mix(&hash,
        static_cast<std::uint64_t>(storage.created_by.value) << 32 | storage.freed_after.value);
  }
  return hash;
}

}  // namespace spillway
