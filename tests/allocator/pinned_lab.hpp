// SPDX-License-Identifier: Apache-2.0
// A pinned pool on the simulated GPU: small slabs, no worker threads unless asked for, and page
// calls that note a lock held across them and refuse when told to.
#pragma once

#include "allocator/pinned_pool.hpp"
#include "core/host_scheduler.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace spillway::test {

/// What the page calls of a test have seen. One test uses them at a time.
struct PageCallNotes {
  std::uint32_t locks_held = 0;  // calls with a lock held
  int maps = 0;
  int refused_maps = 0;
  int unmaps = 0;
  int map_flags = 0;   // of the last map
  int refuse_map = 0;  // errno for maps whose flags contain refuse_flags
  int refuse_flags = 0;
  int refuse_advice = 0;  // this advice fails with EINVAL
  int advice_error = 0;   // and with this error, if set
  int node = -1;          // last wished
  int refuse_node = 0;    // errno
  std::vector<int> advices;
};
inline PageCallNotes& page_notes() {
  static PageCallNotes notes;
  return notes;
}

/// The system's calls with notes.
inline const HostPageCalls& noting_page_calls() {
  static constexpr HostPageCalls kCalls = {
      [](std::size_t bytes, int flags, int* error) -> void* {
        PageCallNotes& notes = page_notes();
        notes.locks_held += held_lock_count() != 0 ? 1u : 0u;
        ++notes.maps;
        notes.map_flags = flags;
        if (notes.refuse_map != 0 && (flags & notes.refuse_flags) == notes.refuse_flags) {
          ++notes.refused_maps;
          *error = notes.refuse_map;
          return nullptr;
        }
        return system_page_calls().map(bytes, flags, error);
      },
      [](void* pointer, std::size_t bytes) {
        page_notes().locks_held += held_lock_count() != 0 ? 1u : 0u;
        ++page_notes().unmaps;
        return system_page_calls().unmap(pointer, bytes);
      },
      [](void* pointer, std::size_t bytes, int advice) {
        PageCallNotes& notes = page_notes();
        notes.locks_held += held_lock_count() != 0 ? 1u : 0u;
        notes.advices.push_back(advice);
        if (advice == notes.refuse_advice)
          return notes.advice_error != 0 ? notes.advice_error : EINVAL;
        return system_page_calls().advise(pointer, bytes, advice);
      },
      [](void* pointer, std::size_t bytes, int node) {
        PageCallNotes& notes = page_notes();
        notes.locks_held += held_lock_count() != 0 ? 1u : 0u;
        notes.node = node;
        if (notes.refuse_node != 0) return notes.refuse_node;
        return system_page_calls().prefer_node(pointer, bytes, node);
      }};
  return kCalls;
}

inline PinnedPoolOptions small_pool(std::uint64_t cap_bytes = std::uint64_t{1} << 20) {
  PinnedPoolOptions options;
  options.cap_bytes = cap_bytes;
  options.slab_bytes = 64 << 10;
  options.threads = 0;
  options.limit_sources = {};
  options.page_calls = &noting_page_calls();
  return options;
}

/// A pool and streams by reference in a lab. Ends the pool before the lab.
class PoolLab {
 public:
  explicit PoolLab(sim::Simulator& simulator, const PinnedPoolOptions& options = small_pool())
      : lab(simulator), context_(Context::adopt_current(lab.cu).value()) {
    Result<std::unique_ptr<PinnedPool>> made = PinnedPool::create(context_, options);
    REQUIRE(made.ok());
    pool = std::move(made).value();
  }

  [[nodiscard]] StreamRef stream() { return ref(lab.stream()); }
  [[nodiscard]] StreamRef ref(cu::Stream handle) { return StreamRef::of(lab.cu, handle).value(); }
  [[nodiscard]] const Context& context() const { return context_; }
  /// Pinned bytes as the machine counts them.
  [[nodiscard]] std::uint64_t machine_bytes() {
    return lab.simulator().counters().pinned_bytes_used;
  }

  Lab lab;

 private:
  Context context_;

 public:
  std::unique_ptr<PinnedPool> pool;
};

/// Calls body(seed), which returns what went wrong or nothing, for seeds from 0 on; stops at the
/// first problem and says how to repeat it. SPILLWAY_SIM_SEED=N runs that seed only.
inline void for_seeds(std::uint64_t count, const std::function<std::string(std::uint64_t)>& body) {
  std::uint64_t first = 0;
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing of ours changes the environment
  if (const char* seeds = std::getenv("SPILLWAY_MODEL_SEEDS"))
    count = std::strtoull(seeds, nullptr, 10);
  if (const char* only = std::getenv("SPILLWAY_SIM_SEED")) {
    first = std::strtoull(only, nullptr, 10);
    count = 1;
  }
  // NOLINTEND(concurrency-mt-unsafe)
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::string problem = body(seed);
    if (problem.empty()) continue;
    FAIL_CHECK("seed " << seed << ": " << problem << "; repeat with SPILLWAY_SIM_SEED=" << seed);
    return;
  }
}

/// Runs `program` once under a schedule and expects no report.
inline void run_clean(const std::function<void(sim::Simulator&)>& program,
                      sim::Mode mode = sim::Mode::kLazy,
                      std::uint64_t seed = 0) {
  page_notes() = {};
  auto made = sim::Simulator::create(lab_options(mode, seed));
  REQUIRE(made.ok());
  sim::Simulator& simulator = *made.value();
  simulator.run([&] { program(simulator); });
  CHECK(simulator.report_text() == "");
  CHECK(simulator.counters().pinned_bytes_used == 0);
  CHECK(page_notes().locks_held == 0);
}

}  // namespace spillway::test
