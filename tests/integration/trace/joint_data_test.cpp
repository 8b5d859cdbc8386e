// SPDX-License-Identifier: Apache-2.0
// joint beside the named methods on recorded steps: never slower than any of them, and never slower
// with all levers than with recompute alone.
#include "integration/trace/reader.hpp"
#include "policy/planner.hpp"
#include "policy/profile_builder.hpp"
#include "policy/simulator.hpp"
#include "tests/support/shared_data.hpp"
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string_view>
#include <vector>

namespace spillway {
namespace {

constexpr std::int64_t kNoPlan = std::numeric_limits<std::int64_t>::max();

DeviceModel machine() {
  DeviceModel device;
  device.d2h_gbps = device.h2d_gbps = 12;
  device.copy_latency_ns = 2200;
  device.hbm_gbps = 4010;
  device.launch_ns = 1400;
  return device;
}

std::int64_t step_ns(const Planner& planner,
                     const Profile& profile,
                     const ProfileSummary& summary,
                     const PlanRequest& request) {
  const PlanOutcome outcome = planner.plan(profile, summary, machine(), request);
  const Plan* plan = std::get_if<Plan>(&outcome);
  if (plan == nullptr) return kNoPlan;
  SimOptions options;
  options.budget_bytes = request.budget_bytes;
  const auto sim = simulate(profile, machine(), *plan, options);
  REQUIRE(sim.ok());
  CHECK(sim.value().fits);
  return sim.value().step_ns;
}

void compare(const Profile& profile) {
  const ProfileSummary summary = summarize(profile);
  const std::uint64_t range = summary.keep_all_peak_bytes - summary.unmovable_bytes;
  for (const std::uint64_t part : {7u, 4u}) {
    CAPTURE(part);
    PlanRequest request;
    request.budget_bytes = summary.unmovable_bytes + range / 10 * part;
    PlanRequest recompute = request;
    recompute.actions = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
    const Planner& joint = *find_planner("joint", &request).value();
    const std::int64_t all_ns = step_ns(joint, profile, summary, request);
    const std::int64_t recompute_ns = step_ns(joint, profile, summary, recompute);
    const auto overhead = [&](std::int64_t ns) {
      return 100 * (static_cast<double>(ns) / static_cast<double>(summary.compute_ns) - 1);
    };
    MESSAGE(profile.ops.size() << " ops: all levers " << overhead(all_ns) << " %, recompute "
                               << (recompute_ns == kNoPlan ? -1 : overhead(recompute_ns)) << " %");
    CHECK(all_ns <= recompute_ns);
    for (const std::string_view name : {"chen-sqrt",
                                        "every-k",
                                        "full",
                                        "selective",
                                        "segments",
                                        "speed",
                                        "memory",
                                        "collection",
                                        "dtr",
                                        "capuchin"}) {
      CAPTURE(name);
      PlanRequest plain = request;
      const Planner& planner = *find_planner(name, &plain).value();
      const std::int64_t ns = step_ns(planner, profile, summary, plain);
      CHECK(all_ns <= ns);
      if ((planner.uses & ~recompute.actions) == 0) CHECK(recompute_ns <= ns);
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("on recorded steps joint is never slower than a named method, nor with more levers") {
  SPW_REQUIRE_SHARED_DATA(folder);
  std::vector<std::filesystem::path> files = {folder / "checkmate" / "resnet50_184_graph.json",
                                              folder / "checkmate" / "unet_11_graph.json"};
  for (const auto& entry : std::filesystem::directory_iterator(folder / "dtr" / "logs"))
    files.push_back(entry.path());
  int steps = 0;
  for (const std::filesystem::path& file : files) {
    CAPTURE(file.filename().string());
    ProfileBuilder builder{ProfileOptions{}};
    if (!read_trace(file.string(), {}, builder).ok()) continue;
    auto profile = builder.finish();
    REQUIRE(profile.ok());
    if (profile.value().ops.size() > 2000) continue;
    compare(profile.value());
    ++steps;
  }
  CHECK(steps >= 2);
}

TEST_SUITE_END();

}  // namespace spillway
