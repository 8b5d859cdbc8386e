// SPDX-License-Identifier: Apache-2.0
// A pool of events that several host threads share, on the simulated GPU: which reports a lock held
// across a driver call, and any work that a returned event no longer orders.
#include "device/event_pool.hpp"

#include "core/thread.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

using namespace spillway;

TEST_SUITE("sim") {
  TEST_CASE("threads share a pool of events without holding its lock across a driver call") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    const auto program = [](sim::Simulator& simulator) {
      test::Lab lab(simulator);
      EventPool pool(lab.cu);
      std::vector<Thread> threads;
      for (std::uint32_t i = 0; i < 3; ++i) {
        const cu::Stream handle = lab.stream();
        const cu::Stream other = lab.stream();
        const cu::DevicePtr x = lab.device(4096);
        auto thread = Thread::start("recorder", [&lab, &pool, handle, other, x] {
          lab.enter();
          const StreamRef stream = StreamRef::of(lab.cu, handle).value();
          const StreamRef second = StreamRef::of(lab.cu, other).value();
          for (std::uint32_t round = 0; round < 4; ++round) {
            lab.fill(handle, x, round, 4096);
            RecordedEvent recorded = pool.record(stream).value();
            if (!recorded.make_wait(second).ok()) lab.note(cu::Result::kUnknown);
            recorded = RecordedEvent();
            lab.add(other, x, 1, 4096);
            recorded = pool.record(second).value();
            if (!recorded.synchronize().ok()) lab.note(cu::Result::kUnknown);
          }
        });
        if (!thread.ok()) lab.note(cu::Result::kUnknown);
        if (thread.ok()) threads.push_back(std::move(thread).value());
      }
      for (Thread& thread : threads) thread.join();
      CHECK(lab.failure == cu::Result::kSuccess);
      CHECK(pool.leased_count() == 0);
      CHECK(pool.created_count() == pool.free_count());
      CHECK(pool.created_count() <= 3);
    };
    const sim::Exploration found =
        sim::explore_seeds(*made.value(), test::lab_options(), 0, 40, program);
    CHECK_MESSAGE(!found.failed, found.text);
  }

  TEST_CASE("the simulated machine counts pinned memory, allocated and registered") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    alignas(4096) static std::uint8_t pages[8192];
    simulator.run([&] {
      test::Lab lab(simulator);
      static_cast<void>(lab.pinned(100));
      CHECK(simulator.counters().pinned_bytes_used == 4096);
      CHECK(lab.cu.cuMemHostRegister(pages, sizeof pages, 0) == cu::Result::kSuccess);
      CHECK(simulator.counters().pinned_bytes_used == 4096 + sizeof pages);
      CHECK(lab.cu.cuMemHostUnregister(pages) == cu::Result::kSuccess);
      CHECK(simulator.counters().pinned_bytes_used == 4096);
    });
    CHECK(simulator.counters().pinned_bytes_peak == 4096 + sizeof pages);
    CHECK(simulator.report_text() == "");
  }
}
