// SPDX-License-Identifier: Apache-2.0
// Small profiles for tests: a hand that writes trace records into a ProfileBuilder, and random
// training steps from a seed.
#pragma once

#include "core/random.hpp"
#include "core/trace.hpp"
#include "policy/device_model.hpp"
#include "policy/profile_builder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::test {

/// Writes records; ops run one after another on a clock of their durations.
class ProfileMaker {
 public:
  explicit ProfileMaker(ProfileOptions options = {}) : builder_(options) {}

  std::uint32_t string(const std::string& text) {
    builder_.string(StringId(++strings_), text);
    return strings_;
  }
  void record(RecordKind kind,
              std::uint64_t id,
              std::uint64_t arg = 0,
              std::uint32_t stream = 0,
              std::uint8_t flags = 0) {
    Record record;
    record.time_ns = now_ns_;
    record.kind = kind;
    record.flags = flags;
    record.stream = stream;
    record.id = id;
    record.arg = arg;
    builder_.record(record);
  }
  void alloc(std::uint64_t id,
             std::uint64_t bytes,
             BufferKind kind = BufferKind::kUnknown,
             std::uint8_t flags = 0,
             Dtype dtype = Dtype::kBf16) {
    record(RecordKind::kAlloc, id, bytes, 0, flags);
    Tag tag;
    tag.kind = kind;
    tag.dtype = dtype;
    record(RecordKind::kTag, id, pack(tag));
  }
  void preexisting(std::uint64_t id, std::uint64_t bytes, BufferKind kind) {
    alloc(id, bytes, kind, kRecordPreexisting);
  }
  void free(std::uint64_t id) { record(RecordKind::kFreeCompleted, id); }

  void op_begin(Phase phase,
                OpKind kind = OpKind::kOther,
                std::uint16_t layer = kNoLayer,
                std::uint16_t flags = 0) {
    record(RecordKind::kOpBegin, next_op_);
    OpTag tag;
    tag.kind = kind;
    tag.phase = phase;
    tag.layer = layer;
    tag.flags = flags;
    record(RecordKind::kOpTag, next_op_, pack(tag));
  }
  void create(std::uint64_t id,
              std::uint64_t bytes,
              BufferKind kind = BufferKind::kUnknown,
              Dtype dtype = Dtype::kBf16) {
    alloc(id, bytes, kind, 0, dtype);
    record(RecordKind::kUse, id, next_op_, 0, kRecordCreate);
  }
  void read(std::uint64_t id) { record(RecordKind::kUse, id, next_op_, 0, kRecordRead); }
  void write(std::uint64_t id) { record(RecordKind::kUse, id, next_op_, 0, kRecordWrite); }
  void workspace(std::uint64_t bytes) { record(RecordKind::kOpWorkspace, next_op_, bytes); }
  void op_end(std::uint64_t duration_ns) {
    now_ns_ += duration_ns;
    record(RecordKind::kOpEnd, next_op_++);
  }
  void advance_ns(std::uint64_t ns) { now_ns_ += ns; }

  Result<Profile> finish() { return builder_.finish(); }
  Profile must_finish() {
    Result<Profile> profile = builder_.finish();
    REQUIRE_MESSAGE(profile.ok(), profile.status().message());
    const Status invariants = check_invariants(profile.value());
    REQUIRE_MESSAGE(invariants.ok(), invariants.message());
    return std::move(profile).value();
  }

 private:
  ProfileBuilder builder_;
  std::uint32_t strings_ = 0;
  std::uint64_t now_ns_ = 0;
  std::uint64_t next_op_ = 0;
};

/// A link of 1 byte per ns each way, a memory of 10, no latencies: times can be added up by hand.
inline DeviceModel simple_device() {
  DeviceModel device;
  device.name = "test";
  device.calibration = "published";
  device.memory_bytes = 1u << 30;
  device.d2h_gbps = device.h2d_gbps = 1;
  device.hbm_gbps = 10;
  return device;
}

/// A chain of `layers` ops forward and backward: op i reads activation i-1 and makes activation i
/// (`bytes` each); backward op i reads activations i-1 and i. Storage 0 is a parameter of
/// `parameter_bytes`.
inline Profile chain_profile(std::uint32_t layers,
                             std::uint64_t bytes,
                             std::uint64_t parameter_bytes,
                             std::uint64_t forward_ns,
                             std::uint64_t backward_ns,
                             Dtype dtype = Dtype::kFp32) {
  ProfileMaker maker;
  maker.preexisting(0, parameter_bytes, BufferKind::kParameter);
  for (std::uint32_t i = 1; i <= layers; ++i) {
    maker.op_begin(Phase::kForward, OpKind::kMatmul, static_cast<std::uint16_t>(i - 1));
    maker.create(i, bytes, BufferKind::kUnknown, dtype);
    maker.read(0);
    if (i > 1) maker.read(i - 1);
    maker.op_end(forward_ns);
  }
  for (std::uint32_t i = layers; i >= 1; --i) {
    maker.op_begin(Phase::kBackward, OpKind::kMatmul, static_cast<std::uint16_t>(i - 1));
    maker.read(i);
    if (i > 1) maker.read(i - 1);
    maker.op_end(backward_ns);
    maker.free(i);
  }
  return maker.must_finish();
}

/// A random training step: forward ops with random fan-in over recent outputs (skip connections
/// included), temporaries, views of nothing, RNG and in-place ops now and then; backward in reverse
/// with gradients; an optimizer that writes parameters.
inline Profile random_profile(std::uint64_t seed, std::uint32_t forward_ops) {
  Random random(seed);
  ProfileMaker maker;
  const std::uint64_t parameters = 1 + random.below(4);
  std::uint64_t next_id = 0;
  for (std::uint64_t i = 0; i < parameters; ++i)
    maker.preexisting(next_id++, 1 + random.below(4096), BufferKind::kParameter);
  struct Node {
    std::uint64_t id;
    std::vector<std::uint64_t> inputs;
    bool saved;
    bool alive;
  };
  std::vector<Node> nodes;
  for (std::uint32_t i = 0; i < forward_ops; ++i) {
    std::uint16_t flags = 0;
    const std::uint64_t dice = random.below(20);
    if (dice == 0) flags = kOpRng;
    if (dice == 1) flags = kOpRng | kOpRngRestorable;
    if (dice == 2) flags = kOpCollective;
    maker.op_begin(Phase::kForward,
                   static_cast<OpKind>(1 + random.below(8)),
                   static_cast<std::uint16_t>(i / 4),
                   flags);
    Node node{next_id++, {random.below(parameters)}, random.below(4) != 0, true};
    maker.create(node.id, 1 + random.below(1 << 16));
    const std::uint64_t fan_in = 1 + random.below(3);
    for (std::uint64_t k = 0; k < fan_in && !nodes.empty(); ++k) {
      const std::uint64_t back = random.below(8) == 0
                                     ? random.below(nodes.size())
                                     : random.below(nodes.size() < 3 ? nodes.size() : 3);
      const Node& input = nodes[nodes.size() - 1 - back];
      if (input.alive) node.inputs.push_back(input.id);
    }
    for (const std::uint64_t input : node.inputs) maker.read(input);
    if (random.below(5) == 0) maker.workspace(random.below(1 << 15));
    maker.op_end(1 + random.below(5000));
    nodes.push_back(node);
    // Temporaries die a few ops later, still in forward.
    for (Node& old : nodes) {
      if (old.saved || !old.alive || &old == &nodes.back() || random.below(3) != 0) continue;
      maker.free(old.id);
      old.alive = false;
    }
  }
  std::uint64_t gradient = 0;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    const std::uint64_t new_gradient = next_id++;
    maker.op_begin(Phase::kBackward, OpKind::kMatmul, static_cast<std::uint16_t>(i / 4));
    maker.create(new_gradient, 1 + random.below(1 << 14));
    for (const std::uint64_t input : nodes[i].inputs)
      for (const Node& node : nodes)
        if (node.id == input && node.alive) maker.read(input);
    maker.read(nodes[i].inputs[0]);
    if (nodes[i].alive) maker.read(nodes[i].id);
    if (gradient != 0) maker.read(gradient);
    maker.op_end(1 + random.below(9000));
    if (gradient != 0) maker.free(gradient);
    gradient = new_gradient;
    if (nodes[i].alive && random.below(10) != 0) {
      maker.free(nodes[i].id);
      nodes[i].alive = false;
    }
  }
  maker.op_begin(Phase::kOptimizer, OpKind::kOptimizer);
  for (std::uint64_t i = 0; i < parameters; ++i) maker.write(i);
  maker.read(gradient);
  maker.op_end(100);
  for (const Node& node : nodes)
    if (node.alive) maker.free(node.id);
  return maker.must_finish();
}

}  // namespace spillway::test
