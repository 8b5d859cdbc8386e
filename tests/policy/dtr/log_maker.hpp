// SPDX-License-Identifier: Apache-2.0
// DTR logs written by hand, and random ones from a seed.
#pragma once

#include "core/random.hpp"
#include "policy/dtr/dtr_log.hpp"

#include <cstdint>
#include <vector>

namespace spillway::test {

class DtrLogMaker {
 public:
  std::uint32_t constant(std::uint64_t bytes) {
    const std::uint32_t made = op(0, {}, {bytes})[0];
    log_.events.push_back({DtrLog::EventKind::kPin, made});
    return made;
  }
  std::vector<std::uint32_t> op(std::int64_t cost_ns,
                                const std::vector<std::uint32_t>& inputs,
                                const std::vector<std::uint64_t>& output_bytes) {
    const std::uint32_t begin = begin_op(cost_ns, inputs);
    std::vector<std::uint32_t> made;
    for (const std::uint64_t bytes : output_bytes) {
      made.push_back(static_cast<std::uint32_t>(log_.tensors.size()));
      log_.tensors.push_back({begin, static_cast<std::uint32_t>(log_.storages.size())});
      log_.storages.push_back({bytes, made.back()});
    }
    end_op(begin);
    return made;
  }
  std::uint32_t view(std::int64_t cost_ns, std::uint32_t base) {
    const std::uint32_t begin = begin_op(cost_ns, {base});
    log_.tensors.push_back({begin, log_.tensors[base].storage});
    end_op(begin);
    return static_cast<std::uint32_t>(log_.tensors.size()) - 1;
  }
  void name(std::uint32_t tensor) { log_.events.push_back({DtrLog::EventKind::kName, tensor}); }
  void forget(std::uint32_t tensor) { log_.events.push_back({DtrLog::EventKind::kForget, tensor}); }
  void result(std::uint32_t tensor) { log_.results.push_back(tensor); }
  DtrLog& log() { return log_; }

 private:
  std::uint32_t begin_op(std::int64_t cost_ns, const std::vector<std::uint32_t>& inputs) {
    DtrLog::Op made;
    made.cost_ns = cost_ns;
    made.inputs_begin = static_cast<std::uint32_t>(log_.inputs.size());
    log_.inputs.insert(log_.inputs.end(), inputs.begin(), inputs.end());
    made.inputs_end = static_cast<std::uint32_t>(log_.inputs.size());
    made.outputs_begin = static_cast<std::uint32_t>(log_.tensors.size());
    log_.ops.push_back(made);
    return static_cast<std::uint32_t>(log_.ops.size()) - 1;
  }
  void end_op(std::uint32_t index) {
    log_.ops[index].outputs_end = static_cast<std::uint32_t>(log_.tensors.size());
    log_.events.push_back({DtrLog::EventKind::kCompute, index});
  }

  DtrLog log_;
};

/// A step of `layers` ops forward, with views and skips, and as many backward.
inline DtrLog random_dtr_log(std::uint64_t seed, std::uint32_t layers) {
  Random random(seed);
  DtrLogMaker maker;
  std::vector<std::uint32_t> saved = {maker.constant(1 + random.below(500))};
  for (std::uint32_t i = 0; i < layers; ++i) {
    std::vector<std::uint32_t> inputs = {saved.back()};
    if (random.below(3) == 0) inputs.push_back(saved[random.below(saved.size())]);
    std::vector<std::uint64_t> bytes = {1 + random.below(1000)};
    if (random.below(4) == 0) bytes.push_back(random.below(64));
    const auto made = maker.op(static_cast<std::int64_t>(random.below(100)), inputs, bytes);
    saved.push_back(random.below(4) == 0 ? maker.view(1, made[0]) : made[0]);
    if (made.size() > 1) maker.forget(made[1]);
    if (saved.back() != made[0] && random.below(2) == 0) maker.forget(made[0]);
  }
  std::uint32_t gradient = saved.back();
  for (std::size_t i = saved.size(); i-- > 1;) {
    const auto made = maker.op(static_cast<std::int64_t>(1 + random.below(200)),
                               {gradient, saved[i], saved[i - 1]},
                               {1 + random.below(1000)});
    if (gradient != saved.back()) maker.forget(gradient);
    maker.forget(saved[i]);
    gradient = made[0];
  }
  maker.result(gradient);
  return maker.log();
}

}  // namespace spillway::test
