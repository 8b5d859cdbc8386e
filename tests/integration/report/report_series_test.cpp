// SPDX-License-Identifier: Apache-2.0
// Series over time against a naive count of who holds what, and reduction that loses no maximum.
#include "integration/report/report_series.hpp"

#include "integration/report/report_lanes.hpp"
#include "integration/report/report_tensors.hpp"
#include "tests/support/made_up_run.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

using namespace spillway;

namespace {

/// Device bytes at `at_ns`, after everything of that instant: the plain way.
std::uint64_t held_at(const Profile& profile, const SimResult& sim, std::int64_t at_ns) {
  std::vector<std::uint64_t> held(profile.storages.size(), 0);
  for (const PlaceChange& change : sim.timeline->changes)
    if (change.at_ns <= at_ns) held[change.storage] = change.device_bytes;
  std::uint64_t bytes = std::accumulate(held.begin(), held.end(), std::uint64_t{0});
  for (const Slice& slice : sim.timeline->slices) {
    const bool op =
        slice.kind == InstructionKind::kCompute || slice.kind == InstructionKind::kRecompute;
    if (op && slice.begin_ns <= at_ns && at_ns < slice.end_ns)
      bytes += profile.ops[slice.target].workspace_bytes;
  }
  return bytes;
}

std::uint64_t highest(const std::vector<MemorySample>& samples) {
  std::uint64_t most = 0;
  for (const MemorySample& sample : samples) most = std::max(most, sample.device_bytes());
  return most;
}

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("an unreduced series agrees with a naive count at every instant") {
    const test::MadeUpRun run = test::made_up_run({5, ""});
    const SimResult& sim = run.chosen.sim;
    const StepAxis axis = step_axis(*run.profile, sim);
    const auto changes = place_changes(*run.profile, sim, axis);
    const MemorySeries series = memory_series(*run.profile, sim, axis, changes, 100'000);
    CHECK_FALSE(series.reduced);
    REQUIRE(series.samples.size() > 50);
    for (std::size_t i = 0; i < series.samples.size(); ++i) {
      const MemorySample& sample = series.samples[i];
      const bool spike =
          i + 1 < series.samples.size() && series.samples[i + 1].at_ns == sample.at_ns;
      if (spike) continue;
      CAPTURE(sample.at_ns);
      CHECK(sample.device_bytes() == held_at(*run.profile, sim, sample.at_ns));
      const std::uint64_t places =
          std::accumulate(sample.by_place.begin(), sample.by_place.end(), std::uint64_t{0});
      CHECK(places == sample.device_bytes());
      CHECK(sample.by_place[static_cast<std::size_t>(Place::kNone)] == 0);
      CHECK(sample.by_place[static_cast<std::size_t>(Place::kOnHost)] == 0);
    }
  }

  TEST_CASE("a reduced series keeps the highest total and the peak instant adds up to it") {
    const test::MadeUpRun run = test::made_up_run({40, ""});
    const SimResult& sim = run.chosen.sim;
    const StepAxis axis = step_axis(*run.profile, sim);
    const auto changes = place_changes(*run.profile, sim, axis);
    const MemorySeries full = memory_series(*run.profile, sim, axis, changes, 1'000'000);
    for (const std::size_t points : {3u, 12u, 60u, 300u}) {
      const MemorySeries few = memory_series(*run.profile, sim, axis, changes, points);
      CAPTURE(points);
      CHECK(few.reduced);
      CHECK(few.samples.size() <= points);
      CHECK(highest(few.samples) == highest(full.samples));
      CHECK(std::is_sorted(few.samples.begin(),
                           few.samples.end(),
                           [](const auto& a, const auto& b) { return a.at_ns < b.at_ns; }));
    }
    const std::uint64_t storages = std::accumulate(
        full.peak.storage_bytes.begin(), full.peak.storage_bytes.end(), std::uint64_t{0});
    CHECK(storages + full.peak.workspace_bytes == full.peak.bytes);
    CHECK(full.peak.bytes == highest(full.samples));
  }

  TEST_CASE("the keep-all series peaks where every op finds its storages") {
    const test::MadeUpRun run = test::made_up_run({7, ""});
    const Profile& profile = *run.profile;
    const StepAxis axis = step_axis(profile, run.chosen.sim);
    std::uint64_t most = 0;
    for (std::uint32_t op = 0; op < profile.ops.size(); ++op) {
      std::uint64_t bytes = profile.ops[op].workspace_bytes;
      for (const Storage& storage : profile.storages) {
        const bool made = !storage.created_by.valid() || storage.created_by.value <= op;
        const bool gone = storage.freed_after.valid() && storage.freed_after.value < op;
        if (made && !gone) bytes += storage.bytes;
      }
      most = std::max(most, bytes);
    }
    for (const std::size_t points : {10u, 1000u}) {
      const auto series = keep_all_series(profile, axis, points);
      const auto top =
          std::max_element(series.begin(), series.end(), [](const auto& a, const auto& b) {
            return a.bytes < b.bytes;
          });
      REQUIRE(top != series.end());
      CHECK(top->bytes == most);
      CHECK(series.size() <= points);
    }
  }

  TEST_CASE("without a timeline ops run one after the other and every byte is resident") {
    const test::MadeUpRun run = test::made_up_run({4, ""});
    const SimResult none;
    const StepAxis axis = step_axis(*run.profile, none);
    CHECK_FALSE(axis.from_timeline);
    CHECK(axis.end_ns == run.summary->compute_ns);
    const auto changes = place_changes(*run.profile, none, axis);
    const MemorySeries series = memory_series(*run.profile, none, axis, changes, 10'000);
    CHECK(series.samples.back().at_ns == axis.end_ns);
    std::uint64_t left = 0;
    for (const Storage& storage : run.profile->storages)
      if (!storage.freed_after.valid()) left += storage.bytes;
    CHECK(series.samples.back().device_bytes() == left);
    const auto keep_all = keep_all_series(*run.profile, axis, 10'000);
    const auto top =
        std::max_element(keep_all.begin(), keep_all.end(), [](const auto& a, const auto& b) {
          return a.bytes < b.bytes;
        });
    CHECK(series.peak.bytes == top->bytes);
  }

  TEST_CASE("the heat map's cells hold the byte-time of the changes") {
    const test::MadeUpRun run = test::made_up_run({6, ""});
    const SimResult& sim = run.chosen.sim;
    const StepAxis axis = step_axis(*run.profile, sim);
    const auto changes = place_changes(*run.profile, sim, axis);
    double expected = 0;
    std::vector<PlaceChange> last(run.profile->storages.size());
    for (const PlaceChange& change : changes) {
      PlaceChange& before = last[change.storage];
      if (is_transient(run.profile->storages[change.storage].tag.kind))
        expected += static_cast<double>(change.at_ns - before.at_ns) *
                    static_cast<double>(before.device_bytes);
      before = change;
    }
    for (const std::size_t rows : {2u, 3u, 64u}) {
      const HeatMap map = heat_map(*run.profile, axis, changes, run.chosen.plan, rows, 50);
      CHECK(map.rows.size() <= rows);
      double sum = 0;
      std::uint64_t activations = 0;
      for (const HeatMap::Row& row : map.rows) {
        REQUIRE(row.mean_bytes.size() == 50);
        for (const std::uint64_t bytes : row.mean_bytes) sum += static_cast<double>(bytes);
        for (const std::uint64_t bytes : row.by_action) activations += bytes;
      }
      CHECK(sum * static_cast<double>(axis.end_ns) / 50 == doctest::Approx(expected).epsilon(1e-6));
      CHECK(activations == run.summary->activation_bytes);
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("merged lanes lose no slice and stay in time order") {
    const test::MadeUpRun run = test::made_up_run({60, ""});
    const SimResult& sim = run.chosen.sim;
    const StepAxis axis = step_axis(*run.profile, sim);
    std::size_t slices = 0;
    for (const Slice& slice : sim.timeline->slices)
      slices += slice.lane == Lane::kCompute && slice.end_ns > slice.begin_ns ? 1u : 0u;
    for (const std::size_t limit : {1u, 20u, 100u, 100'000u}) {
      CAPTURE(limit);
      const auto drawn = drawn_slices(*run.profile, sim, axis, Lane::kCompute, limit);
      CHECK(drawn.size() <= limit);
      std::size_t merged = 0;
      for (std::size_t i = 0; i < drawn.size(); ++i) {
        merged += drawn[i].merged;
        if (i > 0) CHECK(drawn[i - 1].end_ns <= drawn[i].begin_ns);
      }
      CHECK(merged == slices);
    }
  }

  TEST_CASE("a tensor's life tells when it left, came back, and how long the host held it") {
    const test::MadeUpRun run = test::made_up_run({6, ""});
    const SimResult& sim = run.chosen.sim;
    const StepAxis axis = step_axis(*run.profile, sim);
    const auto lives = tensor_lives(*run.profile, axis, place_changes(*run.profile, sim, axis));
    for (std::size_t s = 0; s < lives.size(); ++s) {
      CAPTURE(s);
      const TensorLife& life = lives[s];
      const Action action = run.chosen.plan.decisions[s].action;
      CHECK((life.evicted_ns >= 0) == (action != Action::kKeep));
      CHECK((life.on_host_ns > 0) == (action == Action::kOffload));
      if (action == Action::kKeep) continue;
      CHECK(life.evictions == 1);
      CHECK(life.first_use_ns < life.evicted_ns);
      CHECK(life.evicted_ns < life.back_ns);
      CHECK(life.back_ns < life.last_use_ns);
    }
  }

  TEST_CASE("the source line is the innermost Python frame outside of libraries") {
    const test::MadeUpRun run = test::made_up_run();
    const Storage& storage = run.profile->storages[3];
    CHECK(run.profile->text(stack_frames(*run.profile, storage.stack, 1).front()) ==
          "aten/native/Linear.cpp:10 at::linear");
    CHECK(source_line(*run.profile, storage.stack).find("/home/user/layers.py:") == 0);
    CHECK(source_line(*run.profile, StackId()).empty());
    CHECK(source_line(*run.profile, StackId(1'000'000u)).empty());
  }
}
