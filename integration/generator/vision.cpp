// SPDX-License-Identifier: Apache-2.0
// ViT with a classification head, and CLIP with its two towers and contrastive loss.
#include "integration/generator/forward_model.hpp"
#include "integration/generator/transformer_block.hpp"

#include <string>

namespace spillway {
namespace {

class VisionForward {
 public:
  VisionForward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph)
      : model_(model), shape_(shape), graph_(graph), layers_(graph, shape) {}

  void classify() {
    const ValueId x = image_tower(false);
    const std::uint64_t hidden = model_.stack.hidden;
    const ValueId logits = layers_.linear("head", x, shape_.batch, hidden, model_.classes, true);
    layers_.cross_entropy("loss", logits, shape_.batch, model_.classes, false);
  }

  void contrast() {
    const std::uint64_t b = shape_.batch;
    const std::uint64_t width = model_.projection;
    ValueId image = image_tower(true);
    image = layers_.linear("image projection", image, b, model_.stack.hidden, width, false);
    image = normalise("image features", image, b * width);
    ValueId text = text_tower();
    text = layers_.linear("text projection", text, b, model_.second.hidden, width, false);
    text = normalise("text features", text, b * width);
    OpSpec similarity;
    similarity.name = "similarity";
    similarity.kind = OpKind::kMatmul;
    similarity.inputs = {image, text};
    similarity.params = {graph_.param("logit scale", 1)};
    similarity.outputs = {{.name = "similarity", .elements = b * b}};
    similarity.saved_inputs = {0, 1};
    similarity.rate = RateClass::kMatmul;
    similarity.flops = 2 * static_cast<double>(b * b) * static_cast<double>(width);
    const ValueId logits = graph_.op(std::move(similarity)).front();
    layers_.cross_entropy("loss", logits, b, b, false);
  }

 private:
  [[nodiscard]] std::uint64_t patches() const {
    const std::uint64_t side = model_.image / model_.patch;
    return side * side;
  }

  // One token of each sample: its backward fills the rest of the gradient with zeros.
  ValueId pick_token(std::string_view name, ValueId x, std::uint64_t width) {
    OpSpec op;
    op.name = name;
    op.kind = OpKind::kOther;
    op.inputs = {x};
    op.outputs = {{.name = name, .elements = shape_.batch * width}};
    return graph_.op(std::move(op)).front();
  }

  ValueId normalise(std::string_view name, ValueId x, std::uint64_t elements) {
    return layers_.activation(name, x, elements, false, 3);
  }

  ValueId image_tower(bool clip) {
    const StackConfig& stack = model_.stack;
    const std::uint64_t b = shape_.batch;
    const std::uint64_t tokens = patches() + 1;
    const std::uint64_t pixels = model_.channels * model_.patch * model_.patch;
    const ValueId images = graph_.constant(
        "images", b * model_.channels * model_.image * model_.image, graph_.dtype());
    OpSpec cut;
    cut.name = "patches";
    cut.kind = OpKind::kConv;
    cut.inputs = {images};
    cut.params = {graph_.param("patches.weight", pixels * stack.hidden)};
    if (!clip) cut.params.push_back(graph_.param("patches.bias", stack.hidden));
    cut.outputs = {{.name = "patches", .elements = b * patches() * stack.hidden}};
    cut.saved_inputs = {0};
    cut.backward = BackwardRule::kTwo;
    cut.rate = RateClass::kMatmul;
    cut.flops = 2 * static_cast<double>(b * patches() * stack.hidden) * static_cast<double>(pixels);
    ValueId x = graph_.op(std::move(cut)).front();
    OpSpec join;
    join.name = "class token and positions";
    join.kind = OpKind::kEmbedding;
    join.inputs = {x};
    join.params = {graph_.param("class token", stack.hidden),
                   graph_.param("embed.positions", tokens * stack.hidden)};
    join.outputs = {{.name = "embed", .elements = b * tokens * stack.hidden}};
    join.backward_reads_params = false;
    join.flops = static_cast<double>(b * tokens * stack.hidden);
    x = graph_.op(std::move(join)).front();
    if (clip) x = layers_.norm("image first_norm", x, b * tokens, stack.hidden, model_.norm);
    for (std::uint64_t i = 0; i < stack.layers; ++i) {
      const std::string number = "layer " + std::to_string(i);
      graph_.enter_layer(static_cast<std::uint16_t>(i), number + (clip ? " image " : " "));
      TransformerBlock block(model_, stack, shape_, layers_);
      block.set_sequence(tokens);
      x = block.pre_norm(x, false, {});
    }
    graph_.leave_layer();
    if (clip) {  // only the class token goes through the last norm
      x = pick_token("image class token", x, stack.hidden);
      return layers_.norm("image final_norm", x, b, stack.hidden, model_.norm);
    }
    x = layers_.norm("final_norm", x, b * tokens, stack.hidden, model_.norm);
    return pick_token("class token out", x, stack.hidden);
  }

  ValueId text_tower() {
    const StackConfig& stack = model_.second;
    const std::uint64_t tokens = shape_.batch * shape_.seq;
    const ValueId ids = graph_.constant("token ids", tokens, Dtype::kInt64);
    ValueId x =
        layers_.embedding("text embed",
                          ids,
                          {graph_.param("embed.tokens", model_.vocab * stack.hidden),
                           graph_.param("text positions", model_.max_positions * stack.hidden)},
                          tokens * stack.hidden);
    for (std::uint64_t i = 0; i < stack.layers; ++i) {
      const std::uint64_t number = model_.stack.layers + i;
      graph_.enter_layer(static_cast<std::uint16_t>(number),
                         "layer " + std::to_string(number) + " text ");
      x = TransformerBlock(model_, stack, shape_, layers_).pre_norm(x, true, {});
    }
    graph_.leave_layer();
    x = layers_.norm("text final_norm", x, tokens, stack.hidden, model_.norm);
    return pick_token("text end token", x, stack.hidden);
  }

  const ModelConfig& model_;
  const ForwardShape& shape_;
  StepGraph& graph_;
  Layers layers_;
};

}  // namespace

void vision_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph) {
  VisionForward forward(model, shape, graph);
  if (model.architecture == Architecture::kDual) {
    forward.contrast();
  } else {
    forward.classify();
  }
}

}  // namespace spillway
