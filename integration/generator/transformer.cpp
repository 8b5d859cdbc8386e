// SPDX-License-Identifier: Apache-2.0
// Decoders (GPT, Llama, Mixtral), encoders (BERT) and encoder-decoders (T5), on one rank of a
// tensor- and pipeline-parallel group.
#include "integration/generator/forward_model.hpp"
#include "integration/generator/transformer_block.hpp"

#include <string>
#include <utility>

namespace spillway {
namespace {

std::uint64_t round_up_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

class TransformerForward {
 public:
  TransformerForward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph)
      : model_(model),
        shape_(shape),
        graph_(graph),
        layers_(graph, shape),
        hidden_(model.stack.hidden) {
    tokens_ = shape.batch * shape.seq;
    local_tokens_ = shape.sequence_parallel ? tokens_ / shape.tensor_parallel : tokens_;
    vocab_shard_ = round_up_div(model.vocab, shape.tensor_parallel);
  }

  StageBoundary run() {
    if (model_.architecture == Architecture::kEncoderDecoder) {
      encoder_decoder();
      return {};
    }
    StageBoundary boundary;
    const bool first = shape_.stage == 0;
    const bool last = shape_.stage + 1 == shape_.pipeline_stages;
    ValueId x;
    if (first) {
      x = embed();
    } else {
      x = graph_.receive("receive forward", local_tokens_ * hidden_);
      boundary.received = x;
    }
    const std::uint64_t layers = model_.stack.layers;
    const std::uint64_t begin = layers * shape_.stage / shape_.pipeline_stages;
    const std::uint64_t end = layers * (shape_.stage + 1) / shape_.pipeline_stages;
    const bool encoder = model_.architecture == Architecture::kEncoder;
    for (std::uint64_t i = begin; i < end; ++i) {
      graph_.enter_layer(static_cast<std::uint16_t>(i), "layer " + std::to_string(i) + " ");
      TransformerBlock block(model_, model_.stack, shape_, layers_);
      x = encoder ? block.post_norm(x) : block.pre_norm(x, true, {});
    }
    graph_.leave_layer();
    if (!last) {
      graph_.send("send forward", x, Phase::kForward);
      boundary.sent = x;
    } else if (encoder) {
      encoder_heads(x);
    } else {
      x = layers_.norm("final_norm", x, local_tokens_, hidden_, model_.norm);
      head(layers_.gather("final_norm", x, tokens_ * hidden_), tokens_);
    }
    return boundary;
  }

 private:
  ValueId token_table() { return graph_.param("embed.tokens", vocab_shard_ * hidden_); }

  ValueId embed() {
    const ValueId ids = graph_.constant("token ids", tokens_, Dtype::kInt64);
    std::vector<ValueId> tables = {token_table()};
    if (model_.positions == Positions::kLearned) {
      tables.push_back(graph_.param("embed.positions", model_.max_positions * hidden_));
    }
    if (model_.token_types > 0)
      tables.push_back(graph_.param("embed.types", model_.token_types * hidden_));
    ValueId x = layers_.embedding("embed", ids, std::move(tables), tokens_ * hidden_);
    x = layers_.reduce("embed", x, tokens_ * hidden_);
    if (model_.architecture == Architecture::kEncoder) {
      x = layers_.norm("embed.norm", x, local_tokens_, hidden_, model_.norm);
    }
    return layers_.dropout("embed.dropout", x, local_tokens_ * hidden_, model_.dropout);
  }

  void head(ValueId x, std::uint64_t rows) {
    Layers::LinearSpec spec;
    spec.name = "head";
    spec.x = x;
    spec.tokens = rows;
    spec.in = hidden_;
    spec.outputs = {{.name = "logits"}};
    spec.widths = {vocab_shard_};
    spec.bias = model_.architecture == Architecture::kEncoder;
    if (model_.tied_head) spec.weight = token_table();
    spec.column_parallel = true;
    const ValueId logits = layers_.linear(std::move(spec)).front();
    layers_.cross_entropy("loss", logits, rows, vocab_shard_, shape_.tensor_parallel > 1);
  }

  // Masked tokens: transform, gelu, norm, tied output; next sentence: the first token of each
  // sample, tanh, two classes.
  void encoder_heads(ValueId x) {
    x = layers_.gather("encoder", x, tokens_ * hidden_);
    OpSpec first;
    first.name = "pooler.first token";
    first.kind = OpKind::kOther;
    first.inputs = {x};
    first.outputs = {{.name = "pooler.first token", .elements = shape_.batch * hidden_}};
    const ValueId pooled_in = graph_.op(std::move(first)).front();
    ValueId pooled = layers_.linear("pooler", pooled_in, shape_.batch, hidden_, hidden_, true);
    pooled = layers_.activation("pooler.tanh", pooled, shape_.batch * hidden_, true, 4);
    const ValueId pair =
        layers_.linear("head.next sentence", pooled, shape_.batch, hidden_, 2, true);
    layers_.cross_entropy("next sentence loss", pair, shape_.batch, 2, false);

    ValueId y = layers_.linear("head.transform", x, tokens_, hidden_, hidden_, true);
    y = layers_.activation("head.gelu", y, tokens_ * hidden_, false, 8);
    y = layers_.norm("head.norm", y, tokens_, hidden_, model_.norm);
    head(y, tokens_);
  }

  // The bias of relative positions, learned, shared by all layers of a stack.
  ValueId relative_bias(std::string_view name) {
    constexpr std::uint64_t kBuckets = 32;
    const std::string text(name);
    const ValueId table = graph_.param(text + ".table", kBuckets * model_.stack.heads);
    const ValueId buckets =
        graph_.shared_constant(text + ".buckets", shape_.seq * shape_.seq, Dtype::kInt64);
    return layers_.embedding(name, buckets, {table}, model_.stack.heads * shape_.seq * shape_.seq);
  }

  void encoder_decoder() {
    const std::uint64_t n = tokens_ * hidden_;
    const ValueId ids = graph_.constant("encoder token ids", tokens_, Dtype::kInt64);
    ValueId x = layers_.embedding("encoder embed", ids, {token_table()}, n);
    x = layers_.dropout("encoder embed.dropout", x, n, model_.dropout);
    const ValueId encoder_bias = relative_bias("encoder bias");
    for (std::uint64_t i = 0; i < model_.stack.layers; ++i) {
      graph_.enter_layer(static_cast<std::uint16_t>(i), "layer " + std::to_string(i) + " encoder ");
      x = TransformerBlock(model_, model_.stack, shape_, layers_).pre_norm(x, false, encoder_bias);
    }
    graph_.leave_layer();
    x = layers_.norm("encoder final_norm", x, tokens_, hidden_, model_.norm);
    const ValueId memory = layers_.dropout("encoder final dropout", x, n, model_.dropout);

    const ValueId target_ids = graph_.constant("decoder token ids", tokens_, Dtype::kInt64);
    x = layers_.embedding("decoder embed", target_ids, {token_table()}, n);
    x = layers_.dropout("decoder embed.dropout", x, n, model_.dropout);
    const ValueId decoder_bias = relative_bias("decoder bias");
    for (std::uint64_t i = 0; i < model_.second.layers; ++i) {
      const std::uint64_t number = model_.stack.layers + i;
      graph_.enter_layer(static_cast<std::uint16_t>(number),
                         "layer " + std::to_string(number) + " decoder ");
      x = TransformerBlock(model_, model_.second, shape_, layers_)
              .pre_norm(x, true, decoder_bias, memory);
    }
    graph_.leave_layer();
    x = layers_.norm("decoder final_norm", x, tokens_, hidden_, model_.norm);
    x = layers_.dropout("decoder final dropout", x, n, model_.dropout);
    head(x, tokens_);
  }

  const ModelConfig& model_;
  const ForwardShape& shape_;
  StepGraph& graph_;
  Layers layers_;
  std::uint64_t hidden_;
  std::uint64_t tokens_ = 0;
  std::uint64_t local_tokens_ = 0;
  std::uint64_t vocab_shard_ = 0;
};

}  // namespace

StageBoundary transformer_forward(const ModelConfig& model,
                                  const ForwardShape& shape,
                                  StepGraph& graph) {
  return TransformerForward(model, shape, graph).run();
}

}  // namespace spillway
