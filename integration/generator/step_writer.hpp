// SPDX-License-Identifier: Apache-2.0
// Turns a finished StepGraph into trace records: op times from the roofline of a GPU, frees after
// the last use, ranges per phase and layer.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "device/calibration.hpp"
#include "integration/generator/step_graph.hpp"
#include "integration/trace/emitter.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace spillway {

class StepWriter {
 public:
  StepWriter(const StepGraph& graph, const Calibration& gpu, MathMode math)
      : graph_(graph), gpu_(gpu), math_(math) {}

  /// max(flops / rate, traffic / bandwidth) + launch, and for collectives + bytes sent / peer rate.
  /// In ns.
  [[nodiscard]] double op_ns(const StepOp& op) const;
  /// kInvalidArgument when the step would not fit the trace clock.
  [[nodiscard]] Status check_times() const;
  void write(std::string_view model, std::string_view arguments, TraceSink& sink) const;

 private:
  void write_op(TraceEmitter& out,
                std::uint64_t number,
                const StepOp& op,
                const std::vector<std::vector<ValueId>>& dying) const;

  const StepGraph& graph_;
  const Calibration& gpu_;
  MathMode math_;
};

}  // namespace spillway
