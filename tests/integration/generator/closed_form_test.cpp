// SPDX-License-Identifier: Apache-2.0
// Generated steps against closed forms worked out here on their own: published parameter counts,
// and activation bytes per layer after Korthikanti et al. 2022 (arXiv 2205.05198, section 4). s
// sequence, b batch, h hidden, a heads, t tensor-parallel ranks.
#include "device/calibration.hpp"
#include "integration/generator/generator.hpp"
#include "tests/integration/generator/collected_step.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

using namespace spillway;

namespace {

CollectedStep step_of(const ModelConfig& model, const GenerateOptions& options) {
  CollectedStep step;
  const Status status = generate(model, options, load_calibration("h200").value(), step);
  CAPTURE(status.message());
  REQUIRE(status.ok());
  for (const std::string& fault : step.faults) FAIL_CHECK(fault);
  return step;
}

ModelConfig model_of(const char* name) {
  const auto model = model_by_name(name);
  REQUIRE(model.ok());
  return model.value();
}

std::uint64_t parameters_of(const ModelConfig& model) {
  GenerateOptions options;
  options.dtype = "fp32";
  options.batch = 1;
  return step_of(model, options).bytes_of(BufferKind::kParameter) / 4;
}

std::uint64_t kind_bytes(const CollectedStep& step, BufferKind kind) {
  std::uint64_t sum = 0;
  for (const auto& [id, s] : step.storages) {
    if (s.tag.kind == kind) sum += s.bytes;
  }
  return sum;
}

// A GPT layer of any size: the GPT-3 family with other numbers.
ModelConfig gpt_of(std::uint64_t layers, std::uint64_t hidden, std::uint64_t heads) {
  ModelConfig model = model_of("gpt3-175b");
  ModelOverrides overrides;
  overrides.layers = layers;
  overrides.hidden = hidden;
  overrides.heads = heads;
  REQUIRE(apply_overrides(overrides, &model).ok());
  return model;
}

struct Sizes {
  std::uint64_t s, b, h, a, t;
};

// What the layer keeps for backward, without the norms' statistics, which the paper leaves out.
std::uint64_t layer_bytes(const Sizes& z, bool flash, bool sequence_parallel) {
  GenerateOptions options;
  options.batch = z.b;
  options.seq = z.s;
  options.flash = flash;
  options.tensor_parallel = static_cast<std::uint32_t>(z.t);
  options.sequence_parallel = sequence_parallel;
  const CollectedStep step = step_of(gpt_of(3, z.h, z.a), options);
  const std::uint64_t stats = step.saved_bytes(1, ".stats", true);
  const std::uint64_t stat_tokens = sequence_parallel ? z.s * z.b / z.t : z.s * z.b;
  CHECK(stats == 2 * 2 * 4 * stat_tokens);  // two norms, two fp32 numbers a token
  for (std::uint16_t layer : {std::uint16_t{0}, std::uint16_t{2}}) {
    CHECK(step.saved_bytes(layer, ".stats", false) == step.saved_bytes(1, ".stats", false));
  }
  return step.saved_bytes(1, ".stats", false);
}

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("parameter counts are the published ones") {
    CHECK(parameters_of(model_of("gpt2")) == 124439808);
    CHECK(parameters_of(model_of("gpt2-medium")) == 354823168);
    CHECK(parameters_of(model_of("gpt2-large")) == 774030080);
    CHECK(parameters_of(model_of("gpt2-xl")) == 1557611200);
    CHECK(parameters_of(model_of("llama-7b")) == 6738415616);
    CHECK(parameters_of(model_of("llama-13b")) == 13015864320);
    CHECK(parameters_of(model_of("llama-70b")) == 68976648192);
    CHECK(parameters_of(model_of("mixtral-8x7b")) == 46702792704);
    CHECK(parameters_of(model_of("t5-base")) == 222903552);
    CHECK(parameters_of(model_of("t5-large")) == 737668096);
    CHECK(parameters_of(model_of("vit-h")) == 632045800);       // with its head of 1000 classes
    CHECK(parameters_of(model_of("clip-vit-l")) == 427616513);  // both towers, projections, scale
    CHECK(parameters_of(model_of("resnet-50")) == 25557032);    // without running statistics
    CHECK(parameters_of(model_of("vgg-16")) == 138357544);
    CHECK(parameters_of(model_of("unet")) ==
          31037698);  // 3 channels in, 2 classes, transposed convolutions
    // BERT as published is the encoder with its pooler; pre-training adds the masked-token and the
    // next-sentence head.
    const std::uint64_t heads_base = 768 * 768 + 768 + 2 * 768 + 30522 + 2 * 768 + 2;
    CHECK(parameters_of(model_of("bert-base")) == 109482240 + heads_base);
    const std::uint64_t heads_large = 1024 * 1024 + 1024 + 2 * 1024 + 30522 + 2 * 1024 + 2;
    CHECK(parameters_of(model_of("bert-large")) == 335141888 + heads_large);
  }

  TEST_CASE("parameter counts without a published exact number follow the layer formula") {
    const std::uint64_t h = 12288;
    CHECK(parameters_of(model_of("gpt3-175b")) ==
          96 * (12 * h * h + 13 * h) + 50257 * h + 2048 * h + 2 * h);
    // Zaremba's large LSTM: table, two layers of four gates with two biases, output layer with
    // bias.
    const std::uint64_t n = 1500;
    CHECK(parameters_of(model_of("lstm")) ==
          10000 * n + 2 * (8 * n * n + 8 * n) + 10000 * n + 10000);
    // Pre-activation ResNet-1001: bottlenecks of 16, 32, 64, three convolutions and three norms
    // each.
    std::uint64_t sum = 3 * 16 * 9;
    std::uint64_t in = 16;
    for (std::uint64_t w : {16u, 32u, 64u}) {
      for (int block = 0; block < 111; ++block) {
        sum += 2 * in + in * w + 2 * w + 9 * w * w + 2 * w + 4 * w * w;
        if (block == 0) sum += in * 4 * w;
        in = 4 * w;
      }
    }
    sum += 2 * in + in * 10 + 10;
    CHECK(parameters_of(model_of("resnet-1001")) == sum);
    CHECK(sum / 100000 == 103);  // the paper says 10.2 M
  }

  TEST_CASE(
      "gradients and optimizer state are 2 and 12 bytes a parameter in bf16 with AdamW, 4 and 8 in "
      "fp32") {
    GenerateOptions options;
    CollectedStep step = step_of(model_of("gpt2"), options);
    const std::uint64_t n = 124439808;
    CHECK(step.bytes_of(BufferKind::kParameter) == 2 * n);
    CHECK(step.bytes_of(BufferKind::kGradient) == 2 * n);
    CHECK(step.bytes_of(BufferKind::kOptimizer) == 12 * n);
    options.dtype = "fp32";
    step = step_of(model_of("gpt2"), options);
    CHECK(step.bytes_of(BufferKind::kGradient) == 4 * n);
    CHECK(step.bytes_of(BufferKind::kOptimizer) == 8 * n);
    options.optimizer = Optimizer::kSgd;
    options.dtype = "bf16";
    CHECK(step_of(model_of("gpt2"), options).bytes_of(BufferKind::kOptimizer) == 8 * n);
    options.optimizer = Optimizer::kNone;
    CHECK(step_of(model_of("gpt2"), options).bytes_of(BufferKind::kOptimizer) == 0);
  }

  TEST_CASE("a GPT layer keeps sbh(34 + 5as/h) bytes, and sbh 34 and 4abs with fused attention") {
    for (const Sizes& z :
         {Sizes{128, 2, 256, 4, 1}, Sizes{1024, 1, 1024, 16, 1}, Sizes{96, 3, 320, 5, 1}}) {
      CAPTURE(z.h);
      CHECK(layer_bytes(z, false, false) == z.s * z.b * z.h * 34 + 5 * z.a * z.s * z.s * z.b);
      CHECK(layer_bytes(z, true, false) == z.s * z.b * z.h * 34 + 4 * z.a * z.b * z.s);
    }
  }

  TEST_CASE(
      "tensor parallelism leaves sbh(10 + 24/t + 5as/(ht)), sequence parallelism (sbh/t)(34 + "
      "5as/h)") {
    for (const std::uint64_t t : {2u, 4u, 8u}) {
      const Sizes z{256, 2, 1024, 16, t};
      CAPTURE(t);
      const std::uint64_t sbh = z.s * z.b * z.h;
      const std::uint64_t weights = 5 * z.a * z.s * z.s * z.b;
      CHECK(layer_bytes(z, false, false) == sbh * 10 + sbh * 24 / t + weights / t);
      CHECK(layer_bytes(z, true, false) == sbh * 10 + sbh * 24 / t + 4 * z.a * z.b * z.s / t);
      CHECK(layer_bytes(z, false, true) == (sbh * 34 + weights) / t);
      CHECK(layer_bytes(z, true, true) == sbh * 34 / t + 4 * z.a * z.b * z.s / t);
    }
  }

  TEST_CASE(
      "80 layers of 8192 with 64 heads at sequence 4096 keep about 521 GB, 91 GB with fused "
      "attention") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 4096;
    const std::uint64_t s = 4096;
    const std::uint64_t h = 8192;
    const std::uint64_t outside = 2 * s * h +
                                  s * h  // embedding dropout: the first layer's input, and a mask
                                  + 2 * s * h + 8 * s  // head's input, the last norm's statistics
                                  + 4 * s * 50257;     // fp32 softmax of the loss
    const std::uint64_t stats = 16 * s * 80;
    for (const bool flash : {false, true}) {
      options.flash = flash;
      const CollectedStep step = step_of(gpt_of(80, h, 64), options);
      std::uint64_t layers = 80 * 34 * s * h;
      layers += flash ? 80 * 4 * 64 * s : 80 * 5 * 64 * s * s;
      CHECK(kind_bytes(step, BufferKind::kActivation) == layers + stats + outside);
      CHECK(layers / 1000000000 == (flash ? 91 : 520));  // 91.4e9 and 520.8e9
    }
  }

  TEST_CASE("fused dropout keeps no mask: a GPT layer keeps 32sbh and 4abs bytes") {
    GenerateOptions options;
    options.batch = 2;
    options.seq = 512;
    options.fused = true;
    const std::uint64_t sb = 2 * 512;
    CHECK(step_of(gpt_of(3, 1024, 16), options).saved_bytes(1, ".stats", false) ==
          32 * sb * 1024 + 4 * 16 * sb);
  }

  TEST_CASE("a BERT layer keeps what a GPT layer keeps") {
    GenerateOptions options;
    options.batch = 4;
    options.seq = 128;
    options.flash = false;
    const CollectedStep step = step_of(model_of("bert-base"), options);
    const std::uint64_t sb = 4 * 128;
    CHECK(step.saved_bytes(5, ".stats", false) == sb * 768 * 34 + 5 * 12 * 128 * sb);
  }

  TEST_CASE(
      "a Llama layer keeps sb(12h + 4k + 8f) bytes, and 2as^2b more without fused attention") {
    GenerateOptions options;
    options.batch = 2;
    options.seq = 512;
    const std::uint64_t sb = 2 * 512;
    const auto check =
        [&](const char* name, std::uint64_t h, std::uint64_t k, std::uint64_t f, std::uint64_t a) {
          CAPTURE(name);
          options.flash = true;
          CHECK(step_of(model_of(name), options).saved_bytes(3, ".stats", false) ==
                sb * (12 * h + 4 * k + 8 * f) + 4 * a * sb);
          CHECK(step_of(model_of(name), options).saved_bytes(3, ".stats", true) == 2 * 4 * sb);
          options.fused = true;
          CHECK(step_of(model_of(name), options).saved_bytes(3, ".stats", false) ==
                sb * (12 * h + 4 * k + 6 * f) + 4 * a * sb);
          options.fused = false;
          options.flash = false;
          CHECK(step_of(model_of(name), options).saved_bytes(3, ".stats", false) ==
                sb * (12 * h + 4 * k + 8 * f) + 2 * a * 512 * sb);
        };
    check("llama-7b", 4096, 4096, 11008, 32);
    check("llama-70b", 8192, 1024, 28672, 64);
  }

  TEST_CASE(
      "a Mixtral layer keeps top-k times the MLP, the dispatched tokens both ways and the router's "
      "choices") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 1000;  // 2000 picks over 8 experts: 250 each
    const CollectedStep step = step_of(model_of("mixtral-8x7b"), options);
    const std::uint64_t sb = 1000;
    const std::uint64_t attention = sb * (12 * 4096 + 4 * 1024) + 4 * 32 * sb;
    const std::uint64_t router = sb * (4 * 8 + 2 * (4 + 8));
    const std::uint64_t experts = 2 * sb * (2 * 4096 + 4 * 2 * 14336 + 2 * 4096);
    CHECK(step.saved_bytes(7, ".stats", false) == attention + router + experts);
    std::uint64_t expert_ops = 0;
    for (const CollectedOp& op : step.ops) {
      if (op.tag.layer == 7 && op.tag.phase == Phase::kForward && op.name.rfind("expert ", 0) == 0)
        ++expert_ops;
    }
    CHECK(expert_ops == 8 * 4);
  }

  TEST_CASE("unequal expert loads still add up to tokens times top-k") {
    ModelConfig model = model_of("mixtral-8x7b");
    ModelOverrides overrides;
    overrides.layers = 1;
    overrides.experts = 7;
    overrides.top_k = 3;
    REQUIRE(apply_overrides(overrides, &model).ok());
    GenerateOptions options;
    options.seq = 11;
    const CollectedStep step = step_of(model, options);
    std::uint64_t dispatched = 0;
    for (const auto& [id, s] : step.storages) {
      const bool in = s.name.size() > 3 && s.name.substr(s.name.size() - 3) == ".in";
      if (in) dispatched += s.bytes;
    }
    CHECK(dispatched == 33 * 4096 * 2);
  }

  TEST_CASE("matrix flops of a step are 6 per parameter and token plus attention") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 1024;
    options.flash = false;
    const CollectedStep step = step_of(model_of("llama-7b"), options);
    double flops = 0;
    for (const CollectedOp& op : step.ops) {
      if (op.tag.kind == OpKind::kMatmul) flops += static_cast<double>(op.flops);
    }
    const double weights =
        6738415616.0 - 32000.0 * 4096 - 65.0 * 4096;  // without the token table and the norms
    CHECK(flops == doctest::Approx(6 * weights * 1024).epsilon(1e-12));
  }

  TEST_CASE(
      "ResNet-50 keeps each feature map once though norm, ReLU and the next convolution share it") {
    GenerateOptions options;
    options.batch = 2;
    const CollectedStep step = step_of(model_of("resnet-50"), options);
    // Last stage, second block (layer 14): maps of 7 x 7; per image 512 + 512 + 2048 channels
    // before the norms and 512 + 512 + 2048 after their ReLUs.
    const std::uint64_t maps = 2 * 49 * 2 * (512 + 512 + 2048) * 4;
    CHECK(step.saved_bytes(14, ".stats", false) == maps);
    CHECK(step.saved_bytes(14, ".stats", true) == (512 + 512 + 2048) * 2 * 4);
  }
}
