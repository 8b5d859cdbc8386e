// SPDX-License-Identifier: Apache-2.0
// Blocks that the pool keeps whole after they were given back: quick to take again, and in nobody's
// way. With and without an observer, since the pool frees on another path then.
#include "allocator/device_pool.hpp"
#include "core/random.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace spillway {
namespace {

using test::Lab;
using test::lab_options;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

void with_pool(const std::function<void(Lab&, DevicePool&, StreamRef)>& program) {
  for (const bool observed : {false, true}) {
    CAPTURE(observed);
    auto made = sim::Simulator::create(lab_options(sim::Mode::kEager, 0));
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    simulator.run([&] {
      Lab lab(simulator);
      Context context = Context::adopt_current(lab.cu).value();
      DevicePoolOptions options;
      options.budget_bytes = 8 * kMiB;
      if (observed) options.observer = &lab.observer();
      auto pool = DevicePool::create(context, options);
      REQUIRE(pool.ok());
      program(lab, *pool.value(), StreamRef::of(lab.cu, lab.stream()).value());
      CHECK(pool.value()->check_invariants().ok());
      lab.cu.cuCtxSynchronize();
    });
    CHECK_MESSAGE(simulator.reports().empty(), simulator.report_text());
  }
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a block just given back is the next one of its size") {
    with_pool([](Lab&, DevicePool& pool, StreamRef stream) {
      const cu::DevicePtr a = pool.allocate(96 * kKiB, stream).value();
      const cu::DevicePtr b = pool.allocate(64 * kKiB, stream).value();
      const cu::DevicePtr c = pool.allocate(96 * kKiB, stream).value();
      CHECK(pool.free(b, stream).ok());
      CHECK(pool.free(a, stream).ok());
      CHECK(pool.allocate(96 * kKiB - 5, stream).value() == a);
      CHECK(pool.allocate(64 * kKiB, stream).value() == b);
      CHECK(pool.check_invariants().ok());
      CHECK(pool.free(a, stream).ok());
      CHECK(pool.free(b, stream).ok());
      CHECK(pool.free(c, stream).ok());
      CHECK(pool.free(c, stream).code() == Code::kInvalidArgument);
    });
  }

  TEST_CASE("only the beginning of a block gives it back, with an observer and without") {
    with_pool([](Lab&, DevicePool& pool, StreamRef stream) {
      for (const std::uint64_t bytes : {std::uint64_t{1024}, 96 * kKiB}) {
        CAPTURE(bytes);
        const cu::DevicePtr block = pool.allocate(bytes, stream).value();
        for (const std::uint64_t inside : {std::uint64_t{1}, std::uint64_t{512}, bytes - 512})
          CHECK(pool.free(block + inside, stream).code() == Code::kInvalidArgument);
        CHECK(pool.stats().live_count == 1);
        CHECK(pool.free(block + bytes + 64 * kMiB, stream).code() == Code::kNotFound);
        CHECK(pool.free(block, stream).ok());
        CHECK(pool.free(block, stream).code() == Code::kInvalidArgument);
      }
      CHECK(pool.free(0, stream).ok());
      CHECK(pool.allocate(0, stream).value() == 0);
      CHECK(pool.allocate(~std::uint64_t{0}, stream).status().code() == Code::kOutOfMemory);
    });
  }

  TEST_CASE("kept blocks count as free and are merged before the pool grows") {
    with_pool([](Lab&, DevicePool& pool, StreamRef stream) {
      std::vector<cu::DevicePtr> blocks(6);
      for (cu::DevicePtr& block : blocks) block = pool.allocate(32 * kKiB, stream).value();
      const std::uint64_t reserved = pool.stats().reserved_bytes;
      for (const cu::DevicePtr block : blocks) CHECK(pool.free(block, stream).ok());
      CHECK(pool.stats().allocated_bytes == 0);
      CHECK(pool.stats().free_bytes == reserved);
      CHECK(pool.check_invariants().ok());
      const cu::DevicePtr all = pool.allocate(blocks.size() * 32 * kKiB, stream).value();
      CHECK(pool.stats().reserved_bytes == reserved);
      CHECK(pool.free(all, stream).ok());
    });
  }

  TEST_CASE("kept blocks of one stream are memory for another, and for the driver") {
    with_pool([](Lab& lab, DevicePool& pool, StreamRef stream) {
      const StreamRef other = StreamRef::of(lab.cu, lab.stream()).value();
      std::vector<cu::DevicePtr> blocks(8);
      for (cu::DevicePtr& block : blocks) block = pool.allocate(kMiB, stream).value();
      for (const cu::DevicePtr block : blocks) CHECK(pool.free(block, stream).ok());
      const Result<cu::DevicePtr> whole = pool.allocate(8 * kMiB, other);
      REQUIRE(whole.ok());
      CHECK(pool.free(whole.value(), other).ok());
      CHECK(pool.trim(0).ok());
      CHECK(pool.stats().reserved_bytes == 0);
    });
  }
}

TEST_SUITE("model") {
  TEST_CASE("without an observer, blocks never overlap and everything is found again") {
    with_pool([](Lab& lab, DevicePool& pool, StreamRef first) {
      const StreamRef streams[] = {first, StreamRef::of(lab.cu, lab.stream()).value()};
      Random random(7);
      std::map<cu::DevicePtr, std::pair<std::uint64_t, int>> live;  // bytes, stream
      bool good = true;
      for (int step = 0; step < 20000 && good; ++step) {
        if (live.size() < 60 && random.below(2) == 0) {
          const int on = static_cast<int>(random.below(2));
          const std::uint64_t bytes = random.below(4) == 0 ? 1 + random.below(100 * kKiB)
                                                           : 512 * (1 + 16 * random.below(6));
          const Result<cu::DevicePtr> block = pool.allocate(bytes, streams[on]);
          if (!block.ok()) continue;
          const auto after = live.lower_bound(block.value());
          good = (after == live.end() || block.value() + bytes <= after->first) &&
                 (after == live.begin() ||
                  std::prev(after)->first + std::prev(after)->second.first <= block.value());
          live[block.value()] = {bytes, on};
        } else if (!live.empty()) {
          auto chosen = live.begin();
          std::advance(chosen, static_cast<std::ptrdiff_t>(random.below(live.size())));
          good = pool.find(chosen->first + chosen->second.first / 2)->pointer == chosen->first &&
                 pool.free(chosen->first, streams[chosen->second.second]).ok();
          live.erase(chosen);
        }
        if (step % 1000 == 0) good = good && pool.check_invariants().ok();
      }
      CHECK(good);
      for (const auto& [pointer, block] : live)
        CHECK(pool.free(pointer, streams[block.second]).ok());
      CHECK(pool.stats().live_count == 0);
      CHECK(pool.stats().allocated_bytes == 0);
    });
  }
}

}  // namespace spillway
