// SPDX-License-Identifier: Apache-2.0
// The pinned pool on the simulated GPU: exact sizes, slabs, reuse by event, waits, steps, the cap,
// and every wrong call.
#include "allocator/pinned_pool.hpp"

#include "core/thread.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using test::PoolLab;
using test::run_clean;
using test::small_pool;

namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kN = 4096;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::byte* bytes_of(const PinnedBlock& block) { return static_cast<std::byte*>(block.data); }

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("sizes are exact: a quantum is all that is added, a large request has its own slab") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      const PinnedBlock small = t.pool->allocate(1).value();
      CHECK(small.bytes == 512);
      CHECK(t.machine_bytes() == 64 * kKiB);
      // 164 KiB + 1 of a 64 KiB slab size: whole pages of its own, not 256 KiB.
      const PinnedBlock large = t.pool->allocate(164 * kKiB + 1).value();
      CHECK(large.bytes == 164 * kKiB + 512);
      CHECK(t.machine_bytes() == (64 + 168) * kKiB);
      CHECK(reinterpret_cast<std::uintptr_t>(large.data) % 4096 == 0);
      std::memset(large.data, 1, large.bytes);
      CHECK(t.pool->check_invariants().ok());
      CHECK(t.pool->free(small.data).ok());
      CHECK(t.pool->free(large.data).ok());
    });
  }

  TEST_CASE("a quantum of 64 bytes packs eight times as many small blocks") {
    run_clean([](sim::Simulator& simulator) {
      PinnedPoolOptions options = small_pool();
      options.quantum_bytes = 64;
      PoolLab t(simulator, options);
      const PinnedBlock a = t.pool->allocate(1).value();
      const PinnedBlock b = t.pool->allocate(65).value();
      CHECK(bytes_of(b) - bytes_of(a) == 64);
      CHECK(b.bytes == 128);
      CHECK(t.pool->free(a.data).ok());
      CHECK(t.pool->free(b.data).ok());
    });
  }

  TEST_CASE("the smallest hole that is large enough is used, and free neighbours become one") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      std::vector<PinnedBlock> blocks;
      for (int i = 0; i < 8; ++i) blocks.push_back(t.pool->allocate(8 * kKiB).value());
      CHECK(t.pool->stats().slab_count == 1);
      CHECK(t.pool->free(blocks[1].data).ok());  // a hole of 16 KiB
      CHECK(t.pool->free(blocks[2].data).ok());
      CHECK(t.pool->free(blocks[5].data).ok());  // a hole of 8 KiB
      CHECK(t.pool->stats().free_count == 2);
      CHECK(t.pool->stats().largest_free_bytes == 16 * kKiB);
      const PinnedBlock fits = t.pool->allocate(8 * kKiB).value();
      CHECK(fits.data == blocks[5].data);
      const PinnedBlock both = t.pool->allocate(16 * kKiB).value();
      CHECK(both.data == blocks[1].data);
      CHECK(t.pool->stats().free_bytes == 0);
      blocks.erase(blocks.begin() + 5);
      blocks.erase(blocks.begin() + 1, blocks.begin() + 3);
      CHECK(t.pool->free(fits.data).ok());
      CHECK(t.pool->free(both.data).ok());
      for (const PinnedBlock& block : blocks) CHECK(t.pool->free(block.data).ok());
      CHECK(t.pool->stats().largest_free_bytes == 64 * kKiB);
      REQUIRE(t.pool->slabs().size() == 1);
      CHECK(t.pool->slabs()[0].pieces.size() == 1);
      CHECK(t.pool->check_invariants().ok());
    });
  }

  TEST_CASE("freed memory is its own stream's at once, and nobody else's before the event") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      const StreamRef a = t.stream();
      const StreamRef b = t.stream();
      const cu::DevicePtr x = t.lab.device(kN);
      t.lab.fill(a.handle(), x, 7, kN);
      const PinnedBlock first = t.pool->allocate(kN, a).value();
      t.lab.d2h(a.handle(), first.data, x, kN);
      CHECK(t.pool->free(first.data, a).ok());
      // Lazy device: nothing has run.
      const PinnedBlock same = t.pool->allocate(kN, a).value();
      CHECK(same.data == first.data);
      t.lab.d2h(a.handle(), same.data, x, kN);
      CHECK(t.pool->free(same.data, a).ok());
      const PinnedBlock other = t.pool->allocate(kN, b).value();
      const PinnedBlock host = t.pool->allocate(kN).value();
      CHECK(other.data != first.data);
      CHECK(host.data != first.data);
      CHECK(t.pool->stats().pending_count == 1);
      t.lab.sync(a.handle());
      const PinnedBlock after = t.pool->allocate(kN).value();
      CHECK(t.pool->stats().pending_count <= 1);
      CHECK(t.pool->stats().hits == 4);
      simulator.observer().host_writes(after.data, kN);
      for (const PinnedBlock& block : {other, host, after}) CHECK(t.pool->free(block.data).ok());
      CHECK(t.lab.failure == cu::Result::kSuccess);
    });
  }

  TEST_CASE("a stream waits for another's memory when asked to, rather than registering more") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef a = t.stream();
      const StreamRef b = t.stream();
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      const cu::DevicePtr y = t.lab.device(64 * kKiB);
      t.lab.fill(a.handle(), x, 7, 64 * kKiB);
      t.lab.fill(b.handle(), y, 9, 64 * kKiB);
      const PinnedBlock first = t.pool->allocate(64 * kKiB, a).value();
      t.lab.d2h(a.handle(), first.data, x, 64 * kKiB);
      CHECK(t.pool->free(first.data, a).ok());
      const auto none = t.pool->allocate(kN, b);
      CHECK(none.status().code() == Code::kOutOfMemory);
      const PinnedBlock second = t.pool->allocate(64 * kKiB, b, WaitPolicy::kStream).value();
      CHECK(second.data == first.data);
      CHECK(t.pool->stats().stream_waits == 1);
      t.lab.d2h(b.handle(), second.data, y, 64 * kKiB);
      t.lab.sync(b.handle());
      simulator.observer().host_reads(second.data, 64 * kKiB);
      CHECK(bytes_of(second)[64 * kKiB - 1] == std::byte{9});
      CHECK(t.pool->free(second.data).ok());
      CHECK(t.pool->check_invariants().ok());
    });
  }

  TEST_CASE("neighbours freed by several streams are gathered for one that waits for them all") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const StreamRef streams[3] = {t.stream(), t.stream(), t.stream()};
      const cu::DevicePtr x = t.lab.device(64 * kKiB);
      PinnedBlock blocks[4];
      for (int i = 0; i < 4; ++i) {
        const StreamRef s = streams[i % 3];
        blocks[i] = t.pool->allocate(16 * kKiB, s).value();
        const cu::DevicePtr part = x + static_cast<std::uint64_t>(i) * 16 * kKiB;
        t.lab.fill(s.handle(), part, 3, 16 * kKiB);
        t.lab.d2h(s.handle(), blocks[i].data, part, 16 * kKiB);
        CHECK(t.pool->free(blocks[i].data, s).ok());
      }
      const StreamRef d = t.stream();
      const PinnedBlock all = t.pool->allocate(40 * kKiB, d, WaitPolicy::kStream).value();
      CHECK(all.bytes == 40 * kKiB);
      CHECK(t.pool->check_invariants().ok());
      const cu::DevicePtr y = t.lab.device(64 * kKiB);
      t.lab.fill(d.handle(), y, 5, 64 * kKiB);
      t.lab.d2h(d.handle(), all.data, y, 40 * kKiB);  // races with nothing: d has waited
      CHECK(t.pool->free(all.data, d).ok());
      // The rest of the run stayed with d as well.
      const PinnedBlock rest = t.pool->allocate(8 * kKiB, d).value();
      t.lab.d2h(d.handle(), rest.data, y, 8 * kKiB);
      CHECK(t.pool->free(rest.data, d).ok());
      CHECK(t.pool->check_invariants().ok());
      CHECK(t.pool->stats().slabs_registered == 1);
    });
  }

  TEST_CASE("the host waits for freed memory when asked to and there is no more to register") {
    std::uint64_t waits = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(seed);
      run_clean(
          [&](sim::Simulator& simulator) {
            PoolLab t(simulator, small_pool(64 * kKiB));
            const StreamRef a = t.stream();
            const cu::DevicePtr x = t.lab.device(32 * kKiB);
            t.lab.fill(a.handle(), x, 7, 32 * kKiB);
            const PinnedBlock kept = t.pool->allocate(32 * kKiB, a).value();
            const PinnedBlock freed = t.pool->allocate(32 * kKiB, a).value();
            t.lab.d2h(a.handle(), freed.data, x, 32 * kKiB);
            CHECK(t.pool->free(freed.data, a).ok());
            const PinnedBlock host = t.pool->allocate(32 * kKiB, WaitPolicy::kHost).value();
            CHECK(host.data == freed.data);
            simulator.observer().host_writes(host.data, host.bytes);
            waits += t.pool->stats().host_waits;
            // For what is in use there is nothing to wait for.
            CHECK(t.pool->allocate(kN, WaitPolicy::kHost).status().code() == Code::kOutOfMemory);
            CHECK(t.pool->free(host.data).ok());
            CHECK(t.pool->free(kept.data, a).ok());
          },
          sim::Mode::kRandom,
          seed);
    }
    CHECK(waits > 0);
    CHECK(waits < 20);  // at times the first question finds it done
  }

  TEST_CASE("memory given on by its stream is still awaited when another stream frees it") {
    // First owner copies on a; the second is given the memory by a, never uses it and frees it on
    // b: the event of b alone would say too early that the memory is idle.
    for (const bool by_host : {false, true}) {
      CAPTURE(by_host);
      run_clean([by_host](sim::Simulator& simulator) {
        PoolLab t(simulator, small_pool(64 * kKiB));
        const StreamRef a = t.stream();
        const StreamRef b = t.stream();
        const cu::DevicePtr x = t.lab.device(64 * kKiB);
        t.lab.fill(a.handle(), x, 7, 64 * kKiB);
        const PinnedBlock first = t.pool->allocate(64 * kKiB, a).value();
        t.lab.d2h(a.handle(), first.data, x, 64 * kKiB);
        CHECK(t.pool->free(first.data, a).ok());
        const PinnedBlock second = t.pool->allocate(64 * kKiB, a).value();
        CHECK(second.data == first.data);
        CHECK((by_host ? t.pool->free(second.data) : t.pool->free(second.data, b)).ok());
        t.lab.sync(b.handle());
        const PinnedBlock host = t.pool->allocate(64 * kKiB, WaitPolicy::kHost).value();
        simulator.observer().host_writes(host.data, host.bytes);
        CHECK(t.pool->free(host.data).ok());
        CHECK(t.pool->check_invariants().ok());
      });
    }
  }

  TEST_CASE("the cap is a law for slabs, also where a whole one no longer fits") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(100 * kKiB));
      const PinnedBlock a = t.pool->allocate(60 * kKiB).value();
      const PinnedBlock b = t.pool->allocate(30 * kKiB).value();  // a slab of the last 36 KiB
      CHECK(t.machine_bytes() == 100 * kKiB);
      const auto none = t.pool->allocate(7 * kKiB);
      REQUIRE(none.status().code() == Code::kOutOfMemory);
      CHECK(contains(none.status().message(), "no room for 7.00 KiB"));
      CHECK(contains(none.status().message(), "cap 100 KiB, reserved 100 KiB"));
      CHECK(contains(none.status().message(), "in use 90.0 KiB (2 blocks)"));
      CHECK(contains(none.status().message(), "largest hole 6.00 KiB"));
      CHECK(t.pool->stats().reserved_bytes_peak == 100 * kKiB);
      CHECK(t.pool->free(a.data).ok());
      // 80 KiB fit nowhere, and only the first slab is idle: nothing is given up for nothing.
      CHECK_FALSE(t.pool->allocate(80 * kKiB).ok());
      CHECK(t.pool->stats().slab_count == 2);
      CHECK(t.pool->free(b.data).ok());
      // Now the idle slabs make room for one of the right size.
      const PinnedBlock c = t.pool->allocate(80 * kKiB).value();
      CHECK(t.machine_bytes() <= 100 * kKiB);
      CHECK(t.pool->stats().slabs_released >= 1);
      CHECK(t.pool->free(c.data).ok());
      CHECK(t.pool->check_invariants().ok());
      CHECK(simulator.counters().pinned_bytes_peak == 100 * kKiB);
    });
  }

  TEST_CASE("inside a step nothing is unregistered, whatever is asked for") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(100 * kKiB));
      const PinnedBlock a = t.pool->allocate(60 * kKiB).value();
      CHECK(t.pool->free(a.data).ok());
      t.pool->begin_step();
      t.pool->begin_step();
      CHECK(t.pool->trim().status().code() == Code::kInvalidArgument);
      const auto none = t.pool->allocate(80 * kKiB);
      CHECK(none.status().code() == Code::kOutOfMemory);
      CHECK(contains(none.status().message(), "inside a step"));
      CHECK(t.pool->end_step().ok());
      CHECK(t.pool->trim().status().code() == Code::kInvalidArgument);
      CHECK(t.machine_bytes() == 64 * kKiB);
      CHECK(t.pool->end_step().ok());
      CHECK(t.pool->end_step().code() == Code::kInvalidArgument);
      CHECK(t.pool->trim().value() == 64 * kKiB);
      CHECK(t.machine_bytes() == 0);
    });
  }

  TEST_CASE("trim gives back whole idle slabs only, down to what is to be kept") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      const StreamRef a = t.stream();
      std::vector<PinnedBlock> blocks;
      for (int i = 0; i < 4; ++i) blocks.push_back(t.pool->allocate(64 * kKiB, a).value());
      const cu::DevicePtr x = t.lab.device(kN);
      t.lab.fill(a.handle(), x, 1, kN);
      t.lab.d2h(a.handle(), blocks[0].data, x, kN);
      CHECK(t.pool->free(blocks[0].data, a).ok());  // awaited
      CHECK(t.pool->free(blocks[1].data).ok());
      CHECK(t.pool->free(blocks[2].data).ok());
      CHECK(t.pool->trim(200 * kKiB).value() == 64 * kKiB);
      CHECK(t.pool->trim().value() == 64 * kKiB);
      CHECK(t.machine_bytes() == 128 * kKiB);
      t.lab.sync(a.handle());
      CHECK(t.pool->trim().value() == 64 * kKiB);
      CHECK(t.pool->free(blocks[3].data).ok());
      CHECK(t.pool->check_invariants().ok());
    });
  }

  TEST_CASE("memory registered ahead makes every allocation a hit, by workers or without") {
    for (const std::uint32_t threads : {0u, 2u}) {
      CAPTURE(threads);
      run_clean([threads](sim::Simulator& simulator) {
        PinnedPoolOptions options = small_pool();
        options.threads = threads;
        options.prefault_chunk_bytes = 8 * kKiB;
        PoolLab t(simulator, options);
        CHECK(t.pool->reserve_ahead(200 * kKiB).value() == 200 * kKiB);
        CHECK(t.pool->finish_ahead().ok());
        CHECK(t.machine_bytes() == 256 * kKiB);
        std::vector<PinnedBlock> blocks;
        for (int i = 0; i < 25; ++i) blocks.push_back(t.pool->allocate(8 * kKiB).value());
        CHECK(t.pool->stats().misses == 0);
        CHECK(t.pool->stats().hits == 25);
        // Enough is free already.
        CHECK(t.pool->reserve_ahead(56 * kKiB).value() == 56 * kKiB);
        CHECK(t.pool->finish_ahead().ok());
        CHECK(t.pool->stats().slabs_registered == 4);
        // One block of 100 KiB needs a slab of that size.
        CHECK(t.pool->reserve_ahead(100 * kKiB, 100 * kKiB).value() == 100 * kKiB);
        CHECK(t.pool->finish_ahead().ok());
        blocks.push_back(t.pool->allocate(100 * kKiB).value());
        CHECK(t.pool->stats().misses == 0);
        for (const PinnedBlock& block : blocks) CHECK(t.pool->free(block.data).ok());
        // The cap ends it.
        CHECK(t.pool->reserve_ahead(std::numeric_limits<std::uint64_t>::max()).value() <=
              1024 * kKiB);
        CHECK(t.pool->finish_ahead().ok());
        CHECK(t.machine_bytes() <= 1024 * kKiB);
        CHECK(t.pool->check_invariants().ok());
      });
    }
  }

  TEST_CASE("a pool that ends with registrations queued gives all of it back") {
    run_clean([](sim::Simulator& simulator) {
      PinnedPoolOptions options = small_pool();
      options.threads = 1;
      PoolLab t(simulator, options);
      CHECK(t.pool->reserve_ahead(900 * kKiB).value() == 900 * kKiB);
    });
  }
}

TEST_SUITE("fault") {
  TEST_CASE("options that make no sense are refused") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      const auto refused = [&](auto change) {
        PinnedPoolOptions options = small_pool();
        change(options);
        return PinnedPool::create(t.context(), options).status().code() == Code::kInvalidArgument;
      };
      for (const std::uint64_t quantum : {0u, 1u, 32u, 96u, 8192u})
        CHECK(refused([&](PinnedPoolOptions& o) { o.quantum_bytes = quantum; }));
      CHECK(refused([](PinnedPoolOptions& o) { o.slab_bytes = 0; }));
      CHECK(refused([](PinnedPoolOptions& o) { o.slab_bytes = ~std::uint64_t{0}; }));
      CHECK(refused([](PinnedPoolOptions& o) { o.cap_bytes = ~std::uint64_t{0}; }));
      CHECK(refused([](PinnedPoolOptions& o) { o.prefault_chunk_bytes = 0; }));
      CHECK(refused([](PinnedPoolOptions& o) { o.threads = 1u << 20; }));
    });
  }

  TEST_CASE("nothing, everything and a cap of zero are refused with a reason") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      CHECK(t.pool->allocate(0).status().code() == Code::kInvalidArgument);
      CHECK(t.pool->allocate(0, t.stream()).status().code() == Code::kInvalidArgument);
      CHECK(t.pool->allocate(1, WaitPolicy::kStream).status().code() == Code::kInvalidArgument);
      for (const std::uint64_t bytes : {std::numeric_limits<std::uint64_t>::max(),
                                        std::numeric_limits<std::uint64_t>::max() - 511,
                                        std::uint64_t{1} << 63,
                                        std::uint64_t{(1 << 20) + 1}}) {
        CAPTURE(bytes);
        const auto none = t.pool->allocate(bytes);
        CHECK(none.status().code() == Code::kOutOfMemory);
        CHECK(contains(none.status().message(), "larger than the cap"));
      }
      CHECK(t.pool->stats().reserved_bytes == 0);
      CHECK(t.pool->stats().failures == 4);
      PoolLab z(simulator, small_pool(0));
      const auto none = z.pool->allocate(1);
      CHECK(none.status().code() == Code::kOutOfMemory);
      CHECK(none.status().message() == "pinned pool: the cap is 0, nothing may be pinned");
      CHECK(z.pool->reserve_ahead(1).value() == 0);
      CHECK(z.pool->trim().value() == 0);
    });
  }

  TEST_CASE("a cap smaller than a page pins nothing and says so") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(4095));
      CHECK(t.pool->allocate(64).status().code() == Code::kOutOfMemory);
      CHECK(t.machine_bytes() == 0);
    });
  }

  TEST_CASE("frees of what is not a block in use say what it is and change nothing") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator);
      const StreamRef s = t.stream();
      const PinnedBlock a = t.pool->allocate(kN).value();
      const PinnedBlock b = t.pool->allocate(kN, s).value();
      int local = 0;
      const auto refused = [&](void* pointer, const char* why) {
        for (const Status& status : {t.pool->free(pointer), t.pool->free(pointer, s)}) {
          CHECK(status.code() == Code::kInvalidArgument);
          CHECK_MESSAGE(contains(status.message(), why), status.message());
        }
      };
      refused(nullptr, "not memory of this pool");
      refused(&local, "not memory of this pool");
      refused(bytes_of(a) + 1, "inside the block of 4.00 KiB");
      refused(bytes_of(a) + kN - 1, "inside the block of 4.00 KiB");
      refused(bytes_of(b) + kN, "freed already, or never allocated");
      refused(bytes_of(a) + 64 * kKiB, "not memory of this pool");
      CHECK(t.pool->free(a.data).ok());
      refused(a.data, "freed already");
      CHECK(t.pool->free(b.data, s).ok());
      refused(b.data, "freed already");
      CHECK(t.pool->check_invariants().ok());
      CHECK(t.pool->stats().live_count == 0);
    });
  }

  TEST_CASE("another thread may free, and only one of two that try succeeds") {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      auto made = sim::Simulator::create(test::lab_options(sim::Mode::kRandom, seed));
      REQUIRE(made.ok());
      sim::Simulator& simulator = *made.value();
      simulator.run([&] {
        PoolLab t(simulator);
        const StreamRef s = t.stream();
        const PinnedBlock block = t.pool->allocate(kN, s).value();
        Status status[2];
        {
          std::vector<Thread> threads;
          for (int i = 0; i < 2; ++i) {
            auto thread = Thread::start("freer", [&, i] {
              t.lab.enter();
              status[i] = t.pool->free(block.data, s);
            });
            REQUIRE(thread.ok());
            threads.push_back(std::move(thread).value());
          }
        }
        CHECK(status[0].ok() != status[1].ok());
        CHECK((status[0].ok() ? status[1] : status[0]).code() == Code::kInvalidArgument);
        CHECK(t.pool->check_invariants().ok());
      });
      CHECK(simulator.report_text() == "");
    }
  }

  TEST_CASE("a free on a destroyed stream fails and leaves the block in use") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    simulator.run([&] {
      PoolLab t(simulator);
      const cu::Stream handle = t.lab.stream();
      const StreamRef s = t.ref(handle);
      const PinnedBlock block = t.pool->allocate(kN, s).value();
      t.lab.forget(handle);
      CHECK(t.lab.cu.cuStreamDestroy(handle) == cu::Result::kSuccess);
      const Status status = t.pool->free(block.data, s);
      CHECK(status.code() == Code::kInvalidArgument);
      CHECK(t.pool->allocate(kN, s).status().code() == Code::kInvalidArgument);
      CHECK(t.pool->stats().live_count == 1);
      CHECK(t.pool->check_invariants().ok());
      CHECK(t.pool->free(block.data).ok());
    });
    // The simulator reports the program's mistake, and nothing else.
    for (const sim::Report& report : simulator.reports())
      CHECK(report.kind == sim::ReportKind::kMisuse);
    CHECK(simulator.reports().size() == 2);
  }

  TEST_CASE("a stream of another device is refused, and the block stays in use") {
    sim::Options options = test::lab_options();
    options.devices = 2;
    auto made = sim::Simulator::create(options);
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    simulator.run([&] {
      PoolLab t(simulator);
      cu::Context other = nullptr;
      CHECK(t.lab.cu.cuDevicePrimaryCtxRetain(&other, 1) == cu::Result::kSuccess);
      CHECK(t.lab.cu.cuCtxSetCurrent(other) == cu::Result::kSuccess);
      const StreamRef foreign = t.stream();
      const PinnedBlock block = t.pool->allocate(kN).value();
      for (const Status& status :
           {t.pool->free(block.data, foreign), t.pool->allocate(kN, foreign).status()}) {
        CHECK(status.code() == Code::kInvalidArgument);
        CHECK(contains(status.message(), "of another context"));
      }
      CHECK(t.pool->stats().live_count == 1);
      // From a thread on which the other device is current, its own streams are fine.
      CHECK(t.lab.cu.cuCtxSetCurrent(t.lab.context()) == cu::Result::kSuccess);
      const StreamRef own = t.stream();
      CHECK(t.lab.cu.cuCtxSetCurrent(other) == cu::Result::kSuccess);
      CHECK(t.pool->free(block.data).ok());
      const PinnedBlock second = t.pool->allocate(kN, own).value();
      CHECK(t.pool->free(second.data).ok());
      CHECK(t.lab.cu.cuCtxSetCurrent(t.lab.context()) == cu::Result::kSuccess);
      t.pool.reset();
      CHECK(t.lab.cu.cuDevicePrimaryCtxRelease(1) == cu::Result::kSuccess);
    });
    CHECK(simulator.report_text() == "");
  }

  TEST_CASE("memory freed before its stream was destroyed becomes idle by its event") {
    run_clean([](sim::Simulator& simulator) {
      PoolLab t(simulator, small_pool(64 * kKiB));
      const cu::Stream handle = t.lab.stream();
      const StreamRef s = t.ref(handle);
      const cu::DevicePtr x = t.lab.device(kN);
      const PinnedBlock block = t.pool->allocate(64 * kKiB, s).value();
      t.lab.fill(handle, x, 1, kN);
      t.lab.d2h(handle, block.data, x, kN);
      CHECK(t.pool->free(block.data, s).ok());
      t.lab.forget(handle);
      CHECK(t.lab.cu.cuStreamDestroy(handle) == cu::Result::kSuccess);
      const PinnedBlock again = t.pool->allocate(64 * kKiB, WaitPolicy::kHost).value();
      simulator.observer().host_writes(again.data, again.bytes);
      CHECK(t.pool->free(again.data).ok());
    });
  }

  TEST_CASE("a machine that pins no more is quoted, and is not asked again within the step") {
    test::page_notes() = {};
    sim::Options options = test::lab_options();
    options.pinned_limit_bytes = 100 * kKiB;
    auto made = sim::Simulator::create(options);
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    simulator.run([&] {
      PoolLab t(simulator);
      const PinnedBlock a = t.pool->allocate(64 * kKiB).value();
      t.pool->begin_step();
      const auto none = t.pool->allocate(64 * kKiB);
      REQUIRE(none.status().code() == Code::kOutOfMemory);
      CHECK(contains(none.status().message(), "registering 64.0 KiB"));
      CHECK(contains(none.status().message(), "cuMemHostRegister"));
      CHECK(contains(none.status().message(), "limits: available memory"));
      const int maps = test::page_notes().maps;
      const auto again = t.pool->allocate(64 * kKiB);
      CHECK(again.status().code() == Code::kOutOfMemory);
      CHECK(contains(again.status().message(), "not tried again"));
      CHECK(test::page_notes().maps == maps);
      CHECK(t.pool->end_step().ok());
      CHECK_FALSE(t.pool->allocate(64 * kKiB).ok());
      CHECK(test::page_notes().maps == maps + 1);
      CHECK(test::page_notes().unmaps == test::page_notes().maps - 1);
      CHECK(t.pool->reserve_ahead(64 * kKiB).ok());
      const Status ahead = t.pool->finish_ahead();
      CHECK(ahead.code() == Code::kOutOfMemory);
      CHECK(t.pool->finish_ahead().ok());  // told once
      CHECK(t.pool->free(a.data).ok());
      CHECK(t.pool->check_invariants().ok());
      // An idle slab goes when the machine has too little for what is asked.
      const PinnedBlock larger = t.pool->allocate(96 * kKiB).value();
      CHECK(t.pool->free(larger.data).ok());
    });
    CHECK(simulator.report_text() == "");
    CHECK(simulator.counters().pinned_bytes_peak <= 100 * kKiB);
  }
}
