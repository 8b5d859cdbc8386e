// SPDX-License-Identifier: Apache-2.0
// The device pool against a plain interval map, over random programs with several streams in the
// adversarial simulator: every block is used by kernels, so that a block handed out too early is a
// reported race. SPILLWAY_MODEL_OPERATIONS sets how many operations (default 200,000),
// SPILLWAY_MODEL_SEED the first seed.
#include "allocator/device_pool.hpp"
#include "core/random.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace spillway {
namespace {

using test::Lab;
using test::lab_options;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// One random program: a pool, a few streams, and what must be true of it.
class Program {
 public:
  Program(Lab& lab, std::uint64_t seed)
      : lab_(lab), random_(seed), context_(Context::adopt_current(lab.cu).value()) {
    DevicePoolOptions options;
    options.observer = &lab.observer();
    options.budget_bytes = (1 + random_.below(8)) * kMiB;
    options.address_bytes = 64 * kMiB;
    options.handle_bytes_max = 4096u << random_.below(5);
    options.mark_interval_bytes = random_.below(3) * 16 * kKiB;
    options.defragment_slack = random_.below(2) == 0 ? 0.05 : 1.0;
    options.cross_stream =
        random_.below(2) == 0 ? CrossStream::kGrowFirst : CrossStream::kWaitFirst;
    budget_ = options.budget_bytes;
    auto made = DevicePool::create(context_, options);
    if (!made.ok()) {
      failure = made.status().message();
      return;
    }
    pool_ = std::move(made).value();
    const std::uint64_t streams = 1 + random_.below(5);
    for (std::uint64_t i = 0; i < streams; ++i) add_stream();
    events_.resize(16);
    for (cu::Event& event : events_) event = lab_.event();
  }

  void run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && failure.empty(); ++i) {
      step();
      if (i % 64 == 63 && failure.empty()) failure = pool_->check_invariants().message();
      if (lab_.failure != cu::Result::kSuccess && failure.empty())
        failure = "a driver call of the test failed";
    }
    if (failure.empty()) failure = pool_->check_invariants().message();
    end();
  }

  std::string failure;

 private:
  struct Live {
    std::uint64_t bytes = 0;
    std::size_t stream = 0;  // all uses so far are ordered before its end, or recorded
    TagId tag;
  };
  using Blocks = std::map<cu::DevicePtr, Live>;

  void add_stream() { streams_.push_back(StreamRef::of(lab_.cu, lab_.stream()).value()); }

  void order(StreamRef first, StreamRef second) {
    const cu::Event event = events_[next_event_++ % events_.size()];
    lab_.record(event, first.handle());
    lab_.wait(second.handle(), event);
  }

  std::uint64_t random_bytes() {
    switch (random_.below(8)) {
      case 0:
        return 1 + random_.below(64);
      case 1:
        return 512 * (1 + random_.below(8));
      case 2:
        return 4096 * (1 + random_.below(64));
      case 3:
        return 1 + random_.below(budget_ / 4);
      default:
        return 1 + random_.below(64 * kKiB);
    }
  }

  Blocks::iterator any_block() {
    auto it = live_.lower_bound(first_ + random_.below(last_ - first_ + 1));
    return it == live_.end() ? live_.begin() : it;
  }

  void fail(const std::string& what) {
    if (failure.empty()) failure = what;
  }

  void step() {
    const std::uint64_t choice = random_.below(100);
    if (live_.empty() || choice < 35) return allocate();
    if (choice < 60) return use();
    if (choice < 93) return give();
    if (choice < 96) return look();
    if (choice == 96) return rare();
    if (choice < 99) return misuse();
    totals();
  }

  void allocate() {
    const std::size_t s = random_.below(streams_.size());
    const std::uint64_t bytes = random_bytes();
    const TagId tag = random_.below(2) == 0
                          ? kUntagged
                          : pool_->tag({BufferKind::kActivation,
                                        Dtype::kBf16,
                                        Phase::kForward,
                                        kNoMicroBatch,
                                        static_cast<std::uint16_t>(random_.below(4)),
                                        0},
                                       "act");
    const bool comm = random_.below(20) == 0 && bytes < 64 * kKiB;
    const auto taken = comm ? pool_->allocate_comm(bytes, streams_[s], tag)
                            : pool_->allocate(bytes, streams_[s], tag);
    if (!taken.ok()) {
      if (taken.status().code() != Code::kOutOfMemory) return fail(taken.status().message());
      for (std::size_t i = live_.size() / 2; i-- > 0;) give();
      return;
    }
    const cu::DevicePtr pointer = taken.value();
    if (pointer % 256 != 0) fail("a block is not aligned");
    const auto after = live_.lower_bound(pointer);
    if (after != live_.end() && after->first < pointer + bytes) fail("blocks overlap");
    if (after != live_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second.bytes > pointer) fail("blocks overlap");
    }
    live_[pointer] = {bytes, s, tag};
    live_bytes_ += bytes;
    first_ = first_ == 0 ? pointer : std::min(first_, pointer);
    last_ = std::max(last_, pointer);
    lab_.fill(streams_[s].handle(), pointer, 7, bytes);
  }

  // A kernel over a part of a block: on its stream, or on another one, which is then recorded or
  // becomes its stream.
  void use() {
    const auto it = any_block();
    Live& block = it->second;
    const std::uint64_t begin = random_.below(block.bytes);
    const std::uint64_t bytes = 1 + random_.below(block.bytes - begin);
    std::size_t s = block.stream;
    const std::size_t other = random_.below(streams_.size());
    if (other != s) {
      order(streams_[s], streams_[other]);
      if (random_.below(2) == 0) {
        const Status used = pool_->record_use(it->first + begin, streams_[other]);
        if (!used.ok()) fail(used.message());
        // The test's own kernels on the two streams must not race either: this one only reads, and
        // the next writer is ordered behind it.
        lab_.read(streams_[other].handle(), it->first + begin, bytes);
        order(streams_[other], streams_[s]);
        return;
      }
      block.stream = s = other;
    }
    lab_.add(streams_[s].handle(), it->first + begin, 1, bytes);
  }

  void give() {
    if (live_.empty()) return;
    const auto it = any_block();
    std::size_t s = it->second.stream;
    if (random_.below(4) == 0) {
      const std::size_t other = random_.below(streams_.size());
      if (other != s && random_.below(2) == 0) {
        // A last use that only the pool is told of.
        order(streams_[s], streams_[other]);
        if (!pool_->record_use(it->first, streams_[other]).ok()) fail("record_use failed");
        lab_.read(streams_[other].handle(), it->first, it->second.bytes);
      } else if (other != s) {
        order(streams_[s], streams_[other]);
        s = other;
      }
    }
    const Status given = pool_->free(it->first, streams_[s]);
    if (!given.ok()) fail(given.message());
    live_bytes_ -= it->second.bytes;
    live_.erase(it);
  }

  void look() {
    const auto it = any_block();
    const auto info = pool_->find(it->first + random_.below(it->second.bytes));
    if (!info || info->pointer != it->first || info->requested_bytes != it->second.bytes ||
        info->tag_id != it->second.tag)
      fail("find() does not know a live block");
  }

  void rare() {
    switch (random_.below(5)) {
      case 0: {
        const auto trimmed = pool_->trim(random_.below(budget_));
        if (!trimmed.ok()) fail(trimmed.status().message());
        return;
      }
      case 1: {
        const std::uint64_t wanted = (1 + random_.below(8)) * kMiB;
        const Status set = pool_->set_budget(wanted);
        if (set.ok())
          budget_ = wanted;
        else if (set.code() != Code::kOutOfMemory)
          fail(set.message());
        if (pool_->budget_bytes() != budget_) fail("the budget is not what was set");
        return;
      }
      case 2: {
        // A stream comes to its end, and another takes its place.
        const std::size_t s = random_.below(streams_.size());
        const StreamRef old = streams_[s];
        add_stream();
        const StreamRef made = streams_.back();
        streams_.pop_back();
        order(old, made);
        if (!pool_->retire_stream(old).ok()) fail("retire_stream failed");
        lab_.forget(old.handle());
        lab_.note(lab_.cu.cuStreamDestroy(old.handle()));
        streams_[s] = made;
        return;
      }
      case 3: {
        const Status ahead = pool_->reserve_ahead(random_.below(budget_));
        if (!ahead.ok() && ahead.code() != Code::kOutOfMemory) fail(ahead.message());
        return;
      }
      default: {
        std::vector<LayoutItem> items;
        std::uint64_t offset = 0;
        for (int i = 0; i < 8; ++i) {
          items.push_back({512 * (1 + random_.below(8)), offset});
          if (random_.below(2) == 0) offset += 4096;
        }
        const Status loaded = random_.below(3) == 0
                                  ? (pool_->unload_layout(), Status())
                                  : pool_->load_layout(items, offset + 8192, streams_[0]);
        if (!loaded.ok() && loaded.code() != Code::kOutOfMemory) fail(loaded.message());
        pool_->begin_step();
        return;
      }
    }
  }

  void misuse() {
    const auto it = any_block();
    const cu::DevicePtr inside = it->first + 1 + random_.below(it->second.bytes);
    if (it->second.bytes > 1 && inside < it->first + it->second.bytes &&
        pool_->free(inside, streams_[0]).code() != Code::kInvalidArgument)
      fail("a block was given back by a pointer to its inside");
    if (pool_->free(0x1000, streams_[0]).code() != Code::kNotFound)
      fail("a foreign pointer was taken back");
  }

  void totals() {
    const PoolStats stats = pool_->stats();
    if (stats.requested_bytes != live_bytes_) fail("requested_bytes is off");
    if (stats.live_count != live_.size()) fail("live_count is off");
    if (stats.reserved_bytes > budget_) fail("over the budget");
    if (stats.reserved_bytes != lab_.simulator().counters().device_bytes_used)
      fail("the driver counts " + std::to_string(lab_.simulator().counters().device_bytes_used) +
           " bytes, the pool reserved " + std::to_string(stats.reserved_bytes));
  }

  std::string held_text() const {
    const PoolSnapshot now = pool_->snapshot();
    std::string text = std::to_string(now.stats.reserved_bytes) + " bytes, spare " +
                       std::to_string(now.stats.spare_bytes);
    for (const PoolSnapshot::Segment& segment : now.segments)
      for (const auto& block : segment.blocks)
        text += std::string("; ") + name_of(block.state) + " " + std::to_string(block.bytes) +
                " of stream " + std::to_string(block.stream_id);
    return text;
  }

  void end() {
    while (!live_.empty() && failure.empty()) give();
    pool_->unload_layout();
    lab_.cu.cuCtxSynchronize();
    if (failure.empty()) failure = pool_->check_invariants().message();
    if (failure.empty()) {
      totals();
      const auto trimmed = pool_->trim(0);
      if (!trimmed.ok()) fail(trimmed.status().message());
      if (pool_->stats().reserved_bytes != 0)
        fail("not everything went back to the driver: " + held_text());
    }
    pool_.reset();
  }

  Lab& lab_;
  Random random_;
  Context context_;
  std::unique_ptr<DevicePool> pool_;
  std::uint64_t budget_ = 0;
  std::vector<StreamRef> streams_;
  std::vector<cu::Event> events_;
  std::size_t next_event_ = 0;
  Blocks live_;
  std::uint64_t live_bytes_ = 0;
  cu::DevicePtr first_ = 0, last_ = 0;
};

TEST_SUITE("model") {
  TEST_CASE("the device pool agrees with an interval map under random programs") {
    const std::uint64_t operations = number_from("SPILLWAY_MODEL_OPERATIONS", 200'000);
    const std::uint64_t first_seed = number_from("SPILLWAY_MODEL_SEED", 1);
    constexpr std::uint64_t kOperationsPerProgram = 1000;
    std::unique_ptr<sim::Simulator> simulator;
    constexpr sim::Mode kModes[] = {
        sim::Mode::kRandom, sim::Mode::kPct, sim::Mode::kLazy, sim::Mode::kEager};
    for (std::uint64_t i = 0; i < std::max<std::uint64_t>(operations / kOperationsPerProgram, 1);
         ++i) {
      const std::uint64_t seed = first_seed + i;
      sim::Options options = lab_options(kModes[seed % 4], seed);
      options.contents = seed % 8 == 0 ? sim::Contents::kFull : sim::Contents::kNone;
      options.repeat_command =
          "SPILLWAY_MODEL_SEED=%s SPILLWAY_MODEL_OPERATIONS=1 spillway_allocator_tests "
          "-tc='*interval map*'";
      if (simulator == nullptr)
        simulator = std::move(sim::Simulator::create(options).value());
      else
        REQUIRE(simulator->reset(options).ok());
      std::string failure;
      simulator->run([&] {
        Lab lab(*simulator);
        Program program(lab, seed);
        if (program.failure.empty()) program.run(kOperationsPerProgram);
        failure = program.failure;
      });
      CAPTURE(seed);
      REQUIRE_MESSAGE(failure.empty(), failure);
      REQUIRE_MESSAGE(simulator->reports().empty(), simulator->report_text());
    }
  }
}

}  // namespace
}  // namespace spillway
