// SPDX-License-Identifier: Apache-2.0
// Each rule of the timed model alone, and the published figures that its calibration came from.
#include "device/sim/timed_model.hpp"

#include "core/random.hpp"
#include "tests/support/timed_run.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::sim;
using spillway::test::TimedRun;
using Kind = spillway::sim::Work::Kind;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

Calibration gpu(const char* name) {
  auto loaded = load_calibration(name);
  REQUIRE(loaded.ok());
  return std::move(loaded).value();
}

Work copy(Kind kind, std::uint64_t bytes, std::uint32_t device = 0) {
  Work work;
  work.kind = kind;
  work.bytes = bytes;
  work.device = device;
  return work;
}

Work kernel_of_ns(std::int64_t ns) {
  Work work;
  work.kind = Kind::kKernel;
  work.fixed_ns = ns;
  return work;
}

Work kernel_of_traffic(std::uint64_t bytes) {
  Work work;
  work.kind = Kind::kKernel;
  work.memory_bytes = bytes;
  return work;
}

double ns(std::uint64_t bytes, double bytes_per_s) {
  return static_cast<double>(bytes) / bytes_per_s * 1e9;
}

// Both within 2 %, the accuracy that is asked of the model.
bool close(double found, double expected) {
  return found > expected * 0.98 && found < expected * 1.02;
}

double rate(std::uint64_t bytes, const Completion& done) {
  return static_cast<double>(bytes) / static_cast<double>(done.end_ns - done.start_ns) * 1e9;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a copy takes its latency and its bytes at the link's rate, 4 KiB to 4 GiB") {
    for (const char* name : {"h100", "h200", "a100-80", "rtx4090"}) {
      const Calibration card = gpu(name);
      for (const Kind kind : {Kind::kH2D, Kind::kD2H}) {
        const double link = kind == Kind::kH2D ? card.h2d_bytes_per_s : card.d2h_bytes_per_s;
        for (std::uint64_t bytes = 4096; bytes <= 4096 * kMiB; bytes *= 2) {
          CAPTURE(name);
          CAPTURE(bytes);
          TimedRun run(card, {});
          run.add(0, copy(kind, bytes));
          const double expected = static_cast<double>(card.copy_latency_ns) + ns(bytes, link);
          const auto found = static_cast<double>(run.finish()[0].end_ns);
          CHECK(found >= expected - 1);
          CHECK(found <= expected + 1);
        }
      }
    }
  }

  TEST_CASE("published copies of an H100 come out within 2 %") {
    const Calibration h100 = gpu("h100");
    const auto alone = [&](const Work& work) {
      TimedRun run(h100, {});
      run.add(0, work);
      const Completion done = run.finish()[0];
      return done;
    };
    // nvbandwidth copies 512 MiB pieces.
    CHECK(close(rate(512 * kMiB, alone(copy(Kind::kH2D, 512 * kMiB))), 55.36e9));
    CHECK(close(rate(512 * kMiB, alone(copy(Kind::kD2H, 512 * kMiB))), 55.2e9));
    // Small copies of the trace: 2.4 to 3.0 us.
    const Completion small = alone(copy(Kind::kH2D, 16384));
    CHECK(small.end_ns - small.start_ns >= 2400);
    CHECK(small.end_ns - small.start_ns <= 3060);
    // Inside the device: 1.50 to 1.53 TB/s from 64 MB on, 1.0 to 1.2 us for the smallest.
    CHECK(close(rate(201326592, alone(copy(Kind::kD2D, 201326592))), 1.515e12));
    CHECK(close(rate(4200595456, alone(copy(Kind::kD2D, 4200595456))), 1.518e12));
    CHECK(alone(copy(Kind::kD2D, 8192)).end_ns <= 1200);
    // BabelStream's copy.
    const Completion triad = alone(kernel_of_traffic(8192 * kMiB));
    CHECK(close(rate(8192 * kMiB, triad), 2.90e12));
  }

  TEST_CASE("both directions at once fall to the published pair, and recover") {
    struct Pair {
      const char* name;
      double h2d;
      double d2h;
    };
    for (const Pair pair : {Pair{"a100-80", 12e9, 24.5e9}, Pair{"h100", 33.4e9, 50e9}}) {
      CAPTURE(pair.name);
      const Calibration card = gpu(pair.name);
      TimedRun run(card, {});
      const std::uint64_t bytes = 1024 * kMiB;
      run.add(0, copy(Kind::kH2D, bytes));
      run.add(1, copy(Kind::kD2H, bytes));
      run.add(1, copy(Kind::kD2H, bytes));
      run.add(1, copy(Kind::kD2H, bytes));
      const auto done = run.finish();
      CHECK(close(rate(bytes, done[0]), pair.h2d));
      CHECK(close(rate(bytes, done[1]), pair.d2h));
      // The last copy back runs alone in part, so it is between the two rates.
      CHECK(rate(bytes, done[3]) > pair.d2h * 0.99);
      CHECK(rate(bytes, done[3]) <= card.d2h_bytes_per_s);
    }
    // Exactly: half a copy under duplex, half alone.
    const Calibration a100 = gpu("a100-80");
    TimedRun run(a100, {});
    run.add(0, copy(Kind::kH2D, 600'000'000));
    run.add(1, copy(Kind::kD2H, 612'500'000));  // 25 ms at 24.5 GB/s, in which H2D moves 300 MB
    const auto done = run.finish();
    const double expected = 2200 + 25e6 + ns(300'000'000, a100.h2d_bytes_per_s);
    CHECK(static_cast<double>(done[0].end_ns) == doctest::Approx(expected).epsilon(1e-6));
  }

  TEST_CASE("two copies of one direction on two streams take the sum, one after the other") {
    const Calibration h100 = gpu("h100");
    TimedRun run(h100, {});
    run.add(0, copy(Kind::kH2D, 64 * kMiB));
    run.add(1, copy(Kind::kH2D, 64 * kMiB));
    const auto done = run.finish();
    const double one = 2200 + ns(64 * kMiB, 55.36e9);
    CHECK(close(static_cast<double>(done[0].end_ns), one));
    CHECK(close(static_cast<double>(done[1].end_ns), 2 * one));
    CHECK(done[1].start_ns == done[0].end_ns);
  }

  TEST_CASE("a small copy waits for the whole big one, the other direction does not") {
    const Calibration h100 = gpu("h100");
    TimedRun run(h100, {});
    run.add(0, copy(Kind::kH2D, 1024 * kMiB));
    run.add(1, copy(Kind::kH2D, 4096), 1000);
    run.add(2, copy(Kind::kD2H, 4096), 1000);
    const auto done = run.finish();
    CHECK(done[1].start_ns == done[0].end_ns);
    CHECK(done[2].start_ns == 1000);
    CHECK(done[2].end_ns < 10'000);
  }

  TEST_CASE("an engine stays on its stream while the next copy is ready, whatever the priority") {
    TimedRun run(gpu("h100"), {});
    run.add(0, copy(Kind::kH2D, 32 * kMiB));
    run.add(0, copy(Kind::kH2D, 32 * kMiB));
    run.add(0, copy(Kind::kH2D, 32 * kMiB));
    run.add(1, copy(Kind::kH2D, 4096), 10, -5);
    const auto done = run.finish();
    CHECK(done[3].start_ns == done[2].end_ns);
  }

  TEST_CASE("a kernel between 32 MiB pieces makes the engine yield; an event record does not") {
    for (const bool yields : {true, false}) {
      CAPTURE(yields);
      TimedRun run(gpu("h100"), {});
      Work between = kernel_of_ns(1000);
      if (!yields) between.kind = Kind::kInstant;
      if (!yields) between.fixed_ns = 0;
      run.add(0, copy(Kind::kH2D, 32 * kMiB));
      run.add(0, between);
      run.add(0, copy(Kind::kH2D, 32 * kMiB));
      run.add(1, copy(Kind::kH2D, 4096), 10);
      const auto done = run.finish();
      const Completion& first = done[0];
      const Completion& second = done[2];
      const Completion& small = done[3];
      if (yields) {
        CHECK(small.start_ns == first.end_ns);
        CHECK(second.start_ns >= small.end_ns);
        CHECK(small.start_ns < 620'000);  // 32 MiB at 55 GB/s
      } else {
        CHECK(second.start_ns == first.end_ns);
        CHECK(small.start_ns == second.end_ns);
      }
    }
  }

  TEST_CASE(
      "among other streams the copy that is ready longest goes first, ties in submission order") {
    TimedRun run(gpu("h100"), {});
    run.add(0, copy(Kind::kD2H, 64 * kMiB));
    run.add(3, copy(Kind::kD2H, kMiB), 300);
    run.add(1, copy(Kind::kD2H, kMiB), 200);
    run.add(2, copy(Kind::kD2H, kMiB), 200);
    const auto done = run.finish();
    CHECK(done[2].start_ns == done[0].end_ns);
    CHECK(done[3].start_ns == done[2].end_ns);
    CHECK(done[1].start_ns == done[3].end_ns);
  }

  TEST_CASE("two GPUs under one upstream link get 27.67 GB/s each, as in the trace") {
    TimedOptions two;
    two.device_count = 2;
    two.devices_per_root = 2;
    for (const std::uint64_t bytes :
         {64 * kMiB, std::uint64_t{167772160}, std::uint64_t{4200595456}}) {
      TimedRun run(gpu("h100"), two);
      run.add(0, copy(Kind::kH2D, bytes, 0));
      run.add(1, copy(Kind::kH2D, bytes, 1));
      const auto done = run.finish();
      CAPTURE(bytes);
      CHECK(close(rate(bytes, done[0]), 27.67e9));
      CHECK(close(rate(bytes, done[1]), 27.67e9));
    }
    two.devices_per_root = 1;
    TimedRun apart(gpu("h100"), two);
    apart.add(0, copy(Kind::kH2D, 64 * kMiB, 0));
    apart.add(1, copy(Kind::kH2D, 64 * kMiB, 1));
    CHECK(close(rate(64 * kMiB, apart.finish()[1]), 55.36e9));
  }

  TEST_CASE("a neighbour that moves little leaves the rest of the link to the other") {
    TimedOptions two;
    two.device_count = 2;
    two.devices_per_root = 2;
    TimedRun run(gpu("h100"), two);
    Work pageable = copy(Kind::kH2D, 512 * kMiB, 1);
    pageable.pinned = false;
    run.add(0, copy(Kind::kH2D, 512 * kMiB, 0));
    run.add(1, pageable);
    CHECK(close(rate(512 * kMiB, run.finish()[0]), 55.36e9 - 5.5e9));
  }

  TEST_CASE("pageable copies run at the staging rate, both directions share it") {
    Work up = copy(Kind::kH2D, 64 * kMiB);
    Work down = copy(Kind::kD2H, 64 * kMiB);
    up.pinned = down.pinned = false;
    TimedRun one(gpu("h100"), {});
    one.add(0, up);
    CHECK(close(rate(64 * kMiB, one.finish()[0]), 5.5e9));
    TimedRun both(gpu("h100"), {});
    both.add(0, up);
    both.add(1, down);
    CHECK(close(rate(64 * kMiB, both.finish()[0]), 2.75e9));
  }

  TEST_CASE("a memory-bound kernel slows by what copies take, a compute-bound one does not") {
    const Calibration h100 = gpu("h100");
    const std::uint64_t traffic = 2'900'000'000;  // 1 ms
    TimedRun alone(h100, {});
    alone.add(0, kernel_of_traffic(traffic));
    CHECK(alone.finish()[0].end_ns == 1500 + 1'000'000);

    TimedRun contended(h100, {});
    contended.add(1, copy(Kind::kD2H, 512 * kMiB));
    contended.add(0, kernel_of_traffic(traffic), 10'000);
    const auto slow = contended.finish();
    const double expected = 1e6 / (1 - 55.2 / 2900);
    CHECK(static_cast<double>(slow[1].end_ns - slow[1].start_ns) ==
          doctest::Approx(expected).epsilon(1e-5));
    CHECK(close(rate(512 * kMiB, slow[0]), 55.2e9));  // the copy does not suffer

    Work gemm = kernel_of_traffic(traffic / 4);
    gemm.math = MathMode::kBf16;
    gemm.flops = 794.5e9;  // 1 ms
    TimedRun busy(h100, {});
    busy.add(1, copy(Kind::kD2H, 512 * kMiB));
    busy.add(0, gemm, 10'000);
    const auto same = busy.finish();
    CHECK(same[1].end_ns - same[1].start_ns == 1'000'000);
  }

  TEST_CASE("a copy inside the device and a memory-bound kernel halve each other") {
    const Calibration h100 = gpu("h100");
    TimedRun run(h100, {});
    run.add(0, kernel_of_traffic(2'900'000'000));
    run.add(1, copy(Kind::kD2D, 3'040'000'000), 400);
    const auto done = run.finish();
    CHECK(close(static_cast<double>(done[0].end_ns - done[0].start_ns), 2e6));
    CHECK(close(static_cast<double>(done[1].end_ns - done[1].start_ns), 3e6));
  }

  TEST_CASE("kernels start after their launch, then back to back, by priority") {
    TimedRun run(gpu("h100"), {});
    run.add(0, kernel_of_ns(10'000));
    run.add(1, kernel_of_ns(10'000), 5);
    run.add(2, kernel_of_ns(10'000), 10, -1);
    const auto done = run.finish();
    CHECK(done[0].start_ns == 1500);
    CHECK(done[0].end_ns == 11'500);
    CHECK(done[2].start_ns == 11'500 + 1400);
    CHECK(done[1].start_ns == done[2].end_ns + 1400);
  }

  TEST_CASE("a kernel that was launched long ago starts one gap after what it waited for") {
    TimedRun run(gpu("h100"), {});
    Work early = kernel_of_ns(1000);
    early.issued_ns = 0;
    run.add(0, copy(Kind::kH2D, kMiB));
    run.add(0, early);
    run.add(0, early);
    run.add(0, kernel_of_ns(1000));  // launched when the one before it ends
    const auto done = run.finish();
    CHECK(done[1].start_ns == done[0].end_ns + 1400);
    CHECK(done[2].start_ns == done[1].end_ns + 1400);
    CHECK(done[3].start_ns == done[2].end_ns + 1500);
  }

  TEST_CASE("a kernel lasts as long as the slowest of what it needs") {
    const Calibration h100 = gpu("h100");
    Work work = kernel_of_traffic(2'900'000);  // 1 us
    const auto lasts = [&] {
      TimedRun run(h100, {});
      run.add(0, work);
      const Completion done = run.finish()[0];
      return done.end_ns - done.start_ns;
    };
    CHECK(lasts() == 1000);
    work.flops = 53.7e12 * 2e-6;
    CHECK(lasts() == 2000);
    work.fixed_ns = 3000;
    CHECK(lasts() == 3000);
    work.host_read_bytes = 140'800;
    CHECK(lasts() == 4000);
    work.host_written_bytes = 264'000;
    CHECK(lasts() == 5000);
  }

  TEST_CASE("kernels at once divide arithmetic and memory, up to the cap") {
    TimedOptions options;
    options.compute_concurrency = 2;
    const Calibration h100 = gpu("h100");
    Work gemm;
    gemm.kind = Kind::kKernel;
    gemm.math = MathMode::kBf16;
    gemm.flops = 794.5e9;  // 1 ms alone
    TimedRun run(h100, options);
    for (std::uint32_t stream = 0; stream < 3; ++stream) run.add(stream, gemm);
    const auto done = run.finish();
    CHECK(done[0].end_ns == 1500 + 2'000'000);
    CHECK(done[1].end_ns == 1500 + 2'000'000);
    CHECK(done[2].start_ns == done[0].end_ns + 1400);
    CHECK(done[2].end_ns == done[2].start_ns + 1'000'000);
    TimedRun memory(h100, options);
    memory.add(0, kernel_of_traffic(2'900'000'000));
    memory.add(1, kernel_of_traffic(1'450'000'000));
    const auto shared = memory.finish();
    CHECK(shared[1].end_ns == 1500 + 1'000'000);
    CHECK(shared[0].end_ns == 1500 + 1'500'000);
  }

  TEST_CASE("one copy engine serves all directions, two let peers share with the host") {
    Calibration card = gpu("h100");
    for (const std::uint32_t engines : {1u, 2u, 3u}) {
      CAPTURE(engines);
      card.timing->copy_engine_count = engines;
      TimedRun run(card, {});
      run.add(0, copy(Kind::kH2D, kMiB));
      run.add(1, copy(Kind::kD2H, kMiB));
      run.add(2, copy(Kind::kPeer, kMiB));
      const auto done = run.finish();
      CHECK((done[1].start_ns == 0) == (engines >= 2));
      CHECK((done[2].start_ns == 0) == (engines >= 3));
      if (engines == 2) CHECK(done[2].start_ns == done[1].end_ns);
    }
  }

  TEST_CASE("slow and late copies of a fault are slow and late") {
    TimedRun run(gpu("h100"), {});
    Work slow = copy(Kind::kH2D, 64 * kMiB);
    slow.slowdown = 10;
    slow.fixed_ns = 1'000'000;
    run.add(0, slow);
    const double expected = 1e6 + 2200 + 10 * ns(64 * kMiB, 55.36e9);
    CHECK(static_cast<double>(run.finish()[0].end_ns) == doctest::Approx(expected).epsilon(1e-6));
  }

  TEST_CASE("time stops at the first completion so that successors are never late") {
    auto made = TimedModel::make(gpu("h100"), {});
    REQUIRE(made.ok());
    TimedModel model = std::move(made).value();
    std::vector<Completion> out;
    CHECK_FALSE(model.next_event_ns().has_value());
    CHECK(model.advance_to(500, &out) == 500);
    CHECK(model.now_ns() == 500);
    model.submit(1, 0, 0, kernel_of_ns(1000), 500);
    model.submit(2, 1, 0, copy(Kind::kH2D, 4096), 600);
    CHECK(model.pending_count() == 2);
    const std::int64_t reached = model.advance_to(1'000'000, &out);
    REQUIRE(out.size() == 1);
    CHECK(reached == out[0].end_ns);
    CHECK(model.now_ns() == reached);
    const std::int64_t second = model.advance_to(1'000'000, &out);
    REQUIRE(out.size() == 2);
    CHECK(second == out[1].end_ns);
    CHECK(model.pending_count() == 0);
    CHECK(model.advance_to(1'000'000, &out) == 1'000'000);
    model.reset();
    CHECK(model.now_ns() == 0);
    model.submit(3, 0, 0, kernel_of_ns(1000), 0);
    out.clear();
    CHECK(model.advance_to(1'000'000, &out) == 2500);
  }

  TEST_CASE("huge and tiny numbers neither wrap nor divide by zero") {
    Calibration card = gpu("h100");
    card.h2d_bytes_per_s = 1e-9;
    TimedRun run(card, {});
    Work huge = copy(Kind::kH2D, ~std::uint64_t{0});
    huge.slowdown = ~std::uint32_t{0};
    run.add(0, huge);
    Work endless = kernel_of_traffic(~std::uint64_t{0});
    endless.flops = 1e300;
    endless.fixed_ns = std::int64_t{1} << 62;
    run.add(1, endless);
    run.add(2, copy(Kind::kD2H, 0));
    auto& model = run.model();
    std::vector<Completion> out;
    run.submit_heads();
    CHECK(model.advance_to(1'000'000'000, &out) == 2200);
    REQUIRE(out.size() == 1);
    out.clear();
    CHECK(model.advance_to(1'000'000'000, &out) == 1'000'000'000);
    CHECK(out.empty());
    CHECK(model.pending_count() == 2);
  }
}

TEST_SUITE("golden") {
  TEST_CASE("a seeded run of 20,000 operations is the same on every compiler") {
    TimedOptions options;
    options.device_count = 4;
    options.devices_per_root = 2;
    options.compute_concurrency = 3;
    TimedRun run(gpu("h200"), options);
    Random random(2026);
    for (int i = 0; i < 20'000; ++i) {
      static constexpr Kind kKinds[] = {
          Kind::kKernel, Kind::kH2D, Kind::kD2H, Kind::kD2D, Kind::kPeer, Kind::kMemset};
      const Kind kind = kKinds[random.below(6)];
      Work work = copy(kind, random.below(8 * kMiB));
      work.device = static_cast<std::uint32_t>(random.below(4));
      work.pinned = random.below(8) != 0;
      work.math = static_cast<MathMode>(random.below(kMathModeCount));
      if (work.kind == Kind::kKernel) {
        work.flops = random.unit() * 1e11;
        work.memory_bytes = random.below(64 * kMiB);
      }
      const auto stream = static_cast<std::uint32_t>(random.below(40));
      run.add(stream, work, 0, static_cast<int>(random.below(3)));
    }
    std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a over all times
    for (const Completion& done : run.finish()) {
      for (const std::int64_t time : {done.start_ns, done.end_ns})
        hash = (hash ^ static_cast<std::uint64_t>(time)) * 0x100000001b3ull;
    }
    CHECK(hash == 460413146633595167ull);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("a calibration without timing and options out of range are refused in words") {
    Calibration old = gpu("h100");
    old.timing.reset();
    const auto no_timing = TimedModel::make(old, {});
    REQUIRE_FALSE(no_timing.ok());
    CHECK(no_timing.status().message().find("schema spillway.calibration/2") != std::string::npos);
    for (const TimedOptions options : {TimedOptions{0, 1, 1},
                                       TimedOptions{65, 1, 1},
                                       TimedOptions{1, 0, 1},
                                       TimedOptions{1, 17, 1},
                                       TimedOptions{1, 1, 0}}) {
      const auto made = TimedModel::make(gpu("h100"), options);
      REQUIRE_FALSE(made.ok());
      CHECK(made.status().code() == Code::kInvalidArgument);
    }
  }
}
