// SPDX-License-Identifier: Apache-2.0
// Settings of other tools as plans: what they move, that they keep the budget, what is refused.
#include "policy/advise.hpp"

#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace spillway;
using namespace spillway::test;

namespace {

/// Four layers of two ops each: a matmul reads the layer's input, a norm makes its output.
Profile layered() {
  ProfileMaker maker;
  maker.preexisting(0, 50, BufferKind::kParameter);
  for (std::uint16_t layer = 0; layer < 4; ++layer) {
    const std::uint64_t base = 2u * layer;
    maker.op_begin(Phase::kForward, OpKind::kMatmul, layer);
    maker.create(base + 1, 400);
    maker.read(base);
    maker.op_end(1000);
    maker.op_begin(Phase::kForward, OpKind::kNorm, layer);
    maker.create(base + 2, 100);
    maker.read(base + 1);
    maker.op_end(100);
  }
  for (std::uint16_t layer = 4; layer-- > 0;) {
    const std::uint64_t base = 2u * layer;
    maker.op_begin(Phase::kBackward, OpKind::kMatmul, layer);
    maker.read(base);
    maker.read(base + 1);
    maker.read(base + 2);
    maker.op_end(2200);
    maker.free(base + 1);
    maker.free(base + 2);
  }
  return maker.must_finish();
}

/// Bytes that a setting gives to `action` between forward and backward.
std::uint64_t bytes_with(const ToolSetting& setting, const Profile& profile, Action action) {
  const GapTable gaps = find_gaps(profile);
  const Choices choices = choices_of(setting, profile, gaps);
  std::uint64_t bytes = 0;
  for (std::size_t g = 0; g < choices.size(); ++g)
    if (choices[g].action == action) bytes += profile.storages[gaps.gaps[g].storage].bytes;
  return bytes;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a checkpointed block keeps its input and drops what it makes for itself") {
    const Profile profile = layered();
    CHECK(blocks_of(profile) == std::vector<std::uint32_t>{0, 1, 2, 3});
    ToolSetting setting;
    setting.kind = ToolSetting::Kind::kTorchBlocks;
    setting.blocks = {1};
    CHECK(bytes_with(setting, profile, Action::kRecompute) == 400);
    setting.kind = ToolSetting::Kind::kMegatronBlock;
    setting.count = 2;
    CHECK(bytes_with(setting, profile, Action::kRecompute) == 800);
    // Chunks of two layers keep the second chunk's input alone. The last layer's tensors have no
    // gap: backward reads them at once.
    setting.kind = ToolSetting::Kind::kMegatronUniform;
    CHECK(bytes_with(setting, profile, Action::kRecompute) == 3 * 400 + 2 * 100);
  }

  TEST_CASE("host settings offload inputs of checkpoints, or whole layers") {
    const Profile profile = layered();
    ToolSetting setting;
    setting.kind = ToolSetting::Kind::kDeepspeedEvery;
    setting.count = 1;
    setting.cpu = true;
    CHECK(bytes_with(setting, profile, Action::kOffload) == 3 * 100);
    setting.kind = ToolSetting::Kind::kTeOffload;
    setting.count = 3;
    CHECK(bytes_with(setting, profile, Action::kOffload) == 3 * 500);
    setting.kind = ToolSetting::Kind::kMegatronSelective;
    setting.recompute_modules = {"layernorm"};
    CHECK(bytes_with(setting, profile, Action::kOffload) == 0);
    CHECK(bytes_with(setting, profile, Action::kRecompute) == 3 * 100);
  }

  TEST_CASE("every advice keeps the budget and passes the judge, or says that it does not fit") {
    const Profile profile = layered();
    const ProfileSummary summary = summarize(profile);
    const DeviceModel device = simple_device();
    for (const std::uint64_t budget : {summary.unmovable_bytes,
                                       summary.keep_all_peak_bytes * 3 / 4,
                                       summary.keep_all_peak_bytes}) {
      PlanRequest request;
      request.budget_bytes = budget;
      for (int t = 0; t < kToolCount; ++t) {
        CAPTURE(budget);
        CAPTURE(t);
        const auto advice = advise(static_cast<Tool>(t), profile, summary, device, request, Plan{});
        REQUIRE_MESSAGE(advice.ok(), advice.status().message());
        REQUIRE(!advice.value().empty());
        bool fitting = true;
        for (const Advice& one : advice.value()) {
          // Fitting ones come first.
          CHECK((fitting || !one.feasible));
          fitting = one.feasible;
          if (one.feasible) {
            ValidateOptions options;
            options.budget_bytes = budget;
            const Verdict verdict = validate(profile, device, one.plan, options);
            CHECK(verdict.ok());
            CHECK(verdict.step_ns == one.sim.step_ns);
            CHECK(one.sim.peak_bytes <= budget);
            CHECK(one.sim.step_ns >= summary.compute_ns);
          } else {
            CHECK(one.min_budget_bytes > budget);
          }
        }
        if (budget == summary.keep_all_peak_bytes && t == static_cast<int>(Tool::kTorch))
          CHECK(advice.value().front().sim.step_ns == summary.compute_ns);
      }
    }
  }

  TEST_CASE("unknown tools, and traces that a tool cannot act on, are refused in one line") {
    for (const char* text : {"", "Torch", "jax", "te ", "megatron-lm"})
      CHECK(parse_tool(text).status().code() == Code::kInvalidArgument);
    CHECK(parse_tool("deepspeed").value() == Tool::kDeepspeed);
    ProfileMaker maker;
    maker.preexisting(0, 50, BufferKind::kParameter);
    maker.op_begin(Phase::kForward);
    maker.create(1, 100);
    maker.read(0);
    maker.op_end(10);
    maker.op_begin(Phase::kBackward);
    maker.read(1);
    maker.op_end(10);
    maker.free(1);
    const Profile flat = maker.must_finish();
    for (const Tool tool : {Tool::kMegatron, Tool::kDeepspeed, Tool::kTe}) {
      const auto advice =
          advise(tool, flat, summarize(flat), simple_device(), PlanRequest{}, Plan{});
      REQUIRE(!advice.ok());
      CHECK(advice.status().code() == Code::kInvalidArgument);
    }
    CHECK(advise(Tool::kTorch, flat, summarize(flat), simple_device(), PlanRequest{}, Plan{}).ok());
  }
}
