// SPDX-License-Identifier: Apache-2.0
// What the happens-before engine costs per access and per short schedule: the same blocks again and
// again, blocks that are cut and joined, and the reset between schedules. Nothing may race: that is
// checked before anything is timed.
#include "core/random.hpp"
#include "device/sim/happens_before.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::sim;

constexpr std::uint64_t kBlockBytes = std::uint64_t{2} << 20;
constexpr std::uint64_t kSeed = 1;

void stop(const char* what) {
  std::fprintf(stderr, "happens_before_bench: %s\n", what);
  std::exit(1);
}

/// One operation of a training step: waits for the other streams now and then, touches `ranges`
/// blocks of which the last is written.
class Replay {
 public:
  Replay(std::uint64_t blocks, int ranges, bool cut)
      : random_(kSeed), blocks_(blocks), ranges_(ranges), cut_(cut) {
    host_ = engine_.add_host_thread(0);
    for (std::uint64_t id = 0; id < 4; ++id) streams_.push_back(engine_.add_stream(id));
  }

  void operation() {
    const AgentId stream = streams_[op_ % streams_.size()];
    for (const AgentId other : streams_) {
      if (other == stream) continue;
      engine_.record(other, host_, event_);
      engine_.wait(stream, host_, event_);
    }
    const Epoch epoch = engine_.issue(stream, host_);
    ++op_;
    for (int i = 0; i < ranges_; ++i) {
      const auto kind = i + 1 == ranges_ ? AccessKind::kWrite : AccessKind::kRead;
      std::uint64_t begin = random_.below(blocks_) * kBlockBytes;
      std::uint64_t end = begin + kBlockBytes;
      if (cut_) {
        begin += random_.below(8) * (kBlockBytes / 8);
        end += random_.below(8) * (kBlockBytes / 8);
      }
      engine_.access({begin, end}, kind, epoch, "kernel", op_, races_);
    }
    if (!races_.empty()) stop("an ordered program races");
  }

  [[nodiscard]] std::size_t interval_count() const { return engine_.shadow().interval_count(); }

 private:
  Random random_;
  std::uint64_t blocks_;
  int ranges_;
  bool cut_;
  HappensBefore engine_;
  AgentId host_ = 0;
  std::vector<AgentId> streams_;
  VectorClock event_;
  std::vector<Conflict> races_;
  std::uint64_t op_ = 0;
};

void replay(benchmark::State& state) {
  constexpr int kRanges = 4;
  Replay run(static_cast<std::uint64_t>(state.range(0)), kRanges, state.range(1) != 0);
  for (std::int64_t i = 0; i < state.range(0); ++i) run.operation();
  for (auto unused : state) {
    static_cast<void>(unused);
    run.operation();
  }
  state.counters["per_access"] =
      benchmark::Counter(kRanges * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["intervals"] = static_cast<double>(run.interval_count());
}
BENCHMARK(replay)->ArgNames({"blocks", "cut"})->ArgsProduct({{100, 4000, 70000}, {0, 1}});

/// A schedule of 50 operations with two ranges each on two streams, from reset to reset.
void short_schedule(benchmark::State& state) {
  HappensBefore engine;
  std::vector<Conflict> races;
  VectorClock event;
  const auto schedule = [&] {
    engine.reset();
    const AgentId host = engine.add_host_thread(0);
    const AgentId stream[2] = {engine.add_stream(1), engine.add_stream(2)};
    for (std::uint64_t op = 0; op < 50; ++op) {
      const AgentId at = stream[op % 2];
      engine.record(stream[1 - op % 2], host, event);
      engine.wait(at, host, event);
      const Epoch epoch = engine.issue(at, host);
      const std::uint64_t begin = op % 10 * kBlockBytes;
      engine.access({begin, begin + kBlockBytes}, AccessKind::kWrite, epoch, "k", op, races);
      engine.access({begin / 2, begin / 2 + 64}, AccessKind::kRead, epoch, "k", op, races);
    }
  };
  schedule();
  if (!races.empty()) stop("an ordered schedule races");
  for (auto unused : state) {
    static_cast<void>(unused);
    schedule();
  }
}
BENCHMARK(short_schedule);

}  // namespace

BENCHMARK_MAIN();
