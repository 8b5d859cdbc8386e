// SPDX-License-Identifier: Apache-2.0
// The modules that transformer and recurrent models are made of, each as the ops and saved tensors
// of its standard unfused form (docs/generator.md lists them). Under tensor parallelism the sizes
// given here are one rank's.
#pragma once

#include "integration/generator/forward_model.hpp"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// Sizes of one attention: `heads` are this rank's.
struct AttentionShape {
  std::uint64_t batch = 0;
  std::uint64_t query_len = 0;
  std::uint64_t key_len = 0;
  std::uint64_t heads = 0;
  std::uint64_t head_dim = 0;
  bool causal = false;
  bool dropout = false;
};

class Layers {
 public:
  Layers(StepGraph& graph, const ForwardShape& shape) : graph_(graph), shape_(shape) {}

  StepGraph& graph() { return graph_; }

  struct LinearSpec {
    std::string_view name;
    ValueId x;
    std::uint64_t tokens = 0;
    std::uint64_t in = 0;
    std::vector<Output> outputs;  // elements are filled in: widths x tokens
    std::vector<std::uint64_t> widths;
    bool bias = true;
    ValueId weight;                // a shared one instead of its own
    bool column_parallel = false;  // gradients of x must be summed over ranks
  };
  std::vector<ValueId> linear(LinearSpec spec);
  /// One output of the same name.
  ValueId linear(std::string_view name,
                 ValueId x,
                 std::uint64_t tokens,
                 std::uint64_t in,
                 std::uint64_t out,
                 bool bias,
                 bool column_parallel = false);

  /// Saves its input and one (RMS) or two (layer norm) fp32 statistics a token.
  ValueId norm(
      std::string_view name, ValueId x, std::uint64_t tokens, std::uint64_t width, NormKind kind);
  /// Saves a one-byte mask (fused: nothing); x itself when `active` is false. What comes out of a
  /// sparse x is sparse; a rate of a tenth makes nothing else so.
  ValueId dropout(std::string_view name,
                  ValueId x,
                  std::uint64_t elements,
                  bool active,
                  OpKind kind = OpKind::kDropout);
  ValueId residual(std::string_view name, ValueId a, ValueId b, std::uint64_t elements);
  /// An element-wise op that saves its input (gelu, silu) or its output (tanh, sigmoid).
  ValueId activation(std::string_view name,
                     ValueId x,
                     std::uint64_t elements,
                     bool saves_output,
                     double flops_per_element,
                     std::uint16_t output_flags = 0);
  /// Saves its output, which is tagged kSparseValues.
  ValueId relu(std::string_view name, ValueId x, std::uint64_t elements);
  /// silu(gate) * up. Two ops that save gate, silu and up; one that saves gate and up when fused.
  ValueId gated(const std::string& silu,
                const std::string& product_name,
                ValueId gate,
                ValueId up,
                std::uint64_t elements);
  /// a x b, saving both.
  ValueId product(std::string_view name, ValueId a, ValueId b, std::uint64_t elements);
  /// Table look-ups summed: the tables must be parameters.
  ValueId embedding(std::string_view name,
                    ValueId ids,
                    std::vector<ValueId> tables,
                    std::uint64_t elements);
  /// softmax(q k^T + bias) v, fused or not; `bias` may be none.
  ValueId attention(ValueId q, ValueId k, ValueId v, ValueId bias, const AttentionShape& shape);
  /// Cross entropy: saves the fp32 softmax and the labels, and starts the backward.
  void cross_entropy(std::string_view name,
                     ValueId logits,
                     std::uint64_t rows,
                     std::uint64_t classes,
                     bool collective);

  /// Sequence-parallel shard -> whole; x itself otherwise.
  ValueId gather(std::string_view name, ValueId x, std::uint64_t whole_elements);
  /// Sum over ranks: all-reduce, or reduce-scatter under sequence parallelism; x itself on one
  /// rank.
  ValueId reduce(std::string_view name, ValueId x, std::uint64_t whole_elements);

 private:
  StepGraph& graph_;
  const ForwardShape& shape_;
};

}  // namespace spillway
