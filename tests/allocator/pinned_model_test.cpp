// SPDX-License-Identifier: Apache-2.0
// The pinned pool against a plain interval map, on the adversarial simulated GPU: copies into
// blocks, frees by the right and by odd streams, reuse, waits, trims. No two blocks overlap, no
// byte is lost, nothing races, the cap holds by the machine's own count.
#include "allocator/pinned_pool.hpp"
#include "core/random.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <vector>

using namespace spillway;
using test::PoolLab;

namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr int kStreams = 3;
constexpr std::uint64_t kLargest = 40 * kKiB;

/// One program of random calls. Its choices come from the seed, not from the schedule.
class Program {
 public:
  Program(sim::Simulator& simulator, std::uint64_t seed)
      : simulator_(simulator), random_(seed), options_(options_of(random_)) {}

  void run(int operations) {
    PoolLab lab(simulator_, options_);
    t_ = &lab;
    for (int i = 0; i < kStreams; ++i) {
      streams_.push_back(lab.stream());
      source_.push_back(lab.lab.device(kLargest));
      target_.push_back(lab.lab.device(kLargest));
      lab.lab.fill(streams_.back().handle(), source_.back(), 0, kLargest);
    }
    for (int i = 0; i < operations; ++i) step();
    while (!live_.empty()) release(live_.begin());
    while (depth_ > 0) end_step();
    check(lab.lab.failure == cu::Result::kSuccess, "a call of the program failed");
  }
  /// Empty, or what was found first.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  struct Content {
    std::uint64_t bytes = 0;    // of the block
    std::uint64_t written = 0;  // of them
    std::uint32_t value = 0;
    int stream = -1;  // that gave it or used it last; -1: the host
    bool host_may_touch = false;
  };
  using Live = std::map<std::uintptr_t, Content>;

  static PinnedPoolOptions options_of(Random& random) {
    PinnedPoolOptions options = test::small_pool((1 + random.below(6)) * 32 * kKiB);
    options.slab_bytes = (1 + random.below(4)) * 16 * kKiB;
    options.quantum_bytes = random.below(2) == 0 ? 512 : 64;
    options.threads = random.below(4) == 0 ? 1 : 0;
    return options;
  }

  void check(bool good, const std::string& what) {
    if (!good && problem_.empty()) problem_ = what;
  }
  test::Lab& lab() { return t_->lab; }
  PinnedPool& pool() { return *t_->pool; }
  static void* pointer(std::uintptr_t address) {
    return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
  }

  void step() {
    switch (random_.below(10)) {
      case 0:
        return allocate_on_host();
      case 1:
      case 2:
      case 3:
        return allocate_on_stream();
      case 4:
        if (random_.below(2) == 0 || syncs_often_) return use_elsewhere();
        return allocate_on_stream();
      case 5:
        return steps_and_trim();
      default:
        if (!live_.empty()) release(pick());
    }
  }

  std::uint64_t some_bytes() {
    return 1 + random_.below(random_.below(4) == 0 ? kLargest : 6 * kKiB);
  }

  void note(const Result<PinnedBlock>& block, std::uint64_t bytes, Content content) {
    if (!block.ok()) {
      check(block.status().code() == Code::kOutOfMemory, block.status().message());
      return after_call();
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(block.value().data);
    check(begin % options_.quantum_bytes == 0, "an address off the quantum");
    check(block.value().bytes >= bytes && block.value().bytes < bytes + options_.quantum_bytes,
          "a size that is not exact");
    const auto next = live_.lower_bound(begin);
    check(next == live_.end() || begin + block.value().bytes <= next->first, "blocks overlap");
    if (next != live_.begin()) {
      const auto before = std::prev(next);
      check(before->first + before->second.bytes <= begin, "blocks overlap");
    }
    content.bytes = block.value().bytes;
    content.written = bytes;
    live_[begin] = content;
    after_call();
  }

  void allocate_on_stream() {
    const auto s = static_cast<std::size_t>(random_.below(kStreams));
    const std::uint64_t bytes = some_bytes();
    const WaitPolicy policies[] = {WaitPolicy::kNone, WaitPolicy::kStream, WaitPolicy::kHost};
    const auto block = pool().allocate(bytes, streams_[s], policies[random_.below(3)]);
    const auto value = static_cast<std::uint32_t>(1 + random_.below(250));
    note(block, bytes, {0, 0, value, static_cast<int>(s), false});
    if (!block.ok()) return;
    if (random_.below(3) == 0) {  // given and never used
      live_[reinterpret_cast<std::uintptr_t>(block.value().data)].written = 0;
      return;
    }
    lab().fill(streams_[s].handle(), source_[s], value, bytes);
    lab().d2h(streams_[s].handle(), block.value().data, source_[s], bytes);
  }

  void allocate_on_host() {
    const std::uint64_t bytes = some_bytes();
    const auto block =
        pool().allocate(bytes, random_.below(2) == 0 ? WaitPolicy::kNone : WaitPolicy::kHost);
    const auto value = static_cast<std::uint32_t>(1 + random_.below(250));
    note(block, bytes, {0, 0, value, -1, true});
    if (!block.ok()) return;
    simulator_.observer().host_writes(block.value().data, block.value().bytes);
    std::memset(block.value().data, static_cast<int>(value), bytes);
  }

  /// A block goes back to the device on another stream that is made to come after its last use.
  void use_elsewhere() {
    if (live_.empty()) return;
    const Live::iterator it = pick();
    Content& content = it->second;
    const auto s = static_cast<std::size_t>(random_.below(kStreams));
    if (content.stream >= 0 && content.stream != static_cast<int>(s))
      lab().order(streams_[static_cast<std::size_t>(content.stream)].handle(),
                  streams_[s].handle());
    if (content.written != 0)
      lab().h2d(streams_[s].handle(), target_[s], pointer(it->first), content.written);
    content.stream = static_cast<int>(s);
    content.host_may_touch = false;
  }

  void verify(const Live::iterator& it) {
    Content& content = it->second;
    if (content.stream >= 0)
      lab().sync(streams_[static_cast<std::size_t>(content.stream)].handle());
    content.host_may_touch = true;
    if (content.written == 0) return;
    simulator_.observer().host_reads(pointer(it->first), content.written);
    const auto* bytes = static_cast<const unsigned char*>(pointer(it->first));
    for (std::uint64_t i = 0; i < content.written; ++i)
      if (bytes[i] != content.value) return check(false, "a byte is not what was copied");
  }

  void release(const Live::iterator& it) {
    Content& content = it->second;
    // Rarely in half of the programs: a host that waits often hides what is not ordered.
    if (random_.below(syncs_often_ ? 2 : 16) == 0) verify(it);
    Status status;
    const std::uint64_t how = random_.below(4);
    if ((content.host_may_touch || content.written == 0) && how < 2) {
      status = pool().free(pointer(it->first));
    } else if (content.stream >= 0 && how < 3) {
      status = pool().free(pointer(it->first), streams_[static_cast<std::size_t>(content.stream)]);
    } else {
      // Another stream, ordered after the last use. A block that was given and never used needs no
      // order by its owner.
      const auto s = static_cast<std::size_t>(random_.below(kStreams));
      if (content.stream >= 0 && content.stream != static_cast<int>(s) && content.written != 0)
        lab().order(streams_[static_cast<std::size_t>(content.stream)].handle(),
                    streams_[s].handle());
      status = pool().free(pointer(it->first), streams_[s]);
    }
    check(status.ok(), status.message());
    check(pool().free(pointer(it->first)).code() == Code::kInvalidArgument, "freed twice");
    live_.erase(it);
    after_call();
  }

  void steps_and_trim() {
    switch (random_.below(4)) {
      case 0:
        pool().begin_step();
        ++depth_;
        break;
      case 1:
        if (depth_ > 0) end_step();
        break;
      case 2: {
        const std::uint64_t before = pool().stats().slabs_released;
        const Result<std::uint64_t> trimmed = pool().trim(random_.below(200) * kKiB);
        check(trimmed.ok() == (depth_ == 0), "trim and steps");
        check(depth_ == 0 || pool().stats().slabs_released == before, "released inside a step");
        break;
      }
      default:
        check(pool().reserve_ahead(random_.below(100) * kKiB).ok(), "reserve_ahead failed");
        check(pool().finish_ahead().ok(), "registration failed");
    }
    after_call();
  }
  void end_step() {
    check(pool().end_step().ok(), "end of a step");
    --depth_;
  }

  void after_call() {
    const Status status = pool().check_invariants();
    check(status.ok(), status.message());
    const PinnedStats stats = pool().stats();
    std::uint64_t sum = 0;
    for (const auto& [begin, content] : live_) sum += content.bytes;
    check(stats.allocated_bytes == sum, "allocated bytes differ from the model's");
    check(stats.live_count == live_.size(), "live blocks differ from the model's");
    const sim::Counters machine = simulator_.counters();
    check(machine.pinned_bytes_used == stats.reserved_bytes, "reserved differs from the machine's");
    check(machine.pinned_bytes_peak <= options_.cap_bytes, "the cap was broken");
  }

  Live::iterator pick() {
    auto it = live_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(live_.size())));
    return it;
  }

  sim::Simulator& simulator_;
  Random random_;
  PinnedPoolOptions options_;
  bool syncs_often_ = random_.below(2) == 0;
  PoolLab* t_ = nullptr;
  std::vector<StreamRef> streams_;
  std::vector<cu::DevicePtr> source_;
  std::vector<cu::DevicePtr> target_;
  Live live_;
  int depth_ = 0;
  std::string problem_;
};

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("random programs lose no byte, overlap nothing, race nowhere and stay under the cap") {
    auto made = sim::Simulator::create(test::lab_options());
    REQUIRE(made.ok());
    for (const sim::Mode mode :
         {sim::Mode::kRandom, sim::Mode::kPct, sim::Mode::kLazy, sim::Mode::kEager}) {
      test::page_notes() = {};
      test::for_seeds(300, [&](std::uint64_t seed) {
        REQUIRE(made.value()->reset(test::lab_options(mode, seed)).ok());
        // The program's choices come from the same seed, so that a failure is one number.
        Program program(*made.value(), seed);
        made.value()->run([&] { program.run(120); });
        std::string problem = program.problem() + made.value()->report_text();
        if (!problem.empty()) problem += std::string(" (mode ") + sim::name_of(mode) + ")";
        return problem;
      });
      CHECK(test::page_notes().locks_held == 0);
    }
  }
}
