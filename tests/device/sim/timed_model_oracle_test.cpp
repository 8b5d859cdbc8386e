// SPDX-License-Identifier: Apache-2.0
// The timed model against a naive one that walks nanosecond by nanosecond and divides every rate
// anew at each step. They share the rules and nothing else, and must agree on every start and end.
#include "core/random.hpp"
#include "device/sim/flow.hpp"
#include "tests/support/timed_run.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <tuple>
#include <vector>

using namespace spillway;
using namespace spillway::sim;
using spillway::test::TimedRun;
using Kind = spillway::sim::Work::Kind;

namespace {

class Oracle {
 public:
  Oracle(const Calibration& card, const TimedOptions& options, const std::vector<TimedRun::Op>& ops)
      : card_(card), timing_(*card.timing), options_(options) {
    for (const auto& op : ops) jobs_.push_back({op});
    for (std::size_t i = 0; i < jobs_.size(); ++i) streams_[jobs_[i].op.stream].push_back(i);
    last_stream_.resize(options.device_count, std::vector<std::int64_t>(4, -1));
    slot_end_.resize(options.device_count,
                     std::vector<std::int64_t>(options.compute_concurrency, -1'000'000));
  }

  std::vector<Completion> run() {
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      if (streams_[jobs_[i].op.stream].front() == i) submit(i, 0);
    }
    std::size_t left = jobs_.size();
    for (std::int64_t t = 0; left > 0; ++t) {
      if (t > 10'000'000) FAIL("the oracle does not come to an end");
      for (;;) {
        std::vector<std::size_t> due;
        for (std::size_t i = 0; i < jobs_.size(); ++i) {
          if (settle(jobs_[i], t)) due.push_back(i);
        }
        if (due.empty()) break;
        std::sort(due.begin(), due.end(), [this](std::size_t a, std::size_t b) {
          return jobs_[a].sequence < jobs_[b].sequence;
        });
        for (const std::size_t i : due) {
          complete(jobs_[i], t);
          --left;
          auto& queue = streams_[jobs_[i].op.stream];
          queue.pop_front();
          if (!queue.empty()) submit(queue.front(), t);
        }
      }
      for (std::uint32_t d = 0; d < options_.device_count; ++d) dispatch(d, t);
      move();
    }
    std::vector<Completion> out;
    for (std::size_t i = 0; i < jobs_.size(); ++i)
      out.push_back({i, jobs_[i].op.stream, jobs_[i].start, jobs_[i].end});
    return out;
  }

 private:
  enum class State { kLater, kWaiting, kRunning, kDone };
  struct Job {
    TimedRun::Op op;
    State state = State::kLater;
    std::uint64_t sequence = 0;
    std::int64_t ready = 0, start = 0, begin = 0, end = 0, deadline = 0;
    int engine = -1;              // 0 to 3 copy engines, 4 compute
    std::size_t slot = 0;         // of a kernel
    std::int64_t bytes_left = 0;  // x 1e9
    std::int64_t flops_left = 0;  // ns x 720720
    std::int64_t rate = 0;
  };

  void submit(std::size_t index, std::int64_t t) {
    Job& job = jobs_[index];
    job.ready = std::max(job.op.not_before_ns, t);
    job.sequence = ++sequence_;
    job.state = State::kWaiting;
    if (job.op.work.kind != Kind::kInstant) return;
    job.state = State::kRunning;
    job.start = job.begin = job.ready;
    job.deadline = job.ready + job.op.work.fixed_ns;
  }

  // Whether the job is over at t.
  static bool settle(const Job& job, std::int64_t t) {
    return job.state == State::kRunning && t >= job.begin && t >= job.deadline &&
           job.bytes_left <= 0 && job.flops_left <= 0;
  }

  void complete(Job& job, std::int64_t t) {
    job.state = State::kDone;
    job.end = t;
    const std::uint32_t d = job.op.work.device;
    if (job.engine >= 0 && job.engine < 4)
      last_stream_[d][static_cast<std::size_t>(job.engine)] = job.op.stream;
    if (job.engine == 4) slot_end_[d][job.slot] = t;
  }

  [[nodiscard]] int engine_of(Kind kind) const {
    const std::uint32_t engines = timing_.copy_engine_count;
    if (kind == Kind::kH2D) return 0;
    if (kind == Kind::kD2H) return engines == 1 ? 0 : 1;
    if (kind == Kind::kPeer) return engines == 1 ? 0 : engines == 2 ? 1 : 2;
    return kind == Kind::kKernel ? 4 : 3;
  }

  [[nodiscard]] bool candidate(const Job& job, std::uint32_t d, int engine, std::int64_t t) const {
    return job.state == State::kWaiting && job.op.work.device == d &&
           engine_of(job.op.work.kind) == engine && job.ready <= t;
  }

  void dispatch(std::uint32_t d, std::int64_t t) {
    for (int engine = 0; engine < 4; ++engine) {
      bool busy = false;
      Job* best = nullptr;
      for (Job& job : jobs_) {
        busy = busy ||
               (job.state == State::kRunning && job.op.work.device == d && job.engine == engine);
        if (!candidate(job, d, engine, t)) continue;
        const auto current = last_stream_[d][static_cast<std::size_t>(engine)];
        const auto rank = [&](const Job& j) {
          return std::tuple(j.op.stream == current ? 0 : 1, j.ready, j.sequence);
        };
        if (best == nullptr || rank(job) < rank(*best)) best = &job;
      }
      if (!busy && best != nullptr) start_copy(*best, engine, t);
    }
    for (;;) {
      std::vector<bool> used(options_.compute_concurrency, false);
      Job* best = nullptr;
      for (Job& job : jobs_) {
        if (job.state == State::kRunning && job.op.work.device == d && job.engine == 4)
          used[job.slot] = true;
        if (!candidate(job, d, 4, t)) continue;
        const auto rank = [](const Job& j) {
          return std::tuple(j.op.priority, j.ready, j.sequence);
        };
        if (best == nullptr || rank(job) < rank(*best)) best = &job;
      }
      std::size_t slot = used.size();
      for (std::size_t i = 0; i < used.size(); ++i) {
        if (!used[i] && (slot == used.size() || slot_end_[d][i] < slot_end_[d][slot])) slot = i;
      }
      if (best == nullptr || slot == used.size()) return;
      start_kernel(*best, d, slot, t);
    }
  }

  void start_copy(Job& job, int engine, std::int64_t t) {
    const Work& work = job.op.work;
    std::uint64_t latency = card_.copy_latency_ns;
    if (work.kind == Kind::kD2D) latency = timing_.d2d_latency_ns;
    if (work.kind == Kind::kMemset) latency = timing_.memset_latency_ns;
    job.state = State::kRunning;
    job.engine = engine;
    job.start = t;
    job.begin = job.deadline = t + static_cast<std::int64_t>(latency) + work.fixed_ns;
    job.bytes_left = static_cast<std::int64_t>(work.bytes * work.slowdown) * 1'000'000'000;
  }

  [[nodiscard]] std::int64_t compute_ns(const Work& work) const {
    const double rate = card_.matmul_flops_per_s(work.math);
    return work.flops > 0 ? std::llround(work.flops / rate * 1e9) : 0;
  }

  void start_kernel(Job& job, std::uint32_t d, std::size_t slot, std::int64_t t) {
    job.state = State::kRunning;
    job.engine = 4;
    job.slot = slot;
    const auto gap = static_cast<std::int64_t>(card_.launch_latency_ns);
    const std::int64_t issued = std::min(job.op.work.issued_ns, job.ready);
    job.begin = std::max({t,
                          issued + static_cast<std::int64_t>(timing_.kernel_start_ns),
                          issued < job.ready ? job.ready + gap : job.ready,
                          slot_end_[d][slot] + gap});
    job.start = job.begin;
    job.deadline = job.begin + job.op.work.fixed_ns;
    job.bytes_left = static_cast<std::int64_t>(job.op.work.memory_bytes) * 1'000'000'000;
    job.flops_left = compute_ns(job.op.work) * 720720;
  }

  // Largest first asked last: everyone in ascending order gets at most an equal part of the rest.
  static std::vector<std::int64_t> fair(std::int64_t capacity, std::vector<std::int64_t> wanted) {
    std::vector<std::size_t> order(wanted.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return wanted[a] < wanted[b];
    });
    std::size_t open = order.size();
    std::vector<std::int64_t> given(wanted.size());
    for (std::size_t i = 0; i < order.size(); ++i, --open) {
      const std::int64_t part = capacity / static_cast<std::int64_t>(open);
      if (wanted[order[i]] <= part) {
        given[order[i]] = wanted[order[i]];
        capacity -= wanted[order[i]];
        continue;
      }
      for (; i < order.size(); ++i) given[order[i]] = part;
      break;
    }
    return given;
  }

  // One nanosecond of progress at the rates of this moment.
  void move() {
    const auto whole = [](double rate) { return static_cast<std::int64_t>(std::llround(rate)); };
    const std::int64_t t = time_++;
    const auto moves = [&](const Job& job, std::uint32_t d, Kind kind) {
      return job.state == State::kRunning && job.op.work.device == d && job.op.work.kind == kind &&
             t >= job.begin && job.bytes_left > 0;
    };
    const auto find = [&](std::uint32_t d, Kind kind) -> Job* {
      for (Job& job : jobs_) {
        if (moves(job, d, kind)) return &job;
      }
      return nullptr;
    };
    const std::uint32_t per_root = options_.devices_per_root;
    for (const Kind kind : {Kind::kH2D, Kind::kD2H}) {
      const bool down = kind == Kind::kH2D;
      const double own = down ? card_.h2d_bytes_per_s : card_.d2h_bytes_per_s;
      const double duplex =
          down ? card_.h2d_while_d2h_bytes_per_s : timing_.d2h_while_h2d_bytes_per_s;
      const double pageable =
          down ? timing_.h2d_pageable_bytes_per_s : timing_.d2h_pageable_bytes_per_s;
      for (std::uint32_t first = 0; first < options_.device_count; first += per_root) {
        std::vector<Job*> users;
        std::vector<std::int64_t> wanted;
        for (std::uint32_t d = first; d < std::min(first + per_root, options_.device_count); ++d) {
          Job* const job = find(d, kind);
          if (job == nullptr) continue;
          const Job* const other = find(d, down ? Kind::kD2H : Kind::kH2D);
          std::int64_t rate = whole(other != nullptr ? duplex : own);
          const bool shared = other != nullptr && !other->op.work.pinned;
          if (!job->op.work.pinned) rate = std::min(rate, whole(pageable) / (shared ? 2 : 1));
          users.push_back(job);
          wanted.push_back(rate);
        }
        const auto given =
            fair(std::max(whole(own), whole(timing_.shared_link_bytes_per_s)), wanted);
        for (std::size_t i = 0; i < users.size(); ++i) users[i]->rate = given[i];
      }
    }
    for (std::uint32_t d = 0; d < options_.device_count; ++d) {
      std::int64_t memory = whole(card_.memory_bytes_per_s.achieved);
      const std::int64_t all = memory;
      const std::int64_t d2d = whole(timing_.d2d_bytes_per_s);
      const std::int64_t traffic = std::min(2 * d2d, all);
      if (Job* job = find(d, Kind::kPeer)) job->rate = whole(card_.peer_bytes_per_s);
      for (const Kind kind : {Kind::kH2D, Kind::kD2H, Kind::kPeer}) {
        if (const Job* job = find(d, kind)) memory -= job->rate;
      }
      std::vector<Job*> users;
      std::vector<std::int64_t> wanted;
      std::int64_t computing = 0;
      for (Job& job : jobs_) {
        if (job.state == State::kRunning && job.op.work.device == d && t >= job.begin &&
            job.flops_left > 0)
          ++computing;
        const bool kernel = moves(job, d, Kind::kKernel);
        if (!kernel && !moves(job, d, Kind::kD2D) && !moves(job, d, Kind::kMemset)) continue;
        std::int64_t most = job.op.work.kind == Kind::kD2D ? traffic : all;
        const std::int64_t least = std::max(compute_ns(job.op.work), job.op.work.fixed_ns);
        if (kernel && least > 0) {
          const auto amount = static_cast<std::int64_t>(job.op.work.memory_bytes) * 1'000'000'000;
          most = std::min(most, (amount + least - 1) / least);
        }
        users.push_back(&job);
        wanted.push_back(most);
      }
      const auto given = fair(std::max<std::int64_t>(memory, 1), wanted);
      for (std::size_t i = 0; i < users.size(); ++i) {
        const bool copy = users[i]->op.work.kind == Kind::kD2D;
        users[i]->rate = copy ? static_cast<std::int64_t>(static_cast<Wide>(d2d) *
                                                          static_cast<std::uint64_t>(given[i]) /
                                                          static_cast<std::uint64_t>(traffic))
                              : given[i];
      }
      for (Job& job : jobs_) {
        if (job.state != State::kRunning || job.op.work.device != d || t < job.begin) continue;
        if (job.flops_left > 0) job.flops_left -= 720720 / computing;
        if (job.bytes_left > 0) job.bytes_left -= std::max<std::int64_t>(job.rate, 1);
      }
    }
  }

  const Calibration& card_;
  const DeviceTiming& timing_;
  TimedOptions options_;
  std::vector<Job> jobs_;
  std::map<std::uint32_t, std::deque<std::size_t>> streams_;
  std::vector<std::vector<std::int64_t>> last_stream_;
  std::vector<std::vector<std::int64_t>> slot_end_;
  std::int64_t time_ = 0;
  std::uint64_t sequence_ = 0;
};

// A GPU whose operations last nanoseconds, so that walking them is quick.
Calibration tiny_gpu(Random& random) {
  auto loaded = load_calibration("h100");
  REQUIRE(loaded.ok());
  Calibration card = std::move(loaded).value();
  const auto rate = [&](double low) { return std::floor(low * (1 + random.unit())); };
  card.h2d_bytes_per_s = rate(20e9);
  card.d2h_bytes_per_s = rate(20e9);
  card.h2d_while_d2h_bytes_per_s = rate(5e9);
  card.peer_bytes_per_s = rate(30e9);
  card.memory_bytes_per_s.achieved = rate(200e9);
  card.math_flops_per_s[0].achieved = 1e12;
  card.copy_latency_ns = 1 + random.below(30);
  card.launch_latency_ns = 1 + random.below(20);
  DeviceTiming& t = *card.timing;
  t.d2h_while_h2d_bytes_per_s = rate(10e9);
  t.shared_link_bytes_per_s = rate(20e9);
  t.h2d_pageable_bytes_per_s = rate(3e9);
  t.d2h_pageable_bytes_per_s = rate(3e9);
  t.d2d_bytes_per_s = rate(80e9);
  t.d2d_latency_ns = 1 + random.below(20);
  t.memset_latency_ns = 1 + random.below(20);
  t.kernel_start_ns = 1 + random.below(20);
  t.copy_engine_count = 1 + static_cast<std::uint32_t>(random.below(3));
  return card;
}

Work any_work(Random& random, std::uint32_t devices) {
  static constexpr Kind kKinds[] = {Kind::kKernel,
                                    Kind::kKernel,
                                    Kind::kH2D,
                                    Kind::kH2D,
                                    Kind::kD2H,
                                    Kind::kD2H,
                                    Kind::kD2D,
                                    Kind::kPeer,
                                    Kind::kMemset,
                                    Kind::kInstant};
  Work work;
  work.kind = kKinds[random.below(std::size(kKinds))];
  work.device = static_cast<std::uint32_t>(random.below(devices));
  work.pinned = random.below(4) != 0;
  if (work.kind == Kind::kInstant) {
    work.fixed_ns = random.below(2) == 0 ? 0 : static_cast<std::int64_t>(random.below(20));
  } else if (work.kind == Kind::kKernel) {
    if (random.below(2) == 0) work.fixed_ns = static_cast<std::int64_t>(random.below(200));
    if (random.below(2) == 0) work.memory_bytes = random.below(30'000);
    if (random.below(2) == 0) work.issued_ns = static_cast<std::int64_t>(random.below(1500));
    if (random.below(2) == 0) work.flops = static_cast<double>(random.below(200'000));
  } else {
    work.bytes = random.below(8) == 0 ? 0 : random.below(4000);
    if (random.below(8) == 0) work.fixed_ns = static_cast<std::int64_t>(random.below(50));
    if (random.below(16) == 0) work.slowdown = 3;
  }
  return work;
}

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("random work on random GPUs starts and ends when a step-by-step model says") {
    std::size_t compared = 0;
    for (std::uint64_t seed = 1; seed <= 250; ++seed) {
      Random random(seed);
      const Calibration card = tiny_gpu(random);
      TimedOptions options;
      options.device_count = 1 + static_cast<std::uint32_t>(random.below(3));
      options.devices_per_root = 1 + static_cast<std::uint32_t>(random.below(3));
      options.compute_concurrency = 1 + static_cast<std::uint32_t>(random.below(3));
      const auto streams = 1 + static_cast<std::uint32_t>(random.below(8));
      TimedRun run(card, options);
      const std::uint64_t count = 1 + random.below(40);
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto stream = static_cast<std::uint32_t>(random.below(streams));
        const auto late = random.below(4) == 0 ? static_cast<std::int64_t>(random.below(2000)) : 0;
        const int priority = static_cast<int>(random.below(3)) - 1;
        run.add(stream, any_work(random, options.device_count), late, priority);
      }
      Oracle oracle(card, options, run.ops());
      const auto found = run.finish();
      const auto expected = oracle.run();
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (found[i].start_ns == expected[i].start_ns && found[i].end_ns == expected[i].end_ns) {
          ++compared;
          continue;
        }
        CAPTURE(seed);
        CAPTURE(i);
        CAPTURE(static_cast<int>(run.ops()[i].work.kind));
        CHECK(found[i].start_ns == expected[i].start_ns);
        REQUIRE(found[i].end_ns == expected[i].end_ns);
      }
    }
    CHECK(compared > 4000);
  }
}
