// SPDX-License-Identifier: Apache-2.0
// Memory that ends, moves or has two names while the device still uses it.
#include "tests/device/sim/planted_bugs.hpp"

namespace spillway::test {
namespace {

using sim::ReportKind;
// NOLINTNEXTLINE(readability-identifier-naming): short, since nearly every line has it
constexpr std::size_t n = kBugBytes;

TEST_CASE("an unmap while kernels are in flight is reported") {
  // Modelled on vllm-project/vllm#43020: cuMemUnmap does not wait for streams.
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_fill`",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      lab.map(at, handle);
                      lab.fill(compute, at, 7, n);
                      if (repaired) lab.sync(compute);
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      return true;
                    });
}

TEST_CASE("an unmap while the offload that empties the memory is in flight is reported") {
  // Modelled on vllm-project/vllm#45615: sleep copies out, then unmaps.
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyDtoHAsync",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      std::uint8_t* const host = lab.pinned(n);
                      lab.map(at, handle);
                      lab.fill(offload, at, 7, n);
                      lab.d2h(offload, host, at, n);
                      if (repaired) lab.sync(offload);
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("an unmap after a query that said not ready is reported") {
  // Modelled on NVIDIA/TensorRT-LLM#11641.
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_fill`",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Event done = lab.event();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      lab.map(at, handle);
                      lab.fill(compute, at, 7, n);
                      const cu::DevicePtr other = lab.device(n);
                      if (repaired) lab.record(done, compute);
                      lab.fill(compute, other, 7, n);
                      if (!repaired) lab.record(done, compute);
                      if (repaired)
                        while (lab.cu.cuEventQuery(done) == cu::Result::kNotReady) {
                        }
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      return lab.device_holds(other, n, 7);
                    });
}

TEST_CASE("an unmap that waits for one of two streams is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_read` on stream 3",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      lab.map(at, handle);
                      lab.fill(first, at, 7, n);
                      lab.order(first, second);
                      lab.read(second, at, n);
                      lab.sync(first);
                      if (repaired) lab.sync(second);
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      return true;
                    });
}

TEST_CASE("a handle that is mapped elsewhere while copies use its old mapping is reported") {
  check_planted_bug({ReportKind::kRace, "cuMemcpyDtoHAsync", "`lab_fill`"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::Stream compute = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr before = lab.reserve();
                      const cu::DevicePtr after = lab.reserve();
                      std::uint8_t* const host = lab.pinned(n);
                      lab.map(before, handle);
                      lab.fill(offload, before, 7, n);
                      lab.d2h(offload, host, before, n);
                      lab.map(after, handle);
                      if (repaired) lab.order(offload, compute);
                      lab.fill(compute, after, 8, n);  // the next tensor
                      lab.sync(offload);
                      lab.sync(compute);
                      lab.unmap(before);
                      lab.unmap(after);
                      lab.release(handle);
                      lab.give_back(before);
                      lab.give_back(after);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a handle that is moved while copies use its old mapping is reported") {
  // Modelled on NVIDIA/cuda-python#2886.
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyDtoHAsync",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream offload = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr before = lab.reserve();
                      const cu::DevicePtr after = lab.reserve();
                      std::uint8_t* const host = lab.pinned(n);
                      lab.map(before, handle);
                      lab.fill(offload, before, 7, n);
                      lab.d2h(offload, host, before, n);
                      if (repaired) lab.sync(offload);
                      lab.unmap(before);
                      lab.map(after, handle);
                      lab.fill(offload, after, 8, n);
                      lab.sync(offload);
                      const bool right = lab.holds(host, n, 7) && lab.device_holds(after, n, 8);
                      lab.unmap(after);
                      lab.release(handle);
                      lab.give_back(before);
                      lab.give_back(after);
                      return right;
                    });
}

TEST_CASE("two mappings of one handle that are written from two streams are reported") {
  check_planted_bug({ReportKind::kRace, "`lab_fill` on stream 2", "`lab_fill` on stream 3"},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream first = lab.stream();
                      const cu::Stream second = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr a = lab.reserve();
                      const cu::DevicePtr b = lab.reserve();
                      lab.map(a, handle);
                      lab.map(b, handle);
                      lab.fill(first, a, 1, n);
                      if (repaired) lab.order(first, second);
                      lab.fill(second, b, 2, n);
                      const bool right = lab.device_holds(a, n, 2);
                      lab.unmap(a);
                      lab.unmap(b);
                      lab.release(handle);
                      lab.give_back(a);
                      lab.give_back(b);
                      return right;
                    });
}

TEST_CASE("a defragmentation that unmaps before its own copy is done is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyDtoDAsync",
                     .second = "cuMemUnmap",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream compact = lab.stream();
                      const cu::AllocationHandle handle = lab.handle();
                      const cu::DevicePtr at = lab.reserve();
                      const cu::DevicePtr to = lab.device(n);
                      lab.map(at, handle);
                      lab.fill(compute, at, 7, n);
                      lab.order(compute, compact);
                      lab.d2d(compact, to, at, n);
                      lab.sync(compute);
                      if (repaired) lab.sync(compact);
                      lab.unmap(at);
                      lab.release(handle);
                      lab.give_back(at);
                      return lab.device_holds(to, n, 7);
                    });
}

TEST_CASE("a free with a kernel in flight is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "`lab_fill`",
                     .second = "cuMemFree",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      lab.fill(compute, x, 7, n);
                      if (repaired) lab.sync(compute);
                      lab.note(lab.cu.cuMemFree(x));
                      lab.forget(x);
                      return true;
                    });
}

TEST_CASE("a free that waits for the compute stream only is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyDtoHAsync",
                     .second = "cuMemFree",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream compute = lab.stream();
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.fill(compute, x, 7, n);
                      lab.order(compute, offload);
                      lab.d2h(offload, host, x, n);
                      lab.sync(repaired ? offload : compute);
                      lab.note(lab.cu.cuMemFree(x));
                      lab.forget(x);
                      lab.sync(offload);
                      return lab.holds(host, n, 7);
                    });
}

TEST_CASE("a free of pinned memory with a copy in flight is reported") {
  // Modelled on pytorch/torchtitan#2581: pinned memory goes back before its copy is done.
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyHtoDAsync",
                     .second = "cuMemFreeHost",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      const cu::Stream prefetch = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      std::uint8_t* const host = lab.pinned(n);
                      lab.put(host, n, 9);
                      lab.h2d(prefetch, x, host, n);
                      if (repaired) lab.sync(prefetch);
                      lab.note(lab.cu.cuMemFreeHost(host));
                      lab.forget(host);
                      return lab.device_holds(x, n, 9);
                    });
}

TEST_CASE("a host range that is unregistered with a copy in flight is reported") {
  check_planted_bug({.kind = ReportKind::kLifetime,
                     .first = "cuMemcpyDtoHAsync",
                     .second = "cuMemHostUnregister",
                     .hidden_when_observed = true},
                    [](BugLab& lab, bool repaired) {
                      alignas(4096) static std::uint8_t range[4096];
                      const cu::Stream offload = lab.stream();
                      const cu::DevicePtr x = lab.device(n);
                      lab.note(lab.cu.cuMemHostRegister(range, sizeof(range), 0));
                      lab.fill(offload, x, 7, n);
                      lab.d2h(offload, range, x, n);
                      if (repaired) lab.sync(offload);
                      lab.note(lab.cu.cuMemHostUnregister(range));
                      lab.sync(offload);
                      return lab.looks(range, n, 7);
                    });
}

}  // namespace
}  // namespace spillway::test
