// SPDX-License-Identifier: Apache-2.0
#include "device/sim/explore.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

namespace spillway::sim {
namespace {

std::optional<std::uint64_t> seed_from_environment() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing of ours changes the environment
  const char* text = std::getenv("SPILLWAY_SIM_SEED");
  if (text == nullptr) return std::nullopt;
  std::uint64_t seed = 0;
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, seed);
  if (error != std::errc() || at != end) return std::nullopt;
  return seed;
}

/// One schedule; true when it had reports.
bool run_one(Simulator& simulator, const Program& program, Exploration& result) {
  const Status ready = simulator.reset(result.options);
  ++result.schedules;
  if (!ready.ok()) {
    result.failed = true;
    result.text = ready.message();
    return true;
  }
  simulator.run([&] { program(simulator); });
  if (simulator.reports().empty()) return false;
  result.failed = true;
  result.text = simulator.report_text();
  return true;
}

}  // namespace

Exploration explore_seeds(Simulator& simulator,
                          Options options,
                          std::uint64_t first_seed,
                          std::uint64_t count,
                          const Program& program) {
  Exploration result;
  result.options = std::move(options);
  if (const std::optional<std::uint64_t> only = seed_from_environment()) {
    first_seed = *only;
    count = 1;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    result.options.seed = first_seed + i;
    if (!run_one(simulator, program, result)) continue;
    result.text += fmt::format("mode {}, seed {}: repeat with SPILLWAY_SIM_SEED={}\n",
                               name_of(result.options.mode),
                               result.options.seed,
                               result.options.seed);
    break;
  }
  return result;
}

Exploration explore_all(Simulator& simulator,
                        Options options,
                        std::uint64_t schedules_max,
                        const Program& program) {
  Exploration result;
  result.options = std::move(options);
  result.options.mode = Mode::kReplay;
  result.options.choices.clear();
  while (result.schedules < schedules_max) {
    const bool failed = run_one(simulator, program, result);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> taken = simulator.choices();
    if (failed) {
      std::string list;
      for (const auto& [choice, of] : taken) list += fmt::format("{} ", choice);
      result.text += "choices: " + list + "\n";
      result.options.choices.clear();
      for (const auto& [choice, of] : taken) result.options.choices.push_back(choice);
      return result;
    }
    // The next schedule differs in the last choice that has an alternative left.
    while (!taken.empty() && taken.back().first + 1 >= taken.back().second) taken.pop_back();
    if (taken.empty()) {
      result.complete = true;
      return result;
    }
    result.options.choices.clear();
    for (const auto& [choice, of] : taken) result.options.choices.push_back(choice);
    ++result.options.choices.back();
  }
  return result;
}

}  // namespace spillway::sim
