// SPDX-License-Identifier: Apache-2.0
// One long scenario, run once for every driver call that it makes with that call failing: whatever
// the pool answers, its invariants hold, the budget holds, nothing leaks and nothing races.
#include "device/sim/faults.hpp"
#include "tests/allocator/device_pool_lab.hpp"

#include <string>
#include <vector>

namespace spillway {
namespace {

using test::kKiB;
using test::Lab;
using test::lab_options;

/// Growth, cross-stream reuse, record_use, remapping, comm memory, layouts, budget, trim. Calls of
/// its own that fail are shrugged off, as a program that goes on would.
struct Scenario {
  explicit Scenario(Lab& in) : lab(in), context(Context::adopt_current(in.cu)) {}

  void run() {
    note(context.status());
    if (!context.ok()) return;
    DevicePoolOptions options;
    options.observer = &lab.observer();
    options.budget_bytes = 128 * kKiB;
    options.handle_bytes_max = 4 * kKiB;
    options.mark_interval_bytes = 8 * kKiB;
    options.comm_chunk_bytes = 16 * kKiB;
    options.map_ahead_bytes = 16 * kKiB;
    auto made = DevicePool::create(context.value(), options);
    note(made.status());
    if (!made.ok()) return;
    pool = std::move(made).value();
    for (int i = 0; i < 2; ++i) {
      const auto stream = StreamRef::of(lab.cu, lab.stream());
      if (!stream.ok()) return;
      streams.push_back(stream.value());
    }
    for (std::size_t i = 0; i < 12; ++i) take(4 * kKiB, i % 2);
    check();
    for (std::size_t i = 0; i < blocks.size(); i += 2) give(i);
    take(24 * kKiB, 0);
    take(40 * kKiB, 1);
    check();
    use(1);
    for (std::size_t i = 0; i < blocks.size(); i += 3) give(i);
    take(60 * kKiB, 0);
    comm(10 * kKiB);
    check();
    for (std::size_t i = 0; i < blocks.size(); ++i) give(i);
    note(pool->load_layout({{8 * kKiB, 0}, {8 * kKiB, 8 * kKiB}}, 16 * kKiB, streams[0]));
    pool->begin_step();
    take(8 * kKiB, 0);
    take(8 * kKiB, 1);
    take(100 * kKiB, 0);
    check();
    note(pool->set_budget(64 * kKiB));
    for (std::size_t i = 0; i < blocks.size(); ++i) give(i);
    note(pool->set_budget(64 * kKiB));
    pool->unload_layout();
    note(pool->retire_stream(streams[1]));
    check();
    note(pool->trim(0).status());
    check();
  }

  void finish() {
    if (pool == nullptr) return;
    for (std::size_t i = 0; i < blocks.size(); ++i) give(i);
    lab.cu.cuCtxSynchronize();
    check();
    pool.reset();
  }

  struct Held {
    cu::DevicePtr pointer = 0;
    std::size_t stream = 0;
  };
  void note(const Status& status) { failed += status.ok() ? 0 : 1; }
  void keep(const Result<cu::DevicePtr>& taken, std::uint64_t bytes, std::size_t on) {
    note(taken.status());
    if (!taken.ok()) return;
    lab.fill(streams[on].handle(), taken.value(), 1, bytes);
    blocks.push_back({taken.value(), on});
  }
  void take(std::uint64_t bytes, std::size_t on) {
    keep(pool->allocate(bytes, streams[on]), bytes, on);
  }
  void comm(std::uint64_t bytes) { keep(pool->allocate_comm(bytes, streams[0]), bytes, 0); }
  void use(std::size_t i) {
    if (i >= blocks.size() || blocks[i].pointer == 0) return;
    const std::size_t other = 1 - blocks[i].stream;
    note(pool->record_use(blocks[i].pointer, streams[other]));
  }
  void give(std::size_t i) {
    if (blocks[i].pointer == 0) return;
    // A driver that fails once is asked again.
    Status status = pool->free(blocks[i].pointer, streams[blocks[i].stream]);
    note(status);
    if (!status.ok() && pool->find(blocks[i].pointer).has_value())
      status = pool->free(blocks[i].pointer, streams[blocks[i].stream]);
    blocks[i].pointer = 0;
  }
  void check() {
    const Status whole = pool->check_invariants();
    if (!whole.ok() && broken.empty()) broken = whole.message();
    if (pool->stats().reserved_bytes > pool->budget_bytes() && broken.empty())
      broken = "over the budget";
  }

  Lab& lab;
  Result<Context> context;
  std::unique_ptr<DevicePool> pool;
  std::vector<StreamRef> streams;
  std::vector<Held> blocks;
  std::string broken;
  int failed = 0;
};

struct Outcome {
  std::uint64_t remaps = 0;
  std::string broken;
  std::string reports;
  int failed = 0;
};

Outcome run_with(sim::Simulator& simulator, sim::Mode mode, const std::string& fault) {
  sim::Options options = lab_options(mode);
  options.contents = sim::Contents::kNone;
  if (!fault.empty()) {
    auto rules = sim::parse_faults(fault, "fault");
    REQUIRE_MESSAGE(rules.ok(), rules.status().message());
    options.faults = std::move(rules).value();
  }
  REQUIRE(simulator.reset(options).ok());
  Outcome outcome;
  simulator.run([&] {
    Lab lab(simulator);
    Scenario scenario(lab);
    scenario.run();
    if (scenario.pool != nullptr) outcome.remaps = scenario.pool->stats().remap_count;
    scenario.finish();
    outcome.broken = scenario.broken;
    outcome.failed = scenario.failed;
  });
  outcome.reports = simulator.report_text();
  return outcome;
}

// Calls that may fail for good reasons, and how often the scenario makes them at most. Calls that
// end something are left out: their failing means that the handle was not ours.
struct Failing {
  const char* call;
  int count;
};
constexpr Failing kFailing[] = {{"cuDeviceTotalMem", 1},
                                {"cuDeviceGetAttribute", 1},
                                {"cuMemGetAllocationGranularity", 1},
                                {"cuMemAddressReserve", 1},
                                {"cuMemCreate", 40},
                                {"cuMemMap", 60},
                                {"cuMemSetAccess", 20},
                                {"cuMemAlloc", 4},
                                {"cuEventCreate", 20},
                                {"cuEventRecord", 40},
                                {"cuEventQuery", 40},
                                {"cuEventSynchronize", 30},
                                {"cuStreamWaitEvent", 20},
                                {"cuStreamIsCapturing", 90},
                                {"cuCtxPushCurrent", 30}};

TEST_SUITE("fault") {
  TEST_CASE("whichever driver call fails, the pool's books stay whole and nothing leaks") {
    auto made = sim::Simulator::create(lab_options());
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    const auto try_with = [&](const std::string& fault) {
      int answered = 0;
      for (const sim::Mode mode : {sim::Mode::kEager, sim::Mode::kLazy}) {
        const Outcome outcome = run_with(simulator, mode, fault);
        CAPTURE(fault);
        CAPTURE(sim::name_of(mode));
        CHECK_EQ(outcome.broken, "");
        CHECK_EQ(outcome.reports, "");
        answered += outcome.failed;
      }
      return answered;
    };
    const Outcome whole = run_with(simulator, sim::Mode::kEager, "");
    CHECK_EQ(whole.broken, "");
    CHECK_EQ(whole.reports, "");
    CHECK_EQ(whole.failed, 1);  // the budget below what lives
    CHECK_GT(whole.remaps, 2u);
    int answered = 0;
    for (const Failing& failing : kFailing)
      for (int nth = 1; nth <= failing.count; ++nth)
        for (const char* error : {"CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_UNKNOWN"})
          answered += try_with(std::string(failing.call) + " nth=" + std::to_string(nth) +
                               " error=" + error);
    // Handles on the move; what trims and ends comes later.
    for (std::uint64_t nth = 1; nth <= whole.remaps; ++nth)
      answered += try_with("cuMemUnmap nth=" + std::to_string(nth) + " error=CUDA_ERROR_UNKNOWN");
    CHECK_GT(answered, 1000);  // the faults did reach the pool's callers
  }
}

}  // namespace
}  // namespace spillway
