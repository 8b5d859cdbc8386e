// SPDX-License-Identifier: Apache-2.0
// The smallest HostEnvironment: no device, a seeded choice between threads at every point, a clock
// per thread, virtual time that jumps when everybody sleeps.
#pragma once

#include "core/random.hpp"
#include "device/sim/host_threads.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::test {

class ToyEnvironment final : public sim::HostEnvironment {
 public:
  explicit ToyEnvironment(std::uint64_t seed) : random_(seed), threads_(*this) { born(0); }

  [[nodiscard]] sim::HostThreads& threads() { return threads_; }
  [[nodiscard]] const std::string& deadlock() const { return deadlock_; }
  [[nodiscard]] const std::vector<std::string>& misuses() const { return misuses_; }
  /// Who got the baton at each point: the interleaving.
  [[nodiscard]] const std::vector<std::uint32_t>& order() const { return order_; }
  [[nodiscard]] std::uint64_t switch_count() const { return switches_; }

  void reset(std::uint64_t seed) {
    threads_.reset();
    random_ = Random(seed);
    clocks_.clear();
    deadlock_.clear();
    misuses_.clear();
    order_.clear();
    switches_ = 0;
    now_ns_ = 0;
    born(0);
  }

  /// Runs `program` as thread 0. False when the run was abandoned.
  template <typename Program>
  bool run(Program&& program) {
    const HostSchedulerScope scope(&threads_);
    try {
      program();
    } catch (const ThreadsAbandoned&) {
      return false;
    }
    return !threads_.abandoned();
  }

  /// A step of the current thread, and whether that step happened before what it does now.
  [[nodiscard]] sim::Epoch step() {
    const std::uint32_t me = threads_.current();
    return {me, clocks_[me].tick(me)};
  }
  [[nodiscard]] bool is_before_now(sim::Epoch epoch) {
    return clocks_[threads_.current()].covers(epoch);
  }

  void point(const char* what) override {
    static_cast<void>(what);
    const std::uint32_t next = choose();
    if (next != threads_.current()) change_to(next);
  }

  void wait_until(bool (*ready)(void*), void* argument, const char* what) override {
    static_cast<void>(what);
    while (!threads_.abandoned()) {
      const std::uint32_t next = choose();
      if (next == threads_.current()) return;
      if (next != sim::HostThreads::kNone) {
        change_to(next);
      } else if (!advance_time()) {
        return;
      }
      if (ready(argument)) return;
    }
  }

  std::int64_t now_ns() override { return now_ns_; }

  void acquire(std::uint32_t thread, const sim::VectorClock& from) override {
    clocks_[thread].join(from);
  }
  void release(std::uint32_t thread, sim::VectorClock& into) override {
    into.join(clocks_[thread]);
    clocks_[thread].tick(thread);
  }
  void thread_born(std::uint32_t thread, std::uint32_t parent) override {
    static_cast<void>(parent);
    born(thread);
  }
  std::uint32_t thread_ended(std::uint32_t thread) override {
    static_cast<void>(thread);
    for (;;) {
      const std::uint32_t next = choose();
      if (next != sim::HostThreads::kNone) {
        order_.push_back(next);
        return next;
      }
      if (!advance_time()) return next;
    }
  }
  void misuse(const char* what, const char* name) override {
    misuses_.push_back(std::string(what) + ": " + name);
  }

 private:
  void born(std::uint32_t thread) {
    clocks_.resize(thread + 1);
    clocks_[thread].clear();
    clocks_[thread].tick(thread);
  }

  std::uint32_t choose() {
    std::uint32_t candidates = 0;
    for (std::uint32_t i = 0; i < threads_.count(); ++i)
      candidates += threads_.runnable(i) ? 1u : 0u;
    if (candidates == 0) return sim::HostThreads::kNone;
    std::uint64_t left = random_.below(candidates);
    for (std::uint32_t i = 0;; ++i) {
      if (threads_.runnable(i) && left-- == 0) return i;
    }
  }

  void change_to(std::uint32_t next) {
    order_.push_back(next);
    ++switches_;
    threads_.switch_to(next);
  }

  /// False: a deadlock, and the run is abandoned.
  bool advance_time() {
    const std::int64_t deadline_ns = threads_.earliest_deadline_ns();
    if (deadline_ns != kNoDeadlineNs) {
      now_ns_ = deadline_ns;
      return true;
    }
    deadlock_ = threads_.describe_waits();
    threads_.abandon();
    return false;
  }

  Random random_;
  std::vector<sim::VectorClock> clocks_;
  std::string deadlock_;
  std::vector<std::string> misuses_;
  std::vector<std::uint32_t> order_;
  std::uint64_t switches_ = 0;
  std::int64_t now_ns_ = 0;
  sim::HostThreads threads_;  // last: its threads end before what they use
};

}  // namespace spillway::test
