// SPDX-License-Identifier: Apache-2.0
// The timed model's event loop. Rates are piecewise constant: they change only when an operation
// starts or stops moving bytes, and only within its root complex. All of it is integers; doubles
// end where flops become nanoseconds and in timed_rates.cpp.
#include "device/sim/timed_model.hpp"

#include "core/check.hpp"
#include "device/sim/flow.hpp"
#include "device/sim/ready_heap.hpp"
#include "device/sim/timed_rates.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr std::uint32_t kDevicesMax = 64;
constexpr std::uint32_t kConcurrencyMax = 16;
constexpr std::uint32_t kStreamsMax = 1u << 20;
constexpr std::uint64_t kComputePerNs = 720720;  // divisible by 1 to 16: equal parts are exact
constexpr std::uint32_t kNone = ~std::uint32_t{0};

std::int64_t ns_of(std::uint64_t bytes, std::uint64_t rate) {
  const Wide ns = (Wide{bytes} * kNsPerSecond + (rate - 1)) / rate;
  return ns > static_cast<std::uint64_t>(kNeverNs) ? kNeverNs : static_cast<std::int64_t>(ns);
}

std::int64_t later(std::int64_t a, std::int64_t ns) {
  return ns >= kNeverNs - a ? kNeverNs : a + ns;
}

}  // namespace

class TimedModel::Core {
 public:
  Core(const TimedRates& rates, const TimedOptions& options) : rates_(rates), options_(options) {
    devices_.resize(options.device_count);
    for (Device& device : devices_) device.lanes.resize(kCompute + options.compute_concurrency);
    const std::uint32_t per_root = options.devices_per_root;
    for (std::uint32_t first = 0; first < options.device_count; first += per_root)
      roots_.push_back({first, std::min(first + per_root, options.device_count)});
  }

  void submit(OpKey key, std::uint32_t stream, int priority, const Work& work, std::int64_t ready) {
    SPW_CHECK_LT(work.device, options_.device_count);
    SPW_CHECK_LT(stream, kStreamsMax);
    const std::uint32_t index = take_slot();
    Op& op = ops_[index];
    op.key = key;
    op.stream = stream;
    op.device = work.device;
    op.kind = work.kind;
    op.pinned = work.pinned;
    op.sequence = ++sequence_;
    op.ready = ready;
    op.issued = std::min(work.issued_ns, ready);
    op.fixed = std::clamp(work.fixed_ns, std::int64_t{0}, kNeverNs);
    op.priority = work.kind == Work::Kind::kKernel ? priority : 0;
    op.state = State::kWaiting;
    ++pending_;
    if (work.kind == Work::Kind::kInstant) {
      op.start = std::max(ready, now_);
      timers_.push({0, later(op.start, op.fixed), op.sequence, index});
      return;
    }
    describe(op, work);
    if (ready > now_)
      future_.push({0, ready, op.sequence, index});
    else
      enqueue(index);
  }

  std::optional<std::int64_t> next_event() {
    if (!timers_.empty() && timers_.front().time <= now_) return now_;
    std::int64_t next = kNeverNs;
    for (Root& root : roots_) {
      if (root.dirty) refresh(root);
      next = std::min(next, root.next);
    }
    if (!timers_.empty()) next = std::min(next, timers_.front().time);
    if (!future_.empty()) next = std::min(next, future_.front().time);
    if (next == kNeverNs) return std::nullopt;
    return next;
  }

  std::int64_t advance_to(std::int64_t t, std::vector<Completion>* out) {
    SPW_CHECK_LE(now_, t);
    for (;;) {
      const auto next = next_event();
      if (!next || *next > t) {
        now_ = t;
        return now_;
      }
      now_ = *next;
      while (!future_.empty() && future_.front().time <= now_) enqueue(future_.pop().op);
      const std::size_t before = out->size();
      finished_.clear();
      while (!timers_.empty() && timers_.front().time <= now_) finish(timers_.pop().op);
      for (Root& root : roots_) {
        if (root.next <= now_) step(root);
      }
      if (finished_.empty()) continue;
      // Completions of one moment in order of submission.
      if (finished_.size() > 1) std::sort(finished_.begin(), finished_.end());
      for (const auto& [sequence, index] : finished_) {
        const Op& op = ops_[index];
        out->push_back({op.key, op.stream, op.start, now_});
        free_.push_back(index);
      }
      pending_ -= out->size() - before;
      return now_;
    }
  }

  void reset() {
    for (Device& device : devices_) {
      for (auto& queue : device.queues) queue = {};
      for (Lane& lane : device.lanes) lane = {};
    }
    for (Root& root : roots_) {
      root.dirty = false;
      root.next = kNeverNs;
    }
    ops_.clear();
    free_.clear();
    timers_.clear();
    future_.clear();
    std::fill(waiting_.begin(), waiting_.end(), kNone);
    now_ = 0;
    sequence_ = 0;
    pending_ = 0;
  }

  [[nodiscard]] std::int64_t now() const { return now_; }
  [[nodiscard]] std::size_t pending() const { return pending_; }

 private:
  enum class State : std::uint8_t { kFree, kWaiting, kLatency, kMoving };

  struct Op {
    OpKey key = 0;
    std::uint64_t sequence = 0;
    std::uint32_t stream = 0;
    std::uint32_t device = 0;
    int priority = 0;
    Work::Kind kind = Work::Kind::kInstant;
    bool pinned = true;
    State state = State::kFree;
    std::int64_t ready = 0;
    std::int64_t issued = 0;
    std::int64_t fixed = 0;
    std::int64_t start = 0;     // as reported
    std::int64_t begin = 0;     // end of the latency
    std::int64_t deadline = 0;  // not done before
    std::int64_t compute = 0;   // kernels: arithmetic alone on the device
    Wide amount = 0;            // bytes x 1e9
    std::uint64_t wanted = 0;   // device memory rate that it can use
    Flow bytes;
    Flow flops;
  };

  // Copies that leave out of turn (their stream had the engine) stay in the heap as dead entries.
  struct Queue {
    ReadyHeap heap;
    std::size_t live = 0;
  };

  // Serves one operation at a time.
  struct Lane {
    std::uint32_t op = kNone;
    std::uint32_t stream = kNone;                 // of the last operation
    std::int64_t end = -(std::int64_t{1} << 61);  // of the last operation
  };

  struct Device {
    std::array<Queue, kQueueCount> queues;
    std::vector<Lane> lanes;  // one a copy queue, then the kernels at once
  };

  struct Root {
    std::uint32_t first;
    std::uint32_t last;
    bool dirty = false;
    std::int64_t next = kNeverNs;
  };

  Root& root_of(std::uint32_t device) { return roots_[device / options_.devices_per_root]; }

  std::uint32_t take_slot() {
    if (free_.empty()) {
      ops_.emplace_back();
      return static_cast<std::uint32_t>(ops_.size() - 1);
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }

  // What the work means in rates and times.
  void describe(Op& op, const Work& work) const {
    op.compute = 0;
    op.deadline = op.fixed;
    op.wanted = rates_.memory;
    if (work.kind != Work::Kind::kKernel) {
      op.amount = Wide{work.bytes} * kNsPerSecond * std::max(work.slowdown, 1u);
      return;
    }
    op.amount = Wide{work.memory_bytes} * kNsPerSecond;
    if (work.flops > 0) {
      const double rate = rates_.flops_per_s[static_cast<std::size_t>(work.math)];
      op.compute = std::llround(std::min(work.flops / rate * 1e9, 0x1p61));
    }
    // A compute-bound kernel spreads its traffic over its arithmetic.
    const std::int64_t least = std::max(op.compute, op.fixed);
    if (least > 0) {
      const Wide spread =
          (op.amount + static_cast<std::uint64_t>(least - 1)) / static_cast<std::uint64_t>(least);
      if (spread < op.wanted) op.wanted = static_cast<std::uint64_t>(spread);
    }
    if (work.host_read_bytes > 0)
      op.deadline = std::max(op.deadline, ns_of(work.host_read_bytes, rates_.h2d_by_kernel));
    if (work.host_written_bytes > 0)
      op.deadline = std::max(op.deadline, ns_of(work.host_written_bytes, rates_.d2h_by_kernel));
    if (options_.compute_concurrency == 1) {  // nobody to divide the arithmetic with
      op.deadline = std::max(op.deadline, op.compute);
      op.compute = 0;
    }
  }

  [[nodiscard]] QueueId queue_of(Work::Kind kind) const {
    switch (kind) {
      case Work::Kind::kH2D:
        return rates_.engine[kToDevice];
      case Work::Kind::kD2H:
        return rates_.engine[kToHost];
      case Work::Kind::kPeer:
        return rates_.engine[kToPeer];
      case Work::Kind::kD2D:
      case Work::Kind::kMemset:
        return kLocal;
      case Work::Kind::kKernel:
      case Work::Kind::kInstant:
        break;
    }
    return kCompute;
  }

  void enqueue(std::uint32_t index) {
    const Op& op = ops_[index];
    const QueueId id = queue_of(op.kind);
    Queue& queue = devices_[op.device].queues[id];
    queue.heap.push({op.priority, op.ready, op.sequence, index});
    ++queue.live;
    if (id != kCompute) {
      if (op.stream >= waiting_.size()) waiting_.resize(op.stream + 1, kNone);
      if (waiting_[op.stream] == kNone) waiting_[op.stream] = index;
    }
    root_of(op.device).dirty = true;
  }

  // The stream's waiting copy, if this engine serves it.
  [[nodiscard]] std::uint32_t next_of_stream(std::uint32_t stream,
                                             std::uint32_t device,
                                             QueueId id) const {
    if (stream >= waiting_.size() || waiting_[stream] == kNone) return kNone;
    const std::uint32_t index = waiting_[stream];
    const Op& op = ops_[index];
    return op.device == device && queue_of(op.kind) == id ? index : kNone;
  }

  [[nodiscard]] bool dead(const ReadyEntry& entry) const {
    const Op& op = ops_[entry.op];
    return op.sequence != entry.sequence || op.state != State::kWaiting;
  }

  // REQUIRES: queue.live > 0.
  std::uint32_t take_next(Queue& queue, const Lane& lane, std::uint32_t device, QueueId id) {
    std::uint32_t index = id == kCompute ? kNone : next_of_stream(lane.stream, device, id);
    if (index == kNone) {
      ReadyEntry entry = queue.heap.pop();
      while (dead(entry)) entry = queue.heap.pop();
      index = entry.op;
    }
    --queue.live;
    const std::uint32_t stream = ops_[index].stream;
    if (id != kCompute && waiting_[stream] == index) waiting_[stream] = kNone;
    ops_[index].state = State::kLatency;
    if (queue.heap.size() > 2 * queue.live + 64) {
      queue.heap.erase_if([this](const ReadyEntry& entry) { return dead(entry); });
    }
    return index;
  }

  void dispatch(std::uint32_t device_index) {
    Device& device = devices_[device_index];
    for (std::uint32_t id = 0; id < kCompute; ++id) {
      Lane& lane = device.lanes[id];
      Queue& queue = device.queues[id];
      if (lane.op != kNone || queue.live == 0) continue;
      lane.op = take_next(queue, lane, device_index, static_cast<QueueId>(id));
      Op& op = ops_[lane.op];
      op.start = now_;
      op.begin = later(later(now_, latency_of(op.kind)), op.fixed);
      op.deadline = op.begin;
    }
    Queue& queue = device.queues[kCompute];
    while (queue.live > 0) {
      Lane* idle = nullptr;
      for (std::size_t i = kCompute; i < device.lanes.size(); ++i) {
        Lane& lane = device.lanes[i];
        if (lane.op == kNone && (idle == nullptr || lane.end < idle->end)) idle = &lane;
      }
      if (idle == nullptr) return;
      idle->op = take_next(queue, *idle, device_index, kCompute);
      Op& op = ops_[idle->op];
      const bool waited = op.issued < op.ready;
      op.begin = std::max({now_,
                           later(op.issued, rates_.kernel_start),
                           later(op.ready, waited ? rates_.launch_latency : 0),
                           later(idle->end, rates_.launch_latency)});
      op.start = op.begin;
      op.deadline = later(op.begin, op.deadline);
    }
  }

  [[nodiscard]] std::int64_t latency_of(Work::Kind kind) const {
    if (kind == Work::Kind::kD2D) return rates_.d2d_latency;
    if (kind == Work::Kind::kMemset) return rates_.memset_latency;
    return rates_.copy_latency;
  }

  // The operation of a lane if it moves bytes now.
  Op* moving(Device& device, std::uint32_t lane, Work::Kind kind) {
    const std::uint32_t index = device.lanes[lane].op;
    if (index == kNone) return nullptr;
    Op& op = ops_[index];
    return op.state == State::kMoving && op.kind == kind && !op.bytes.done() ? &op : nullptr;
  }

  // Rates of everything under one root, from who moves bytes now.
  void divide(const Root& root) {
    down_.clear();
    up_.clear();
    for (std::uint32_t d = root.first; d < root.last; ++d) {
      const Op* const in = moving(devices_[d], rates_.engine[kToDevice], Work::Kind::kH2D);
      const Op* const back = moving(devices_[d], rates_.engine[kToHost], Work::Kind::kD2H);
      const bool both = in != nullptr && back != nullptr;
      const std::uint64_t halves = both && !in->pinned && !back->pinned ? 2 : 1;
      if (in != nullptr) {
        std::uint64_t rate = both ? rates_.h2d_duplex : rates_.h2d;
        if (!in->pinned) rate = std::min(rate, rates_.h2d_pageable / halves);
        down_.push_back({rate, 0, false});
      }
      if (back != nullptr) {
        std::uint64_t rate = both ? rates_.d2h_duplex : rates_.d2h;
        if (!back->pinned) rate = std::min(rate, rates_.d2h_pageable / halves);
        up_.push_back({rate, 0, false});
      }
    }
    divide_fairly(rates_.link_down, down_);
    divide_fairly(rates_.link_up, up_);
    std::size_t down_count = 0;
    std::size_t up_count = 0;
    for (std::uint32_t d = root.first; d < root.last; ++d) {
      Device& device = devices_[d];
      std::uint64_t taken = 0;
      if (Op* op = moving(device, rates_.engine[kToDevice], Work::Kind::kH2D))
        taken += set_rate(*op, down_[down_count++].given);
      if (Op* op = moving(device, rates_.engine[kToHost], Work::Kind::kD2H))
        taken += set_rate(*op, up_[up_count++].given);
      if (Op* op = moving(device, rates_.engine[kToPeer], Work::Kind::kPeer))
        taken += set_rate(*op, rates_.peer);
      divide_memory(device, rates_.memory > taken ? rates_.memory - taken : 1);
    }
  }

  std::uint64_t set_rate(Op& op, std::uint64_t rate) {
    op.bytes.set_rate(std::max<std::uint64_t>(rate, 1), now_);
    return rate;
  }

  // What link copies leave of the device memory, among kernels and local copies; and the
  // arithmetic among kernels.
  void divide_memory(Device& device, std::uint64_t left) {
    shares_.clear();
    users_.clear();
    std::uint64_t computing = 0;
    for (std::size_t i = kLocal; i < device.lanes.size(); ++i) {
      const std::uint32_t index = device.lanes[i].op;
      if (index == kNone || ops_[index].state != State::kMoving) continue;
      Op& op = ops_[index];
      if (!op.flops.done()) ++computing;
      if (op.bytes.done()) continue;
      shares_.push_back({op.kind == Work::Kind::kD2D ? rates_.d2d_traffic : op.wanted, 0, false});
      users_.push_back(&op);
    }
    divide_fairly(left, shares_);
    for (std::size_t i = 0; i < users_.size(); ++i) {
      Op& op = *users_[i];
      std::uint64_t rate = shares_[i].given;
      if (op.kind == Work::Kind::kD2D) {
        rate = static_cast<std::uint64_t>(Wide{rates_.d2d} * rate / rates_.d2d_traffic);
      }
      set_rate(op, rate);
    }
    if (computing == 0) return;
    for (std::size_t i = kCompute; i < device.lanes.size(); ++i) {
      const std::uint32_t index = device.lanes[i].op;
      if (index == kNone || ops_[index].state != State::kMoving) continue;
      ops_[index].flops.set_rate(kComputePerNs / computing, now_);
    }
  }

  // When something changes for a running operation.
  static std::int64_t event_of(const Op& op) {
    if (op.state == State::kLatency) return op.begin;
    if (op.bytes.done() && op.flops.done()) return op.deadline;
    std::int64_t next = kNeverNs;
    if (!op.bytes.done()) next = std::min(next, op.bytes.finish_ns());
    if (!op.flops.done()) next = std::min(next, op.flops.finish_ns());
    return next;
  }

  void refresh(Root& root) {
    for (std::uint32_t d = root.first; d < root.last; ++d) dispatch(d);
    divide(root);
    root.next = kNeverNs;
    for (std::uint32_t d = root.first; d < root.last; ++d) {
      for (const Lane& lane : devices_[d].lanes) {
        if (lane.op != kNone) root.next = std::min(root.next, event_of(ops_[lane.op]));
      }
    }
    root.dirty = false;
  }

  // Everything under one root that is due now.
  void step(Root& root) {
    root.dirty = true;
    for (std::uint32_t d = root.first; d < root.last; ++d) {
      for (Lane& lane : devices_[d].lanes) {
        if (lane.op == kNone) continue;
        Op& op = ops_[lane.op];
        if (event_of(op) > now_) continue;
        if (op.state == State::kLatency) {
          op.state = State::kMoving;
          op.bytes.start(op.amount, now_);
          if (op.amount == 0) op.bytes.finish();
          op.flops.start(Wide{kComputePerNs} * static_cast<std::uint64_t>(op.compute), now_);
          if (op.compute == 0) op.flops.finish();
        }
        if (!op.bytes.done() && op.bytes.finish_ns() <= now_) op.bytes.finish();
        if (!op.flops.done() && op.flops.finish_ns() <= now_) op.flops.finish();
        if (!op.bytes.done() || !op.flops.done() || op.deadline > now_) continue;
        lane.stream = op.stream;
        lane.end = now_;
        finish(std::exchange(lane.op, kNone));
      }
    }
    root.next = kNeverNs;  // until refresh()
  }

  void finish(std::uint32_t index) {
    ops_[index].state = State::kFree;
    finished_.emplace_back(ops_[index].sequence, index);
  }

  TimedRates rates_;
  TimedOptions options_;
  std::vector<Device> devices_;
  std::vector<Root> roots_;
  std::vector<Op> ops_;
  std::vector<std::uint32_t> free_;
  ReadyHeap timers_;                                               // instants, by end
  ReadyHeap future_;                                               // not ready yet, by ready time
  std::vector<std::uint32_t> waiting_;                             // by stream: its waiting copy
  std::vector<std::pair<std::uint64_t, std::uint32_t>> finished_;  // (sequence, op)
  std::vector<Share> down_, up_, shares_;                          // scratch of divide()
  std::vector<Op*> users_;
  std::int64_t now_ = 0;
  std::uint64_t sequence_ = 0;
  std::size_t pending_ = 0;
};

Result<TimedModel> TimedModel::make(const Calibration& calibration, const TimedOptions& options) {
  if (!calibration.timing.has_value()) {
    return Status(Code::kInvalidArgument,
                  "calibration " + calibration.name +
                      ": the timed model needs a text of schema spillway.calibration/2");
  }
  const auto within = [](std::uint32_t value, std::uint32_t max) {
    return value >= 1 && value <= max;
  };
  if (!within(options.device_count, kDevicesMax) ||
      !within(options.devices_per_root, kDevicesMax) ||
      !within(options.compute_concurrency, kConcurrencyMax)) {
    return Status(Code::kInvalidArgument,
                  "timed model: expected 1 to " + std::to_string(kDevicesMax) +
                      " devices, as many a root, and 1 to " + std::to_string(kConcurrencyMax) +
                      " kernels at once");
  }
  return TimedModel(std::make_unique<Core>(timed_rates(calibration, *calibration.timing), options));
}

TimedModel::TimedModel(std::unique_ptr<Core> core) : core_(std::move(core)) {}
TimedModel::TimedModel(TimedModel&&) noexcept = default;
TimedModel& TimedModel::operator=(TimedModel&&) noexcept = default;
TimedModel::~TimedModel() = default;

void TimedModel::submit(
    OpKey key, std::uint32_t stream, int priority, const Work& work, std::int64_t ready_ns) {
  core_->submit(key, stream, priority, work, ready_ns);
}

std::optional<std::int64_t> TimedModel::next_event_ns() { return core_->next_event(); }

std::int64_t TimedModel::advance_to(std::int64_t t_ns, std::vector<Completion>* out) {
  return core_->advance_to(t_ns, out);
}

std::int64_t TimedModel::now_ns() const { return core_->now(); }
std::size_t TimedModel::pending_count() const { return core_->pending(); }
void TimedModel::reset() { core_->reset(); }

}  // namespace spillway::sim
