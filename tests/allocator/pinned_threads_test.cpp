// SPDX-License-Identifier: Apache-2.0
// Threads that share a pinned pool: under the simulator's scheduler, which orders them by seed and
// sees every lock, and as real threads over a table that does nothing, for ThreadSanitizer.
#include "core/atomic.hpp"
#include "core/random.hpp"
#include "core/thread.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using test::PoolLab;
using test::small_pool;

namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr auto kRelaxed = std::memory_order_relaxed;

/// What one thread does: copies into blocks of its stream, checks them, gives them back or leaves
/// them to the next thread's stream. Returns what went wrong.
std::string work(PoolLab& t, StreamRef own, StreamRef other, cu::DevicePtr source, Random random) {
  std::vector<PinnedBlock> kept;
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t bytes = 1 + random.below(24 * kKiB);
    const WaitPolicy policies[] = {WaitPolicy::kNone, WaitPolicy::kStream, WaitPolicy::kHost};
    const auto made = t.pool->allocate(bytes, own, policies[random.below(3)]);
    if (!made.ok()) {
      if (made.status().code() != Code::kOutOfMemory) return made.status().message();
    } else {
      const auto value = static_cast<std::uint32_t>(1 + random.below(200));
      t.lab.fill(own.handle(), source, value, bytes);
      t.lab.d2h(own.handle(), made.value().data, source, bytes);
      if (random.below(2) == 0) {
        t.lab.sync(own.handle());
        t.lab.simulator().observer().host_reads(made.value().data, bytes);
        const auto* read = static_cast<const unsigned char*>(made.value().data);
        for (std::uint64_t at = 0; at < bytes; ++at)
          if (read[at] != value) return "a byte is not what was copied";
      }
      kept.push_back(made.value());
    }
    if (random.below(5) == 0) {
      t.pool->begin_step();
      if (!t.pool->end_step().ok()) return "end of a step";
    }
    if (random.below(5) == 0) {
      const auto trimmed = t.pool->trim();
      if (!trimmed.ok() && trimmed.status().code() != Code::kInvalidArgument)
        return trimmed.status().message();
    }
    if (random.below(6) == 0 && !t.pool->reserve_ahead(random.below(64) * kKiB).ok())
      return "reserve_ahead";
    if (kept.size() > 2) {
      const std::size_t pick = random.below(kept.size());
      Status status;
      if (random.below(3) == 0) {
        t.lab.sync(own.handle());
        status = random.below(2) == 0 ? t.pool->free(kept[pick].data)
                                      : t.pool->free(kept[pick].data, other);
      } else {
        status = t.pool->free(kept[pick].data, own);
      }
      if (!status.ok()) return status.message();
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(pick));
    }
  }
  for (const PinnedBlock& block : kept)
    if (const Status status = t.pool->free(block.data, own); !status.ok()) return status.message();
  return {};
}

/// A table whose calls do nothing and succeed, at once and from any thread; every third question
/// about an event is answered with "not yet".
Driver idle_driver() {
  static Atomic<std::uint64_t> numbers(0);
  const auto number = [] { return numbers.fetch_add(1, kRelaxed) + 1; };
  static const auto next = number;
  Driver d;
  d.cuCtxGetCurrent = [](cu::Context* context) {
    *context = reinterpret_cast<cu::Context>(std::uintptr_t{64});  // NOLINT
    return cu::Result::kSuccess;
  };
  d.cuCtxGetDevice = [](cu::Device* device) {
    *device = 0;
    return cu::Result::kSuccess;
  };
  d.cuCtxPushCurrent = [](cu::Context) { return cu::Result::kSuccess; };
  d.cuCtxPopCurrent = [](cu::Context*) { return cu::Result::kSuccess; };
  d.cuThreadExchangeStreamCaptureMode = [](cu::StreamCaptureMode*) { return cu::Result::kSuccess; };
  d.cuStreamGetCtx = [](cu::Stream, cu::Context* context) {
    *context = reinterpret_cast<cu::Context>(std::uintptr_t{64});  // NOLINT
    return cu::Result::kSuccess;
  };
  d.cuStreamGetCaptureInfo = [](cu::Stream,
                                cu::StreamCaptureStatus* status,
                                unsigned long long*,
                                cu::Graph*,
                                const cu::GraphNode**,
                                std::size_t*) {
    *status = cu::StreamCaptureStatus::kNone;
    return cu::Result::kSuccess;
  };
  d.cuEventCreate = [](cu::Event* event, unsigned int) {
    *event = reinterpret_cast<cu::Event>(next() * 64);  // NOLINT
    return cu::Result::kSuccess;
  };
  d.cuEventDestroy = [](cu::Event) { return cu::Result::kSuccess; };
  d.cuEventRecord = [](cu::Event, cu::Stream) { return cu::Result::kSuccess; };
  d.cuEventQuery = [](cu::Event) {
    return next() % 3 == 0 ? cu::Result::kNotReady : cu::Result::kSuccess;
  };
  d.cuEventSynchronize = [](cu::Event) { return cu::Result::kSuccess; };
  d.cuStreamWaitEvent = [](cu::Stream, cu::Event, unsigned int) { return cu::Result::kSuccess; };
  d.cuMemHostRegister = [](void*, std::size_t, unsigned int) { return cu::Result::kSuccess; };
  d.cuMemHostUnregister = [](void*) { return cu::Result::kSuccess; };
  return d;
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("threads on streams of their own share a small pool, whatever order they run in") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    for (const sim::Mode mode : {sim::Mode::kRandom, sim::Mode::kPct}) {
      test::page_notes() = {};
      test::for_seeds(150, [&](std::uint64_t seed) {
        REQUIRE(made.value()->reset(test::lab_options(mode, seed)).ok());
        std::string problem;
        made.value()->run([&] {
          PinnedPoolOptions options = small_pool((2 + seed % 4) * 48 * kKiB);
          options.threads = static_cast<std::uint32_t>(seed % 3);
          options.prefault_chunk_bytes = 16 * kKiB;
          PoolLab t(*made.value(), options);
          const StreamRef streams[3] = {t.stream(), t.stream(), t.stream()};
          std::string problems[3];
          {
            std::vector<Thread> threads;
            for (std::size_t i = 0; i < 3; ++i) {
              const cu::DevicePtr source = t.lab.device(24 * kKiB);
              auto thread = Thread::start("user", [&, i, source] {
                t.lab.enter();
                problems[i] =
                    work(t, streams[i], streams[(i + 1) % 3], source, Random(seed * 3 + i));
              });
              REQUIRE(thread.ok());
              threads.push_back(std::move(thread).value());
            }
          }
          for (const std::string& found : problems)
            if (!found.empty()) problem = found;
          const Status ahead = t.pool->finish_ahead();
          if (!ahead.ok()) problem = ahead.message();
          const Status status = t.pool->check_invariants();
          if (!status.ok()) problem = status.message();
          const PinnedStats stats = t.pool->stats();
          if (stats.live_count != 0) problem = "blocks left";
          if (made.value()->counters().pinned_bytes_peak > stats.cap_bytes) problem = "cap broken";
        });
        problem += made.value()->report_text();
        if (!problem.empty()) problem += std::string(" (mode ") + sim::name_of(mode) + ")";
        return problem;
      });
      CHECK(test::page_notes().locks_held == 0);
    }
  }

  TEST_CASE("a request that needs the whole cap waits for a trim that is under way") {
    test::for_seeds(60, [&](std::uint64_t seed) {
      auto made = sim::Simulator::create(test::lab_options(sim::Mode::kRandom, seed));
      REQUIRE(made.ok());
      std::string problem;
      made.value()->run([&] {
        PoolLab t(*made.value(), small_pool(64 * kKiB));
        const auto first = t.pool->allocate(kKiB);
        if (!first.ok() || !t.pool->free(first.value().data).ok()) problem = "no first block";
        auto trimmer = Thread::start("trimmer", [&] {
          t.lab.enter();
          if (!t.pool->trim().ok()) problem = "trim";
        });
        REQUIRE(trimmer.ok());
        const auto all = t.pool->allocate(64 * kKiB);
        if (!all.ok()) {
          problem = all.status().message();
        } else if (!t.pool->free(all.value().data).ok()) {
          problem = "free";
        }
        trimmer.value().join();
      });
      return problem + made.value()->report_text();
    });
  }

  TEST_CASE("requests that wait for one registration share it") {
    // Four threads want what one slab holds: more than one registration would be a convoy of them.
    std::uint64_t one = 0;
    test::for_seeds(40, [&](std::uint64_t seed) {
      auto made = sim::Simulator::create(test::lab_options(sim::Mode::kRandom, seed));
      REQUIRE(made.ok());
      made.value()->run([&] {
        PoolLab t(*made.value());
        std::vector<Thread> threads;
        Atomic<int> failed(0);
        for (int i = 0; i < 4; ++i) {
          auto thread = Thread::start("user", [&] {
            t.lab.enter();
            const auto block = t.pool->allocate(16 * kKiB);
            if (!block.ok() || !t.pool->free(block.value().data).ok())
              failed.fetch_add(1, kRelaxed);
          });
          REQUIRE(thread.ok());
          threads.push_back(std::move(thread).value());
        }
        for (Thread& thread : threads) thread.join();
        CHECK(failed.load(kRelaxed) == 0);
        one += t.pool->stats().slabs_registered == 1 ? 1u : 0u;
      });
      return made.value()->report_text();
    });
    CHECK(one >= 1);
  }
}

TEST_SUITE("property") {
  TEST_CASE("real threads on one pool never share a byte") {
    const Driver driver = idle_driver();
    const Context context = Context::adopt_current(driver).value();
    PinnedPoolOptions options;
    options.cap_bytes = 4 << 20;
    options.slab_bytes = 256 << 10;
    options.threads = 2;
    options.limit_sources = {};
    auto made = PinnedPool::create(context, options);
    REQUIRE(made.ok());
    PinnedPool& pool = *made.value();
    Atomic<int> problems(0);
    {
      std::vector<Thread> threads;
      for (std::uint64_t i = 0; i < 8; ++i) {
        auto thread = Thread::start("user", [&, i] {
          Random random(i);
          // Handles that nobody dereferences.
          const StreamRef stream(reinterpret_cast<cu::Stream>((i + 1) * 64), i);  // NOLINT
          std::vector<PinnedBlock> kept;
          const auto mark = static_cast<unsigned char>(i + 1);
          for (int round = 0; round < 3000; ++round) {
            if (kept.size() < 12 && random.below(2) == 0) {
              const auto block =
                  random.below(3) == 0
                      ? pool.allocate(1 + random.below(20000))
                      : pool.allocate(1 + random.below(20000), stream, WaitPolicy::kStream);
              if (!block.ok()) {
                if (block.status().code() != Code::kOutOfMemory) problems.fetch_add(1, kRelaxed);
                continue;
              }
              std::memset(block.value().data, mark, block.value().bytes);
              kept.push_back(block.value());
            } else if (!kept.empty()) {
              const std::size_t pick = random.below(kept.size());
              const auto* bytes = static_cast<const unsigned char*>(kept[pick].data);
              for (std::uint64_t at = 0; at < kept[pick].bytes; at += 61)
                if (bytes[at] != mark) problems.fetch_add(1, kRelaxed);
              const Status status = random.below(2) == 0 ? pool.free(kept[pick].data)
                                                         : pool.free(kept[pick].data, stream);
              if (!status.ok()) problems.fetch_add(1, kRelaxed);
              kept[pick] = kept.back();
              kept.pop_back();
            }
            if (random.below(200) == 0) static_cast<void>(pool.trim().ok());
            if (random.below(200) == 0) static_cast<void>(pool.reserve_ahead(1 << 20).ok());
            if (random.below(100) == 0) {
              pool.begin_step();
              if (!pool.end_step().ok()) problems.fetch_add(1, kRelaxed);
            }
          }
          for (const PinnedBlock& block : kept)
            if (!pool.free(block.data).ok()) problems.fetch_add(1, kRelaxed);
        });
        REQUIRE(thread.ok());
        threads.push_back(std::move(thread).value());
      }
    }
    CHECK(problems.load(kRelaxed) == 0);
    CHECK(pool.finish_ahead().ok());
    CHECK(pool.check_invariants().ok());
    CHECK(pool.stats().live_count == 0);
    CHECK(pool.stats().reserved_bytes_peak <= options.cap_bytes);
  }
}
