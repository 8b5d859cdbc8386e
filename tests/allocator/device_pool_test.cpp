// SPDX-License-Identifier: Apache-2.0
// The device pool's contract, one behaviour a test, on the simulated GPU.
#include "allocator/device_pool.hpp"

#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace spillway {
namespace {

using test::Lab;
using test::lab_options;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

/// A pool in a simulator with 16 MiB and granules of 4 KiB; checks its invariants at the end.
struct Bench {
  explicit Bench(Lab& in, DevicePoolOptions options = {})
      : lab(in), context(Context::adopt_current(in.cu).value()) {
    options.observer = &lab.observer();
    if (options.budget_bytes == 0) options.budget_bytes = 8 * kMiB;
    auto made = DevicePool::create(context, options);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    pool = std::move(made).value();
  }
  ~Bench() {
    CHECK_EQ(pool->check_invariants(), "");
    lab.cu.cuCtxSynchronize();
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

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

  Lab& lab;
  Context context;
  std::unique_ptr<DevicePool> pool;
};

/// Runs `program` eagerly, lazily and in a few random orders; nothing may be reported.
void in_all_orders(const std::function<void(Lab&)>& program) {
  for (const sim::Mode mode : {sim::Mode::kEager, sim::Mode::kLazy, sim::Mode::kRandom}) {
    const std::uint64_t seeds = mode == sim::Mode::kRandom ? 20 : 1;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      auto made = sim::Simulator::create(lab_options(mode, seed));
      REQUIRE(made.ok());
      sim::Simulator& simulator = *made.value();
      simulator.run([&] {
        Lab lab(simulator);
        program(lab);
      });
      CAPTURE(seed);
      CHECK_MESSAGE(simulator.reports().empty(), simulator.report_text());
    }
  }
}

TEST_SUITE("unit") {
  TEST_CASE("a block is aligned, usable on its stream, and reused there at once") {
    in_all_orders([](Lab& lab) {
      Bench bench(lab);
      const StreamRef s = bench.stream();
      const cu::DevicePtr a = bench.take(10 * kKiB, s);
      CHECK_EQ(a % 512, 0u);
      lab.fill(s.handle(), a, 1, 10 * kKiB);
      bench.give(a, s);
      const cu::DevicePtr b = bench.take(10 * kKiB, s);
      CHECK_EQ(a, b);
      lab.fill(s.handle(), b, 2, 10 * kKiB);
      bench.give(b, s);
      CHECK_EQ(bench.pool->stats().stream_wait_count, 0u);
      CHECK_EQ(bench.pool->stats().host_wait_count, 0u);
    });
  }

  TEST_CASE("zero bytes are the null pointer, and giving it back is nothing") {
    in_all_orders([](Lab& lab) {
      Bench bench(lab);
      const StreamRef s = bench.stream();
      CHECK_EQ(bench.take(0, s), 0u);
      bench.give(0, s);
      CHECK_EQ(bench.pool->stats().reserved_bytes, 0u);
    });
  }

  TEST_CASE("at the budget another stream's memory is used after a wait, not by the host") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      Bench bench(lab, options);
      const StreamRef s = bench.stream();
      const StreamRef t = bench.stream();
      const cu::DevicePtr a = bench.take(64 * kKiB, s);
      lab.fill(s.handle(), a, 1, 64 * kKiB);
      bench.give(a, s);
      const cu::DevicePtr b = bench.take(64 * kKiB, t);
      CHECK_EQ(a, b);
      lab.fill(t.handle(), b, 2, 64 * kKiB);
      bench.give(b, t);
      CHECK_EQ(bench.pool->stats().host_wait_count, 0u);
      CHECK_LE(bench.pool->stats().stream_wait_count, 1u);
    });
  }
}

}  // namespace
}  // namespace spillway
