// SPDX-License-Identifier: Apache-2.0
// The judge is judged: a legal plan is broken in one place at a time, and the right law must be
// named.
#include "policy/validator.hpp"

#include "policy/gaps.hpp"
#include "policy/lowering.hpp"
#include "policy/planners/presets.hpp"
#include "policy/simulator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace spillway;
using namespace spillway::test;

namespace {

// Six layers: activation 1 offloaded, 2 recomputed, 3 compressed by an exact codec, the rest kept.
struct Fixture {
  Profile profile = chain_profile(6, 4096, 50, 1000, 2000, Dtype::kBf16);
  DeviceModel device = simple_device();
  GapTable gaps = find_gaps(profile);
  Plan plan;

  Fixture() {
    Choices choices(gaps.gaps.size());
    for (std::size_t g = 0; g < gaps.gaps.size(); ++g) {
      if (gaps.gaps[g].storage == 1) choices[g] = {Action::kOffload, Codec::kNone};
      if (gaps.gaps[g].storage == 2) choices[g] = {Action::kRecompute, Codec::kNone};
      if (gaps.gaps[g].storage == 3) choices[g] = {Action::kCompress, Codec::kLossless12};
    }
    const Lowering lowering(profile, device, gaps);
    plan = make_plan(profile, gaps, choices, lowering.just_in_time(choices), "test", 0);
  }

  std::size_t find(InstructionKind kind, std::uint32_t target) const {
    for (std::size_t i = 0; i < plan.program.size(); ++i)
      if (plan.program[i].kind == kind && plan.program[i].target == target) return i;
    FAIL("no such instruction");
    return 0;
  }
  bool breaks(Law law, const ValidateOptions& options = {}) const {
    const Verdict verdict = validate(profile, device, plan, options);
    return std::any_of(verdict.violations.begin(),
                       verdict.violations.end(),
                       [&](const Violation& v) { return v.law == law && !v.text.empty(); });
  }
};

Instruction instruction(InstructionKind kind, std::uint32_t target, Codec codec = Codec::kNone) {
  Instruction made;
  made.kind = kind;
  made.target = target;
  made.codec = codec;
  return made;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the plan that the other cases break is legal") {
    const Fixture f;
    const Verdict verdict = validate(f.profile, f.device, f.plan, {});
    CHECK(verdict.ok());
    CHECK(verdict.step_ns == simulate(f.profile, f.device, f.plan, {}).value().step_ns);
  }

  TEST_CASE("an op that is missing, doubled or out of order is found") {
    Fixture missing;
    missing.plan.program.erase(
        missing.plan.program.begin() +
        static_cast<std::ptrdiff_t>(missing.find(InstructionKind::kCompute, 4)));
    CHECK(missing.breaks(Law::kEveryOpOnceInOrder));
    Fixture cut;
    cut.plan.program.pop_back();
    while (cut.plan.program.back().kind != InstructionKind::kCompute) cut.plan.program.pop_back();
    cut.plan.program.pop_back();
    CHECK(cut.breaks(Law::kEveryOpOnceInOrder));
  }

  TEST_CASE("a use of what is away is found for every way of being away") {
    for (const InstructionKind way_back :
         {InstructionKind::kPrefetch, InstructionKind::kDecompress, InstructionKind::kRecompute}) {
      CAPTURE(static_cast<int>(way_back));
      Fixture f;
      const std::uint32_t target = way_back == InstructionKind::kPrefetch ? 1u
                                   : way_back == InstructionKind::kDecompress
                                       ? 3u
                                       : 1u;  // op 1 makes storage 2
      f.plan.program.erase(f.plan.program.begin() +
                           static_cast<std::ptrdiff_t>(f.find(way_back, target)));
      CHECK(f.breaks(Law::kInputResident));
    }
  }

  TEST_CASE("a budget one byte below the peak is over budget, the peak itself is not") {
    const Fixture f;
    ValidateOptions options;
    options.budget_bytes = simulate(f.profile, f.device, f.plan, {}).value().min_budget_bytes;
    CHECK(!f.breaks(Law::kOverBudget, options));
    --options.budget_bytes;
    CHECK(f.breaks(Law::kOverBudget, options));
  }

  TEST_CASE("moving a parameter is found") {
    Fixture f;
    f.plan.program.insert(f.plan.program.begin(), instruction(InstructionKind::kOffload, 0));
    CHECK(f.breaks(Law::kUnmovableMoved));
  }

  TEST_CASE("running again what must not run twice is found") {
    for (const std::uint16_t flag : {std::uint16_t{kOpRng},
                                     std::uint16_t{kOpCollective},
                                     std::uint16_t{kOpInPlace},
                                     std::uint16_t{kOpNeverRecompute}}) {
      CAPTURE(flag);
      Fixture f;
      f.profile.ops[1].tag.flags = flag;
      CHECK(f.breaks(Law::kForbiddenRecompute));
    }
    Fixture restorable;
    restorable.profile.ops[1].tag.flags = kOpRng | kOpRngRestorable;
    CHECK(!restorable.breaks(Law::kForbiddenRecompute));
    Fixture tagged;
    tagged.profile.storages[2].tag.flags |= kNeverRecompute;
    CHECK(tagged.breaks(Law::kForbiddenRecompute));
    Fixture early;
    early.plan.program.insert(early.plan.program.begin() + 1,
                              instruction(InstructionKind::kRecompute, 9));
    CHECK(early.breaks(Law::kForbiddenRecompute));
  }

  TEST_CASE("an op whose input was written since cannot run again") {
    ProfileMaker maker;
    maker.preexisting(0, 10, BufferKind::kParameter);
    maker.op_begin(Phase::kForward);
    maker.create(1, 100);
    maker.read(0);
    maker.op_end(10);
    maker.op_begin(Phase::kForward);
    maker.read(1);
    maker.op_end(10);
    maker.op_begin(Phase::kOptimizer);
    maker.write(0);
    maker.op_end(10);
    maker.op_begin(Phase::kBackward);
    maker.read(1);
    maker.op_end(10);
    maker.free(1);
    const Profile profile = maker.must_finish();
    const GapTable gaps = find_gaps(profile);
    REQUIRE(gaps.gaps.size() == 1);
    CHECK(!gaps.gaps[0].rebuildable);
    Plan plan;
    plan.decisions.resize(profile.storages.size());
    plan.decisions[1].action = Action::kRecompute;
    plan.program = {instruction(InstructionKind::kCompute, 0),
                    instruction(InstructionKind::kCompute, 1),
                    instruction(InstructionKind::kDrop, 1),
                    instruction(InstructionKind::kCompute, 2),
                    instruction(InstructionKind::kRecompute, 0),
                    instruction(InstructionKind::kCompute, 3)};
    const Verdict verdict = validate(profile, simple_device(), plan, {});
    REQUIRE(verdict.violations.size() == 1);
    CHECK(verdict.violations[0].law == Law::kForbiddenRecompute);
  }

  TEST_CASE("what an op wrote in place is lost when another op makes the storage again") {
    ProfileMaker maker;
    maker.preexisting(0, 10, BufferKind::kParameter);
    maker.op_begin(Phase::kForward);
    maker.create(1, 100);
    maker.read(0);
    maker.op_end(10);
    maker.op_begin(Phase::kForward);
    maker.write(1);
    maker.op_end(10);
    maker.op_begin(Phase::kForward);
    maker.create(2, 10);
    maker.read(0);
    maker.op_end(10);
    maker.op_begin(Phase::kBackward);
    maker.read(1);
    maker.read(2);
    maker.op_end(10);
    maker.free(1);
    maker.free(2);
    const Profile profile = maker.must_finish();
    Plan plan;
    plan.program = {instruction(InstructionKind::kCompute, 0),
                    instruction(InstructionKind::kCompute, 1),
                    instruction(InstructionKind::kDrop, 1),
                    instruction(InstructionKind::kCompute, 2),
                    instruction(InstructionKind::kRecompute, 0),
                    instruction(InstructionKind::kCompute, 3)};
    plan.decisions.resize(profile.storages.size());
    plan.decisions[1].action = Action::kRecompute;
    const Verdict verdict = validate(profile, simple_device(), plan, {});
    REQUIRE(verdict.violations.size() == 1);
    CHECK(verdict.violations[0].law == Law::kForbiddenRecompute);
  }

  TEST_CASE("a lossy codec needs permission, and its result may feed no recompute") {
    Fixture f;
    const std::size_t at = f.find(InstructionKind::kCompress, 3);
    f.plan.program[at].codec = Codec::kInt8;
    f.plan.decisions[3].codec = Codec::kInt8;
    CHECK(f.breaks(Law::kLossyIntoExact));
    ValidateOptions lossy;
    lossy.allow_lossy = true;
    CHECK(!f.breaks(Law::kLossyIntoExact, lossy));
    f.profile.storages[3].tag.flags |= kExactRequired;
    CHECK(f.breaks(Law::kLossyIntoExact, lossy));

    // Storage 1, lossy, is what op 1 rebuilds storage 2 from.
    Fixture feeds;
    const std::size_t offload = feeds.find(InstructionKind::kOffload, 1);
    const std::size_t prefetch = feeds.find(InstructionKind::kPrefetch, 1);
    feeds.plan.program[offload] = instruction(InstructionKind::kCompress, 1, Codec::kInt8);
    feeds.plan.program[prefetch] = instruction(InstructionKind::kDecompress, 1);
    feeds.plan.decisions[1] = {Action::kCompress, Codec::kInt8};
    CHECK(feeds.breaks(Law::kLossyIntoExact, lossy));
  }

  TEST_CASE("what should outlive the step must be somewhere at its end") {
    Fixture f;
    f.profile.storages[5].freed_after = OpId();
    Plan& plan = f.plan;
    plan.program.push_back(instruction(InstructionKind::kDrop, 5));
    CHECK(f.breaks(Law::kContentLost));
    plan.program.back() = instruction(InstructionKind::kOffload, 5);
    CHECK(!f.breaks(Law::kContentLost));
  }

  TEST_CASE("pinned memory has a budget of its own") {
    const Fixture f;
    ValidateOptions options;
    options.pinned_bytes = 4095;
    CHECK(f.breaks(Law::kPinnedOverBudget, options));
    options.pinned_bytes = 4096;
    CHECK(!f.breaks(Law::kPinnedOverBudget, options));
  }

  TEST_CASE("moves that make no sense where a storage is are found") {
    for (const InstructionKind kind : {InstructionKind::kPrefetch, InstructionKind::kDecompress}) {
      CAPTURE(static_cast<int>(kind));
      Fixture f;
      f.plan.program.insert(f.plan.program.begin() + 6, instruction(kind, 4));
      CHECK(f.breaks(Law::kIllegalTransition));
    }
    Fixture twice;
    const std::size_t at = twice.find(InstructionKind::kDrop, 2);
    twice.plan.program.insert(twice.plan.program.begin() + static_cast<std::ptrdiff_t>(at),
                              instruction(InstructionKind::kDrop, 2));
    CHECK(twice.breaks(Law::kIllegalTransition));
    Fixture nowhere;
    nowhere.plan.program.push_back(instruction(InstructionKind::kDrop, 999));
    CHECK(nowhere.breaks(Law::kIllegalTransition));
  }

  TEST_CASE("a decision that the program does not carry out is found") {
    for (std::uint32_t storage = 1; storage <= 4; ++storage) {
      CAPTURE(storage);
      Fixture f;
      f.plan.decisions[storage].action = storage == 4 ? Action::kOffload : Action::kKeep;
      CHECK(f.breaks(Law::kDecisionMismatch));
    }
  }

  TEST_CASE(
      "claimed times are judged: one thing at a time per lane, copies no faster than the link, "
      "inputs back first") {
    Fixture f;
    SimOptions options;
    options.timeline = true;
    const Timeline good = *simulate(f.profile, f.device, f.plan, options).value().timeline;
    CHECK(validate_timeline(f.profile, f.device, f.plan, good).ok());
    Timeline overlap = good;
    Timeline fast = good;
    Timeline early = good;
    for (std::size_t i = 0; i < good.slices.size(); ++i) {
      if (good.slices[i].lane == Lane::kOffloadCopy) fast.slices[i].end_ns -= 1;
      if (good.slices[i].lane == Lane::kPrefetchCopy) early.slices[i].end_ns += 1'000'000;
      if (good.slices[i].lane == Lane::kCompute && i > 0) overlap.slices[i].begin_ns -= 1;
    }
    CHECK(validate_timeline(f.profile, f.device, f.plan, overlap).violations.at(0).law ==
          Law::kCopyEngineOverlap);
    CHECK(validate_timeline(f.profile, f.device, f.plan, fast).violations.at(0).law ==
          Law::kCopyEngineOverlap);
    CHECK(validate_timeline(f.profile, f.device, f.plan, early).violations.at(0).law ==
          Law::kInputResident);
  }
}
