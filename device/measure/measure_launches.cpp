// SPDX-License-Identifier: Apache-2.0
// What a kernel costs beside its work, how many may wait, and what the device reaches: memory
// bandwidth by a copy kernel, fp32 by fused multiply-adds.
#include "device/measure/measurements.hpp"

#include <algorithm>

namespace spillway::measure {
namespace {

constexpr LaunchShape kOne;
constexpr std::int64_t kMs = 1'000'000;

// Empty kernels back to back; waiting kernels back to back, and one alone between two marks.
Status latencies(Gauge& gauge, Measurements* out) {
  const StreamRef stream = gauge.stream(0);
  const MeasureKernels& kernels = gauge.kernels();
  constexpr int kEmpty = 256;
  SPW_ASSIGN_OR_RETURN(const double empty_ns, gauge.device_ns(10 * kMs, [&]() -> Status {
    for (int i = 0; i < kEmpty; ++i) SPW_RETURN_IF_ERROR(kernels.nothing.launch(stream, kOne));
    return {};
  }));
  const double gap_ns = empty_ns / kEmpty;
  out->number("launch_latency",
              gap_ns / 1000,
              "us",
              "time a kernel of 256 empty ones, queued behind a waiting one");

  constexpr std::uint64_t kWaitNs = 50'000;
  constexpr int kWaits = 16;
  SPW_ASSIGN_OR_RETURN(const double waits_ns, gauge.device_ns(10 * kMs, [&]() -> Status {
    for (int i = 0; i < kWaits; ++i)
      SPW_RETURN_IF_ERROR(kernels.wait.launch(stream, kOne, kWaitNs));
    return {};
  }));
  const double wait_ns = waits_ns / kWaits - gap_ns;  // what such a kernel really takes
  std::vector<double> alone;
  for (int i = 0; i < 33; ++i) {
    SPW_RETURN_IF_ERROR(gauge.settle());
    SPW_RETURN_IF_ERROR(gauge.mark(0, stream));
    SPW_RETURN_IF_ERROR(kernels.wait.launch(stream, kOne, kWaitNs));
    SPW_RETURN_IF_ERROR(gauge.mark(1, stream));
    SPW_ASSIGN_OR_RETURN(const double ns, gauge.between_ns(0, 1));
    alone.push_back(ns);
  }
  const double call_ns = out->value_of("host.launch") * 1000;
  out->number("kernel_start",
              std::max(median(alone) - wait_ns - call_ns, 1.0) / 1000,
              "us",
              "median time between two events around one kernel on an idle device, less the kernel "
              "and the host's launch call");
  return {};
}

// The first launch that takes far longer than the others had to wait for room.
Status queue_depth(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const double call_ns = std::max(out->value_of("host.launch") * 1000, 1.0);
  const int most = options.quick ? 2048 : 8192;
  const auto hold_ns = std::max<std::int64_t>(
      100 * kMs, static_cast<std::int64_t>(4.0 * static_cast<double>(most) * call_ns));
  SPW_RETURN_IF_ERROR(gauge.settle());
  SPW_RETURN_IF_ERROR(
      gauge.kernels().wait.launch(gauge.stream(0), kOne, static_cast<std::uint64_t>(hold_ns)));
  for (int pending = 1; pending <= most; ++pending) {
    const std::int64_t start = gauge.clock().now_ns();
    SPW_RETURN_IF_ERROR(gauge.kernels().nothing.launch(gauge.stream(0), kOne));
    const auto took = static_cast<double>(gauge.clock().now_ns() - start);
    // A pause of the host is short; a full queue stays full until the waiting kernel ends.
    if (took < static_cast<double>(hold_ns) / 10) continue;
    out->number("launch_queue",
                pending,
                "launches",
                "launches pending when the next one waited for the kernel that was running");
    return gauge.settle();
  }
  out->saw("launches queued without waiting", most, "launches");
  return gauge.settle();
}

Status bandwidth(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const Driver& driver = gauge.driver();
  const std::uint64_t most = (gauge.device().memory_bytes / 8) & ~(kMiB - 1);
  const std::uint64_t bytes = std::min<std::uint64_t>(options.quick ? 256 * kMiB : kGiB, most);
  SPW_ASSIGN_OR_RETURN(const DeviceMemory from, DeviceMemory::create(driver, bytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory to, DeviceMemory::create(driver, bytes));
  constexpr int kTimes = 8;
  const auto copies = [&]() -> Status {
    for (int i = 0; i < kTimes; ++i) {
      SPW_RETURN_IF_ERROR(gauge.kernels().copy.launch(
          gauge.stream(0), copy_shape(bytes), to.pointer(), from.pointer(), bytes / 16));
    }
    return {};
  };
  SPW_RETURN_IF_ERROR(gauge.device_ns(kMs, copies).status());  // clocks go up
  SPW_ASSIGN_OR_RETURN(const double ns, gauge.device_ns(kMs, copies));
  out->number(
      "memory_bandwidth.achieved",
      2.0 * static_cast<double>(bytes) * kTimes / ns,
      "GB/s",
      "bytes read and written by a copy kernel, " + std::to_string(bytes / kMiB) + " MiB, 8 times");
  return {};
}

Status arithmetic(Gauge& gauge, Measurements* out) {
  const Driver& driver = gauge.driver();
  LaunchShape shape;
  shape.grid[0] = static_cast<unsigned int>(gauge.device().multiprocessors) * 16;
  shape.block[0] = kBlockThreads;
  SPW_ASSIGN_OR_RETURN(const DeviceMemory sums, DeviceMemory::create(driver, shape.threads() * 4));
  // 20,000 rounds are about 10 ms: 4,096 threads a multiprocessor do 64 flops a round at 256 a
  // clock.
  constexpr std::uint32_t kRounds = 20'000;
  const auto work = [&]() -> Status {
    return gauge.kernels().arithmetic.launch(gauge.stream(0), shape, sums.pointer(), kRounds);
  };
  SPW_RETURN_IF_ERROR(gauge.device_ns(kMs, work).status());
  SPW_ASSIGN_OR_RETURN(const double ns, gauge.device_ns(kMs, work));
  const double flops = static_cast<double>(shape.threads()) * kRounds * kFlopsPerRound;
  out->number("fp32.achieved",
              flops / ns / 1000,
              "TFLOPS",
              "fused multiply-adds in registers on all multiprocessors");
  return {};
}

}  // namespace

Status measure_kernels(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  SPW_RETURN_IF_ERROR(latencies(gauge, out));
  SPW_RETURN_IF_ERROR(queue_depth(gauge, options, out));
  SPW_RETURN_IF_ERROR(bandwidth(gauge, options, out));
  return arithmetic(gauge, out);
}

}  // namespace spillway::measure
