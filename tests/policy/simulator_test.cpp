// SPDX-License-Identifier: Apache-2.0
// The step simulator against times and bytes worked out by hand.
#include "policy/simulator.hpp"

#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

using namespace spillway;
using namespace spillway::test;

namespace {

Instruction instruction(InstructionKind kind, std::uint32_t target, Codec codec = Codec::kNone) {
  Instruction made;
  made.kind = kind;
  made.target = target;
  made.codec = codec;
  return made;
}
Instruction compute(std::uint32_t op) { return instruction(InstructionKind::kCompute, op); }

/// Ops 0..3 of 100 ns: op 0 makes storage 0 (1000 bytes), ops 1 and 2 use other memory (400 bytes
/// each, one op long), op 3 reads storage 0.
Profile gap_profile() {
  ProfileMaker maker;
  maker.op_begin(Phase::kForward);
  maker.create(0, 1000);
  maker.op_end(100);
  for (std::uint64_t i = 1; i <= 2; ++i) {
    maker.op_begin(Phase::kForward);
    maker.create(i, 400);
    maker.op_end(100);
    maker.free(i);
  }
  maker.op_begin(Phase::kBackward);
  maker.read(0);
  maker.op_end(100);
  maker.free(0);
  return maker.must_finish();
}

Plan plan_of(const Profile& profile, std::vector<Instruction> program) {
  Plan plan;
  plan.decisions.resize(profile.storages.size());
  plan.program = std::move(program);
  return plan;
}

SimResult must_simulate(const Profile& profile,
                        const DeviceModel& device,
                        const Plan& plan,
                        SimOptions options = {}) {
  options.timeline = true;
  auto result = simulate(profile, device, plan, options);
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  return std::move(result).value();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a prefetch issued late stalls its reader by what is left of the copy") {
    const Profile profile = gap_profile();
    const Plan plan = plan_of(profile,
                              {compute(0),
                               instruction(InstructionKind::kOffload, 0),
                               compute(1),
                               compute(2),
                               instruction(InstructionKind::kPrefetch, 0),
                               compute(3)});
    const SimResult sim = must_simulate(profile, simple_device(), plan);
    // Offload 100..1100; the prefetch is asked for at 300 and starts when the offload is done:
    // 1100..2100; op 3 runs 2100..2200.
    CHECK(sim.step_ns == 2200);
    CHECK(sim.stall_ns[static_cast<std::size_t>(StallCause::kLatePrefetch)] == 1800);
    CHECK(sim.stall_ns[static_cast<std::size_t>(StallCause::kMemory)] == 0);
    // At 300 both copies of the tensor hold device bytes.
    CHECK(sim.peak_bytes == 2000);
    CHECK(sim.min_budget_bytes == 1000);
    CHECK(sim.activation_peak_bytes == 2000);
    CHECK(sim.pinned_peak_bytes == 1000);
    CHECK(sim.offload_busy_ns == 1000);
    CHECK(sim.timeline->stalls.size() == 1);
  }

  TEST_CASE("an allocation waits for the earliest offload that frees enough, and not longer") {
    const Profile profile = gap_profile();
    const Plan plan = plan_of(profile,
                              {compute(0),
                               instruction(InstructionKind::kOffload, 0),
                               compute(1),
                               compute(2),
                               instruction(InstructionKind::kPrefetch, 0),
                               compute(3)});
    SimOptions options;
    options.budget_bytes = 1399;  // the tensor and op 1's memory do not fit together
    const SimResult sim = must_simulate(profile, simple_device(), plan, options);
    // Op 1 waits until 1100, ops 1 and 2 end at 1300, prefetch 1300..2300, op 3 until 2400.
    CHECK(sim.fits);
    CHECK(sim.step_ns == 2400);
    CHECK(sim.stall_ns[static_cast<std::size_t>(StallCause::kMemory)] == 1000);
    CHECK(sim.stall_ns[static_cast<std::size_t>(StallCause::kLatePrefetch)] == 1000);
    CHECK(sim.peak_bytes <= 1399);
    options.budget_bytes = 1400;
    CHECK(must_simulate(profile, simple_device(), plan, options).stall_ns[0] ==
          800);  // the prefetch waits: 300..1100
  }

  TEST_CASE("a budget below what one instant needs does not fit, and the reason names the op") {
    const Profile profile = gap_profile();
    const Plan plan = plan_of(profile, {compute(0), compute(1), compute(2), compute(3)});
    SimOptions options;
    options.budget_bytes = 1399;
    const SimResult sim = must_simulate(profile, simple_device(), plan, options);
    CHECK(!sim.fits);
    CHECK(sim.reason.find("op 1") != std::string::npos);
    CHECK(sim.min_budget_bytes == 1400);
  }

  TEST_CASE("compression holds source and payload side by side, then the payload alone") {
    const Profile profile = gap_profile();
    DeviceModel device = simple_device();
    const std::uint64_t payload = payload_bytes(Codec::kLossless12, Dtype::kBf16, 1000);
    const Plan plan = plan_of(profile,
                              {compute(0),
                               instruction(InstructionKind::kCompress, 0, Codec::kLossless12),
                               compute(1),
                               compute(2),
                               instruction(InstructionKind::kDecompress, 0, Codec::kLossless12),
                               compute(3)});
    const SimResult sim = must_simulate(profile, device, plan);
    const std::int64_t codec_ns = device.codec_ns(Codec::kLossless12, Dtype::kBf16, 1000);
    CHECK(codec_ns == static_cast<std::int64_t>((1000 + payload + 9) / 10));
    CHECK(sim.peak_bytes == 1000 + payload);
    CHECK(sim.codec_ns == 2 * codec_ns);
    CHECK(sim.step_ns == 400 + 2 * codec_ns);
  }

  TEST_CASE("copies of one direction queue, copies of two directions do not") {
    ProfileMaker maker;
    for (std::uint64_t i = 0; i < 2; ++i) {
      maker.op_begin(Phase::kForward);
      maker.create(i, 1000);
      maker.op_end(100);
    }
    maker.op_begin(Phase::kForward);
    maker.create(2, 1);
    maker.op_end(1000);
    maker.free(2);
    for (std::uint64_t i = 0; i < 2; ++i) {
      maker.op_begin(Phase::kBackward);
      maker.read(i);
      maker.op_end(100);
      maker.free(i);
    }
    const Profile profile = maker.must_finish();
    const Plan plan = plan_of(profile,
                              {compute(0),
                               instruction(InstructionKind::kOffload, 0),
                               compute(1),
                               instruction(InstructionKind::kOffload, 1),
                               compute(2),
                               instruction(InstructionKind::kPrefetch, 0),
                               compute(3),
                               instruction(InstructionKind::kPrefetch, 1),
                               compute(4)});
    const SimResult sim = must_simulate(profile, simple_device(), plan);
    // Offloads 100..1100 and 1100..2100; compute reaches 1200; prefetch 0 runs 1200..2200 while
    // offload 1 is under way; op 3 2200..2300; prefetch 1 2300..3300; op 4 until 3400.
    CHECK(sim.step_ns == 3400);
    CHECK(sim.timeline->slices.size() == 9);
  }

  TEST_CASE("a recompute makes dropped outputs again, and needs scratch for those that are there") {
    const Profile profile = chain_profile(3, 100, 0, 10, 20);
    // Op 1 makes storage 2 (storage 0 is the empty parameter).
    const Plan plan = plan_of(profile,
                              {compute(0),
                               compute(1),
                               compute(2),
                               instruction(InstructionKind::kDrop, 2),
                               compute(3 - 0),
                               compute(4),
                               compute(5)});
    const auto missing = simulate(profile, simple_device(), plan, {});
    REQUIRE(!missing.ok());
    CHECK(missing.status().code() == Code::kInvalidArgument);
    CHECK(missing.status().message().find("not resident") != std::string::npos);
    const Plan again = plan_of(profile,
                               {compute(0),
                                compute(1),
                                compute(2),
                                instruction(InstructionKind::kDrop, 2),
                                instruction(InstructionKind::kRecompute, 1),
                                compute(3),
                                compute(4),
                                compute(5)});
    const SimResult sim = must_simulate(profile, simple_device(), again);
    CHECK(sim.recompute_ns == 10);
    CHECK(sim.peak_bytes == 300);
    const Plan scratch = plan_of(profile,
                                 {compute(0),
                                  compute(1),
                                  compute(2),
                                  instruction(InstructionKind::kRecompute, 1),
                                  compute(3),
                                  compute(4),
                                  compute(5)});
    CHECK(must_simulate(profile, simple_device(), scratch).peak_bytes == 400);
  }

  TEST_CASE("the timeline's bytes add up to the peak") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      const Profile profile = random_profile(seed, 20);
      std::vector<Instruction> program;
      for (std::uint32_t i = 0; i < profile.ops.size(); ++i) program.push_back(compute(i));
      const SimResult sim = must_simulate(profile, simple_device(), plan_of(profile, program));
      std::vector<std::uint64_t> held(profile.storages.size(), 0);
      std::uint64_t sum = 0;
      std::uint64_t most = 0;
      for (const PlaceChange& change : sim.timeline->changes) {
        sum += change.device_bytes;
        sum -= held[change.storage];
        held[change.storage] = change.device_bytes;
        most = std::max(most, sum);
      }
      std::uint64_t workspace = 0;
      for (const Op& op : profile.ops) workspace = std::max(workspace, op.workspace_bytes);
      CHECK(most <= sim.peak_bytes);
      CHECK(sim.peak_bytes <= most + workspace);
      CHECK(sim.step_ns == summarize(profile).compute_ns);
      CHECK(sim.peak_bytes == summarize(profile).keep_all_peak_bytes);
    }
  }

  TEST_CASE("holders at the smallest budget name kinds and layers, largest first") {
    const Profile profile = chain_profile(4, 100, 1000, 10, 20);
    std::vector<Instruction> program;
    for (std::uint32_t i = 0; i < profile.ops.size(); ++i) program.push_back(compute(i));
    const auto holders =
        holders_at_min_budget(profile, simple_device(), plan_of(profile, program), 3);
    REQUIRE(holders.size() == 3);
    CHECK(holders[0].what == "parameter");
    CHECK(holders[0].bytes == 1000);
    CHECK(holders[1].what.find("activation layer") == 0);
  }
}
