// SPDX-License-Identifier: Apache-2.0
// Who waits for whom: copies of one direction on two streams, whether an engine yields between
// pieces, and how much kernels suffer from copies. Observations only: the timed model claims these,
// a GPU confirms or refutes them.
#include "device/driver_error.hpp"
#include "device/measure/measurements.hpp"
#include "device/pinned_buffer.hpp"

#include <algorithm>

namespace spillway::measure {
namespace {

constexpr LaunchShape kOne;
constexpr std::int64_t kMs = 1'000'000;
constexpr std::uint64_t kHostBytes = 128 * kMiB;

struct Bench {
  Gauge& gauge;
  char* host;
  cu::DevicePtr device;
  cu::DevicePtr other;
  std::uint64_t device_bytes;

  // Streams 1 and 2 have a half of the device buffer each, and read the same host bytes.
  Status to_device(int stream, std::uint64_t bytes) const {
    const cu::DevicePtr device_half = device + (stream == 2 ? kHostBytes / 2 : 0);
    SPW_CU_TRY(
        gauge.driver().cuMemcpyHtoDAsync(device_half, host, bytes, gauge.stream(stream).handle()));
    return {};
  }
  Status to_host(int stream, std::uint64_t bytes) const {
    SPW_CU_TRY(gauge.driver().cuMemcpyDtoHAsync(
        host + kHostBytes / 2, other, bytes, gauge.stream(stream).handle()));
    return {};
  }
};

// Two copies of one direction on two streams that start together: when each ends.
Status same_direction(const Bench& bench, Measurements* out) {
  Gauge& gauge = bench.gauge;
  const std::uint64_t bytes = 64 * kMiB;
  SPW_RETURN_IF_ERROR(gauge.hold(kMs));
  SPW_RETURN_IF_ERROR(gauge.mark(0, gauge.stream(0)));
  for (int stream = 1; stream <= 2; ++stream) {
    SPW_RETURN_IF_ERROR(bench.to_device(stream, bytes));
    SPW_RETURN_IF_ERROR(gauge.mark(stream, gauge.stream(stream)));
  }
  SPW_ASSIGN_OR_RETURN(const double first, gauge.between_ns(0, 1));
  SPW_ASSIGN_OR_RETURN(const double second, gauge.between_ns(0, 2));
  out->saw("two h2d copies of 64 MiB on two streams: first ends", first / 1000, "us");
  out->saw("two h2d copies of 64 MiB on two streams: second ends", second / 1000, "us");
  return {};
}

// A 4 KiB copy that is ready while 64 MiB go by in pieces, with and without a kernel in between.
Status yielding(const Bench& bench, std::uint64_t piece, bool kernel_between, Measurements* out) {
  Gauge& gauge = bench.gauge;
  SPW_RETURN_IF_ERROR(gauge.hold(2 * kMs));
  SPW_RETURN_IF_ERROR(gauge.mark(0, gauge.stream(0)));
  for (std::uint64_t done = 0; done < 64 * kMiB; done += piece) {
    SPW_RETURN_IF_ERROR(bench.to_device(1, piece));
    if (kernel_between) SPW_RETURN_IF_ERROR(gauge.kernels().nothing.launch(gauge.stream(1), kOne));
  }
  // Ready a little later than the first piece.
  SPW_RETURN_IF_ERROR(gauge.kernels().wait.launch(gauge.stream(2), kOne, 20'000));
  SPW_RETURN_IF_ERROR(bench.to_device(2, 4 * kKiB));
  SPW_RETURN_IF_ERROR(gauge.mark(1, gauge.stream(2)));
  SPW_ASSIGN_OR_RETURN(const double ns, gauge.between_ns(0, 1));
  out->saw("a 4 KiB h2d copy behind 64 MiB in pieces of " + std::to_string(piece / kMiB) + " MiB" +
               (kernel_between ? " with a kernel between" : ""),
           ns / 1000,
           "us");
  return {};
}

// How many times longer a kernel runs while copies go on.
Status slowdown(const Bench& bench, bool memory_bound, Measurements* out) {
  Gauge& gauge = bench.gauge;
  const MeasureKernels& kernels = gauge.kernels();
  SPW_ASSIGN_OR_RETURN(const DeviceMemory from,
                       DeviceMemory::create(gauge.driver(), bench.device_bytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory to,
                       DeviceMemory::create(gauge.driver(), bench.device_bytes));
  LaunchShape full;
  full.grid[0] = static_cast<unsigned int>(gauge.device().multiprocessors) * 16;
  full.block[0] = kBlockThreads;
  const auto run = [&](int copies) -> Result<double> {
    SPW_RETURN_IF_ERROR(gauge.hold(kMs));
    for (int i = 0; i < 4; ++i) {
      if ((copies & 1) != 0) SPW_RETURN_IF_ERROR(bench.to_device(1, 64 * kMiB));
      if ((copies & 2) != 0) SPW_RETURN_IF_ERROR(bench.to_host(2, 64 * kMiB));
    }
    for (int i = 0; i < 16 && (copies & 4) != 0; ++i) {
      SPW_CU_TRY(gauge.driver().cuMemcpyDtoDAsync(
          bench.device, bench.other, kHostBytes, gauge.stream(1).handle()));
    }
    // Copies are under way when the kernel starts.
    SPW_RETURN_IF_ERROR(kernels.wait.launch(gauge.stream(0), kOne, 50'000));
    SPW_RETURN_IF_ERROR(gauge.mark(0, gauge.stream(0)));
    if (memory_bound) {
      SPW_RETURN_IF_ERROR(kernels.copy.launch(gauge.stream(0),
                                              copy_shape(bench.device_bytes),
                                              to.pointer(),
                                              from.pointer(),
                                              bench.device_bytes / 16));
    } else {
      SPW_RETURN_IF_ERROR(kernels.arithmetic.launch(gauge.stream(0), full, to.pointer(), 1000));
    }
    SPW_RETURN_IF_ERROR(gauge.mark(1, gauge.stream(0)));
    SPW_ASSIGN_OR_RETURN(const double ns, gauge.between_ns(0, 1));
    SPW_RETURN_IF_ERROR(gauge.settle());
    return ns;
  };
  SPW_RETURN_IF_ERROR(run(0).status());
  SPW_ASSIGN_OR_RETURN(const double alone, run(0));
  constexpr std::pair<int, const char*> kBeside[] = {
      {1, "h2d"}, {2, "d2h"}, {3, "h2d and d2h"}, {4, "d2d"}};
  for (const auto& [copies, name] : kBeside) {
    SPW_ASSIGN_OR_RETURN(const double ns, run(copies));
    out->saw(std::string(memory_bound ? "memory-bound" : "compute-bound") + " kernel beside " +
                 name + ": times longer",
             ns / alone,
             "");
  }
  return {};
}

}  // namespace

Status measure_contention(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const Driver& driver = gauge.driver();
  SPW_ASSIGN_OR_RETURN(const PinnedBuffer host, PinnedBuffer::create(driver, kHostBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory device, DeviceMemory::create(driver, kHostBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory other, DeviceMemory::create(driver, kHostBytes));
  const std::uint64_t most = (gauge.device().memory_bytes / 8) & ~(kMiB - 1);
  const Bench bench{gauge,
                    static_cast<char*>(host.data()),
                    device.pointer(),
                    other.pointer(),
                    std::min<std::uint64_t>(options.quick ? 256 * kMiB : kGiB, most)};
  SPW_RETURN_IF_ERROR(same_direction(bench, out));
  for (const std::uint64_t piece : {2 * kMiB, 8 * kMiB, 32 * kMiB, 64 * kMiB}) {
    for (const bool kernel : {false, true}) {
      if (piece < 64 * kMiB || !kernel) {
        SPW_RETURN_IF_ERROR(yielding(bench, piece, kernel, out));
      }
    }
  }
  SPW_RETURN_IF_ERROR(slowdown(bench, true, out));
  SPW_RETURN_IF_ERROR(slowdown(bench, false, out));
  return gauge.settle();
}

}  // namespace spillway::measure
