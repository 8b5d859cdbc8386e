// SPDX-License-Identifier: Apache-2.0
// Forward passes of the built-in architectures, each written as calls on a StepGraph.
#pragma once

#include "integration/generator/model_config.hpp"
#include "integration/generator/step_graph.hpp"

#include <cstdint>

namespace spillway {

/// What a forward pass is built for.
struct ForwardShape {
  std::uint64_t batch = 1;  // samples of one micro-batch
  std::uint64_t seq = 0;
  bool flash = true;
  bool fused = false;
  std::uint32_t tensor_parallel = 1;
  bool sequence_parallel = false;
  std::uint32_t pipeline_stages = 1;
  std::uint32_t stage = 0;
};

/// Where a pipeline stage begins and ends; none for the first and the last.
struct StageBoundary {
  ValueId received;
  ValueId sent;
};

/// Appends one micro-batch's forward pass; validated numbers only.
StageBoundary transformer_forward(const ModelConfig& model,
                                  const ForwardShape& shape,
                                  StepGraph& graph);
void vision_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph);
void conv_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph);
void lstm_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph);

}  // namespace spillway
