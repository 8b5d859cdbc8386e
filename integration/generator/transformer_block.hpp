// SPDX-License-Identifier: Apache-2.0
// One transformer layer: attention, dense or mixture-of-experts MLP, norms, dropouts, residual
// adds, and the collectives of tensor and sequence parallelism around them.
#pragma once

#include "integration/generator/layers.hpp"

#include <cstdint>

namespace spillway {

class TransformerBlock {
 public:
  TransformerBlock(const ModelConfig& model,
                   const StackConfig& stack,
                   const ForwardShape& shape,
                   Layers& layers);
  /// The sequence length of a stack that is not shape.seq (the vision tower's patches).
  void set_sequence(std::uint64_t seq);

  /// x + attention(norm(x)), [+ attention over `memory`], + mlp(norm(x)).
  ValueId pre_norm(ValueId x, bool causal, ValueId bias, ValueId memory = {});
  /// norm(x + attention(x)), norm(x + mlp(x)).
  ValueId post_norm(ValueId x);

 private:
  ValueId self_attention(ValueId x, bool causal, ValueId bias);
  ValueId cross_attention(ValueId x, ValueId memory);
  ValueId rotary(std::string_view name, ValueId x, std::uint64_t elements);
  ValueId mlp(ValueId x);
  ValueId experts(ValueId x);

  const ModelConfig& model_;
  const StackConfig& stack_;
  const ForwardShape& shape_;
  Layers& layers_;
  std::uint64_t seq_ = 0;
  std::uint64_t tokens_ = 0;        // of the whole sequence
  std::uint64_t local_tokens_ = 0;  // of this rank's shard of it
  std::uint64_t ranks_ = 1;
};

}  // namespace spillway
