// SPDX-License-Identifier: Apache-2.0
// A device pool in the simulated GPU, for tests: 16 MiB of memory in granules of 4 KiB, a budget of
// 8 MiB unless told otherwise, and short names for what tests do all the time.
#pragma once

#include "allocator/device_pool.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>

namespace spillway::test {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;

struct DevicePoolLab {
  explicit DevicePoolLab(Lab& in, DevicePoolOptions options = {})
      : lab(in), context(Context::adopt_current(in.cu).value()) {
    options.observer = &in.observer();
    if (options.budget_bytes == 0) options.budget_bytes = 8 * kMiB;
    if (options.comm_chunk_bytes > options.budget_bytes) options.comm_chunk_bytes = 64 * kKiB;
    auto made = DevicePool::create(context, options);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    pool = std::move(made).value();
  }
  ~DevicePoolLab() {
    CHECK_EQ(pool->check_invariants().message(), "");
    lab.cu.cuCtxSynchronize();
  }
  DevicePoolLab(const DevicePoolLab&) = delete;
  DevicePoolLab& operator=(const DevicePoolLab&) = delete;

  StreamRef stream() { return StreamRef::of(lab.cu, lab.stream()).value(); }
  cu::DevicePtr take(std::uint64_t bytes, StreamRef stream, TagId tag = kUntagged) {
    auto taken = pool->allocate(bytes, stream, tag);
    REQUIRE_MESSAGE(taken.ok(), taken.status().message());
    return taken.value();
  }
  void give(cu::DevicePtr pointer, StreamRef stream) {
    const Status given = pool->free(pointer, stream);
    CHECK_MESSAGE(given.ok(), given.message());
  }
  void fill(cu::DevicePtr pointer, StreamRef stream, std::uint64_t bytes) {
    lab.fill(stream.handle(), pointer, 1, bytes);
  }
  void order(StreamRef first, StreamRef second) { lab.order(first.handle(), second.handle()); }

  Lab& lab;
  Context context;
  std::unique_ptr<DevicePool> pool;
};

/// Runs `program` in a simulator with these options; returns what the simulator reports.
inline std::string reports_of(const sim::Options& options,
                              const std::function<void(Lab&)>& program) {
  auto made = sim::Simulator::create(options);
  REQUIRE(made.ok());
  sim::Simulator& simulator = *made.value();
  simulator.run([&] {
    Lab lab(simulator);
    program(lab);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
  return simulator.report_text();
}

/// Eagerly, lazily and in 20 random orders; nothing may be reported.
inline void in_all_orders(const std::function<void(Lab&)>& program) {
  CHECK_EQ(reports_of(lab_options(sim::Mode::kEager), program), "");
  CHECK_EQ(reports_of(lab_options(sim::Mode::kLazy), program), "");
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    CHECK_EQ(reports_of(lab_options(sim::Mode::kRandom, seed), program), "");
  }
}

}  // namespace spillway::test
