// SPDX-License-Identifier: Apache-2.0
// ResNet-50, pre-activation ResNet, U-Net and VGG. Batch norm and the in-place ReLU behind it are
// one op, since they share one storage.
#include "integration/generator/forward_model.hpp"
#include "integration/generator/layers.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace spillway {
namespace {

struct Map {  // (batch, channels, side, side)
  ValueId id;
  std::uint64_t channels = 0;
  std::uint64_t side = 0;
};

class ConvForward {
 public:
  ConvForward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph)
      : model_(model), shape_(shape), graph_(graph), layers_(graph, shape) {}

  void resnet() {
    Map x = norm_relu("stem.norm", conv("stem.conv", images(), 64, 7, 2, 3));
    x = max_pool("stem.pool", x, 3, 2, 1);
    std::uint64_t width = model_.base_width;
    for (std::size_t stage = 0; stage < model_.stage_blocks.size(); ++stage, width *= 2) {
      for (std::uint64_t block = 0; block < model_.stage_blocks[stage]; ++block) {
        next_layer();
        x = bottleneck(x, width, stage > 0 && block == 0 ? 2 : 1);
      }
    }
    graph_.leave_layer();
    classify(x);
  }

  void resnet_pre_activation() {
    next_layer();
    Map x = conv("stem.conv", images(), model_.base_width, 3, 1, 1);
    std::uint64_t width = model_.base_width;
    for (std::size_t stage = 0; stage < model_.stage_blocks.size(); ++stage, width *= 2) {
      for (std::uint64_t block = 0; block < model_.stage_blocks[stage]; ++block) {
        next_layer();
        x = bottleneck_pre_activation(x, width, stage > 0 && block == 0 ? 2 : 1, block == 0);
      }
    }
    graph_.leave_layer();
    classify(norm_relu("final_norm", x));
  }

  void unet() {
    next_layer();
    std::uint64_t width = model_.base_width;
    Map x = double_conv(images(), width);
    std::vector<Map> skips;
    for (std::size_t i = 0; i < model_.stage_blocks.size(); ++i) {
      skips.push_back(x);
      next_layer();
      width *= 2;
      x = double_conv(max_pool("pool", x, 2, 2, 0), width);
    }
    while (!skips.empty()) {
      next_layer();
      width /= 2;
      x = double_conv(concat(skips.back(), up(x, width)), width);
      skips.pop_back();
    }
    graph_.leave_layer();
    x = conv("head", x, model_.classes, 1, 1, 0, true);
    layers_.cross_entropy("loss", x.id, shape_.batch * x.side * x.side, model_.classes, false);
  }

  void vgg() {
    Map x = images();
    std::uint64_t width = model_.base_width;
    for (const std::uint64_t convs : model_.stage_blocks) {
      for (std::uint64_t i = 0; i < convs; ++i) {
        next_layer();
        x = conv("conv", x, width, 3, 1, 1, true);
        x.id = layers_.relu("relu", x.id, elements(x));
      }
      x = max_pool("pool", x, 2, 2, 0);
      width = std::min<std::uint64_t>(2 * width, 512);
    }
    std::uint64_t in = x.channels * x.side * x.side;
    ValueId y = x.id;
    constexpr std::uint64_t kWidth = 4096;
    for (int i = 0; i < 2; ++i, in = kWidth) {
      next_layer();
      y = layers_.linear("fc", y, shape_.batch, in, kWidth, true);
      y = layers_.relu("relu", y, shape_.batch * kWidth);
      y = layers_.dropout("dropout", y, shape_.batch * kWidth, true);
    }
    graph_.leave_layer();
    y = layers_.linear("head", y, shape_.batch, kWidth, model_.classes, true);
    layers_.cross_entropy("loss", y, shape_.batch, model_.classes, false);
  }

 private:
  [[nodiscard]] std::uint64_t elements(const Map& x) const {
    return shape_.batch * x.channels * x.side * x.side;
  }

  void next_layer() {
    graph_.enter_layer(layer_, "layer " + std::to_string(layer_) + " ");
    ++layer_;
  }

  Map images() {
    Map x{{}, model_.channels, model_.image};
    x.id = graph_.constant("images", elements(x), graph_.dtype());
    return x;
  }

  // Scratch: one image unrolled to columns, at most 256 MiB; a 1 x 1 convolution needs none.
  [[nodiscard]] std::uint64_t scratch_bytes(std::uint64_t in,
                                            std::uint64_t kernel,
                                            std::uint64_t side) const {
    if (kernel == 1) return 0;
    return std::min<std::uint64_t>(in * kernel * kernel * side * side * dtype_bytes(graph_.dtype()),
                                   256u << 20);
  }

  Map conv(std::string_view name,
           const Map& x,
           std::uint64_t out,
           std::uint64_t kernel,
           std::uint64_t stride,
           std::uint64_t pad,
           bool bias = false) {
    const std::string text(name);
    Map y{{}, out, (x.side + 2 * pad - kernel) / stride + 1};
    OpSpec op;
    op.name = name;
    op.kind = OpKind::kConv;
    op.inputs = {x.id};
    op.params = {graph_.param(text + ".weight", out * x.channels * kernel * kernel)};
    if (bias) op.params.push_back(graph_.param(text + ".bias", out));
    op.outputs = {{.name = name, .elements = elements(y)}};
    op.saved_inputs = {0};
    op.backward = BackwardRule::kTwo;
    op.rate = RateClass::kMatmul;
    op.flops =
        2 * static_cast<double>(elements(y)) * static_cast<double>(x.channels * kernel * kernel);
    op.workspace_bytes = scratch_bytes(x.channels, kernel, y.side);
    op.backward_workspace_bytes = op.workspace_bytes;
    y.id = graph_.op(std::move(op)).front();
    return y;
  }

  // 2 x 2, stride 2, transposed.
  Map up(const Map& x, std::uint64_t out) {
    Map y{{}, out, 2 * x.side};
    OpSpec op;
    op.name = "up";
    op.kind = OpKind::kConv;
    op.inputs = {x.id};
    op.params = {graph_.param("up.weight", x.channels * out * 4), graph_.param("up.bias", out)};
    op.outputs = {{.name = "up", .elements = elements(y)}};
    op.saved_inputs = {0};
    op.backward = BackwardRule::kTwo;
    op.rate = RateClass::kMatmul;
    op.flops = 2 * static_cast<double>(elements(y)) * static_cast<double>(x.channels);
    y.id = graph_.op(std::move(op)).front();
    return y;
  }

  Map batch_norm(std::string_view name, const Map& x, bool relu) {
    const std::string text(name);
    const std::string stats = text + ".stats";
    OpSpec op;
    op.name = name;
    op.kind = OpKind::kNorm;
    op.inputs = {x.id};
    op.params = {graph_.param(text + ".weight", x.channels),
                 graph_.param(text + ".bias", x.channels)};
    op.outputs = {{.name = name,
                   .elements = elements(x),
                   .flags = static_cast<std::uint16_t>(relu ? kSparseValues : 0)},
                  {.name = stats,
                   .elements = 2 * x.channels,
                   .dtype = Dtype::kFp32,
                   .flags = kExactRequired,
                   .needs_grad = false}};
    op.saved_inputs = {0};
    op.saved_outputs = {1};
    if (relu) op.saved_outputs.push_back(0);
    op.flops = 6 * static_cast<double>(elements(x));
    op.backward_flops = 2 * op.flops;
    return {graph_.op(std::move(op)).front(), x.channels, x.side};
  }

  Map norm_relu(std::string_view name, const Map& x) { return batch_norm(name, x, true); }

  Map max_pool(std::string_view name,
               const Map& x,
               std::uint64_t kernel,
               std::uint64_t stride,
               std::uint64_t pad) {
    const std::string indices = std::string(name) + ".indices";
    Map y{{}, x.channels, (x.side + 2 * pad - kernel) / stride + 1};
    OpSpec op;
    op.name = name;
    op.kind = OpKind::kPool;
    op.inputs = {x.id};
    op.outputs = {{.name = name, .elements = elements(y)},
                  {.name = indices,
                   .elements = elements(y),
                   .dtype = Dtype::kInt64,
                   .flags = kExactRequired,
                   .needs_grad = false}};
    op.saved_inputs = {0};
    op.saved_outputs = {1};
    op.flops = static_cast<double>(elements(y)) * static_cast<double>(kernel * kernel);
    y.id = graph_.op(std::move(op)).front();
    return y;
  }

  Map concat(const Map& a, const Map& b) {
    Map y{{}, a.channels + b.channels, a.side};
    OpSpec op;
    op.name = "concat";
    op.kind = OpKind::kOther;
    op.inputs = {a.id, b.id};
    op.outputs = {{.name = "concat", .elements = elements(y)}};
    y.id = graph_.op(std::move(op)).front();
    return y;
  }

  Map bottleneck(const Map& x, std::uint64_t width, std::uint64_t stride) {
    Map y = norm_relu("norm1", conv("conv1", x, width, 1, 1, 0));
    y = norm_relu("norm2", conv("conv2", y, width, 3, stride, 1));
    y = batch_norm("norm3", conv("conv3", y, 4 * width, 1, 1, 0), false);
    Map shortcut = x;
    if (stride != 1 || x.channels != 4 * width) {
      shortcut =
          batch_norm("shortcut.norm", conv("shortcut.conv", x, 4 * width, 1, stride, 0), false);
    }
    OpSpec op;
    op.name = "residual relu";
    op.kind = OpKind::kElementwise;
    op.inputs = {y.id, shortcut.id};
    op.outputs = {{.name = "residual relu", .elements = elements(y), .flags = kSparseValues}};
    op.saved_outputs = {0};
    op.backward = BackwardRule::kShared;
    op.flops = 2 * static_cast<double>(elements(y));
    y.id = graph_.op(std::move(op)).front();
    return y;
  }

  // The first block of each stage feeds its shortcut from the first activation.
  Map bottleneck_pre_activation(const Map& x,
                                std::uint64_t width,
                                std::uint64_t stride,
                                bool project) {
    const Map in = norm_relu("norm1", x);
    Map y = norm_relu("norm2", conv("conv1", in, width, 1, 1, 0));
    y = norm_relu("norm3", conv("conv2", y, width, 3, stride, 1));
    y = conv("conv3", y, 4 * width, 1, 1, 0);
    const Map shortcut = project ? conv("shortcut.conv", in, 4 * width, 1, stride, 0) : x;
    y.id = layers_.residual("residual", y.id, shortcut.id, elements(y));
    return y;
  }

  Map double_conv(const Map& x, std::uint64_t width) {
    const Map y = norm_relu("norm1", conv("conv1", x, width, 3, 1, 1));
    return norm_relu("norm2", conv("conv2", y, width, 3, 1, 1));
  }

  void classify(const Map& x) {
    OpSpec pool;
    pool.name = "average pool";
    pool.kind = OpKind::kPool;
    pool.inputs = {x.id};
    pool.outputs = {{.name = "average pool", .elements = shape_.batch * x.channels}};
    pool.flops = static_cast<double>(elements(x));
    const ValueId pooled = graph_.op(std::move(pool)).front();
    const ValueId logits =
        layers_.linear("head", pooled, shape_.batch, x.channels, model_.classes, true);
    layers_.cross_entropy("loss", logits, shape_.batch, model_.classes, false);
  }

  const ModelConfig& model_;
  const ForwardShape& shape_;
  StepGraph& graph_;
  Layers layers_;
  std::uint16_t layer_ = 0;
};

}  // namespace

void conv_forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph) {
  ConvForward forward(model, shape, graph);
  switch (model.architecture) {
    case Architecture::kResNet:
      forward.resnet();
      break;
    case Architecture::kResNetPreAct:
      forward.resnet_pre_activation();
      break;
    case Architecture::kUnet:
      forward.unet();
      break;
    default:
      forward.vgg();
      break;
  }
}

}  // namespace spillway
