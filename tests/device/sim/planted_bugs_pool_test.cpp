// SPDX-License-Identifier: Apache-2.0
// Blocks of a pool, as the product's allocator reports them: freed, reused and given back without
// the edge that makes it right.
#include "tests/device/sim/planted_bugs.hpp"

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;
constexpr std::size_t kArenaBytes = 8 * n;

/// A chunk of device memory that a pool subdivides; ends with the program.
struct Arena {
  explicit Arena(BugLab& bug_lab) : lab(bug_lab), begin(bug_lab.device(kArenaBytes)) {
    lab.observer().arena_begin(begin, kArenaBytes);
  }
  ~Arena() {
    lab.note(lab.cu.cuCtxSynchronize());
    if (!ended) lab.observer().arena_end(begin, kArenaBytes);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  cu::DevicePtr take(std::size_t index, cu::Stream stream, std::size_t bytes = n) const {
    lab.observer().block_allocated(begin + index * n, bytes, stream);
    return begin + index * n;
  }
  void free(cu::DevicePtr block, cu::Stream stream) const {
    lab.observer().block_freed(block, stream);
  }

  BugLab& lab;
  cu::DevicePtr begin;
  bool ended = false;
};

TEST_CASE("a block that is reused on another stream without an edge is reported") {
  check_planted_bug({ReportKind::kLifetime, "`block allocation` on stream 3", "stream 2"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const Arena arena(lab);
                      cu::DevicePtr block = arena.take(0, first);
                      lab.fill(first, block, 1, n);
                      arena.free(block, first);
                      if (repaired) lab.order(first, second);
                      block = arena.take(0, second);
                      lab.fill(second, block, 2, n);
                      const bool right = lab.device_holds(block, n, 2);
                      arena.free(block, second);
                      return right;
                    });
}

TEST_CASE("a block that is freed on another stream than its user's is reported") {
  check_planted_bug({ReportKind::kLifetime, "`lab_fill`", "`block free`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream other = lab.stream();
                      const Arena arena(lab);
                      const cu::DevicePtr block = arena.take(0, compute);
                      lab.fill(compute, block, 1, n);
                      arena.free(block, repaired ? compute : other);
                      return true;
                    });
}

TEST_CASE("a second stream's use that the free does not wait for is reported") {
  // record_stream forgotten: pytorch/pytorch#147168, deepseek-ai/DeepEP#455.
  check_planted_bug({ReportKind::kLifetime, "`lab_copy` on stream 3", "`block free`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream side = lab.stream();
                      const cu::DevicePtr y = lab.device(n);
                      const Arena arena(lab);
                      cu::DevicePtr block = arena.take(0, compute);
                      lab.fill(compute, block, 1, n);
                      lab.order(compute, side);
                      lab.copy(side, y, block, n);
                      if (repaired) lab.order(side, compute);
                      arena.free(block, compute);
                      block = arena.take(0, compute);
                      lab.fill(compute, block, 2, n);
                      const bool right = lab.device_holds(y, n, 1);
                      arena.free(block, compute);
                      return right;
                    });
}

TEST_CASE("a block that is freed while its offload reads it is reported") {
  // Modelled on meta-pytorch/torchrec#4231: offloaded activations come back as NaN.
  check_planted_bug({ReportKind::kLifetime, "cuMemcpyDtoHAsync", "`block free`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      const Arena arena(lab);
                      const cu::DevicePtr block = arena.take(0, compute);
                      lab.fill(compute, block, 7, n);
                      lab.order(compute, offload);
                      lab.d2h(offload, host, block, n);
                      if (repaired) lab.order(offload, compute);
                      arena.free(block, compute);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a block that is free again after an event from before its last use is reported") {
  check_planted_bug({ReportKind::kLifetime, "`block free` on stream 2", "`block allocation`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream side = lab.stream();
                      const cu::DevicePtr y = lab.device(n);
                      const cu::Event used = lab.event();
                      const Arena arena(lab);
                      cu::DevicePtr block = arena.take(0, compute);
                      lab.fill(compute, block, 1, n);
                      if (!repaired) lab.record(used, compute);
                      lab.copy(compute, y, block, n);
                      if (repaired) lab.record(used, compute);
                      arena.free(block, compute);
                      if (repaired) lab.record(used, compute);
                      lab.wait(side, used);
                      block = arena.take(0, side);
                      lab.fill(side, block, 2, n);
                      const bool right = lab.device_holds(y, n, 1);
                      arena.free(block, side);
                      return right;
                    });
}

TEST_CASE("a block that another stream uses before its allocation is ordered is reported") {
  check_planted_bug({ReportKind::kLifetime, "`block allocation`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      const Arena arena(lab);
                      lab.put(host, n, 7);
                      const cu::DevicePtr block = arena.take(0, compute);
                      if (repaired) lab.order(compute, prefetch);
                      lab.h2d(prefetch, block, host, n);
                      const bool right = lab.device_holds(block, n, 7);
                      arena.free(block, compute);
                      return right;
                    });
}

TEST_CASE("a prefetch that is enqueued after its block was freed is reported") {
  check_planted_bug({ReportKind::kUseAfterFree, "cuMemcpyHtoDAsync", "freed before"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      const Arena arena(lab);
                      lab.put(host, n, 7);
                      const cu::DevicePtr block = arena.take(0, compute);
                      if (!repaired) arena.free(block, compute);
                      lab.h2d(compute, block, host, n);
                      if (repaired) arena.free(block, compute);
                      return true;
                    });
}

TEST_CASE("a compressed block that is freed before its decompression ran is reported") {
  check_planted_bug({ReportKind::kLifetime, "`lab_copy`", "`block free`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream codec = lab.stream();
                      const cu::DevicePtr y = lab.device(n);
                      const Arena arena(lab);
                      const cu::DevicePtr packed = arena.take(0, compute);
                      lab.fill(compute, packed, 3, n);
                      lab.order(compute, codec);
                      lab.copy(codec, y, packed, n);
                      // The consumer is waited for too late for the free.
                      if (repaired) lab.order(codec, compute);
                      arena.free(packed, compute);
                      if (!repaired) lab.order(codec, compute);
                      lab.add(compute, y, 1, n);
                      return lab.device_holds(y, n, 4);
                    });
}

TEST_CASE("a kernel that writes one byte past its block is reported") {
  check_planted_bug({ReportKind::kOutOfBounds, "`lab_fill`", "the block there has 256 bytes"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const Arena arena(lab);
                      const cu::DevicePtr a = arena.take(0, compute);
                      const cu::DevicePtr b = arena.take(1, compute);
                      lab.fill(compute, b, 2, n);
                      lab.fill(compute, a, 1, repaired ? n : n + 1);
                      const bool right = lab.device_holds(a, n, 1) && lab.device_holds(b, n, 2);
                      arena.free(a, compute);
                      arena.free(b, compute);
                      return right;
                    });
}

TEST_CASE("an arena that goes back to the driver with work in flight is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`block free`",
                     .second = "cuMemFree",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      Arena arena(lab);
                      const cu::DevicePtr a = arena.take(0, compute);
                      const cu::DevicePtr b = arena.take(1, compute);
                      lab.fill(compute, a, 1, n);
                      lab.fill(compute, b, 1, n);
                      arena.free(a, compute);
                      lab.observer().block_freed(b, compute);
                      if (repaired) lab.sync(compute);
                      lab.observer().arena_end(arena.begin, kArenaBytes);
                      arena.ended = true;
                      lab.note(lab.cu.cuMemFree(arena.begin));
                      lab.forget(arena.begin);
                      return true;
                    });
}

TEST_CASE("a pool that trims a chunk whose last free is still queued is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_fill`",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      lab.map(at, handle);
                      lab.observer().arena_begin(at, BugLab::kPageBytes);
                      lab.observer().block_allocated(at, n, compute);
                      lab.fill(compute, at, 1, n);
                      lab.observer().block_freed(at, compute);
                      if (repaired) lab.sync(compute);
                      lab.observer().arena_end(at, BugLab::kPageBytes);
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      return true;
                    });
}

TEST_CASE("a free list keyed by stream handle, not id, that meets a recycled handle is reported") {
  check_planted_bug({ReportKind::kLifetime, "`block allocation` on stream 3", "stream 2"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      unsigned long long first_id = 0;
                      lab.note(lab.cu.cuStreamGetId(first, &first_id));
                      const Arena arena(lab);
                      cu::DevicePtr block = arena.take(0, first);
                      lab.fill(first, block, 1, n);
                      const cu::Event freed = lab.event();
                      arena.free(block, first);
                      lab.record(freed, first);
                      lab.note(lab.cu.cuStreamDestroy(first));
                      lab.forget(first);

                      const cu::Stream second = lab.stream();
                      unsigned long long second_id = 0;
                      lab.note(lab.cu.cuStreamGetId(second, &second_id));
                      const bool same_stream = repaired ? first_id == second_id : first == second;
                      if (!same_stream) lab.wait(second, freed);
                      block = arena.take(0, second);
                      lab.fill(second, block, 2, n);
                      const bool right = lab.device_holds(block, n, 2);
                      arena.free(block, second);
                      return right;
                    });
}

TEST_CASE("an event pool that gives one event to two frees is reported") {
  check_planted_bug({ReportKind::kLifetime, "`block allocation`", "stream 2"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::Stream taker = lab.stream();
                      const Arena arena(lab);
                      const cu::Event freed = lab.event();
                      const cu::Event other = repaired ? lab.event() : freed;
                      const cu::DevicePtr a = arena.take(0, first);
                      const cu::DevicePtr b = arena.take(1, second);
                      lab.fill(first, a, 1, n);
                      lab.fill(second, b, 1, n);
                      arena.free(a, first);
                      lab.record(freed, first);
                      arena.free(b, second);
                      lab.record(other, second);
                      lab.wait(taker, freed);
                      arena.take(0, taker);
                      lab.fill(taker, a, 2, n);
                      const bool right = lab.device_holds(a, n, 2);
                      arena.free(a, taker);
                      return right;
                    });
}

cu::DevicePtr allocate_async(BugLab& lab, cu::Stream stream) {
  cu::DevicePtr made = 0;
  lab.note(lab.cu.cuMemAllocAsync(&made, n, stream));
  return made;
}

TEST_CASE("stream-ordered memory that another stream uses before its allocation is reported") {
  check_planted_bug({ReportKind::kLifetime, "cuMemAllocAsync", "`lab_fill`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream owner = lab.stream();
                      const cu::Stream user = lab.stream();
                      const cu::DevicePtr x = allocate_async(lab, owner);
                      if (repaired) lab.order(owner, user);
                      lab.fill(user, x, 7, n);
                      const bool right = lab.device_holds(x, n, 7);
                      lab.note(lab.cu.cuMemFreeAsync(x, owner));
                      return right;
                    });
}

TEST_CASE("stream-ordered memory that is freed under another stream's copy is reported") {
  check_planted_bug({ReportKind::kLifetime, "cuMemcpyDtoHAsync", "cuMemFreeAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream owner = lab.stream();
                      const cu::Stream offload = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::DevicePtr x = allocate_async(lab, owner);
                      lab.fill(owner, x, 7, n);
                      lab.order(owner, offload);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.order(offload, owner);
                      lab.note(lab.cu.cuMemFreeAsync(x, owner));
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("stream-ordered memory that is used after its free is reported") {
  check_planted_bug({ReportKind::kUseAfterFree, "`lab_fill`", "freed before"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream owner = lab.stream();
                      const cu::DevicePtr x = allocate_async(lab, owner);
                      if (!repaired) lab.note(lab.cu.cuMemFreeAsync(x, owner));
                      lab.fill(owner, x, 7, n);
                      if (repaired) lab.note(lab.cu.cuMemFreeAsync(x, owner));
                      return true;
                    });
}

}  // namespace
}  // namespace spillway::test
