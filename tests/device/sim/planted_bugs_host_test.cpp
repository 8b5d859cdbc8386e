// SPDX-License-Identifier: Apache-2.0
// What the host does too early: pinned memory, queries, host functions, the default streams.
#include "core/atomic.hpp"
#include "core/thread.hpp"
#include "tests/device/sim/planted_bugs.hpp"

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;

TEST_CASE("pinned memory that is filled again before its copy is done is reported") {
  // Modelled on pytorch/torchtitan#2581: a pinned pool hands out memory that a copy still reads.
  check_planted_bug({ReportKind::kRace, "`host write`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.put(host, n, 1);
                      lab.h2d(prefetch, x, host, n);
                      if (repaired) lab.sync(prefetch);
                      lab.put(host, n, 2);
                      return lab.device_holds(x, n, 1);
                    });
}

TEST_CASE("an unannounced write to pinned memory that a copy reads is reported by its page") {
  check_planted_bug({.kind = ReportKind::kHostTouch,
                     .first = "the host wrote pinned allocation",
                     .second = "cuMemcpyHtoDAsync",
                     .only_by_pages = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.touch(host, n, 1);
                      lab.h2d(prefetch, x, host, n);
                      if (repaired) lab.sync(prefetch);
                      lab.touch(host, n, 2);
                      return lab.device_holds(x, n, 1);
                    });
}

TEST_CASE("an unannounced read of pinned memory that a copy writes is reported by its page") {
  check_planted_bug({.kind = ReportKind::kHostTouch,
                     .first = "the host read pinned allocation",
                     .second = "cuMemcpyDtoHAsync",
                     .only_by_pages = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.sync(offload);
                      return lab.looks(host, n, 7);
                    });
}

TEST_CASE("a host that reads a copy's result without waiting is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a host that goes on after a query said not ready is reported") {
  check_planted_bug({.kind = ReportKind::kRace,
                     .first = "`host read`",
                     .second = "cuMemcpyDtoHAsync",
                     .only_some_schedules = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event done = lab.event();
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, host, x, n);
                      lab.record(done, offload);
                      while (lab.cu.cuEventQuery(done) == cu::Result::kNotReady && repaired)
                        host_yield();
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a host that synchronises with an event from before the copy is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event done = lab.event();
                      lab.fill(offload, x, 7, n);
                      if (!repaired) lab.record(done, offload);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.record(done, offload);
                      lab.sync(done);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a checksum that waits for the first chunk and reads the second is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(2 * n);
                      std::uint8_t* const host = lab.pinned(2 * n);
                      const cu::Event chunk[] = {lab.event(), lab.event()};
                      lab.fill(offload, x, 7, 2 * n);
                      for (std::size_t i = 0; i < 2; ++i) {
                        lab.d2h(offload, host + i * n, x + i * n, n);
                        lab.record(chunk[i], offload);
                      }
                      lab.sync(chunk[0]);
                      const bool first = lab.holds(host, n, 7);
                      if (repaired) lab.sync(chunk[1]);
                      return first && lab.holds(host + n, n, 7);
                    });
}

TEST_CASE("a ring of pinned slots that is one slot too short is reported") {
  check_planted_bug({ReportKind::kRace, "`host write`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const std::size_t slots = repaired ? 2 : 1;
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(4 * n);
                      // Each slot has a page of its own.
                      std::uint8_t* const ring[] = {lab.pinned(n), lab.pinned(n)};
                      cu::Event sent[4];
                      for (std::size_t i = 0; i < 4; ++i) {
                        if (i >= 2) lab.sync(sent[i - 2]);
                        lab.put(ring[i % slots], n, 5);
                        lab.h2d(prefetch, x + i * n, ring[i % slots], n);
                        sent[i] = lab.event();
                        lab.record(sent[i], prefetch);
                      }
                      return lab.device_holds(x, 4 * n, 5);
                    });
}

TEST_CASE("a host that reads what a kernel writes to mapped pinned memory is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "`lab_fill`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      cu::DevicePtr mapped = 0;
                      lab.note(lab.cu.cuMemHostGetDevicePointer(&mapped, host, 0));
                      lab.fill(compute, mapped, 7, n);
                      if (repaired) lab.sync(compute);
                      return lab.holds(host, n, 7);
                    });
}

// What a host function works with; static, because it may run after the program has returned.
struct CallbackState {
  BugLab* lab = nullptr;
  std::uint8_t* host = nullptr;
  Atomic<int> done{0};
  std::memory_order order = std::memory_order_release;
};

CallbackState& callback_state(BugLab& lab, std::uint8_t* host) {
  static CallbackState state;
  state.lab = &lab;
  state.host = host;
  state.done.store(0, std::memory_order_relaxed);
  state.order = std::memory_order_release;
  return state;
}

void raise_flag(void* user) {
  auto& state = *static_cast<CallbackState*>(user);
  state.done.store(1, state.order);
}

void write_host(void* user) {
  auto& state = *static_cast<CallbackState*>(user);
  state.lab->put(state.host, n, 3);
}

TEST_CASE("a host function's result that is read without waiting for it is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "`host write`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      std::uint8_t* const host = lab.pinned(n);
                      CallbackState& state = callback_state(lab, host);
                      lab.note(lab.cu.cuLaunchHostFunc(stream, &write_host, &state));
                      if (repaired) lab.sync(stream);
                      return lab.holds(host, n, 3);
                    });
}

TEST_CASE("a copy that does not wait for the host function that fills its source is reported") {
  check_planted_bug({ReportKind::kRace, "`host write`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream stream = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      CallbackState& state = callback_state(lab, host);
                      lab.note(lab.cu.cuLaunchHostFunc(stream, &write_host, &state));
                      if (repaired) lab.order(stream, prefetch);
                      lab.h2d(prefetch, x, host, n);
                      return lab.device_holds(x, n, 3);
                    });
}

TEST_CASE("a host function that says done with a relaxed store is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      CallbackState& state = callback_state(lab, host);
                      if (!repaired) state.order = std::memory_order_relaxed;
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, host, x, n);
                      lab.note(lab.cu.cuLaunchHostFunc(offload, &raise_flag, &state));
                      while (state.done.load(std::memory_order_acquire) == 0) host_yield();
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a host function that says done for a copy enqueued after it is reported") {
  check_planted_bug({ReportKind::kRace, "`host read`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      CallbackState& state = callback_state(lab, host);
                      lab.fill(offload, x, 7, n);
                      if (repaired) lab.d2h(offload, host, x, n);
                      lab.note(lab.cu.cuLaunchHostFunc(offload, &raise_flag, &state));
                      if (!repaired) lab.d2h(offload, host, x, n);
                      while (state.done.load(std::memory_order_acquire) == 0) host_yield();
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a driver call from a host function is reported") {
  check_planted_bug({ReportKind::kCallback, "cuStreamSynchronize", "host function"},
                    [](BugLab& lab, bool repaired) {
                      static cu::Stream other;
                      const cu::Stream stream = lab.stream();
                      other = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      CallbackState& state = callback_state(lab, nullptr);
                      lab.fill(other, x, 7, n);
                      const cu::HostFn waits = [](void* user) {
                        BugLab& inside = *static_cast<CallbackState*>(user)->lab;
                        static_cast<void>(inside.cu.cuStreamSynchronize(other));
                      };
                      if (repaired)
                        lab.sync(other);
                      else
                        lab.note(lab.cu.cuLaunchHostFunc(stream, waits, &state));
                      lab.sync(stream);
                      return lab.device_holds(x, n, 7);
                    });
}

TEST_CASE("a non-blocking stream that relies on a memset of the default stream is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemsetD8", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      lab.note(lab.cu.cuMemsetD8(x, 7, n));
                      if (repaired) lab.order(nullptr, compute);
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a non-blocking stream that relies on being joined by the default stream is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream producer =
                          lab.stream(repaired ? cu::kStreamDefault : cu::kStreamNonBlocking);
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      lab.fill(producer, x, 7, n);
                      lab.copy(nullptr, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("two blocking streams that rely on each other without the default stream are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream producer = lab.stream(cu::kStreamDefault);
                      const cu::Stream consumer = lab.stream(cu::kStreamDefault);
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const cu::DevicePtr between = lab.device(n);
                      lab.fill(producer, x, 7, n);
                      if (repaired) lab.fill(nullptr, between, 1, n);  // joins both
                      lab.copy(consumer, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a copy from pageable memory that may still be under way when it returns is reported") {
  // The driver's text: the call may return before the transfer from its staging buffer is done.
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoD", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::array<std::uint8_t, n> bytes{};
                      bytes.fill(7);
                      lab.note(lab.cu.cuMemcpyHtoD(x, bytes.data(), n));
                      if (repaired) lab.sync(cu::stream_legacy());
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a device-to-device copy that is taken for synchronous is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoD", "`lab_fill`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      lab.fill(compute, x, 7, n);
                      lab.sync(compute);
                      lab.note(lab.cu.cuMemcpyDtoD(y, x, n));
                      if (repaired) lab.order(nullptr, compute);
                      lab.fill(compute, x, 8, n);
                      return lab.device_holds(y, n, 7);
                    });
}

}  // namespace
}  // namespace spillway::test
