// SPDX-License-Identifier: Apache-2.0
// Runs workloads on one allocator: the loops, instantiated per peer so that its calls are compiled
// as a user's would be, behind an interface, so that the peers can take turns.
#pragma once

#include "bench/support/peer.hpp"
#include "bench/support/stopwatch.hpp"
#include "bench/support/workload.hpp"
#include "core/status.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace spillway::bench {

/// What threads did: each its own share of the pairs, all begun at once.
struct ThreadTimes {
  double ns_per_pair = 0;        // until the last one is done, over all pairs
  double cpu_ns_per_pair = 0;    // of all threads together
  double slowest_to_median = 0;  // of the times from the start to each one's end
  std::size_t failed = 0;        // allocations
};

/// One allocator with one workload.
class Session {
 public:
  virtual ~Session() = default;
  /// Prologue and one body: the allocator has seen every size it will be asked for.
  virtual void warm_up() = 0;
  /// One body in CPU time per pair.
  virtual double body_ns_per_pair() = 0;
  /// One body with every call timed; appends.
  virtual void time_calls(std::vector<std::uint32_t>* allocate_ticks,
                          std::vector<std::uint32_t>* free_ticks) = 0;
  virtual void finish() = 0;
  /// Allocations that failed so far.
  [[nodiscard]] virtual std::size_t failed() const = 0;
};

/// What is alive, as a map of intervals: slow and simple, for checking before timing.
class LiveRanges {
 public:
  /// False, and the first such text kept, when the block is null or misaligned, overlaps, or is
  /// none.
  bool add(cu::DevicePtr pointer, std::uint64_t bytes);
  bool remove(cu::DevicePtr pointer);
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::vector<cu::DevicePtr> pointers() const;
  [[nodiscard]] const std::string& fault() const { return fault_; }

 private:
  bool complain(const char* what, cu::DevicePtr pointer);
  std::map<cu::DevicePtr, std::uint64_t> ranges_;  // begin -> end
  std::string fault_;
};

/// Bytes that the process holds: by malloc, and resident pages.
struct HostMemory {
  double heap_bytes = 0, resident_bytes = 0;
};
HostMemory host_memory();

/// What the host keeps per live block.
struct Metadata {
  double heap_bytes_per_block = 0, resident_bytes_per_block = 0;
};

template <Peer P>
class SessionOf final : public Session {
 public:
  SessionOf(const Ground& ground, const Workload& workload)
      : workload_(workload), peer_(ground), slots_(workload.slot_count) {}

  void warm_up() override {
    run(workload_.prologue);
    run(workload_.body);
  }
  double body_ns_per_pair() override {
    const double begin = thread_cpu_ns();
    run(workload_.body);
    return (thread_cpu_ns() - begin) / static_cast<double>(workload_.pair_count);
  }
  void time_calls(std::vector<std::uint32_t>* allocate_ticks,
                  std::vector<std::uint32_t>* free_ticks) override {
    cu::DevicePtr* const slots = slots_.data();
    for (const AllocOp& op : workload_.body) {
      const std::uint64_t begin = now_ticks();
      if (op.bytes != 0) {
        slots[op.slot] = peer_.allocate(op.bytes, op.stream);
        const std::uint64_t end = now_ticks();
        if (slots[op.slot] == 0) ++failed_;
        allocate_ticks->push_back(static_cast<std::uint32_t>(end - begin));
      } else {
        peer_.free(slots[op.slot], op.stream);
        free_ticks->push_back(static_cast<std::uint32_t>(now_ticks() - begin));
      }
    }
  }
  void finish() override { run(workload_.epilogue); }
  [[nodiscard]] std::size_t failed() const override { return failed_; }

 private:
  void run(std::span<const AllocOp> ops) {
    cu::DevicePtr* const slots = slots_.data();
    for (const AllocOp& op : ops) {
      if (op.bytes != 0) {
        const cu::DevicePtr pointer = peer_.allocate(op.bytes, op.stream);
        if (pointer == 0) [[unlikely]]
          ++failed_;
        slots[op.slot] = pointer;
      } else {
        peer_.free(slots[op.slot], op.stream);
      }
    }
  }

  const Workload& workload_;
  P peer_;
  std::vector<cu::DevicePtr> slots_;
  std::size_t failed_ = 0;
};

/// Runs the workload once and checks every block: 256-byte aligned, overlapping none that is alive,
/// and an allocator that says how many bytes are alive says none at the end. kOutOfMemory when one
/// is refused.
template <Peer P>
Status check_workload(const Ground& ground, const Workload& workload) {
  P peer(ground);
  LiveRanges live;
  std::vector<cu::DevicePtr> slots(workload.slot_count);
  for (const auto* part : {&workload.prologue, &workload.body, &workload.epilogue}) {
    for (const AllocOp& op : *part) {
      bool good = true;
      if (op.bytes != 0) {
        slots[op.slot] = peer.allocate(op.bytes, op.stream);
        if (slots[op.slot] == 0) {
          for (const cu::DevicePtr pointer : live.pointers()) peer.free(pointer, 0);
          return {Code::kOutOfMemory, workload.name + ": out of memory"};
        }
        good = live.add(slots[op.slot], op.bytes);
      } else {
        good = live.remove(slots[op.slot]);
        peer.free(slots[op.slot], op.stream);
      }
      if (!good) return {Code::kInternal, workload.name + ": " + live.fault()};
    }
  }
  if (!live.empty()) return {Code::kInternal, workload.name + ": blocks are left at the end"};
  if constexpr (requires { peer.live_bytes(); }) {
    if (peer.live_bytes() != 0) {
      return {Code::kInternal,
              workload.name + ": " + std::to_string(peer.live_bytes()) +
                  " bytes counted as alive after everything was freed"};
    }
  }
  return {};
}

/// One body each, on streams 0, 1, ...; threads begin together.
/// REQUIRES: Ground has a stream per workload.
template <Peer P>
ThreadTimes run_own_blocks(const Ground& ground, P& peer, std::span<const Workload> workloads);

/// Each thread allocates on its own stream, puts the block into a place that all share and frees
/// what was there, mostly another thread's, on that one's stream. `live` sees every block when not
/// null.
template <Peer P>
ThreadTimes run_foreign_frees(const Ground& ground,
                              P& peer,
                              std::span<const Workload> workloads,
                              LiveRanges* live);

namespace threads {

/// Starts one thread per task, lets all begin at once and gathers the times.
ThreadTimes run_together(const Ground& ground,
                         std::size_t thread_count,
                         std::size_t pairs_per_thread,
                         const std::function<std::size_t(std::size_t thread)>& prepare,
                         const std::function<std::size_t(std::size_t thread)>& body);

}  // namespace threads

template <Peer P>
ThreadTimes run_own_blocks(const Ground& ground, P& peer, std::span<const Workload> workloads) {
  std::vector<std::vector<cu::DevicePtr>> slots(workloads.size());
  const auto play = [&](std::size_t thread, std::span<const AllocOp> ops) {
    std::size_t failed = 0;
    cu::DevicePtr* const mine = slots[thread].data();
    const auto stream = static_cast<std::uint32_t>(thread);
    for (const AllocOp& op : ops) {
      if (op.bytes != 0) {
        mine[op.slot] = peer.allocate(op.bytes, stream);
        if (mine[op.slot] == 0) ++failed;
      } else {
        peer.free(mine[op.slot], stream);
      }
    }
    return failed;
  };
  ThreadTimes times = threads::run_together(
      ground,
      workloads.size(),
      workloads.front().pair_count,
      [&](std::size_t thread) {
        slots[thread].resize(workloads[thread].slot_count);
        return play(thread, workloads[thread].prologue) + play(thread, workloads[thread].body);
      },
      [&](std::size_t thread) { return play(thread, workloads[thread].body); });
  for (std::size_t i = 0; i < workloads.size(); ++i) play(i, workloads[i].epilogue);
  return times;
}

template <Peer P>
ThreadTimes run_foreign_frees(const Ground& ground,
                              P& peer,
                              std::span<const Workload> workloads,
                              LiveRanges* live) {
  // Blocks are 256-byte aligned at least, so the low byte has room for the stream.
  constexpr std::uint64_t kStreamMask = 0xff;
  std::size_t place_count = 0;
  for (const Workload& workload : workloads) place_count += workload.slot_count;
  std::vector<std::atomic<std::uint64_t>> places(place_count);
  std::mutex live_mutex;
  const auto give_back = [&](std::uint64_t packed) {
    const cu::DevicePtr pointer = packed & ~kStreamMask;
    if (live != nullptr) {
      const std::scoped_lock lock(live_mutex);
      live->remove(pointer);
    }
    peer.free(pointer, static_cast<std::uint32_t>(packed & kStreamMask));
  };
  const auto play = [&](std::size_t thread) {
    std::size_t failed = 0;
    std::size_t place = thread * 7919;
    for (const AllocOp& op : workloads[thread].body) {
      if (op.bytes == 0) continue;
      const cu::DevicePtr pointer = peer.allocate(op.bytes, static_cast<std::uint32_t>(thread));
      if (pointer == 0) {
        ++failed;
        continue;
      }
      if (live != nullptr) {
        const std::scoped_lock lock(live_mutex);
        live->add(pointer, op.bytes);
      }
      place = (place + 1 + op.slot) % places.size();
      const std::uint64_t before =
          places[place].exchange(pointer | thread, std::memory_order_acq_rel);
      if (before != 0) give_back(before);
    }
    return failed;
  };
  ThreadTimes times =
      threads::run_together(ground, workloads.size(), workloads.front().pair_count, play, play);
  for (auto& place : places) {
    const std::uint64_t before = place.exchange(0);
    if (before != 0) give_back(before);
  }
  return times;
}

/// Growth of the host's memory from 20,000 to 120,000 live blocks of 512 B to 64 KiB, per block.
template <Peer P>
Metadata measure_metadata(const Ground& ground) {
  constexpr std::size_t kFirst = 20000;
  constexpr std::size_t kMore = 100000;
  std::vector<cu::DevicePtr> blocks(kFirst + kMore, 1);  // touched before it is measured
  P peer(ground);
  std::uint64_t size = 12345;
  const auto fill = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) {
      size = (size * 6364136223846793005ull + 1442695040888963407ull);
      blocks[i] = peer.allocate(512 + (size >> 48), 0);
    }
  };
  fill(0, kFirst);
  const HostMemory before = host_memory();
  fill(kFirst, kFirst + kMore);
  const HostMemory after = host_memory();
  for (const cu::DevicePtr block : blocks) {
    if (block != 0) peer.free(block, 0);
  }
  return {(after.heap_bytes - before.heap_bytes) / static_cast<double>(kMore),
          (after.resident_bytes - before.resident_bytes) / static_cast<double>(kMore)};
}

}  // namespace spillway::bench
