// SPDX-License-Identifier: Apache-2.0
// Copies alone and in pairs. Each size is queued several times behind a waiting kernel, so that the
// host's calls are not what is measured: time = latency + bytes / rate.
#include "device/driver_error.hpp"
#include "device/measure/measurements.hpp"
#include "device/pinned_buffer.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace spillway::measure {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::uint64_t kSmall = 4 * kKiB;

enum class Direction { kToDevice, kToHost, kInside };

const char* name_of(Direction direction) {
  if (direction == Direction::kInside) return "d2d";
  return direction == Direction::kToDevice ? "h2d" : "d2h";
}

struct Buffers {
  void* host;
  cu::DevicePtr device;
  cu::DevicePtr other;  // inside the device
};

Status copy(Gauge& gauge, Direction direction, const Buffers& at, std::uint64_t bytes, int stream) {
  const Driver& driver = gauge.driver();
  const cu::Stream handle = gauge.stream(stream).handle();
  switch (direction) {
    case Direction::kToDevice:
      SPW_CU_TRY(driver.cuMemcpyHtoDAsync(at.device, at.host, bytes, handle));
      break;
    case Direction::kToHost:
      SPW_CU_TRY(driver.cuMemcpyDtoHAsync(at.host, at.device, bytes, handle));
      break;
    case Direction::kInside:
      SPW_CU_TRY(driver.cuMemcpyDtoDAsync(at.other, at.device, bytes, handle));
      break;
  }
  return {};
}

// Nanoseconds of one copy.
Result<double> copy_ns(Gauge& gauge, Direction direction, const Buffers& at, std::uint64_t bytes) {
  const auto count = static_cast<int>(std::clamp<std::uint64_t>(64 * kMiB / bytes, 2, 64));
  SPW_ASSIGN_OR_RETURN(const double ns, gauge.device_ns(2 * kMs, [&]() -> Status {
    for (int i = 0; i < count; ++i) SPW_RETURN_IF_ERROR(copy(gauge, direction, at, bytes, 0));
    return {};
  }));
  return ns / count;
}

struct Line {
  double latency_ns = 0;
  double bytes_per_ns = 0;  // GB/s
};

// Sizes from 4 KiB to `most`, each four times the one before; the rate is the slope between the two
// largest, the latency what the smallest takes beside its bytes.
Result<Line> sweep(Gauge& gauge,
                   Direction direction,
                   const Buffers& at,
                   std::uint64_t most,
                   const char* memory,
                   Measurements* out) {
  SPW_RETURN_IF_ERROR(copy_ns(gauge, direction, at, most).status());  // warms up
  double small_ns = 0;
  double last_ns = 0;
  double before_ns = 0;
  for (std::uint64_t bytes = kSmall;; bytes = std::min(bytes * 4, most)) {
    SPW_ASSIGN_OR_RETURN(const double ns, copy_ns(gauge, direction, at, bytes));
    out->saw(std::string(name_of(direction)) + " " + memory + " " + std::to_string(bytes) + " B",
             ns / 1000,
             "us");
    if (bytes == kSmall) small_ns = ns;
    before_ns = std::exchange(last_ns, ns);
    if (bytes == most) break;
  }
  Line line;
  const std::uint64_t more = most - most / 4;
  line.bytes_per_ns = static_cast<double>(more) / std::max(last_ns - before_ns, 1.0);
  line.latency_ns = std::max(small_ns - static_cast<double>(kSmall) / line.bytes_per_ns, 1.0);
  return line;
}

// Rate of copies one way while the other way never rests.
Result<double> duplex(Gauge& gauge, Direction measured, const Buffers& a, const Buffers& b) {
  const Direction other =
      measured == Direction::kToDevice ? Direction::kToHost : Direction::kToDevice;
  const std::uint64_t bytes = 64 * kMiB;
  constexpr int kTimes = 4;
  // Doubled until the other direction outlasts what is measured.
  for (int load = 2 * kTimes; load <= 64 * kTimes; load *= 2) {
    SPW_RETURN_IF_ERROR(gauge.hold(5 * kMs));
    for (int i = 0; i < load; ++i) {
      SPW_RETURN_IF_ERROR(copy(gauge, other, b, bytes, 2));
    }
    SPW_RETURN_IF_ERROR(gauge.mark(2, gauge.stream(2)));
    SPW_RETURN_IF_ERROR(copy(gauge, measured, a, bytes, 1));  // both are under way after this one
    SPW_RETURN_IF_ERROR(gauge.mark(0, gauge.stream(1)));
    for (int i = 0; i < kTimes; ++i) SPW_RETURN_IF_ERROR(copy(gauge, measured, a, bytes, 1));
    SPW_RETURN_IF_ERROR(gauge.mark(1, gauge.stream(1)));
    SPW_ASSIGN_OR_RETURN(const double rest_ns, gauge.between_ns(1, 2));
    if (rest_ns <= 0) continue;
    SPW_ASSIGN_OR_RETURN(const double ns, gauge.between_ns(0, 1));
    return static_cast<double>(bytes) * kTimes / ns;
  }
  return Status(Code::kInternal, "measure: the other direction never outlasted the measured one");
}

Status by_kernel(Gauge& gauge, const PinnedBuffer& host, cu::DevicePtr device, Measurements* out) {
  SPW_ASSIGN_OR_RETURN(const cu::DevicePtr mapped, host.device_pointer());
  const std::uint64_t bytes = std::min<std::uint64_t>(host.bytes(), 64 * kMiB);
  for (const bool reads : {true, false}) {
    const auto work = [&]() -> Status {
      return gauge.kernels().copy.launch(gauge.stream(0),
                                         copy_shape(bytes),
                                         reads ? device : mapped,
                                         reads ? mapped : device,
                                         bytes / 16);
    };
    SPW_RETURN_IF_ERROR(gauge.device_ns(kMs, work).status());
    SPW_ASSIGN_OR_RETURN(const double ns, gauge.device_ns(kMs, work));
    out->number(reads ? "h2d_by_kernel" : "d2h_by_kernel",
                static_cast<double>(bytes) / ns,
                "GB/s",
                "copy kernel on 64 MiB of page-locked memory");
  }
  return {};
}

Status pageable(Gauge& gauge, cu::DevicePtr device, Measurements* out) {
  const std::uint64_t bytes = 64 * kMiB;
  SPW_ASSIGN_OR_RETURN(const HostPages pages, HostPages::create(bytes));
  const Buffers at{pages.data(), device, 0};
  for (const Direction direction : {Direction::kToDevice, Direction::kToHost}) {
    std::vector<double> times;
    for (int i = 0; i < 4; ++i) {
      SPW_RETURN_IF_ERROR(gauge.settle());
      SPW_RETURN_IF_ERROR(gauge.mark(0, gauge.stream(0)));
      SPW_RETURN_IF_ERROR(copy(gauge, direction, at, bytes, 0));
      SPW_RETURN_IF_ERROR(gauge.mark(1, gauge.stream(0)));
      SPW_ASSIGN_OR_RETURN(const double ns, gauge.between_ns(0, 1));
      times.push_back(ns);
    }
    out->number(direction == Direction::kToDevice ? "h2d_pageable" : "d2h_pageable",
                static_cast<double>(bytes) / median(times),
                "GB/s",
                "median of 4 copies of 64 MiB of touched pages");
  }
  return {};
}

// The same copies from other kinds of host memory; a kind that the system refuses is left out.
Status other_memory(Gauge& gauge, cu::DevicePtr device, Measurements* out) {
  const Driver& driver = gauge.driver();
  const std::uint64_t bytes = 64 * kMiB;
  const auto rates = [&](const char* memory, void* host) -> Status {
    for (const Direction direction : {Direction::kToDevice, Direction::kToHost}) {
      SPW_ASSIGN_OR_RETURN(const double ns, copy_ns(gauge, direction, {host, device, 0}, bytes));
      out->saw(
          std::string(name_of(direction)) + " " + memory, static_cast<double>(bytes) / ns, "GB/s");
    }
    return {};
  };
  {
    const auto combined =
        PinnedBuffer::create(driver, bytes, cu::kHostAllocPortable | cu::kHostAllocWriteCombined);
    if (combined.ok()) SPW_RETURN_IF_ERROR(rates("write-combined", combined.value().data()));
  }
  for (const bool huge : {false, true}) {
    SPW_ASSIGN_OR_RETURN(const HostPages pages, HostPages::create(bytes, huge));
    const auto pinned = PinnedBuffer::pin(driver, pages.data(), bytes);
    if (!pinned.ok()) continue;
    SPW_RETURN_IF_ERROR(rates(huge ? "registered, huge pages" : "registered", pages.data()));
    SPW_RETURN_IF_ERROR(gauge.settle());
  }
  return {};
}

// The largest power of two up to `most` that the host can pin.
Result<PinnedBuffer> pin_much(const Driver& driver, std::uint64_t most) {
  for (std::uint64_t bytes = most; bytes > 128 * kMiB; bytes /= 2) {
    auto buffer = PinnedBuffer::create(driver, bytes);
    if (buffer.ok() || buffer.status().code() != Code::kOutOfMemory) return buffer;
  }
  return PinnedBuffer::create(driver, 128 * kMiB);
}

Status both_ways(Gauge& gauge, const Buffers& a, const Buffers& b, Measurements* out) {
  SPW_ASSIGN_OR_RETURN(const double down, duplex(gauge, Direction::kToDevice, a, b));
  SPW_ASSIGN_OR_RETURN(const double up, duplex(gauge, Direction::kToHost, a, b));
  constexpr const char* kHow = "four copies of 64 MiB while the other direction copies throughout";
  out->number("h2d_while_d2h", std::min(down, out->value_of("h2d")), "GB/s", kHow);
  out->number("d2h_while_h2d", std::min(up, out->value_of("d2h")), "GB/s", kHow);
  return {};
}

}  // namespace

Status measure_copies(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const Driver& driver = gauge.driver();
  const std::uint64_t free_part = (gauge.device().memory_bytes / 8) & ~(kMiB - 1);
  SPW_ASSIGN_OR_RETURN(
      PinnedBuffer host,
      pin_much(driver, std::min<std::uint64_t>(options.quick ? 256 * kMiB : 4 * kGiB, free_part)));
  const std::uint64_t most = host.bytes();
  SPW_ASSIGN_OR_RETURN(const DeviceMemory device, DeviceMemory::create(driver, most));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory second, DeviceMemory::create(driver, most));
  const Buffers at{host.data(), device.pointer(), second.pointer()};
  // Other bytes for the other direction.
  const Buffers beside{static_cast<char*>(host.data()) + most / 2, second.pointer(), 0};

  const std::string upto = "sizes 4 KiB to " + std::to_string(most / kMiB) + " MiB, page-locked";
  SPW_ASSIGN_OR_RETURN(const Line h2d,
                       sweep(gauge, Direction::kToDevice, at, most, "page-locked", out));
  SPW_ASSIGN_OR_RETURN(const Line d2h,
                       sweep(gauge, Direction::kToHost, at, most, "page-locked", out));
  SPW_ASSIGN_OR_RETURN(const Line d2d, sweep(gauge, Direction::kInside, at, most, "device", out));
  out->number("h2d", h2d.bytes_per_ns, "GB/s", upto + ": slope of the largest");
  out->number("d2h", d2h.bytes_per_ns, "GB/s", upto + ": slope of the largest");
  out->number("d2d", d2d.bytes_per_ns, "GB/s", "bytes copied, slope of the largest");
  out->number("copy_latency",
              (h2d.latency_ns + d2h.latency_ns) / 2000,
              "us",
              "time of 4 KiB copies in a row less their bytes, mean of both directions");
  out->number("d2d_latency", d2d.latency_ns / 1000, "us", "4 KiB copies in a row less their bytes");

  constexpr int kSets = 64;
  SPW_ASSIGN_OR_RETURN(const double sets_ns, gauge.device_ns(2 * kMs, [&]() -> Status {
    for (int i = 0; i < kSets; ++i)
      SPW_CU_TRY(driver.cuMemsetD8Async(at.device, 0, 256, gauge.stream(0).handle()));
    return {};
  }));
  out->number("memset_latency", sets_ns / kSets / 1000, "us", "256 B memsets in a row");

  SPW_RETURN_IF_ERROR(both_ways(gauge, at, beside, out));
  SPW_RETURN_IF_ERROR(by_kernel(gauge, host, device.pointer(), out));
  SPW_RETURN_IF_ERROR(pageable(gauge, device.pointer(), out));
  SPW_RETURN_IF_ERROR(other_memory(gauge, device.pointer(), out));
  return gauge.settle();
}

}  // namespace spillway::measure
