// SPDX-License-Identifier: Apache-2.0
// Orders with repeats become legal programs: drops where a storage is made again before it is used,
// temporaries retained where a recompute reads them later.
#include "policy/op_order.hpp"

#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

using namespace spillway;
using namespace spillway::test;

namespace {

std::vector<std::uint32_t> order_of(const Plan& plan) {
  std::vector<std::uint32_t> order;
  for (const Instruction& i : plan.program)
    if (i.kind == InstructionKind::kCompute || i.kind == InstructionKind::kRecompute)
      order.push_back(i.target);
  return order;
}

std::size_t count(const Plan& plan, InstructionKind kind, std::uint32_t target) {
  return static_cast<std::size_t>(
      std::count_if(plan.program.begin(), plan.program.end(), [&](const Instruction& i) {
        return i.kind == kind && i.target == target;
      }));
}

/// param -> op0 makes t (a temporary, freed by op1) -> op1 makes a (activation) -> op2 big forward
/// -> op3 backward reads a.
Profile temporary_profile() {
  ProfileMaker maker;
  maker.preexisting(100, 8, BufferKind::kParameter);
  maker.op_begin(Phase::kForward);
  maker.read(100);
  maker.create(1, 10, BufferKind::kWorkspace);
  maker.op_end(50);
  maker.op_begin(Phase::kForward);
  maker.read(1);
  maker.create(2, 1000, BufferKind::kActivation);
  maker.op_end(5);
  maker.free(1);
  maker.op_begin(Phase::kForward);
  maker.read(2);
  maker.create(3, 500, BufferKind::kActivation);
  maker.op_end(5);
  maker.op_begin(Phase::kForward);
  maker.read(3);
  maker.create(4, 700, BufferKind::kActivation);
  maker.op_end(5);
  maker.op_begin(Phase::kBackward);
  maker.read(4);
  maker.read(3);
  maker.op_end(5);
  maker.free(4);
  maker.free(3);
  maker.op_begin(Phase::kBackward);
  maker.read(2);
  maker.op_end(5);
  maker.free(2);
  return maker.must_finish();
}

}  // namespace

TEST_CASE("a temporary that a recompute reads later is retained and dropped after it") {
  const Profile profile = temporary_profile();
  const std::vector<std::uint32_t> order = {0, 1, 2, 3, 4, 1, 5};
  const auto plan = plan_of_order(profile, order, false, "test", 0);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  const std::uint32_t temporary = 1;
  const std::uint32_t activation = 2;
  CHECK(count(plan.value(), InstructionKind::kRetain, temporary) == 1);
  CHECK(count(plan.value(), InstructionKind::kDrop, temporary) == 1);
  CHECK(count(plan.value(), InstructionKind::kDrop, activation) == 1);
  CHECK(plan.value().decisions[activation].action == Action::kRecompute);
  CHECK(plan.value().decisions[temporary].action == Action::kKeep);
  const DeviceModel device = simple_device();
  const auto sim = simulate(profile, device, plan.value(), {});
  REQUIRE_MESSAGE(sim.ok(), sim.status().message());
  CHECK(sim.value().step_ns == 50 + 5 * 5 + 5);
  // Parameter, temporary, then op 2's and op 3's outputs: 8 + 10 + 1000 + 500 is the most.
  CHECK(sim.value().peak_bytes == 1518);
  ValidateOptions options;
  options.budget_bytes = 1518;
  const Verdict verdict = validate(profile, device, plan.value(), options);
  if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
  CHECK(verdict.peak_bytes == 1518);
}

TEST_CASE("an order that runs an op without its input says which input is gone") {
  const Profile profile = temporary_profile();
  // Op 0 is run again after op 1, so the temporary is dropped before op 1's own second run is done.
  const std::vector<std::uint32_t> missing = {0, 1, 2, 3, 4, 5, 1};
  const auto late = plan_of_order(profile, missing, false, "test", 0);
  CHECK(late.ok());  // legal: the temporary is kept for the last run
  const std::vector<std::uint32_t> gap = {0, 2};
  CHECK(plan_of_order(profile, gap, false, "test", 0).status().code() == Code::kInvalidArgument);
  const std::vector<std::uint32_t> beyond = {0, 1, 2, 3, 4, 5, 77};
  CHECK(plan_of_order(profile, beyond, false, "test", 0).status().code() == Code::kInvalidArgument);
}

TEST_CASE("the order of any recompute plan makes a plan that needs no more memory") {
  const DeviceModel device = simple_device();
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    const Profile profile = random_profile(seed, 4 + static_cast<std::uint32_t>(seed % 30));
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
    request.budget_bytes = (summary.keep_all_peak_bytes + summary.unmovable_bytes) / 2;
    const auto planner = find_planner("joint", &request);
    REQUIRE(planner.ok());
    const PlanOutcome outcome = planner.value()->plan(profile, summary, device, request);
    const Plan* made = std::get_if<Plan>(&outcome);
    if (const auto* gave_up = std::get_if<GaveUp>(&outcome)) made = &gave_up->best;
    if (made == nullptr) continue;
    const auto again = plan_of_order(profile, order_of(*made), true, "test", 0);
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    const Verdict verdict = validate(profile, device, again.value(), {});
    if (!verdict.ok()) FAIL_CHECK(verdict.violations[0].text);
    const auto before = simulate(profile, device, *made, {});
    const auto after = simulate(profile, device, again.value(), {});
    REQUIRE(before.ok());
    REQUIRE(after.ok());
    CHECK(after.value().step_ns == before.value().step_ns);
    CHECK(after.value().min_budget_bytes <= before.value().min_budget_bytes);
  }
}
