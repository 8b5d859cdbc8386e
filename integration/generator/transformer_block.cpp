// SPDX-License-Identifier: Apache-2.0
// The order of ops is that of the standard module code; storages are named after the module that
// makes them.
#include "integration/generator/transformer_block.hpp"

#include <string>
#include <utility>

namespace spillway {

TransformerBlock::TransformerBlock(const ModelConfig& model,
                                   const StackConfig& stack,
                                   const ForwardShape& shape,
                                   Layers& layers)
    : model_(model), stack_(stack), shape_(shape), layers_(layers), ranks_(shape.tensor_parallel) {
  set_sequence(shape.seq);
}

void TransformerBlock::set_sequence(std::uint64_t seq) {
  seq_ = seq;
  tokens_ = shape_.batch * seq;
  local_tokens_ = shape_.sequence_parallel ? tokens_ / ranks_ : tokens_;
}

ValueId TransformerBlock::rotary(std::string_view name, ValueId x, std::uint64_t elements) {
  StepGraph& graph = layers_.graph();
  OpSpec op;
  op.name = name;
  op.kind = OpKind::kElementwise;
  op.inputs = {x};
  op.outputs = {{.name = name, .elements = elements}};
  op.flops = 3 * static_cast<double>(elements);
  return graph.op(std::move(op)).front();
}

ValueId TransformerBlock::self_attention(ValueId x, bool causal, ValueId bias) {
  const std::uint64_t query = stack_.heads * stack_.head_dim / ranks_;
  const std::uint64_t key = stack_.kv_heads * stack_.head_dim / ranks_;
  Layers::LinearSpec spec;
  spec.name = "attn.qkv";
  spec.x = x;
  spec.tokens = tokens_;
  spec.in = stack_.hidden;
  spec.outputs = {{.name = "attn.q"}, {.name = "attn.k"}, {.name = "attn.v"}};
  spec.widths = {query, key, key};
  spec.bias = model_.bias;
  spec.column_parallel = true;
  const std::vector<ValueId> qkv = layers_.linear(std::move(spec));
  ValueId q = qkv[0];
  ValueId k = qkv[1];
  if (model_.positions == Positions::kRotary) {
    q = rotary("attn.q rotary", q, tokens_ * query);
    k = rotary("attn.k rotary", k, tokens_ * key);
  }
  AttentionShape attention;
  attention.batch = shape_.batch;
  attention.query_len = seq_;
  attention.key_len = seq_;
  attention.heads = stack_.heads / ranks_;
  attention.head_dim = stack_.head_dim;
  attention.causal = causal;
  attention.dropout = model_.dropout;
  const ValueId context = layers_.attention(q, k, qkv[2], bias, attention);
  ValueId y = layers_.linear("attn.proj", context, tokens_, query, stack_.hidden, model_.bias);
  y = layers_.reduce("attn.proj", y, tokens_ * stack_.hidden);
  return layers_.dropout("attn.dropout", y, local_tokens_ * stack_.hidden, model_.dropout);
}

ValueId TransformerBlock::cross_attention(ValueId x, ValueId memory) {
  const std::uint64_t inner = stack_.heads * stack_.head_dim;
  const ValueId q = layers_.linear("cross.q", x, tokens_, stack_.hidden, inner, model_.bias);
  Layers::LinearSpec spec;
  spec.name = "cross.kv";
  spec.x = memory;
  spec.tokens = tokens_;
  spec.in = stack_.hidden;
  spec.outputs = {{.name = "cross.k"}, {.name = "cross.v"}};
  spec.widths = {inner, inner};
  spec.bias = model_.bias;
  const std::vector<ValueId> kv = layers_.linear(std::move(spec));
  AttentionShape attention;
  attention.batch = shape_.batch;
  attention.query_len = seq_;
  attention.key_len = seq_;
  attention.heads = stack_.heads;
  attention.head_dim = stack_.head_dim;
  attention.dropout = model_.dropout;
  const ValueId context = layers_.attention(q, kv[0], kv[1], {}, attention);
  const ValueId y =
      layers_.linear("cross.proj", context, tokens_, inner, stack_.hidden, model_.bias);
  return layers_.dropout("cross.dropout", y, tokens_ * stack_.hidden, model_.dropout);
}

ValueId TransformerBlock::mlp(ValueId x) {
  const std::uint64_t width = stack_.ffn / ranks_;
  const std::uint64_t inner = tokens_ * width;
  ValueId y;
  if (model_.mlp == MlpKind::kSwiglu) {
    Layers::LinearSpec spec;
    spec.name = "mlp.gate_up";
    spec.x = x;
    spec.tokens = tokens_;
    spec.in = stack_.hidden;
    spec.outputs = {{.name = "mlp.gate"}, {.name = "mlp.up"}};
    spec.widths = {width, width};
    spec.bias = model_.bias;
    spec.column_parallel = true;
    const std::vector<ValueId> gate_up = layers_.linear(std::move(spec));
    y = layers_.gated("mlp.silu", "mlp.product", gate_up[0], gate_up[1], inner);
  } else {
    y = layers_.linear("mlp.fc1", x, tokens_, stack_.hidden, width, model_.bias, true);
    const bool relu = model_.mlp == MlpKind::kRelu;
    y = relu ? layers_.relu("mlp.relu", y, inner)
             : layers_.activation("mlp.gelu", y, inner, false, 8);
    // T5 drops out here as well.
    if (relu) y = layers_.dropout("mlp.relu dropout", y, inner, model_.dropout);
  }
  y = layers_.linear("mlp.fc2", y, tokens_, width, stack_.hidden, model_.bias);
  y = layers_.reduce("mlp.fc2", y, tokens_ * stack_.hidden);
  return layers_.dropout("mlp.dropout", y, local_tokens_ * stack_.hidden, model_.dropout);
}

// Router, dispatch to experts with equal loads, a SwiGLU MLP each, and the weighted sum of their
// outputs.
ValueId TransformerBlock::experts(ValueId x) {
  StepGraph& graph = layers_.graph();
  const std::uint64_t count = model_.experts;
  const std::uint64_t picks = tokens_ * model_.top_k;
  const std::uint64_t width = stack_.ffn / ranks_;

  // Where a token goes hangs on differences of these: no lossy codec.
  Layers::LinearSpec router;
  router.name = "router";
  router.x = x;
  router.tokens = tokens_;
  router.in = stack_.hidden;
  router.outputs = {{.name = "router", .flags = kExactRequired}};
  router.widths = {count};
  router.bias = false;
  const ValueId logits = layers_.linear(std::move(router)).front();
  OpSpec softmax;
  softmax.name = "router.softmax";
  softmax.kind = OpKind::kSoftmax;
  softmax.inputs = {logits};
  softmax.outputs = {{.name = "router.softmax",
                      .elements = tokens_ * count,
                      .dtype = Dtype::kFp32,
                      .flags = kExactRequired}};
  softmax.saved_outputs = {0};
  softmax.flops = 5 * static_cast<double>(tokens_ * count);
  const ValueId chances = graph.op(std::move(softmax)).front();
  OpSpec top;
  top.name = "router.top-k";
  top.kind = OpKind::kOther;
  top.inputs = {chances};
  top.outputs = {
      {.name = "router.weights", .elements = picks, .dtype = Dtype::kFp32, .flags = kExactRequired},
      {.name = "router.indices",
       .elements = picks,
       .dtype = Dtype::kInt64,
       .flags = kExactRequired,
       .needs_grad = false}};
  top.saved_outputs = {0, 1};
  top.flops = static_cast<double>(tokens_ * count);
  const std::vector<ValueId> chosen = graph.op(std::move(top));

  std::vector<std::string> names(count);
  std::vector<std::uint64_t> loads(count);
  OpSpec dispatch;
  dispatch.name = "experts.dispatch";
  dispatch.kind = OpKind::kOther;
  dispatch.inputs = {x, chosen[1]};
  dispatch.saved_inputs = {1};
  dispatch.reduce_input_gradient = ranks_ > 1 && !shape_.sequence_parallel;
  for (std::uint64_t e = 0; e < count; ++e) {
    loads[e] = picks / count + (e < picks % count ? 1 : 0);
    names[e] = "expert " + std::to_string(e) + ".in";
    dispatch.outputs.push_back({.name = names[e], .elements = loads[e] * stack_.hidden});
  }
  const std::vector<ValueId> parts = graph.op(std::move(dispatch));

  OpSpec combine;
  combine.name = "experts.combine";
  combine.kind = OpKind::kOther;
  for (std::uint64_t e = 0; e < count; ++e) {
    const std::string prefix = "expert " + std::to_string(e) + ".";
    const std::string gate = prefix + "gate";
    const std::string up = prefix + "up";
    const std::string gate_up = prefix + "gate_up";
    Layers::LinearSpec spec;
    spec.name = gate_up;
    spec.x = parts[e];
    spec.tokens = loads[e];
    spec.in = stack_.hidden;
    spec.outputs = {{.name = gate}, {.name = up}};
    spec.widths = {width, width};
    spec.bias = model_.bias;
    const std::vector<ValueId> both = layers_.linear(std::move(spec));
    ValueId y =
        layers_.gated(prefix + "silu", prefix + "product", both[0], both[1], loads[e] * width);
    y = layers_.linear(prefix + "down", y, loads[e], width, stack_.hidden, model_.bias);
    combine.saved_inputs.push_back(combine.inputs.size());
    combine.inputs.push_back(y);
  }
  for (const ValueId one : chosen) {
    combine.saved_inputs.push_back(combine.inputs.size());
    combine.inputs.push_back(one);
  }
  combine.outputs = {{.name = "experts.out", .elements = tokens_ * stack_.hidden}};
  combine.flops = 2 * static_cast<double>(picks) * static_cast<double>(stack_.hidden);
  combine.backward_flops = 2 * combine.flops;
  ValueId y = graph.op(std::move(combine)).front();
  y = layers_.reduce("experts.out", y, tokens_ * stack_.hidden);
  return layers_.dropout("mlp.dropout", y, local_tokens_ * stack_.hidden, model_.dropout);
}

ValueId TransformerBlock::pre_norm(ValueId x, bool causal, ValueId bias, ValueId memory) {
  const std::uint64_t whole = tokens_ * stack_.hidden;
  const std::uint64_t local = local_tokens_ * stack_.hidden;
  ValueId y = layers_.norm("ln1", x, local_tokens_, stack_.hidden, model_.norm);
  y = self_attention(layers_.gather("ln1", y, whole), causal, bias);
  x = layers_.residual("attn.residual", x, y, local);
  if (memory.valid()) {
    y = layers_.norm("ln_cross", x, tokens_, stack_.hidden, model_.norm);
    x = layers_.residual("cross.residual", x, cross_attention(y, memory), local);
  }
  y = layers_.norm("ln2", x, local_tokens_, stack_.hidden, model_.norm);
  y = layers_.gather("ln2", y, whole);
  return layers_.residual("mlp.residual", x, model_.experts > 0 ? experts(y) : mlp(y), local);
}

ValueId TransformerBlock::post_norm(ValueId x) {
  const std::uint64_t whole = tokens_ * stack_.hidden;
  const std::uint64_t local = local_tokens_ * stack_.hidden;
  ValueId y = self_attention(layers_.gather("layer in", x, whole), false, {});
  y = layers_.residual("attn.residual", x, y, local);
  x = layers_.norm("ln1", y, local_tokens_, stack_.hidden, model_.norm);
  y = mlp(layers_.gather("ln1", x, whole));
  y = layers_.residual("mlp.residual", x, y, local);
  return layers_.norm("ln2", y, local_tokens_, stack_.hidden, model_.norm);
}

}  // namespace spillway
