// SPDX-License-Identifier: Apache-2.0
// Every model writes a well-formed step; times follow the roofline; schedules, options and
// refusals.
#include "integration/generator/generator.hpp"

#include "core/codec.hpp"
#include "tests/integration/generator/collected_step.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

using namespace spillway;

namespace {

const Calibration& h200() {
  static const Calibration gpu = load_calibration("h200").value();
  return gpu;
}

CollectedStep step_of(const char* name, const GenerateOptions& options) {
  CollectedStep step;
  const Status status = generate(model_by_name(name).value(), options, h200(), step);
  CAPTURE(status.message());
  REQUIRE(status.ok());
  for (const std::string& fault : step.faults) FAIL_CHECK(fault);
  return step;
}

const CollectedOp& op_named(const CollectedStep& step, const char* name, std::uint16_t layer) {
  const auto found = std::find_if(step.ops.begin(), step.ops.end(), [&](const CollectedOp& op) {
    return op.name == name && op.tag.layer == layer;
  });
  REQUIRE(found != step.ops.end());
  return *found;
}

Code code_of(const char* name, const GenerateOptions& options) {
  CollectedStep step;
  const Status status = generate(model_by_name(name).value(), options, h200(), step);
  if (!status.ok()) CHECK(step.records == 0);  // nothing is written before everything is checked
  return status.code();
}

// The most micro-batches whose forward is done and whose backward has not begun.
std::uint64_t in_flight_max(const CollectedStep& step) {
  std::set<int> open;
  std::uint64_t most = 0;
  for (const CollectedOp& op : step.ops) {
    if (op.tag.phase == Phase::kForward) open.insert(op.tag.micro_batch);
    most = std::max<std::uint64_t>(most, open.size());
    if (op.tag.phase == Phase::kBackward) open.erase(op.tag.micro_batch);
  }
  return most;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE(
      "every built-in model writes a well-formed step in forward, backward, optimizer order") {
    for (const std::string& name : model_names()) {
      CAPTURE(name);
      const CollectedStep step = step_of(name.c_str(), {});
      CHECK(step.steps == 1);
      CHECK(step.metas.at("source") == "generator");
      CHECK(step.metas.at("gpu") == "h200");
      CHECK(step.metas.at("times_from") == "roofline of h200 (published)");
      CHECK(step.metas.at("model") == name);
      CHECK(step.metas.count("generator") == 1);
      std::vector<Phase> phases;
      std::uint64_t activations = 0;
      std::vector<std::string> wrong;
      const auto expect = [&](bool truth, const std::string& what) {
        if (!truth) wrong.push_back(what);
      };
      for (const CollectedOp& op : step.ops) {
        if (phases.empty() || phases.back() != op.tag.phase) phases.push_back(op.tag.phase);
        expect(op.end_ns > op.begin_ns, op.name + " takes no time");
      }
      CHECK(phases == std::vector<Phase>{Phase::kForward, Phase::kBackward, Phase::kOptimizer});
      for (const auto& [id, s] : step.storages) {
        if (s.preexisting) {
          expect(s.alive && s.tag.has(kPreexisting), s.name + " is gone or not marked");
          continue;
        }
        const std::uint64_t last = s.readers.empty() ? s.creator : s.readers.back();
        expect(!s.alive && s.freed_after == last, s.name + " is not freed after its last use");
        const bool saved =
            s.tag.phase == Phase::kForward && step.ops[last].tag.phase == Phase::kBackward;
        expect((s.tag.kind == BufferKind::kActivation) == saved, s.name + " has the wrong kind");
        activations += saved ? 1u : 0u;
      }
      CHECK(wrong == std::vector<std::string>{});
      CHECK(activations > 0);
    }
  }

  TEST_CASE("every parameter is read in forward, gets a gradient and is updated once") {
    for (const std::string& name : model_names()) {
      CAPTURE(name);
      const CollectedStep step = step_of(name.c_str(), {});
      std::vector<std::string> wrong;
      for (const auto& [id, s] : step.storages) {
        if (s.tag.kind != BufferKind::kParameter && s.tag.kind != BufferKind::kGradient) continue;
        std::uint64_t count[5] = {};
        for (const std::uint64_t op : s.readers) ++count[static_cast<int>(step.ops[op].tag.phase)];
        const Phase needed =
            s.tag.kind == BufferKind::kParameter ? Phase::kForward : Phase::kBackward;
        const bool right =
            count[static_cast<int>(Phase::kOptimizer)] == 1 && count[static_cast<int>(needed)] >= 1;
        if (!right) wrong.push_back(s.name);
      }
      CHECK(wrong == std::vector<std::string>{});
    }
  }

  TEST_CASE("the same options write the same records") {
    GenerateOptions options;
    options.micro_batches = 2;
    const CollectedStep a = step_of("gpt2", options);
    const CollectedStep b = step_of("gpt2", options);
    CHECK(a.raw.size() > 10000);
    CHECK(a.raw == b.raw);
  }

  TEST_CASE(
      "an op lasts its flops or its traffic at achieved rates, whichever is longer, plus a "
      "launch") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 2048;
    const CollectedStep step = step_of("llama-7b", options);
    // Compute-bound: 2 x 2048 x 4096 x 22016 flops at 794.5e12.
    const CollectedOp& wide = op_named(step, "mlp.gate_up", 5);
    const double flops = 2.0 * 2048 * 4096 * 22016;
    CHECK(static_cast<double>(wide.flops) == flops);
    CHECK(static_cast<double>(wide.end_ns - wide.begin_ns) ==
          std::round(flops / 794.5e12 * 1e9) + 1400);
    // Memory-bound: two inputs and one output of 2048 x 11008 bf16 at 4.01e12 bytes/s.
    const CollectedOp& product = op_named(step, "mlp.product", 5);
    CHECK(product.traffic_bytes == 3u * 2048 * 11008 * 2);
    CHECK(static_cast<double>(product.end_ns - product.begin_ns) ==
          std::round(static_cast<double>(product.traffic_bytes) / 4.01e12 * 1e9) + 1400);
  }

  TEST_CASE("a slower GPU takes longer and says so") {
    CollectedStep step;
    const Calibration a100 = load_calibration("a100-40").value();
    REQUIRE(generate(model_by_name("gpt2").value(), {}, a100, step).ok());
    CHECK(step.metas.at("gpu") == "a100-40");
    CHECK(step.ops.back().end_ns > 2 * step_of("gpt2", {}).ops.back().end_ns);
  }

  TEST_CASE("dropout is marked as random with restorable state, its masks as boolean bytes") {
    GenerateOptions options;
    options.flash = false;
    const CollectedStep step = step_of("gpt2", options);
    const CollectedOp& dropout = op_named(step, "attn.weights dropout", 3);
    CHECK((dropout.tag.flags & kOpRng) != 0);
    CHECK((dropout.tag.flags & kOpRngRestorable) != 0);
    REQUIRE(dropout.creates.size() == 2);
    const CollectedStorage& mask = step.storages.at(dropout.creates[1]);
    CHECK(mask.tag.has(kBoolean));
    CHECK(mask.tag.dtype == Dtype::kBool);
    CHECK(mask.name == "layer 3 attn.weights dropout mask");
    CHECK((op_named(step, "attn.softmax", 3).tag.flags & kOpRng) == 0);
    CHECK((op_named(step_of("gpt2", {}), "attn.flash", 3).tag.flags & kOpRng) != 0);
    CHECK((op_named(step_of("llama-7b", {}), "attn.flash", 3).tag.flags & kOpRng) == 0);
  }

  TEST_CASE("statistics, indices, routing and the loss are tagged exact, ReLU's outputs sparse") {
    const auto flagged = [](const CollectedStep& step, const char* part, std::uint16_t flag) {
      std::uint64_t with = 0;
      for (const auto& [id, s] : step.storages) {
        if (s.tag.kind != BufferKind::kActivation || s.name.find(part) == std::string::npos)
          continue;
        if ((s.tag.flags & flag) == 0) return std::uint64_t{0};
        ++with;
      }
      return with;
    };
    const auto never_lossy = [](const CollectedStep& step) {
      std::vector<std::string> wrong;
      for (const auto& [id, s] : step.storages) {
        const bool number = s.tag.dtype == Dtype::kBf16 || s.tag.dtype == Dtype::kFp16;
        const bool lossy = codec_applies(Codec::kInt8, s.tag, true);
        if (lossy && (s.tag.kind != BufferKind::kActivation || !number)) wrong.push_back(s.name);
      }
      return wrong;
    };
    GenerateOptions small;
    small.batch = 1;
    const CollectedStep mixtral = step_of("mixtral-8x7b", small);
    for (const char* part : {".stats",
                             "attn.lse",
                             "router.softmax",
                             "router.weights",
                             "router.indices",
                             "loss.softmax"})
      CHECK_MESSAGE(flagged(mixtral, part, kExactRequired) > 0, part);
    // Every fp32 or integer activation of a 16-bit step is one of these.
    CHECK(never_lossy(mixtral).empty());
    CHECK(never_lossy(step_of("gpt2", small)).empty());
    GenerateOptions half = small;
    half.dtype = "bf16";
    for (const char* name : {"resnet-50", "unet", "vgg-16"}) {
      CAPTURE(name);
      const CollectedStep step = step_of(name, half);
      CHECK(never_lossy(step).empty());
      CHECK(flagged(step, "pool.indices", kExactRequired) > 0);
    }
    const CollectedStep unet = step_of("unet", half);
    const CollectedStep vgg = step_of("vgg-16", half);
    const CollectedStep t5 = step_of("t5-base", small);
    CHECK(flagged(vgg, "relu", kSparseValues) == 15);
    CHECK(unet.storages.at(op_named(unet, "norm1", 2).creates[0]).tag.has(kSparseValues));
    CHECK(!unet.storages.at(op_named(unet, "norm1", 2).creates[1]).tag.has(kSparseValues));
    CHECK(!unet.storages.at(op_named(unet, "conv1", 2).creates[0]).tag.has(kSparseValues));
    CHECK(t5.storages.at(op_named(t5, "mlp.relu dropout", 2).creates[0]).tag.has(kSparseValues));
    CHECK(!t5.storages.at(op_named(t5, "mlp.dropout", 2).creates[0]).tag.has(kSparseValues));
    const CollectedStep resnet = step_of("resnet-50", half);
    CHECK(flagged(resnet, "residual relu", kSparseValues) == 16);
    CHECK(!resnet.storages.at(op_named(resnet, "norm3", 2).creates[0]).tag.has(kSparseValues));
  }

  TEST_CASE("ranges nest by micro-batch, phase and layer and close at the end") {
    GenerateOptions options;
    const CollectedStep one = step_of("gpt2", options);
    CHECK(one.range_log[0] == "+forward");
    CHECK(one.range_log[1] == "+layer 0");
    CHECK(std::count(one.range_log.begin(), one.range_log.end(), "+backward") == 1);
    CHECK(std::count(one.range_log.begin(), one.range_log.end(), "+layer 11") == 3);
    CHECK(std::count(one.range_log.begin(), one.range_log.end(), "-") * 2 ==
          static_cast<std::ptrdiff_t>(one.range_log.size()));
    options.micro_batches = 2;
    const CollectedStep two = step_of("gpt2", options);
    CHECK(two.range_log[0] == "+micro-batch 0");
    CHECK(std::count(two.range_log.begin(), two.range_log.end(), "+micro-batch 1") == 1);
    CHECK(std::count(two.range_log.begin(), two.range_log.end(), "-") * 2 ==
          static_cast<std::ptrdiff_t>(two.range_log.size()));
  }

  TEST_CASE("micro-batches share parameters and hold one set of activations at a time") {
    GenerateOptions options;
    const CollectedStep one = step_of("gpt2", options);
    options.micro_batches = 3;
    const CollectedStep three = step_of("gpt2", options);
    CHECK(one.bytes_of(BufferKind::kParameter) == three.bytes_of(BufferKind::kParameter));
    CHECK(in_flight_max(three) == 1);
    const std::uint64_t more_ids = 2 * 2 * 8 * 1024 * 8;  // two more sets of token ids and labels
    CHECK(three.peak_bytes == one.peak_bytes + more_ids);
  }

  TEST_CASE(
      "the first pipeline stage holds as many micro-batches as there are stages, the last one") {
    GenerateOptions options;
    options.micro_batches = 8;
    options.pipeline_stages = 4;
    CHECK(in_flight_max(step_of("gpt2", options)) == 4);
    options.pipeline_stage = 3;
    const CollectedStep last = step_of("gpt2", options);
    CHECK(in_flight_max(last) == 1);
    CHECK(op_named(last, "receive forward", kNoLayer).tag.kind == OpKind::kCollective);
    CHECK(op_named(last, "send backward", kNoLayer).tag.phase == Phase::kBackward);
    options.pipeline_stage = 1;
    const CollectedStep middle = step_of("gpt2", options);
    CHECK(in_flight_max(middle) == 3);
    std::set<int> layers;
    for (const CollectedOp& op : middle.ops) {
      if (op.tag.layer != kNoLayer) layers.insert(op.tag.layer);
    }
    CHECK(layers == std::set<int>{3, 4, 5});
    for (const CollectedOp& op : middle.ops) CHECK(op.tag.kind != OpKind::kLoss);
  }

  TEST_CASE("collectives are marked, take link time and are never recomputed") {
    GenerateOptions options;
    options.tensor_parallel = 4;
    const CollectedStep step = step_of("gpt2-medium", options);
    const CollectedOp& reduce = op_named(step, "all-reduce", 2);
    CHECK((reduce.tag.flags & kOpCollective) != 0);
    CHECK((reduce.tag.flags & kOpNeverRecompute) != 0);
    CHECK(step.storages.at(reduce.creates.front()).tag.has(kContainsCollective));
    const double bytes = 8.0 * 1024 * 1024 * 2;
    const double expected =
        std::round((2 * bytes / 4.01e12 + 2 * bytes * 3 / 4 / 368.1e9) * 1e9) + 1400;
    CHECK(static_cast<double>(reduce.end_ns - reduce.begin_ns) == expected);
    // Two in forward (attention, MLP) and two in backward, per layer.
    std::uint64_t count = 0;
    for (const CollectedOp& op : step.ops)
      count += op.tag.layer == 2 && op.name == "all-reduce" ? 1u : 0u;
    CHECK(count == 4);
    options.sequence_parallel = true;
    const CollectedStep shards = step_of("gpt2-medium", options);
    std::uint64_t gathers = 0;
    std::uint64_t scatters = 0;
    std::uint64_t again = 0;
    for (const CollectedOp& op : shards.ops) {
      if (op.tag.layer != 2) continue;
      gathers += op.name == "all-gather" ? 1u : 0u;
      scatters += op.name == "reduce-scatter" ? 1u : 0u;
      again += op.name == "all-gather again" ? 1u : 0u;
    }
    CHECK(gathers == 4);
    CHECK(scatters == 4);
    CHECK(again == 2);
  }

  TEST_CASE("a longer sequence than published gets a longer table of positions") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 2048;
    const CollectedStep step = step_of("gpt2", options);
    CHECK(step.bytes_of(BufferKind::kParameter) == 2 * (124439808ull + 1024 * 768));
  }
}

TEST_SUITE("fault") {
  TEST_CASE("options out of range or not dividing are refused before a record is written") {
    const auto refused = [](auto change, const char* model = "gpt2") {
      GenerateOptions options;
      change(options);
      return code_of(model, options);
    };
    CHECK(refused([](GenerateOptions& o) { o.batch = 1ull << 40; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.seq = 1ull << 40; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.seq = ~0ull; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.dtype = "int3"; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.micro_batches = 0; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.micro_batches = 300; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.tensor_parallel = 5; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.tensor_parallel = 0; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.pipeline_stages = 13; }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.pipeline_stages = 2, o.pipeline_stage = 2; }) ==
          Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.sequence_parallel = true; }) ==
          Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) {
            o.tensor_parallel = 4, o.sequence_parallel = true, o.seq = 6;
          }) == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.tensor_parallel = 2; }, "vgg-16") ==
          Code::kUnsupported);
    CHECK(refused([](GenerateOptions& o) { o.seq = 128; }, "resnet-50") == Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.batch = 1u << 20, o.seq = 1u << 24; }, "gpt3-175b") ==
          Code::kInvalidArgument);
    CHECK(refused([](GenerateOptions& o) { o.batch = 1u << 20; }, "unet") == Code::kOk);
    CHECK(refused([](GenerateOptions& o) { o.seq = 20000; }, "lstm") == Code::kInvalidArgument);
  }
}
