// SPDX-License-Identifier: Apache-2.0
// The simulated GPU as a whole: same seed same run, every schedule of a small program, host
// threads, what pools report, kernels that lie about their accesses, deadlocks, full queues, bad
// options.
#include "core/atomic.hpp"
#include "core/mutex.hpp"
#include "core/thread.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace spillway::test {
namespace {

using sim::Contents;
using sim::Mode;
using sim::Options;
using sim::ReportKind;
using sim::Simulator;

constexpr std::size_t kPage = 4096;

std::unique_ptr<Simulator> make(const Options& options) {
  auto made = Simulator::create(options);
  REQUIRE(made.ok());
  return std::move(made).value();
}

/// Copies, kernels, events on three streams and the host; right.
void busy_program(Simulator& sim) {
  Lab lab(sim);
  const cu::Stream a = lab.stream();
  const cu::Stream b = lab.stream(cu::kStreamDefault);
  const cu::DevicePtr x = lab.device(3 * kPage);
  std::uint8_t* host = lab.pinned(3 * kPage);
  for (std::uint32_t i = 0; i < 4; ++i) {
    lab.fill(a, x, i, kPage);
    lab.order(a, b);
    lab.copy(b, x + kPage, x, kPage);
    lab.d2h(b, host, x + kPage, kPage);
    lab.order(b, a);
    lab.add(nullptr, x + 2 * kPage, i, kPage);
    while (lab.cu.cuStreamQuery(b) == cu::Result::kNotReady) {
    }
  }
}

std::uint64_t fingerprint(const Options& options) {
  const auto sim = make(options);
  sim->run([&] { busy_program(*sim); });
  CHECK(sim->report_text() == "");
  return sim->counters().fingerprint;
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("the same seed gives the same run on every machine and compiler") {
    // The numbers are those of one machine; that they come out here is the point. They change when
    // the model or the driver table does.
    struct Golden {
      Mode mode;
      std::uint64_t seed;
      std::uint64_t fingerprint;
    };
    const Golden golden[] = {
        {Mode::kEager, 0, 497425395175044185ull},
        {Mode::kLazy, 0, 14070587507985276425ull},
        {Mode::kRandom, 1, 14243191381329223937ull},
        {Mode::kRandom, 2, 16778773498885516197ull},
        {Mode::kPct, 1, 2884408599934195321ull},
        {Mode::kTimed, 0, 11990274437220326185ull},
    };
    std::set<std::uint64_t> all;
    for (const Golden& g : golden) {
      const std::string mode = sim::name_of(g.mode);
      CAPTURE(mode);
      CAPTURE(g.seed);
      const std::uint64_t one = fingerprint(lab_options(g.mode, g.seed));
      CHECK(one == g.fingerprint);
      CHECK(one == fingerprint(lab_options(g.mode, g.seed)));
      all.insert(one);
    }
    CHECK(all.size() >= 4);  // different schedules are different runs
  }

  TEST_CASE("threads that poll at once end in every mode, whoever is preferred") {
    for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kRandom, Mode::kPct}) {
      const std::string name = sim::name_of(mode);
      CAPTURE(name);
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        const auto sim = make(lab_options(mode, seed));
        int polled = 0;
        sim->run([&] {
          Lab lab(*sim);
          std::vector<Thread> pollers;
          for (int w = 0; w < 3; ++w) {
            const cu::Stream stream = lab.stream();
            const cu::DevicePtr x = lab.device(kPage);
            const cu::Event event = lab.event();
            auto poller = Thread::start("poller", [&lab, &polled, stream, event, x] {
              lab.enter();
              lab.fill(stream, x, 1, kPage);
              lab.record(event, stream);
              while (lab.cu.cuEventQuery(event) == cu::Result::kNotReady) {
              }
              ++polled;
            });
            REQUIRE(poller.ok());
            pollers.push_back(std::move(poller).value());
          }
        });
        CHECK(polled == 3);
        CHECK(sim->report_text() == "");
      }
    }
  }

  TEST_CASE("the same seed gives the same run with several host threads") {
    const auto run = [](std::uint64_t seed) {
      const auto sim = make(lab_options(Mode::kRandom, seed));
      sim->run([&] {
        Lab lab(*sim);
        Mutex mutex("queue");
        int turns = 0;
        const cu::DevicePtr x = lab.device(4 * kPage);
        const cu::Stream streams[3] = {lab.stream(), lab.stream(), lab.stream()};
        std::vector<Thread> workers;
        for (std::uint64_t w = 0; w < 3; ++w) {
          auto worker = Thread::start("worker", [&, w] {
            lab.enter();
            for (std::uint32_t i = 0; i < 4; ++i) {
              {
                const LockGuard lock(mutex);
                ++turns;
              }
              lab.fill(streams[w], x + w * kPage, i, kPage);
            }
            lab.sync(streams[w]);
          });
          REQUIRE(worker.ok());
          workers.push_back(std::move(worker).value());
        }
        for (Thread& worker : workers) worker.join();
        CHECK(turns == 12);
      });
      CHECK(sim->report_text() == "");
      return sim->counters().fingerprint;
    };
    std::set<std::uint64_t> different;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      CAPTURE(seed);
      const std::uint64_t one = run(seed);
      CHECK(one == run(seed));
      different.insert(one);
    }
    CHECK(different.size() >= 5);
    // That of one machine, as above.
    CHECK(run(1) == 5379563466448528963ull);
  }

  TEST_CASE("contents or not, the schedule and the reports are the same") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      Options options = lab_options(Mode::kRandom, seed);
      const std::uint64_t full = fingerprint(options);
      options.contents = Contents::kNone;
      CHECK(fingerprint(options) == full);
    }
  }

  TEST_CASE("every schedule of a small program is run once") {
    // Two independent streams with one marker each: their steps and the host's calls interleave.
    const auto sim = make(lab_options());
    std::set<std::uint64_t> different;
    const sim::Exploration all = sim::explore_all(*sim, lab_options(), 100000, [&](Simulator& s) {
      Lab lab(s);
      const cu::Event one = lab.event();
      const cu::Event two = lab.event();
      lab.record(one, lab.stream());
      lab.record(two, lab.stream());
      lab.sync(two);
      lab.sync(one);
    });
    CHECK(all.complete);
    CHECK_FALSE(all.failed);
    CHECK(all.schedules > 10);
    CHECK(all.schedules < 5000);
    CHECK(all.text == "");
  }

  TEST_CASE("an order that only few schedules have is found by trying all, and repeats") {
    // Correctly ordered for the race checker (the lock), wrong for one order of the two threads.
    const auto program = [](Simulator& s) {
      Lab lab(s);
      Mutex mutex("turn");
      int turn = 0;
      bool wrong = false;
      {
        auto other = Thread::start("other", [&] {
          const LockGuard lock(mutex);
          if (turn == 0) turn = 2;
        });
        REQUIRE(other.ok());
        {
          const LockGuard lock(mutex);
          if (turn == 2) wrong = true;
          turn = 1;
        }
        other.value().join();
      }
      if (wrong) lab.cu.cuMemFree(12345);  // shows up as a report
    };
    const auto sim = make(lab_options());
    const sim::Exploration found = sim::explore_all(*sim, lab_options(), 100000, program);
    REQUIRE(found.failed);
    CHECK(found.text.find("misuse") != std::string::npos);
    // The options that come back repeat it.
    REQUIRE(sim->reset(found.options).ok());
    sim->run([&] { program(*sim); });
    CHECK(sim->has_report(ReportKind::kMisuse));
  }

  TEST_CASE("threads hand work over through a lock, and without one it is a race") {
    for (const bool locked : {true, false}) {
      CAPTURE(locked);
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        const auto sim = make(lab_options(Mode::kRandom, seed));
        sim->run([&] {
          Lab lab(*sim);
          const cu::DevicePtr x = lab.device(kPage);
          const cu::Stream mine = lab.stream();
          const cu::Stream theirs = lab.stream();
          const cu::Event done = lab.event();
          Mutex mutex("handover");
          Atomic<int> ready{0};
          lab.fill(mine, x, 1, kPage);
          {
            auto worker = Thread::start("worker", [&] {
              lab.enter();
              const auto order = locked ? std::memory_order_acquire : std::memory_order_relaxed;
              while (ready.load(order) == 0) host_yield();
              if (locked) lab.wait(theirs, done);
              lab.read(theirs, x, kPage);
              lab.sync(theirs);
            });
            REQUIRE(worker.ok());
            lab.record(done, mine);
            ready.store(1, locked ? std::memory_order_release : std::memory_order_relaxed);
            worker.value().join();
          }
        });
        CHECK(sim->has_report(ReportKind::kRace) == !locked);
        CAPTURE(sim->report_text());
        CHECK((locked ? sim->reports().empty() : true));
      }
    }
  }

  TEST_CASE("two locks in opposite order are a deadlock that is told and survived") {
    int deadlocks = 0;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      const auto sim = make(lab_options(Mode::kRandom, seed));
      sim->run([&] {
        Mutex a("a");
        Mutex b("b");
        auto worker = Thread::start("worker", [&] {
          const LockGuard first(b);
          const LockGuard second(a);
        });
        REQUIRE(worker.ok());
        const LockGuard first(a);
        const LockGuard second(b);
      });
      if (!sim->has_report(ReportKind::kDeadlock)) continue;
      ++deadlocks;
      CHECK(sim->report_text().find("worker") != std::string::npos);
    }
    CHECK(deadlocks > 0);
    CHECK(deadlocks < 30);
  }

  TEST_CASE("a wait that can never end is told, and later calls fail") {
    for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kRandom, Mode::kPct, Mode::kTimed}) {
      const std::string name = sim::name_of(mode);
      CAPTURE(name);
      const auto sim = make(lab_options(mode));
      cu::Result result = cu::Result::kSuccess;
      sim->run([&] {
        Lab lab(*sim);
        const cu::DevicePtr flag = lab.device(kPage);
        const cu::Stream s = lab.stream();
        lab.note(lab.cu.cuMemsetD32(flag, 0, 1));
        lab.cu.cuCtxSynchronize();
        lab.note(lab.cu.cuStreamWaitValue32(s, flag, 1, cu::kWaitValueEq));
        result = lab.cu.cuStreamSynchronize(s);
      });
      CHECK(result == cu::Result::kLaunchTimeout);
      CHECK(sim->has_report(ReportKind::kDeadlock));
    }
  }

  TEST_CASE("a value written by one stream lets another go on, and orders what came before") {
    for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kRandom, Mode::kPct, Mode::kTimed}) {
      const std::string name = sim::name_of(mode);
      CAPTURE(name);
      for (const bool written_first : {true, false}) {
        CAPTURE(written_first);
        const auto sim = make(lab_options(mode));
        sim->run([&] {
          Lab lab(*sim);
          const cu::DevicePtr flag = lab.device(kPage);
          const cu::DevicePtr x = lab.device(kPage);
          lab.note(lab.cu.cuMemsetD32(flag, 0, 1));
          lab.cu.cuCtxSynchronize();
          const cu::Stream waits = lab.stream();
          const cu::Stream writes = lab.stream();
          const auto wait = [&] {
            lab.note(lab.cu.cuStreamWaitValue32(waits, flag, 3, cu::kWaitValueGeq));
          };
          if (!written_first) wait();
          lab.fill(writes, x, 1, kPage);
          lab.note(lab.cu.cuStreamWriteValue32(writes, flag, 4, cu::kWriteValueDefault));
          if (written_first) {
            wait();
            lab.read(waits, x, kPage);
          }
          CHECK(lab.cu.cuStreamSynchronize(waits) == cu::Result::kSuccess);
          CHECK(lab.failure == cu::Result::kSuccess);
        });
        CHECK(sim->report_text() == "");
      }
    }
  }

  TEST_CASE("a full queue blocks the host until the device has made room") {
    Options options = lab_options(Mode::kLazy);
    options.launch_queue = 8;
    const auto sim = make(options);
    sim->run([&] {
      Lab lab(*sim);
      const cu::Stream s = lab.stream();
      const cu::DevicePtr x = lab.device(kPage);
      for (std::uint64_t i = 1; i <= 30; ++i) {
        lab.fill(s, x, 1, kPage);
        // Two steps per kernel; all but eight must have run.
        const std::uint64_t run = sim->counters().steps / 2;
        CHECK(run == (i > 8 ? i - 8 : 0));
      }
    });
    CHECK(sim->report_text() == "");
  }

  TEST_CASE("work outside of a pool's live blocks is told") {
    struct Case {
      const char* what;
      ReportKind kind;
      std::function<void(Lab&, cu::DevicePtr, cu::Stream)> program;
    };
    const Case cases[] = {
        {"past the end of a block",
         ReportKind::kOutOfBounds,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           lab.observer().block_allocated(arena + 512, 512, s);
           lab.fill(s, arena + 256, 1, 512);
         }},
        {"in no block",
         ReportKind::kOutOfBounds,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) { lab.fill(s, arena, 1, 512); }},
        {"in a freed block",
         ReportKind::kUseAfterFree,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           lab.observer().block_freed(arena, s);
           lab.fill(s, arena, 1, 512);
         }},
        {"a block used on another stream without an edge",
         ReportKind::kLifetime,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           lab.fill(lab.stream(), arena, 1, 512);
         }},
        {"a block freed while another stream uses it",
         ReportKind::kLifetime,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           const cu::Stream other = lab.stream();
           lab.order(s, other);
           lab.fill(other, arena, 1, 512);
           lab.observer().block_freed(arena, s);
         }},
        {"a block freed twice",
         ReportKind::kMisuse,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           lab.observer().block_freed(arena, s);
           lab.observer().block_freed(arena, s);
         }},
        {"overlapping blocks",
         ReportKind::kMisuse,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 1024, s);
           lab.observer().block_allocated(arena + 512, 512, s);
         }},
        {"a host read of pinned memory under way",
         ReportKind::kRace,
         [](Lab& lab, cu::DevicePtr arena, cu::Stream s) {
           lab.observer().block_allocated(arena, 512, s);
           std::uint8_t* host = lab.pinned(kPage);
           lab.d2h(s, host, arena, 512);
           lab.observer().host_reads(host + 511, 1);
         }},
    };
    for (const Case& c : cases) {
      CAPTURE(std::string(c.what));
      const auto sim = make(lab_options());
      sim->run([&] {
        Lab lab(*sim);
        const cu::DevicePtr arena = lab.device(4 * kPage);
        const cu::Stream s = lab.stream();
        lab.observer().arena_begin(arena, 4 * kPage);
        c.program(lab, arena, s);
        lab.cu.cuCtxSynchronize();
        lab.observer().arena_end(arena, 4 * kPage);
      });
      CHECK(sim->has_report(c.kind));
      CHECK(sim->reports().size() == 1);
      CAPTURE(sim->report_text());
    }
  }

  TEST_CASE("freed blocks are poisoned when the stream gets there") {
    const auto sim = make(lab_options(Mode::kLazy));
    sim->run([&] {
      Lab lab(*sim);
      const cu::DevicePtr arena = lab.device(kPage);
      const cu::Stream s = lab.stream();
      std::uint8_t* host = lab.pinned(kPage);
      lab.observer().arena_begin(arena, kPage);
      lab.observer().block_allocated(arena, 512, s);
      lab.fill(s, arena, 1, 512);
      lab.observer().block_freed(arena, s);
      lab.observer().arena_end(arena, kPage);
      lab.d2h(s, host, arena, 1024);
      lab.sync(s);
      CHECK(host[0] == 0xde);
      CHECK(host[511] == 0xde);
      CHECK(host[512] == 0xff);
    });
    CHECK(sim->report_text() == "");
  }

  TEST_CASE("options that make no sense are refused with one line") {
    const auto refused = [](auto change) {
      Options options = lab_options();
      change(options);
      const auto made = Simulator::create(options);
      REQUIRE_FALSE(made.ok());
      CHECK(made.status().code() == Code::kInvalidArgument);
      CHECK(made.status().message().find('\n') == std::string::npos);
    };
    refused([](Options& o) { o.devices = 0; });
    refused([](Options& o) { o.devices = 33; });
    refused([](Options& o) { o.granularity_bytes = 3000; });
    refused([](Options& o) { o.granularity_bytes = 0; });
    refused([](Options& o) { o.memory_bytes = 0; });
    refused([](Options& o) { o.launch_queue = 0; });
    refused([](Options& o) { o.copy_pieces = 0; });
    refused([](Options& o) { o.pct_depth = 0; });
  }

  TEST_CASE("a call outside of a run, and before cuInit, says so") {
    const auto sim = make(lab_options());
    int count = 0;
    CHECK(sim->driver().cuDeviceGetCount(&count) == cu::Result::kNotInitialized);
    sim->run([&] {
      CHECK(sim->driver().cuDeviceGetCount(&count) == cu::Result::kNotInitialized);
      CHECK(sim->driver().cuInit(0) == cu::Result::kSuccess);
      CHECK(sim->driver().cuDeviceGetCount(&count) == cu::Result::kSuccess);
      CHECK(sim->driver().cuCtxSynchronize() == cu::Result::kInvalidContext);
    });
    CHECK(count == 1);
  }
}

}  // namespace spillway::test
