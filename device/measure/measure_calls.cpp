// SPDX-License-Identifier: Apache-2.0
// Host time of driver calls, without a profiler: medians on an otherwise idle device, except where
// the name says otherwise.
#include "device/driver_error.hpp"
#include "device/measure/measurements.hpp"
#include "device/pinned_buffer.hpp"

#include <utility>

namespace spillway::measure {
namespace {

constexpr std::uint64_t kSmallBytes = 4 * kKiB;

void add(Measurements* out, const char* key, double ns, const char* how) {
  out->number(std::string("host.") + key, ns / 1000, "us", how);
}

Status streams_and_copies(Gauge& gauge, int samples, Measurements* out) {
  const Driver& driver = gauge.driver();
  const StreamRef stream = gauge.stream(0);
  SPW_ASSIGN_OR_RETURN(const PinnedBuffer host, PinnedBuffer::create(driver, kSmallBytes));
  SPW_ASSIGN_OR_RETURN(const DeviceMemory device, DeviceMemory::create(driver, kSmallBytes));
  SPW_ASSIGN_OR_RETURN(Event event, Event::create(driver));
  SPW_RETURN_IF_ERROR(event.record(stream));
  SPW_RETURN_IF_ERROR(gauge.settle());
  const LaunchShape one;

  double ns = 0;
  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    return gauge.kernels().nothing.launch(stream, one);
  }));
  add(out, "launch", ns, "median launch of an empty kernel without parameters");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    SPW_CU_TRY(
        driver.cuMemcpyHtoDAsync(device.pointer(), host.data(), kSmallBytes, stream.handle()));
    return {};
  }));
  add(out, "memcpy_async", ns, "median call of a 4 KiB page-locked copy to the device");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemsetD8Async(device.pointer(), 0, kSmallBytes, stream.handle()));
    return {};
  }));
  add(out, "memset_async", ns, "median call of a 4 KiB memset");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(ns,
                       gauge.host_ns(samples, [&]() -> Status { return event.record(stream); }));
  add(out, "event_record", ns, "median call on an event without timing");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(
      ns, gauge.host_ns(samples, [&]() -> Status { return event.make_wait(gauge.stream(1)); }));
  add(out, "stream_wait_event", ns, "median call on an event that is done");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    SPW_CU_TRY(driver.cuEventQuery(event.handle()));
    return {};
  }));
  add(out, "event_query", ns, "median call on an event that is done");

  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    SPW_CU_TRY(driver.cuLaunchHostFunc(
        stream.handle(), [](void*) {}, nullptr));
    return {};
  }));
  add(out, "host_func", ns, "median call with an empty function");
  SPW_RETURN_IF_ERROR(gauge.settle());

  SPW_ASSIGN_OR_RETURN(
      ns, gauge.host_ns(samples, [&]() -> Status { return synchronize(driver, stream); }));
  add(out, "synchronize", ns, "median cuStreamSynchronize of an idle stream");

  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    cu::StreamCaptureStatus status{};
    SPW_CU_TRY(driver.cuStreamIsCapturing(stream.handle(), &status));
    return {};
  }));
  add(out, "other", ns, "median cuStreamIsCapturing");
  return {};
}

Status handles(Gauge& gauge, int samples, Measurements* out) {
  const Driver& driver = gauge.driver();
  std::vector<Event> events;
  events.reserve(static_cast<std::size_t>(samples));
  double ns = 0;
  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    SPW_ASSIGN_OR_RETURN(Event event, Event::create(driver));
    events.push_back(std::move(event));
    return {};
  }));
  add(out, "event_create", ns, "median call without timing");
  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    events.pop_back();
    return {};
  }));
  add(out, "event_destroy", ns, "median call");

  cu::Stream stream = nullptr;
  SPW_ASSIGN_OR_RETURN(
      ns,
      gauge.host_ns(
          9,
          [&]() -> Status {
            SPW_CU_TRY(driver.cuStreamCreateWithPriority(&stream, cu::kStreamNonBlocking, 0));
            return {};
          },
          [&]() -> Status {
            SPW_CU_TRY(driver.cuStreamDestroy(stream));
            return {};
          }));
  add(out, "stream_create", ns, "median cuStreamCreateWithPriority of 9");
  return {};
}

Status allocations(Gauge& gauge, int samples, Measurements* out) {
  const Driver& driver = gauge.driver();
  const StreamRef stream = gauge.stream(0);
  double ns = 0;
  SPW_ASSIGN_OR_RETURN(ns, gauge.host_ns(samples, [&]() -> Status {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    SPW_CU_TRY(driver.cuMemGetInfo(&free_bytes, &total_bytes));
    return {};
  }));
  add(out, "mem_get_info", ns, "median call");
  if (!gauge.device().memory_pools) return {};

  // A pool of ours that keeps what is freed: the caller's default pool stays as it is.
  cu::MemPoolProps props;
  props.alloc_type = cu::AllocationType::kPinned;
  props.location = {cu::LocationType::kDevice, gauge.device().ordinal};
  cu::MemoryPool pool = nullptr;
  SPW_CU_TRY(driver.cuMemPoolCreate(&pool, &props));
  std::uint64_t keep = ~std::uint64_t{0};
  cu::DevicePtr pointer = 0;
  const auto allocate = [&]() -> Status {
    SPW_CU_TRY(driver.cuMemAllocFromPoolAsync(&pointer, 2 * kMiB, pool, stream.handle()));
    return {};
  };
  const auto release = [&]() -> Status {
    SPW_CU_TRY(driver.cuMemFreeAsync(pointer, stream.handle()));
    pointer = 0;
    return {};
  };
  const auto both = [&]() -> Status {
    SPW_CU_TRY(driver.cuMemPoolSetAttribute(pool, cu::MemPoolAttribute::kReleaseThreshold, &keep));
    SPW_RETURN_IF_ERROR(allocate());  // the first one takes memory from the device
    SPW_RETURN_IF_ERROR(release());
    SPW_ASSIGN_OR_RETURN(const double alloc_ns, gauge.host_ns(samples, allocate, release));
    add(out, "mem_alloc_async", alloc_ns, "median call for 2 MiB that the pool holds already");
    SPW_RETURN_IF_ERROR(allocate());
    SPW_ASSIGN_OR_RETURN(const double free_ns, gauge.host_ns(samples, release, allocate));
    add(out, "mem_free_async", free_ns, "median call for 2 MiB");
    return release();
  };
  const Status measured = both();
  if (pointer != 0) static_cast<void>(driver.cuMemFreeAsync(pointer, stream.handle()));
  const Status settled = gauge.settle();
  SPW_CU_TRY(driver.cuMemPoolDestroy(pool));
  return measured.ok() ? settled : measured;
}

}  // namespace

Status measure_calls(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const int samples = options.quick ? 65 : 257;  // queued ones stay below any launch queue
  SPW_RETURN_IF_ERROR(streams_and_copies(gauge, samples, out));
  SPW_RETURN_IF_ERROR(handles(gauge, samples, out));
  return allocations(gauge, samples, out);
}

}  // namespace spillway::measure
