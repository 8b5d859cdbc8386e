// SPDX-License-Identifier: Apache-2.0
// Offload, reload, prefetch, recompute and compression, each with one edge missing.
#include "tests/device/sim/planted_bugs.hpp"

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;

TEST_CASE("an offload that does not wait for the kernel that makes the tensor is reported") {
  // Modelled on pytorch/torchtune#1867.
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(compute, x, 7, n);
                      if (repaired) lab.order(compute, offload);
                      lab.d2h(offload, host, x, n);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("memory that compute overwrites before its offload is done is reported") {
  // Modelled on pytorch/torchtune#1867 and torchrec#4231: the source of the copy is reused.
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "`lab_fill`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(compute, x, 7, n);
                      lab.order(compute, offload);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.order(offload, compute);
                      lab.fill(compute, x, 8, n);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a reload that races the copy to the host is reported") {
  // Modelled on the inline reload of Megatron-LM (NVIDIA/Megatron-LM#7398): the loss still falls.
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::Stream reload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, host, x, n);
                      if (repaired) lab.order(offload, reload);
                      lab.h2d(reload, y, host, n);
                      return lab.device_holds(y, n, 7);
                    });
}

TEST_CASE("a kernel that does not wait for the prefetch is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.put(host, n, 9);
                      lab.h2d(prefetch, x, host, n);
                      if (repaired) lab.order(prefetch, compute);
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 9);
                    });
}

TEST_CASE("a wait that comes after the kernel it should protect is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event arrived = lab.event();
                      lab.put(host, n, 9);
                      lab.h2d(prefetch, x, host, n);
                      lab.record(arrived, prefetch);
                      if (repaired) lab.wait(compute, arrived);
                      lab.copy(compute, y, x, n);
                      if (!repaired) lab.wait(compute, arrived);
                      return lab.device_holds(y, n, 9);
                    });
}

TEST_CASE("a wait that is put on the copy's own stream is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event arrived = lab.event();
                      lab.put(host, n, 9);
                      lab.h2d(prefetch, x, host, n);
                      lab.record(arrived, prefetch);
                      lab.wait(repaired ? compute : prefetch, arrived);
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 9);
                    });
}

TEST_CASE("an event recorded before the copy instead of after it is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "too old a record"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event arrived = lab.event();
                      lab.put(host, n, 9);
                      if (!repaired) lab.record(arrived, prefetch);
                      lab.h2d(prefetch, x, host, n);
                      if (repaired) lab.record(arrived, prefetch);
                      lab.wait(compute, arrived);
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 9);
                    });
}

TEST_CASE("an event recorded again after the wait does not move the wait, and that is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "too old a record"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event arrived = lab.event();
                      lab.put(host, n, 9);
                      lab.record(arrived, prefetch);  // of the step before
                      if (!repaired) lab.wait(compute, arrived);
                      lab.h2d(prefetch, x, host, n);
                      lab.record(arrived, prefetch);
                      if (repaired) lab.wait(compute, arrived);
                      lab.copy(compute, y, x, n);
                      return lab.device_holds(y, n, 9);
                    });
}

TEST_CASE("one event shared by two streams, recorded again between record and wait, is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill` on stream 2", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::Stream reader = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      const cu::DevicePtr z = lab.device(n);
                      const cu::Event done = lab.event();
                      const cu::Event other = repaired ? lab.event() : done;
                      lab.fill(first, x, 5, n);
                      lab.record(done, first);
                      lab.fill(second, y, 6, n);
                      lab.record(other, second);
                      lab.wait(reader, done);
                      lab.copy(reader, z, x, n);
                      return lab.device_holds(z, n, 5);
                    });
}

TEST_CASE("a wait on an event that was never recorded is reported as no edge at all") {
  check_planted_bug({ReportKind::kRace, "`lab_fill`", "cuMemcpyDtoHAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      const cu::Event made = lab.event();
                      lab.fill(compute, x, 7, n);
                      if (repaired) lab.record(made, compute);
                      lab.wait(offload, made);
                      lab.d2h(offload, host, x, n);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a prefetch into a slot whose eviction is not done is reported") {
  // Modelled on microsoft/DeepSpeed#8186.
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream evict = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr slot = lab.device(n);
                      std::uint8_t* const out = lab.pinned(n);
                      std::uint8_t* const in = lab.pinned(n);
                      lab.put(in, n, 3);
                      lab.fill(evict, slot, 7, n);
                      lab.order(evict, prefetch);
                      lab.d2h(evict, out, slot, n);
                      if (repaired) lab.order(evict, prefetch);
                      lab.h2d(prefetch, slot, in, n);
                      lab.sync(evict);
                      return lab.holds(out, n, 7) && lab.device_holds(slot, n, 3);
                    });
}

TEST_CASE("a chunked reload of which only the last chunk is waited for is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync on stream 2", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream lanes[] = {lab.stream(), lab.stream()};
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr x = lab.device(4 * n);
                      const cu::DevicePtr y = lab.device(4 * n);
                      std::uint8_t* const host = lab.pinned(4 * n);
                      lab.put(host, 4 * n, 9);
                      for (std::size_t i = 0; i < 4; ++i)
                        lab.h2d(lanes[i % 2], x + i * n, host + i * n, n);
                      if (repaired) lab.order(lanes[0], compute);
                      lab.order(lanes[1], compute);
                      lab.copy(compute, y, x, 4 * n);
                      return lab.device_holds(y, 4 * n, 9);
                    });
}

TEST_CASE("a ring of staging slots that is one slot too short is reported") {
  // The copy into a slot waits for the consumer two back, so the ring needs two slots.
  check_planted_bug({ReportKind::kRace, "`lab_copy`", "cuMemcpyHtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const std::size_t slots = repaired ? 2 : 1;
                      const cu::Stream transfer = lab.stream();
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr ring = lab.device(2 * n);
                      const cu::DevicePtr y = lab.device(4 * n);
                      std::uint8_t* const host = lab.pinned(4 * n);
                      lab.put(host, 4 * n, 9);
                      cu::Event used[4];
                      for (std::size_t i = 0; i < 4; ++i) {
                        const cu::DevicePtr slot = ring + i % slots * n;
                        used[i] = lab.event();
                        if (i >= 2) lab.wait(transfer, used[i - 2]);
                        lab.h2d(transfer, slot, host + i * n, n);
                        lab.order(transfer, compute);
                        lab.copy(compute, y + i * n, slot, n);
                        lab.record(used[i], compute);
                      }
                      return lab.device_holds(y, 4 * n, 9);
                    });
}

TEST_CASE("a recompute that overwrites an input which is still being offloaded is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "`lab_add`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr input = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(compute, input, 1, n);
                      lab.order(compute, offload);
                      lab.d2h(offload, host, input, n);
                      if (repaired) lab.order(offload, compute);
                      lab.add(compute, input, 1, n);  // in place
                      lab.sync(offload);
                      return lab.holds(host, n, 1) && lab.device_holds(input, n, 2);
                    });
}

TEST_CASE("a codec's staging buffer that is reused before its offload is done is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(2 * n);
                      const cu::DevicePtr staging = lab.device(n);
                      std::uint8_t* const host = lab.pinned(2 * n);
                      lab.fill(compute, x, 4, n);
                      lab.fill(compute, x + n, 5, n);
                      for (std::size_t i = 0; i < 2; ++i) {
                        if (repaired && i > 0) lab.order(offload, compute);
                        lab.copy(compute, staging, x + i * n, n);
                        lab.order(compute, offload);
                        lab.d2h(offload, host + i * n, staging, n);
                      }
                      lab.sync(offload);
                      return lab.holds(host, n, 4) && lab.holds(host + n, n, 5);
                    });
}

TEST_CASE("a decompression that does not wait for the compressed bytes is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyHtoDAsync", "`lab_copy`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr packed = lab.device(2 * n);
                      const cu::DevicePtr x = lab.device(2 * n);
                      std::uint8_t* const host = lab.pinned(2 * n);
                      lab.put(host, 2 * n, 6);
                      lab.h2d(prefetch, packed, host, n);  // the header, which is waited for
                      if (!repaired) lab.order(prefetch, compute);
                      lab.h2d(prefetch, packed + n, host + n, n);
                      if (repaired) lab.order(prefetch, compute);
                      lab.copy(compute, x, packed, 2 * n);
                      return lab.device_holds(x, 2 * n, 6);
                    });
}

TEST_CASE("two offloads into the same pinned buffer without an edge are reported") {
  check_planted_bug(
      {ReportKind::kRace, "cuMemcpyDtoHAsync on stream 2", "cuMemcpyDtoHAsync on stream 3"},
      [](BugLab& lab, bool repaired) {
        const cu::Stream first = lab.stream();
        const cu::Stream second = lab.stream();
        const cu::DevicePtr x = lab.device(n);
        const cu::DevicePtr y = lab.device(n);
        std::uint8_t* const host = lab.pinned(n);
        lab.fill(first, x, 1, n);
        lab.fill(second, y, 2, n);
        lab.d2h(first, host, x, n);
        if (repaired) lab.order(first, second);
        lab.d2h(second, host, y, n);
        lab.sync(second);
        lab.sync(first);
        return lab.holds(host, n, 2);
      });
}

TEST_CASE("two streams that write halves which overlap by one byte are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill` on stream 2", "1 bytes of"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::DevicePtr x = lab.device(2 * n);
                      lab.fill(first, x, 7, repaired ? n : n + 1);
                      lab.fill(second, x + n, 7, n);
                      return lab.device_holds(x, 2 * n, 7);
                    });
}

TEST_CASE("a block that compaction moves under a reader is reported") {
  check_planted_bug({ReportKind::kRace, "`lab_copy`", "cuMemcpyDtoDAsync"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream compact = lab.stream();
                      const cu::DevicePtr hole = lab.device(n);
                      const cu::DevicePtr block = lab.device(n);
                      const cu::DevicePtr y = lab.device(n);
                      lab.fill(compute, hole, 1, n);
                      lab.fill(compute, block, 7, n);
                      lab.order(compute, compact);
                      lab.copy(compute, y, hole, n);  // the last user of what was in the hole
                      if (repaired) lab.order(compute, compact);
                      lab.d2d(compact, hole, block, n);
                      return lab.device_holds(y, n, 1) && lab.device_holds(hole, n, 7);
                    });
}

}  // namespace
}  // namespace spillway::test
