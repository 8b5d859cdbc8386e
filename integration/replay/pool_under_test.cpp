// SPDX-License-Identifier: Apache-2.0
// Device work is lazy: nothing is over before somebody waits for it, the hardest case for a pool
// that reuses memory across streams.
#include "integration/replay/pool_under_test.hpp"

#include "allocator/device_pool.hpp"
#include "allocator/packing.hpp"
#include "allocator/quantum.hpp"
#include "core/host_scheduler.hpp"
#include "core/units.hpp"
#include "device/context.hpp"
#include "device/sim/simulator.hpp"
#include "device/stream.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kDeviceBytesMax = std::uint64_t{1} << 42;  // 4 TiB: beyond any device
constexpr std::uint64_t kRoundBytes = std::uint64_t{64} << 20;

class PoolUnderTest final : public AllocatorUnderTest {
 public:
  PoolUnderTest(std::unique_ptr<sim::Simulator> simulator,
                const AllocationTrace& trace,
                std::uint64_t budget_bytes,
                PoolService service,
                const AllocationTrace& planned_from)
      : simulator_(std::move(simulator)),
        trace_(trace),
        budget_bytes_(budget_bytes),
        service_(service),
        planned_from_(planned_from) {}

  [[nodiscard]] std::string_view name() const override {
    return service_ == PoolService::kPlanned ? "planned" : "pool";
  }
  [[nodiscard]] bool is_product() const override { return true; }

  Status within(const std::function<Status()>& program) override {
    Status status;
    simulator_->run([&] {
      status = set_up();
      if (status.ok()) status = program();
      if (pool_ != nullptr) {
        if (const Status broken = pool_->check_invariants(); !broken.ok()) status = broken;
        final_ = pool_->stats();
        driver().cuCtxSynchronize();
        pool_.reset();
      }
      streams_.clear();
      context_.reset();
    });
    if (!simulator_->reports().empty())
      return {Code::kInternal, "the simulated device reports: " + simulator_->report_text()};
    return status;
  }

  Result<std::uint64_t> allocate(const AllocationTrace& trace, std::uint32_t block) override {
    const ReplayBlock& wanted = trace.blocks[block];
    // One thread: nothing is left for the simulator to schedule, and its hooks in every lock would
    // be measured as the pool's cost.
    const HostSchedulerScope no_hooks(nullptr);
    SPW_ASSIGN_OR_RETURN(
        const cu::DevicePtr pointer,
        pool_->allocate(wanted.bytes, streams_[wanted.stream].ref(), tags_[block]));
    return std::uint64_t{pointer};
  }

  Status placed(const AllocationTrace& trace, std::uint32_t block, std::uint64_t address) override {
    const ReplayBlock& wanted = trace.blocks[block];
    const cu::Result result =
        driver().cuMemsetD8Async(address, 0, wanted.bytes, streams_[wanted.stream].handle());
    if (result == cu::Result::kSuccess) return {};
    return {Code::kInternal,
            "the simulated device refuses a write to block " + std::to_string(block)};
  }

  Status release(const AllocationTrace&,
                 std::uint32_t,
                 std::uint64_t address,
                 std::uint32_t stream) override {
    return pool_->free(address, streams_[stream].ref());
  }

  [[nodiscard]] std::uint64_t reserved_bytes() const override { return stats().reserved_bytes; }
  [[nodiscard]] std::uint64_t largest_hole_bytes() const override {
    return stats().largest_free_bytes;
  }
  [[nodiscard]] std::vector<AllocatorCounter> counters() const override {
    return {{"grow_count", final_.grow_count},
            {"handle_create_count", final_.handle_create_count},
            {"remap_count", final_.remap_count},
            {"host_wait_count", final_.host_wait_count},
            {"stream_wait_count", final_.stream_wait_count},
            {"planned_count", final_.planned_count},
            {"deviated_count", final_.deviated_count},
            {"metadata_bytes", final_.metadata_bytes}};
  }
  [[nodiscard]] std::uint64_t ranges_version() const override {
    const PoolStats now = stats();
    return now.handle_create_count + now.remap_count + now.trim_count + now.grow_count;
  }
  [[nodiscard]] std::vector<ReservedRange> reserved_ranges() const override {
    std::vector<ReservedRange> ranges;
    if (pool_ == nullptr) return ranges;
    for (const PoolSnapshot::Segment& segment : pool_->snapshot().segments)
      ranges.push_back({segment.pointer, segment.bytes});
    std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
      return a.address < b.address;
    });
    return ranges;
  }

 private:
  [[nodiscard]] const Driver& driver() const { return simulator_->driver(); }
  [[nodiscard]] PoolStats stats() const { return pool_ != nullptr ? pool_->stats() : final_; }

  Status set_up() {
    driver().cuInit(0);
    SPW_ASSIGN_OR_RETURN(Context context, Context::retain_primary(driver(), 0));
    context_.emplace(std::move(context));
    driver().cuCtxSetCurrent(context_->handle());
    for (std::size_t i = 0; i < trace_.streams.size(); ++i) {
      SPW_ASSIGN_OR_RETURN(Stream stream, Stream::create(driver()));
      streams_.push_back(std::move(stream));
    }
    DevicePoolOptions options;
    options.budget_bytes = budget_bytes_;
    options.detect_capture = false;  // nothing is captured here
    SPW_ASSIGN_OR_RETURN(pool_, DevicePool::create(*context_, options));
    tags_.reserve(trace_.blocks.size());
    for (const ReplayBlock& block : trace_.blocks)
      tags_.push_back(pool_->tag(block.tag, block.name));
    if (service_ != PoolService::kPlanned || streams_.empty()) return {};
    SPW_ASSIGN_OR_RETURN(PlannedStep step, plan_step(planned_from_));
    SPW_RETURN_IF_ERROR(
        pool_->load_layout(std::move(step.items), step.height_bytes, streams_.front().ref()));
    pool_->begin_step();
    return {};
  }

  std::unique_ptr<sim::Simulator> simulator_;
  const AllocationTrace& trace_;
  std::uint64_t budget_bytes_;
  PoolService service_;
  const AllocationTrace& planned_from_;
  std::optional<Context> context_;
  std::vector<Stream> streams_;
  std::unique_ptr<DevicePool> pool_;
  std::vector<TagId> tags_;
  PoolStats final_;
};

}  // namespace

Result<PlannedStep> plan_step(const AllocationTrace& trace) {
  const std::uint64_t end = trace.events.size() + 1;
  std::vector<Lifetime> lifetimes;
  std::vector<std::size_t> item_of(trace.blocks.size());
  std::uint64_t alive_bytes = 0;
  std::uint64_t load_bytes = 0;
  const auto born = [&](std::uint32_t block, std::uint64_t begin) {
    item_of[block] = lifetimes.size();
    alive_bytes += bytes_of(quanta_for(trace.blocks[block].bytes));
    load_bytes = std::max(load_bytes, alive_bytes);
    lifetimes.push_back({trace.blocks[block].bytes, begin, end});
  };
  for (std::uint32_t block = 0; block < trace.preexisting_count; ++block) born(block, 0);
  for (std::uint32_t i = 0; i < trace.events.size(); ++i) {
    const ReplayEvent& event = trace.events[i];
    if (event.is_alloc) {
      born(event.block, i + 1);
    } else {
      lifetimes[item_of[event.block]].end = i + 1;
      alive_bytes -= bytes_of(quanta_for(trace.blocks[event.block].bytes));
    }
  }
  // The granules that hold the range cost about as much as the last thousandth of it.
  PackingOptions options;
  options.capacity_bytes = load_bytes + load_bytes / 1000;
  SPW_ASSIGN_OR_RETURN(const PackedLayout layout, lay_out(lifetimes, kQuantumBytes, options));
  PlannedStep step;
  step.height_bytes = layout.height_bytes;
  for (std::size_t i = 0; i < lifetimes.size(); ++i)
    step.items.push_back({lifetimes[i].bytes, layout.offsets[i]});
  return step;
}

Result<std::unique_ptr<AllocatorUnderTest>> make_pool_under_test(
    const AllocationTrace& trace,
    std::uint64_t budget_bytes,
    PoolService service,
    const AllocationTrace* planned_from) {
  // Twice what is alive at once is more than any pool here takes; a budget says it exactly.
  const std::uint64_t wanted =
      budget_bytes != 0 ? budget_bytes : trace.live_peak_bytes + trace.live_peak_bytes;
  if (wanted > kDeviceBytesMax)
    return Status(Code::kUnsupported,
                  "the trace holds " + format_bytes(trace.live_peak_bytes) +
                      " at once; the simulated device has at most " +
                      format_bytes(kDeviceBytesMax));
  sim::Options options;
  options.mode = sim::Mode::kLazy;
  options.contents = sim::Contents::kNone;
  options.memory_bytes = (wanted + 2 * kRoundBytes - 1) / kRoundBytes * kRoundBytes;
  SPW_ASSIGN_OR_RETURN(auto simulator, sim::Simulator::create(options));
  return std::unique_ptr<AllocatorUnderTest>(
      std::make_unique<PoolUnderTest>(std::move(simulator),
                                      trace,
                                      budget_bytes,
                                      service,
                                      planned_from != nullptr ? *planned_from : trace));
}

}  // namespace spillway
