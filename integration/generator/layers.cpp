// SPDX-License-Identifier: Apache-2.0
// What each module runs, makes and saves.
#include "integration/generator/layers.hpp"

#include <utility>

namespace spillway {
namespace {

double as_flops(std::uint64_t a, std::uint64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

}  // namespace

std::vector<ValueId> Layers::linear(LinearSpec spec) {
  const std::string name(spec.name);
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < spec.widths.size(); ++i) {
    spec.outputs[i].elements = spec.tokens * spec.widths[i];
    out += spec.widths[i];
  }
  OpSpec op;
  op.name = spec.name;
  op.kind = OpKind::kMatmul;
  op.inputs = {spec.x};
  op.params = {spec.weight.valid() ? spec.weight : graph_.param(name + ".weight", spec.in * out)};
  if (spec.bias) op.params.push_back(graph_.param(name + ".bias", out));
  op.outputs = std::move(spec.outputs);
  op.saved_inputs = {0};
  op.backward = BackwardRule::kTwo;
  op.rate = RateClass::kMatmul;
  op.flops = 2 * as_flops(spec.tokens, spec.in) * static_cast<double>(out);
  op.reduce_input_gradient =
      spec.column_parallel && shape_.tensor_parallel > 1 && !shape_.sequence_parallel;
  return graph_.op(std::move(op));
}

ValueId Layers::linear(std::string_view name,
                       ValueId x,
                       std::uint64_t tokens,
                       std::uint64_t in,
                       std::uint64_t out,
                       bool bias,
                       bool column_parallel) {
  LinearSpec spec;
  spec.name = name;
  spec.x = x;
  spec.tokens = tokens;
  spec.in = in;
  spec.outputs = {{.name = name}};
  spec.widths = {out};
  spec.bias = bias;
  spec.column_parallel = column_parallel;
  return linear(std::move(spec)).front();
}

ValueId Layers::norm(
    std::string_view name, ValueId x, std::uint64_t tokens, std::uint64_t width, NormKind kind) {
  const std::string text(name);
  const std::string stats = text + ".stats";
  const std::uint64_t per_token = kind == NormKind::kLayerNorm ? 2 : 1;
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kNorm;
  op.inputs = {x};
  op.params = {graph_.param(text + ".weight", width)};
  if (kind == NormKind::kLayerNorm) op.params.push_back(graph_.param(text + ".bias", width));
  op.outputs = {{.name = name, .elements = tokens * width},
                {.name = stats,
                 .elements = tokens * per_token,
                 .dtype = Dtype::kFp32,
                 .flags = kExactRequired,
                 .needs_grad = false}};
  op.saved_inputs = {0};
  op.saved_outputs = {1};
  op.flops = 5 * as_flops(tokens, width);
  op.backward_flops = 2 * op.flops;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::dropout(
    std::string_view name, ValueId x, std::uint64_t elements, bool active, OpKind kind) {
  if (!active) return x;
  const std::string mask = std::string(name) + " mask";
  OpSpec op;
  op.name = name;
  op.kind = kind;
  op.inputs = {x};
  const auto sparse =
      static_cast<std::uint16_t>(graph_.values()[x.index()].tag.flags & kSparseValues);
  op.outputs = {{.name = name, .elements = elements, .flags = sparse}};
  // A fused kernel draws the same numbers again from seed and offset.
  if (!shape_.fused) {
    op.outputs.push_back({.name = mask,
                          .elements = elements,
                          .dtype = Dtype::kBool,
                          .flags = kBoolean,
                          .needs_grad = false});
    op.saved_outputs = {1};
  }
  op.flops = 2 * static_cast<double>(elements);
  op.flags = kOpRng | kOpRngRestorable;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::residual(std::string_view name, ValueId a, ValueId b, std::uint64_t elements) {
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kElementwise;
  op.inputs = {a, b};
  op.outputs = {{.name = name, .elements = elements}};
  op.backward = BackwardRule::kPass;
  op.flops = static_cast<double>(elements);
  return graph_.op(std::move(op)).front();
}

ValueId Layers::activation(std::string_view name,
                           ValueId x,
                           std::uint64_t elements,
                           bool saves_output,
                           double flops_per_element,
                           std::uint16_t output_flags) {
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kElementwise;
  op.inputs = {x};
  op.outputs = {{.name = name, .elements = elements, .flags = output_flags}};
  if (saves_output) {
    op.saved_outputs = {0};
  } else {
    op.saved_inputs = {0};
  }
  op.flops = flops_per_element * static_cast<double>(elements);
  return graph_.op(std::move(op)).front();
}

ValueId Layers::relu(std::string_view name, ValueId x, std::uint64_t elements) {
  return activation(name, x, elements, true, 1, kSparseValues);
}

ValueId Layers::gated(const std::string& silu,
                      const std::string& product_name,
                      ValueId gate,
                      ValueId up,
                      std::uint64_t elements) {
  if (!shape_.fused)
    return product(product_name, activation(silu, gate, elements, false, 5), up, elements);
  OpSpec op;
  op.name = product_name;
  op.kind = OpKind::kElementwise;
  op.inputs = {gate, up};
  op.outputs = {{.name = product_name, .elements = elements}};
  op.saved_inputs = {0, 1};
  op.flops = 6 * static_cast<double>(elements);
  op.backward_flops = 2 * op.flops;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::product(std::string_view name, ValueId a, ValueId b, std::uint64_t elements) {
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kElementwise;
  op.inputs = {a, b};
  op.outputs = {{.name = name, .elements = elements}};
  op.saved_inputs = {0, 1};
  op.flops = static_cast<double>(elements);
  op.backward_flops = 2 * op.flops;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::embedding(std::string_view name,
                          ValueId ids,
                          std::vector<ValueId> tables,
                          std::uint64_t elements) {
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kEmbedding;
  op.inputs = {ids};
  op.flops = static_cast<double>(elements) * static_cast<double>(tables.size());
  op.params = std::move(tables);
  op.outputs = {{.name = name, .elements = elements}};
  op.saved_inputs = {0};
  op.sparse_params = true;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::attention(ValueId q, ValueId k, ValueId v, ValueId bias, const AttentionShape& s) {
  const std::uint64_t rows = s.batch * s.heads * s.query_len;
  const std::uint64_t context = rows * s.head_dim;
  const double product_flops = 2 * as_flops(rows, s.key_len) * static_cast<double>(s.head_dim);
  if (shape_.flash) {
    OpSpec op;
    op.name = "attn.flash";
    op.kind = OpKind::kAttention;
    op.inputs = {q, k, v};
    op.saved_inputs = {0, 1, 2};
    if (bias.valid()) {
      op.inputs.push_back(bias);
      op.saved_inputs.push_back(3);
    }
    op.outputs = {{.name = "attn.context", .elements = context},
                  {.name = "attn.lse",
                   .elements = rows,
                   .dtype = Dtype::kFp32,
                   .flags = kExactRequired,
                   .needs_grad = false}};
    op.saved_outputs = {0, 1};
    op.rate = RateClass::kAttention;
    op.flops = 2 * product_flops * (s.causal ? 0.5 : 1.0);
    op.backward_flops = 2.5 * op.flops;  // five products where the forward has two
    op.backward_workspace_bytes =
        4 * (context + rows);  // fp32 sum of the query's gradient, and one number a row
    if (s.dropout) op.flags = kOpRng | kOpRngRestorable;
    return graph_.op(std::move(op)).front();
  }

  const std::uint64_t weights = rows * s.key_len;
  OpSpec scores;
  scores.name = "attn.scores";
  scores.kind = OpKind::kAttention;
  scores.inputs = {q, k};
  scores.outputs = {{.name = "attn.scores", .elements = weights}};
  scores.saved_inputs = {0, 1};
  scores.rate = RateClass::kMatmul;
  scores.flops = product_flops;
  ValueId x = graph_.op(std::move(scores)).front();
  if (bias.valid()) {
    OpSpec add;
    add.name = "attn.scores + bias";
    add.kind = OpKind::kAttention;
    add.inputs = {x, bias};
    add.outputs = {{.name = "attn.scores + bias", .elements = weights}};
    add.flops = static_cast<double>(weights);
    x = graph_.op(std::move(add)).front();
  }
  OpSpec softmax;
  softmax.name = "attn.softmax";
  softmax.kind = OpKind::kAttention;
  softmax.inputs = {x};
  softmax.outputs = {{.name = "attn.softmax", .elements = weights}};
  softmax.saved_outputs = {0};
  softmax.flops = 5 * static_cast<double>(weights);
  x = graph_.op(std::move(softmax)).front();
  x = dropout("attn.weights dropout", x, weights, s.dropout, OpKind::kAttention);
  OpSpec over_values;
  over_values.name = "attn.context";
  over_values.kind = OpKind::kAttention;
  over_values.inputs = {x, v};
  over_values.outputs = {{.name = "attn.context", .elements = context}};
  over_values.saved_inputs = {0, 1};
  over_values.rate = RateClass::kMatmul;
  over_values.flops = product_flops;
  return graph_.op(std::move(over_values)).front();
}

void Layers::cross_entropy(std::string_view name,
                           ValueId logits,
                           std::uint64_t rows,
                           std::uint64_t classes,
                           bool collective) {
  const std::string text(name);
  const std::string softmax = text + ".softmax";
  const ValueId labels = graph_.constant(text + ".labels", rows, Dtype::kInt64);
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kLoss;
  op.inputs = {logits, labels};
  op.outputs = {// Every gradient of the step follows from it.
                {.name = softmax,
                 .elements = rows * classes,
                 .dtype = Dtype::kFp32,
                 .flags = kExactRequired,
                 .needs_grad = false},
                {.name = name, .elements = 1, .dtype = Dtype::kFp32, .flags = kExactRequired}};
  op.saved_inputs = {1};
  op.saved_outputs = {0};
  op.flops = 5 * as_flops(rows, classes);
  if (collective) {
    op.flags = kOpCollective | kOpNeverRecompute;  // maxima and sums over the vocabulary's shards
    op.link_bytes = rows * 12;                     // three fp32 numbers a row
  }
  graph_.op(std::move(op));
}

ValueId Layers::gather(std::string_view name, ValueId x, std::uint64_t whole_elements) {
  if (!shape_.sequence_parallel) return x;
  const std::string text = std::string(name) + ".gathered";
  const std::uint64_t ranks = shape_.tensor_parallel;
  OpSpec op;
  op.name = "all-gather";
  op.kind = OpKind::kCollective;
  op.inputs = {x};
  op.outputs = {{.name = text, .elements = whole_elements}};
  op.backward = BackwardRule::kReduceScatter;
  op.gathers = true;
  op.link_bytes = whole_elements / ranks * (ranks - 1) * dtype_bytes(graph_.dtype());
  op.flags = kOpCollective | kOpNeverRecompute;
  return graph_.op(std::move(op)).front();
}

ValueId Layers::reduce(std::string_view name, ValueId x, std::uint64_t whole_elements) {
  if (shape_.tensor_parallel == 1) return x;
  const std::uint64_t ranks = shape_.tensor_parallel;
  const std::string text = std::string(name) + ".reduced";
  const std::uint64_t link_bytes =
      whole_elements / ranks * (ranks - 1) * dtype_bytes(graph_.dtype());
  OpSpec op;
  op.kind = OpKind::kCollective;
  op.inputs = {x};
  op.flags = kOpCollective | kOpNeverRecompute;
  if (shape_.sequence_parallel) {
    op.name = "reduce-scatter";
    op.outputs = {{.name = text, .elements = whole_elements / ranks}};
    op.backward = BackwardRule::kAllGather;
    op.link_bytes = link_bytes;
  } else {
    op.name = "all-reduce";
    op.outputs = {{.name = text, .elements = whole_elements}};
    op.backward = BackwardRule::kPass;
    op.link_bytes = 2 * link_bytes;
  }
  return graph_.op(std::move(op)).front();
}

}  // namespace spillway
