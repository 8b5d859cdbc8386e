// SPDX-License-Identifier: Apache-2.0
// Checks the options, builds the step's graph in schedule order, and hands it to the writer.
#include "integration/generator/generator.hpp"

#include "core/printable.hpp"
#include "integration/generator/forward_model.hpp"
#include "integration/generator/step_graph.hpp"
#include "integration/generator/step_writer.hpp"

#include <algorithm>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kBatchMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kSeqMax = std::uint64_t{1} << 24;
constexpr std::uint64_t kLstmSeqMax = 16384;
constexpr std::uint32_t kMicroBatchesMax = 254;  // 8 bits in a tag, one of them "none"
constexpr double kOpsMax = 4e6;
constexpr double kElementsMax = 1e18;  // of one storage, before the graph adds up exact bytes

struct DtypeChoice {
  std::string_view name;
  Dtype storage;
  MathMode math;
};
constexpr DtypeChoice kDtypes[] = {{"bf16", Dtype::kBf16, MathMode::kBf16},
                                   {"fp16", Dtype::kFp16, MathMode::kFp16},
                                   {"fp32", Dtype::kFp32, MathMode::kFp32},
                                   {"tf32", Dtype::kFp32, MathMode::kTf32}};

Status invalid(const std::string& what) { return Status(Code::kInvalidArgument, what); }

Status range(const char* what, std::uint64_t value, std::uint64_t max) {
  if (value >= 1 && value <= max) return Status();
  return invalid(std::string(what) + ": expected 1 to " + std::to_string(max) + ", found " +
                 std::to_string(value));
}

Result<DtypeChoice> choose_dtype(std::string_view name) {
  for (const DtypeChoice& choice : kDtypes) {
    if (choice.name == name) return choice;
  }
  return invalid("dtype: expected bf16, fp16, fp32 or tf32, found \"" + printable(name) + "\"");
}

bool is_sequence_model(Architecture a) {
  return a == Architecture::kDecoder || a == Architecture::kEncoder ||
         a == Architecture::kEncoderDecoder || a == Architecture::kDual || a == Architecture::kLstm;
}

Status check_parallel(const ModelConfig& model, const ForwardShape& shape) {
  const std::uint64_t tp = shape.tensor_parallel;
  const std::uint64_t pp = shape.pipeline_stages;
  if (tp == 1 && pp == 1) {
    return shape.sequence_parallel ? invalid("sequence-parallel: expected tp of 2 or more, found 1")
                                   : Status();
  }
  if (model.architecture != Architecture::kDecoder &&
      model.architecture != Architecture::kEncoder) {
    return Status(
        Code::kUnsupported,
        model.name +
            ": tensor and pipeline parallelism are written for decoder and encoder models");
  }
  const auto divides = [&](const char* what, std::uint64_t value) {
    return value % tp == 0 ? Status()
                           : invalid("tp: expected a divisor of " + std::string(what) + " (" +
                                     std::to_string(value) + "), found " + std::to_string(tp));
  };
  SPW_RETURN_IF_ERROR(divides("heads", model.stack.heads));
  SPW_RETURN_IF_ERROR(divides("kv-heads", model.stack.kv_heads));
  SPW_RETURN_IF_ERROR(divides("ffn", model.stack.ffn));
  if (shape.sequence_parallel) {
    if (tp == 1) return invalid("sequence-parallel: expected tp of 2 or more, found 1");
    SPW_RETURN_IF_ERROR(divides("seq", shape.seq));
  }
  if (pp > model.stack.layers) {
    return invalid("pp: expected at most " + std::to_string(model.stack.layers) +
                   " layers, found " + std::to_string(pp));
  }
  if (shape.stage >= pp) {
    return invalid("pp-stage: expected 0 to " + std::to_string(pp - 1) + ", found " +
                   std::to_string(shape.stage));
  }
  return Status();
}

// Bounds in floating point on what the builders multiply in 64 bits, and on how many ops there will
// be.
Status check_size(const ModelConfig& model,
                  const ForwardShape& shape,
                  std::uint32_t micro_batches) {
  const auto d = [](std::uint64_t v) { return static_cast<double>(v); };
  double widest = 1;
  double ops = 0;
  for (const StackConfig* stack : {&model.stack, &model.second}) {
    const double inner = d(stack->heads) * d(stack->head_dim);
    widest = std::max(
        {widest, d(stack->hidden), 3 * inner, 2 * d(stack->ffn), d(stack->heads) * d(shape.seq)});
    ops += d(stack->layers) * (100 + 24 * d(model.experts));
  }
  const double side = model.patch > 0 ? d(model.image / model.patch) : 0;
  const double tokens = d(shape.batch) * std::max(d(shape.seq), side * side + 1);
  const double pixels = d(shape.batch) * d(model.image) * d(model.image) *
                        d(std::max<std::uint64_t>(model.base_width, 3));
  widest =
      std::max({widest, d(model.vocab), d(model.top_k) * d(model.stack.hidden), d(model.experts)});
  const double weights = std::max(d(model.stack.hidden), d(model.second.hidden)) *
                         std::max({d(model.vocab), d(shape.seq), widest});
  if (std::max({tokens * widest * 4, pixels * 64, weights * 4}) > kElementsMax) {
    return invalid("a storage of this step would exceed 2^60 bytes; use smaller dimensions");
  }
  if (model.architecture == Architecture::kLstm) ops += d(model.stack.layers) * d(shape.seq) * 40;
  for (const std::uint64_t blocks : model.stage_blocks) ops += d(blocks) * 40;
  if (ops * d(micro_batches) > kOpsMax) {
    return invalid("layers x micro-batches: this step would have about " +
                   std::to_string(static_cast<std::uint64_t>(ops * d(micro_batches))) +
                   " ops, more than 4 million");
  }
  return Status();
}

StageBoundary forward(const ModelConfig& model, const ForwardShape& shape, StepGraph& graph) {
  switch (model.architecture) {
    case Architecture::kDecoder:
    case Architecture::kEncoder:
    case Architecture::kEncoderDecoder:
      return transformer_forward(model, shape, graph);
    case Architecture::kVision:
    case Architecture::kDual:
      vision_forward(model, shape, graph);
      return {};
    case Architecture::kResNet:
    case Architecture::kResNetPreAct:
    case Architecture::kUnet:
    case Architecture::kVgg:
      conv_forward(model, shape, graph);
      return {};
    case Architecture::kLstm:
      lstm_forward(model, shape, graph);
      return {};
  }
  return {};
}

// One forward, one backward: a stage runs ahead by the number of stages after it, then alternates,
// then drains. With one stage this is forward, backward, forward, backward, ...
void build_schedule(const ModelConfig& model,
                    const ForwardShape& shape,
                    std::uint32_t micro_batches,
                    StepGraph& graph) {
  std::vector<Tape> tapes(micro_batches);
  std::vector<StageBoundary> boundaries(micro_batches);
  const auto run_forward = [&](std::uint32_t i) {
    graph.set_micro_batch(static_cast<std::uint8_t>(i));
    graph.begin_forward();
    boundaries[i] = forward(model, shape, graph);
    tapes[i] = graph.end_forward();
  };
  const auto run_backward = [&](std::uint32_t i) {
    graph.set_micro_batch(static_cast<std::uint8_t>(i));
    if (boundaries[i].sent.valid()) graph.receive_gradient(boundaries[i].sent);
    graph.backward(tapes[i]);
    tapes[i].clear();
    if (boundaries[i].received.valid()) {
      graph.send("send backward", graph.gradient_of(boundaries[i].received), Phase::kBackward);
    }
  };
  const std::uint32_t ahead = std::min(shape.pipeline_stages - shape.stage - 1, micro_batches);
  for (std::uint32_t i = 0; i < ahead; ++i) run_forward(i);
  for (std::uint32_t i = ahead; i < micro_batches; ++i) {
    run_forward(i);
    run_backward(i - ahead);
  }
  for (std::uint32_t i = micro_batches - ahead; i < micro_batches; ++i) run_backward(i);
}

std::uint32_t optimizer_bytes(Optimizer optimizer, Dtype storage) {
  const std::uint32_t master = storage == Dtype::kFp32 ? 0 : 4;
  switch (optimizer) {
    case Optimizer::kAdamW:
      return master + 8;
    case Optimizer::kSgd:
      return master + 4;
    case Optimizer::kNone:
      return 0;
  }
  return 0;
}

std::string describe(const ModelConfig& model,
                     const GenerateOptions& o,
                     const ForwardShape& shape,
                     std::string_view dtype) {
  std::string text = "batch=" + std::to_string(shape.batch);
  if (is_sequence_model(model.architecture)) text += " seq=" + std::to_string(shape.seq);
  text += " dtype=" + std::string(dtype) + (shape.flash ? " flash" : " no-flash") +
          (shape.fused ? " fused" : "");
  text += " micro-batches=" + std::to_string(o.micro_batches) +
          " tp=" + std::to_string(o.tensor_parallel);
  if (o.sequence_parallel) text += " sequence-parallel";
  text += " pp=" + std::to_string(o.pipeline_stages);
  if (o.pipeline_stages > 1) text += " pp-stage=" + std::to_string(o.pipeline_stage);
  const char* const optimizers[] = {"adamw", "sgd", "none"};
  return text + " optimizer=" + optimizers[static_cast<std::size_t>(o.optimizer)];
}

}  // namespace

Status generate(const ModelConfig& original,
                const GenerateOptions& options,
                const Calibration& gpu,
                TraceSink& sink) {
  ModelConfig model = original;
  SPW_RETURN_IF_ERROR(validate(model));
  ForwardShape shape;
  shape.batch = options.batch != 0 ? options.batch : model.default_batch;
  shape.seq = options.seq != 0 ? options.seq : model.default_seq;
  shape.flash = options.flash;
  shape.fused = options.fused;
  shape.tensor_parallel = options.tensor_parallel;
  shape.sequence_parallel = options.sequence_parallel;
  shape.pipeline_stages = options.pipeline_stages;
  shape.stage = options.pipeline_stage;
  SPW_RETURN_IF_ERROR(range("batch", shape.batch, kBatchMax));
  SPW_RETURN_IF_ERROR(range("micro-batches", options.micro_batches, kMicroBatchesMax));
  SPW_RETURN_IF_ERROR(range("tp", options.tensor_parallel, 4096));
  SPW_RETURN_IF_ERROR(range("pp", options.pipeline_stages, 4096));
  if (is_sequence_model(model.architecture)) {
    // An LSTM's time steps are its layers, 16 bits in a tag.
    const bool lstm = model.architecture == Architecture::kLstm;
    SPW_RETURN_IF_ERROR(range("seq", shape.seq, lstm ? kLstmSeqMax : kSeqMax));
    // A longer sequence than the model was published with gets a longer table of positions.
    if (model.max_positions > 0) model.max_positions = std::max(model.max_positions, shape.seq);
  } else if (options.seq != 0) {
    return invalid("seq: " + model.name + " has no sequence length to choose");
  }
  SPW_RETURN_IF_ERROR(check_parallel(model, shape));
  SPW_RETURN_IF_ERROR(check_size(model, shape, options.micro_batches));
  SPW_ASSIGN_OR_RETURN(const DtypeChoice dtype,
                       choose_dtype(options.dtype.empty() ? model.default_dtype : options.dtype));

  StepGraph::Config config;
  config.dtype = dtype.storage;
  config.optimizer_bytes_per_element = optimizer_bytes(options.optimizer, dtype.storage);
  config.tensor_parallel = options.tensor_parallel;
  StepGraph graph(config);
  build_schedule(model, shape, options.micro_batches, graph);
  if (options.optimizer != Optimizer::kNone) {
    const bool adamw = options.optimizer == Optimizer::kAdamW;
    graph.optimizer_step(adamw ? "adamw" : "sgd", adamw ? 14 : 4);
  }
  graph.finish();
  SPW_RETURN_IF_ERROR(graph.status());

  StepWriter writer(graph, gpu, dtype.math);
  SPW_RETURN_IF_ERROR(writer.check_times());
  writer.write(model.name, describe(model, options, shape, dtype.name), sink);
  return Status();
}

}  // namespace spillway
