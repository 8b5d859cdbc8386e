// SPDX-License-Identifier: Apache-2.0
// How joint's time and memory grow with the step: GPT-2 with ever more layers, half of its
// activations to be saved, all levers. SPILLWAY_BENCH_MAX_OPS sets the longest step (default
// 60,000; a million takes minutes); each step is planned SPILLWAY_BENCH_REPEATS times (default 3).
#include "bench/support/machine.hpp"
#include "core/version.hpp"
#include "device/calibration.hpp"
#include "integration/generator/generator.hpp"
#include "policy/planner.hpp"
#include "policy/profile_builder.hpp"
#include "policy/simulator.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace {

using namespace spillway;

std::uint64_t number_from(const char* variable, std::uint64_t fallback) {
  const char* text = std::getenv(variable);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// A generated model has 16,384 layers at most; the longest step has several micro-batches.
struct Size {
  std::uint64_t layers;
  std::uint32_t micro_batches;
};

Result<Profile> gpt2_of(const Size& size, const Calibration& gpu) {
  SPW_ASSIGN_OR_RETURN(ModelConfig model, model_by_name("gpt2"));
  ModelOverrides overrides;
  overrides.layers = size.layers;
  SPW_RETURN_IF_ERROR(apply_overrides(overrides, &model));
  ProfileBuilder builder{ProfileOptions{}};
  GenerateOptions options;
  options.micro_batches = size.micro_batches;
  SPW_RETURN_IF_ERROR(generate(model, options, gpu, builder));
  return builder.finish();
}

DeviceModel device_of(const Calibration& gpu) {
  DeviceModel device;
  device.name = gpu.name;
  device.d2h_gbps = gpu.d2h_bytes_per_s / 1e9;
  device.h2d_gbps = gpu.h2d_bytes_per_s / 1e9;
  device.copy_latency_ns = gpu.copy_latency_ns;
  device.hbm_gbps = gpu.memory_bytes_per_s.achieved / 1e9;
  device.launch_ns = gpu.launch_latency_ns;
  return device;
}

double peak_resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// A bar of one character per factor of 1.6, from a millisecond on.
std::string bar(double seconds) {
  const double steps = std::log(std::max(seconds, 1e-3) / 1e-3) / std::log(1.6);
  return std::string(static_cast<std::size_t>(steps), '#');
}

struct Run {
  double seconds;
  double cpu_seconds;
};

int measure() {
  auto gpu = load_calibration("h200");
  if (!gpu.ok()) {
    fmt::print(stderr, "{}\n", gpu.status().message());
    return 1;
  }
  fmt::print("machine   {}\nload      {}\nrevision  {}\n",
             bench::machine_text(),
             bench::load_text(),
             git_revision());
  fmt::print(
      "joint on GPT-2 with ever more layers, budget half way between what no plan can do without "
      "and keep-all's peak, all exact levers; overhead is predicted\n\n");
  fmt::print("{:>8} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9}\n",
             "ops",
             "tensors",
             "median s",
             "least s",
             "cpu s",
             "us/op",
             "peak MiB",
             "overhead");
  const std::uint64_t max_ops = number_from("SPILLWAY_BENCH_MAX_OPS", 60'000);
  const std::uint64_t repeats =
      std::max<std::uint64_t>(number_from("SPILLWAY_BENCH_REPEATS", 3), 1);
  constexpr Size kSizes[] = {{4, 1},
                             {14, 1},
                             {34, 1},
                             {115, 1},
                             {345, 1},
                             {690, 1},
                             {1725, 1},
                             {3450, 1},
                             {10350, 1},
                             {11500, 3}};
  for (const Size& size : kSizes) {
    if (29 * size.layers * size.micro_batches > max_ops) break;
    auto made = gpt2_of(size, gpu.value());
    if (!made.ok()) {
      fmt::print(stderr, "{}\n", made.status().message());
      return 1;
    }
    const Profile profile = std::move(made).value();
    const DeviceModel device = device_of(gpu.value());
    const ProfileSummary summary = summarize(profile);
    PlanRequest request;
    request.budget_bytes = (summary.unmovable_bytes + summary.keep_all_peak_bytes) / 2;
    const auto planner = find_planner("joint", &request);
    if (!planner.ok()) return 1;
    std::vector<Run> runs;
    double overhead = 0;
    for (std::uint64_t i = 0; i < repeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const std::clock_t cpu_begin = std::clock();
      const PlanOutcome outcome = planner.value()->plan(profile, summary, device, request);
      runs.push_back(
          {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
           static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC});
      const Plan* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) {
        fmt::print(stderr, "no plan for {} layers\n", size.layers);
        return 1;
      }
      SimOptions options;
      options.budget_bytes = request.budget_bytes;
      const auto sim = simulate(profile, device, *plan, options);
      if (!sim.ok() || !sim.value().fits) return 1;
      overhead = static_cast<double>(sim.value().step_ns) /
                     static_cast<double>(std::max<std::int64_t>(summary.compute_ns, 1)) -
                 1;
    }
    std::sort(
        runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.seconds < b.seconds; });
    const Run& median = runs[runs.size() / 2];
    fmt::print("{:>8} {:>9} {:>9.3f} {:>8.3f} {:>8.3f} {:>9.1f} {:>9.0f} {:>8.1f}%  {}\n",
               profile.ops.size(),
               profile.storages.size(),
               median.seconds,
               runs.front().seconds,
               median.cpu_seconds,
               1e6 * median.seconds / static_cast<double>(profile.ops.size()),
               peak_resident_mib(),
               100 * overhead,
               bar(median.seconds));
  }
  fmt::print(
      "\none # is a factor of 1.6 above a millisecond: growth in a straight line is linear\n");
  return 0;
}

}  // namespace

int main() {
  try {
    return measure();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
