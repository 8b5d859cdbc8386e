// SPDX-License-Identifier: Apache-2.0
// Random training steps of up to eight activations, with everything in them that a planner may get
// wrong: temporaries, ops that may not run again, in-place writes, views, several outputs, masks,
// storages that outlive the step.
#pragma once

#include "core/random.hpp"
#include "tests/support/profile_maker.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace spillway::test {

/// Links and codecs of random speed, so that every lever is the best one now and then.
inline DeviceModel tiny_device(Random* random) {
  DeviceModel device = simple_device();
  device.d2h_gbps = 0.25 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.h2d_gbps = 0.25 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.copy_latency_ns = random->below(50);
  device.hbm_gbps = 5.0 * static_cast<double>(std::uint64_t{1} << random->below(8));
  device.launch_ns = random->below(50);
  return device;
}

class TinyStep {
 public:
  explicit TinyStep(std::uint64_t seed) : random_(seed) {}

  Profile make() {
    parameters_ = 1 + random_.below(2);
    for (std::uint64_t i = 0; i < parameters_; ++i)
      maker_.preexisting(next_id_++, 1 + random_.below(1024), BufferKind::kParameter);
    const std::uint64_t ops = 2 + random_.below(5);
    equal_bytes_ = random_.below(4) == 0 ? 1 + random_.below(4096) : 0;
    for (std::uint64_t i = 0; i < ops && nodes_.size() < 8; ++i) forward(i);
    backward();
    return maker_.must_finish();
  }

 private:
  struct Node {
    std::uint64_t id = 0;
    std::vector<std::uint64_t> inputs;
    std::uint64_t reader = 0;  // the tensor that reads go through: the storage or a view of it
    bool saved = true, alive = true;
  };

  std::uint16_t flags() {
    switch (random_.below(24)) {
      case 0:
        return kOpRng;
      case 1:
        return kOpRng | kOpRngRestorable;
      case 2:
        return kOpCollective;
      case 3:
        return kOpNeverRecompute;
      default:
        return 0;
    }
  }
  std::uint64_t duration_ns() { return random_.below(3) == 0 ? 1000 : 1 + random_.below(5000); }
  void create(std::uint64_t id, std::uint64_t bytes) {
    Tag tag;
    constexpr Dtype kDtypes[] = {Dtype::kBf16, Dtype::kFp32, Dtype::kBf16, Dtype::kInt8};
    tag.dtype = kDtypes[random_.below(4)];
    const std::uint64_t dice = random_.below(16);
    if (tag.dtype == Dtype::kInt8) tag.flags = dice < 8 ? kBoolean : 0;
    if (dice == 8) tag.flags = kExactRequired;
    if (dice == 9) tag.flags = kNeverRecompute;
    maker_.record(RecordKind::kAlloc, id, bytes);
    maker_.record(RecordKind::kTag, id, pack(tag));
    maker_.record(RecordKind::kUse, id, op_, 0, kRecordCreate);
  }
  void begin_op(Phase phase, std::uint64_t layer, std::uint16_t op_flags = 0) {
    maker_.op_begin(phase,
                    static_cast<OpKind>(1 + random_.below(8)),
                    static_cast<std::uint16_t>(layer / 2),
                    op_flags);
  }
  void end_op() {
    maker_.op_end(duration_ns());
    ++op_;
  }
  std::uint64_t bytes() {
    return equal_bytes_ != 0 ? equal_bytes_ : 1 + random_.below(random_.below(4) == 0 ? 64 : 4096);
  }

  void forward(std::uint64_t layer) {
    begin_op(Phase::kForward, layer, flags());
    std::vector<std::uint64_t> inputs;
    const std::uint64_t fan_in = random_.below(10) == 0 ? 0 : 1 + random_.below(2);
    for (std::uint64_t k = 0; k < fan_in && !nodes_.empty(); ++k) {
      const std::uint64_t near = std::min<std::uint64_t>(nodes_.size(), 2);
      const std::uint64_t back =
          random_.below(4) == 0 ? random_.below(nodes_.size()) : random_.below(near);
      const Node& node = nodes_[nodes_.size() - 1 - back];
      if (node.alive) inputs.push_back(node.reader);
    }
    if (random_.below(12) != 0) inputs.push_back(random_.below(parameters_));
    const std::uint64_t outputs = nodes_.size() < 7 && random_.below(6) == 0 ? 2 : 1;
    const std::size_t first = nodes_.size();
    for (std::uint64_t k = 0; k < outputs; ++k) {
      Node node;
      node.id = node.reader = next_id_++;
      node.inputs = inputs;
      node.saved = random_.below(4) != 0;
      create(node.id, bytes());
      nodes_.push_back(node);
    }
    for (const std::uint64_t input : inputs) maker_.read(input);
    if (first > 0 && random_.below(12) == 0) {
      const Node& target = nodes_[random_.below(first)];
      if (target.alive) maker_.write(target.id);
    }
    if (random_.below(4) == 0) maker_.workspace(random_.below(2048));
    end_op();
    if (random_.below(6) == 0) {
      nodes_.back().reader = next_id_++;
      begin_op(Phase::kForward, layer);
      maker_.record(RecordKind::kView, nodes_.back().reader, nodes_.back().id);
      maker_.record(RecordKind::kUse, nodes_.back().reader, op_, 0, kRecordCreate);
      end_op();
    }
    for (Node& old : nodes_) {
      if (old.saved || !old.alive || old.id == nodes_.back().id || random_.below(3) != 0) continue;
      maker_.free(old.id);
      old.alive = false;
    }
  }

  void backward() {
    std::uint64_t gradient = 0;
    for (std::size_t i = nodes_.size(); i-- > 0;) {
      const std::uint64_t new_gradient = next_id_++;
      begin_op(Phase::kBackward, i);
      create(new_gradient, 1 + random_.below(1024));
      for (const std::uint64_t input : nodes_[i].inputs)
        for (const Node& node : nodes_)
          if (node.reader == input && node.alive) maker_.read(input);
      if (nodes_[i].alive && random_.below(4) != 0) maker_.read(nodes_[i].reader);
      if (gradient != 0) maker_.read(gradient);
      end_op();
      if (gradient != 0) maker_.free(gradient);
      gradient = new_gradient;
      if (nodes_[i].alive && random_.below(10) != 0) {
        maker_.free(nodes_[i].id);
        nodes_[i].alive = false;
      }
    }
    begin_op(Phase::kOptimizer, 0);
    for (std::uint64_t i = 0; i < parameters_; ++i) maker_.write(i);
    maker_.read(gradient);
    end_op();
    for (const Node& node : nodes_)
      if (node.alive && random_.below(3) != 0) maker_.free(node.id);
  }

  Random random_;
  ProfileMaker maker_;
  std::uint64_t parameters_ = 0, next_id_ = 0, op_ = 0, equal_bytes_ = 0;
  std::vector<Node> nodes_;
};

}  // namespace spillway::test
