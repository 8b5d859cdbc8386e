// SPDX-License-Identifier: Apache-2.0
// Streams of work fed to a TimedModel head by head, as the engine does. Every run is also checked:
// time never goes back, streams keep their order, no engine serves two at once.
#pragma once

#include "device/sim/timed_model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

namespace spillway::test {

class TimedRun {
 public:
  struct Op {
    std::uint32_t stream = 0;
    sim::Work work;
    std::int64_t not_before_ns = 0;
    int priority = 0;
    std::int64_t ready_ns = -1;  // as submitted
  };

  TimedRun(const Calibration& calibration, const sim::TimedOptions& options)
      : model_(make(calibration, options)), options_(options) {}

  /// Appends to the stream's queue. The completion has the same index in finish().
  void add(std::uint32_t stream,
           const sim::Work& work,
           std::int64_t not_before_ns = 0,
           int priority = 0) {
    ops_.push_back({stream, work, not_before_ns, priority});
    streams_[stream].push_back(ops_.size() - 1);
  }

  sim::TimedModel& model() { return model_; }
  [[nodiscard]] const std::vector<Op>& ops() const { return ops_; }

  /// First ops of all streams, in order of addition.
  void submit_heads() {
    std::vector<std::size_t> heads;
    for (const auto& entry : streams_) heads.push_back(entry.second.front());
    std::sort(heads.begin(), heads.end());
    for (const std::size_t index : heads) submit(index);
  }

  /// Runs to the end. Completions by op.
  std::vector<sim::Completion> finish() {
    std::vector<sim::Completion> by_op(ops_.size());
    std::vector<sim::Completion> now;
    submit_heads();
    std::size_t done = 0;
    while (const auto next = model_.next_event_ns()) {
      REQUIRE(*next >= model_.now_ns());
      now.clear();
      const std::int64_t reached = model_.advance_to(*next, &now);
      REQUIRE(reached == *next);
      for (const sim::Completion& one : now) {
        REQUIRE(one.end_ns == reached);
        by_op[one.key] = one;
        ++done;
        auto& queue = streams_[one.stream];
        REQUIRE(queue.front() == one.key);
        queue.pop_front();
        if (!queue.empty()) submit(queue.front());
      }
    }
    REQUIRE(done == ops_.size());
    REQUIRE(model_.pending_count() == 0);
    check(by_op);
    return by_op;
  }

 private:
  static sim::TimedModel make(const Calibration& calibration, const sim::TimedOptions& options) {
    auto made = sim::TimedModel::make(calibration, options);
    REQUIRE(made.ok());
    return std::move(made).value();
  }

  void submit(std::size_t index) {
    Op& op = ops_[index];
    op.ready_ns = std::max(op.not_before_ns, model_.now_ns());
    model_.submit(index, op.stream, op.priority, op.work, op.ready_ns);
  }

  // No op starts before it was ready; at any time an engine serves one copy and a device at most
  // its cap of kernels.
  void check(const std::vector<sim::Completion>& done) const {
    std::map<std::pair<std::uint32_t, int>, std::vector<std::pair<std::int64_t, int>>> changes;
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      if (done[i].start_ns < ops_[i].ready_ns || done[i].end_ns < done[i].start_ns) {
        FAIL("op " << i << " runs before it is ready");
      }
      const auto kind = ops_[i].work.kind;
      if (kind == sim::Work::Kind::kInstant || done[i].end_ns == done[i].start_ns) continue;
      auto& list = changes[{ops_[i].work.device, static_cast<int>(kind)}];
      list.emplace_back(done[i].start_ns, 1);
      list.emplace_back(done[i].end_ns, -1);
    }
    for (auto& [who, list] : changes) {
      std::sort(list.begin(), list.end());  // ends come before starts of the same time
      const bool kernels = who.second == static_cast<int>(sim::Work::Kind::kKernel);
      const int most = kernels ? static_cast<int>(options_.compute_concurrency) : 1;
      int busy = 0;
      for (const auto& change : list) {
        busy += change.second;
        if (busy > most) FAIL("an engine serves " << busy << " at once");
      }
    }
  }

  sim::TimedModel model_;
  sim::TimedOptions options_;
  std::vector<Op> ops_;
  std::map<std::uint32_t, std::deque<std::size_t>> streams_;
};

}  // namespace spillway::test
