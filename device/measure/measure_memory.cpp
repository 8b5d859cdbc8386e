// SPDX-License-Identifier: Apache-2.0
// What virtual memory, allocation and page-locking cost, at a small and a large size: the line
// through both gives the part per call and the part per byte.
#include "device/driver_error.hpp"
#include "device/mapping.hpp"
#include "device/measure/measurements.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace spillway::measure {
namespace {

constexpr LaunchShape kOne;

struct Sized {
  std::uint64_t bytes = 0;
  double ns = 0;
};

// per_gib in ms, us or ns, whichever keeps it readable.
void add(Measurements* out, const std::string& key, Sized small, Sized large, const char* how) {
  const double slope =
      std::max((large.ns - small.ns) / static_cast<double>(large.bytes - small.bytes), 0.0);
  const double fixed = std::max(small.ns - slope * static_cast<double>(small.bytes), 100.0);
  const double per_gib_us = slope * static_cast<double>(kGiB) / 1000;
  out->number(key + ".fixed", fixed / 1000, "us", how);
  if (per_gib_us >= 10'000) {
    out->number(key + ".per_gib", per_gib_us / 1000, "ms/GiB", how);
  } else {
    out->number(key + ".per_gib", per_gib_us, "us/GiB", how);
  }
}

enum VmmCall { kReserve, kCreate, kMap, kSetAccess, kUnmap, kRelease, kAddressFree, kVmmCalls };
constexpr const char* kVmmNames[kVmmCalls] = {"vmm.reserve",
                                              "vmm.create",
                                              "vmm.map",
                                              "vmm.set_access",
                                              "vmm.unmap",
                                              "vmm.release",
                                              "vmm.address_free"};

// What a life of a mapping has made so far; a call that fails leaves nothing behind.
struct Life {
  const Driver& driver;
  std::uint64_t bytes;
  cu::DevicePtr pointer = 0;
  cu::AllocationHandle handle = 0;
  bool has_handle = false;
  bool mapped = false;

  Life(const Driver& table, std::uint64_t size) : driver(table), bytes(size) {}
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
  Life(Life&&) = delete;
  Life& operator=(Life&&) = delete;
  ~Life() {
    if (mapped) static_cast<void>(driver.cuMemUnmap(pointer, bytes));
    if (has_handle) static_cast<void>(driver.cuMemRelease(handle));
    if (pointer != 0) static_cast<void>(driver.cuMemAddressFree(pointer, bytes));
  }
};

// One life of a mapping of `bytes`, each call timed.
Status vmm_life(Gauge& gauge,
                std::uint64_t bytes,
                std::array<std::vector<double>, kVmmCalls>* times) {
  const Driver& driver = gauge.driver();
  const cu::AllocationProp prop = device_allocation_prop(gauge.device().device);
  cu::AccessDesc access;
  access.location = prop.location;
  access.flags = cu::AccessFlags::kReadWrite;
  Life life(driver, bytes);
  const auto timed = [&](VmmCall call, const Gauge::Work& work) -> Status {
    SPW_ASSIGN_OR_RETURN(const double ns, gauge.host_ns(1, work));
    (*times)[call].push_back(ns);
    return {};
  };
  SPW_RETURN_IF_ERROR(timed(kReserve, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemAddressReserve(&life.pointer, bytes, 0, 0, 0));
    return {};
  }));
  SPW_RETURN_IF_ERROR(timed(kCreate, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemCreate(&life.handle, bytes, &prop, 0));
    return {};
  }));
  life.has_handle = true;
  SPW_RETURN_IF_ERROR(timed(kMap, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemMap(life.pointer, bytes, 0, life.handle, 0));
    return {};
  }));
  life.mapped = true;
  SPW_RETURN_IF_ERROR(timed(kSetAccess, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemSetAccess(life.pointer, bytes, &access, 1));
    return {};
  }));
  SPW_RETURN_IF_ERROR(timed(kUnmap, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemUnmap(life.pointer, bytes));
    return {};
  }));
  life.mapped = false;
  SPW_RETURN_IF_ERROR(timed(kRelease, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemRelease(life.handle));
    return {};
  }));
  life.has_handle = false;
  SPW_RETURN_IF_ERROR(timed(kAddressFree, [&]() -> Status {
    SPW_CU_TRY(driver.cuMemAddressFree(life.pointer, bytes));
    return {};
  }));
  life.pointer = 0;
  return {};
}

Status virtual_memory(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const auto page = static_cast<std::uint64_t>(out->value_of("page"));
  const std::uint64_t room = gauge.device().memory_bytes / 4 / page * page;
  const std::uint64_t large =
      std::min<std::uint64_t>(options.quick ? 64 * page : std::max(kGiB, 64 * page), room);
  std::array<std::vector<double>, kVmmCalls> small_times;
  std::array<std::vector<double>, kVmmCalls> large_times;
  for (int i = 0; i < (options.quick ? 17 : 129); ++i)
    SPW_RETURN_IF_ERROR(vmm_life(gauge, page, &small_times));
  for (int i = 0; i < (options.quick ? 5 : 17); ++i)
    SPW_RETURN_IF_ERROR(vmm_life(gauge, large, &large_times));
  const std::string how = "medians at " + std::to_string(page / kMiB) + " and " +
                          std::to_string(large / kMiB) + " MiB on an idle device";
  for (int call = 0; call < kVmmCalls; ++call) {
    const auto index = static_cast<std::size_t>(call);
    add(out,
        kVmmNames[index],
        {page, median(small_times[index])},
        {large, median(large_times[index])},
        how.c_str());
  }
  // The same small life while a kernel runs: does any call wait for it?
  std::array<std::vector<double>, kVmmCalls> busy;
  constexpr std::uint64_t kBusyNs = 50'000'000;
  for (int i = 0; i < 3; ++i) {
    SPW_RETURN_IF_ERROR(gauge.settle());
    SPW_RETURN_IF_ERROR(gauge.kernels().wait.launch(gauge.stream(0), kOne, kBusyNs));
    SPW_RETURN_IF_ERROR(vmm_life(gauge, page, &busy));
  }
  for (int call = 0; call < kVmmCalls; ++call) {
    const auto index = static_cast<std::size_t>(call);
    out->saw(std::string(kVmmNames[index]) + " while a kernel of 50 ms runs",
             median(busy[index]) / 1000,
             "us");
  }
  return gauge.settle();
}

// A pair of calls that makes and ends something of a size; medians of both.
Status pair_ns(Gauge& gauge,
               int samples,
               const Gauge::Work& make,
               const Gauge::Work& end,
               double* make_ns,
               double* end_ns) {
  std::vector<double> makes;
  std::vector<double> ends;
  for (int i = 0; i < samples; ++i) {
    SPW_ASSIGN_OR_RETURN(const double made, gauge.host_ns(1, make));
    SPW_ASSIGN_OR_RETURN(const double ended, gauge.host_ns(1, end));
    makes.push_back(made);
    ends.push_back(ended);
  }
  *make_ns = median(makes);
  *end_ns = median(ends);
  return {};
}

Status allocation(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const Driver& driver = gauge.driver();
  const auto page = static_cast<std::uint64_t>(out->value_of("page"));
  const std::uint64_t room = gauge.device().memory_bytes / 4 / page * page;
  Sized make[2];
  Sized end[2];
  make[0].bytes = end[0].bytes = page;
  make[1].bytes = end[1].bytes =
      std::min<std::uint64_t>(options.quick ? 64 * page : std::max(kGiB, 64 * page), room);
  for (int i = 0; i < 2; ++i) {
    cu::DevicePtr pointer = 0;
    SPW_RETURN_IF_ERROR(pair_ns(
        gauge,
        options.quick ? 5 : 17,
        [&]() -> Status {
          SPW_CU_TRY(driver.cuMemAlloc(&pointer, make[i].bytes));
          return {};
        },
        [&]() -> Status {
          SPW_CU_TRY(driver.cuMemFree(pointer));
          return {};
        },
        &make[i].ns,
        &end[i].ns));
  }
  constexpr const char* kHow = "medians at two sizes on an idle device";
  add(out, "memory_calls.alloc", make[0], make[1], kHow);
  add(out, "memory_calls.free", end[0], end[1], kHow);
  return {};
}

Status page_locking(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  const Driver& driver = gauge.driver();
  const std::uint64_t sizes[2] = {2 * kMiB, options.quick ? 64 * kMiB : kGiB};
  const int samples = options.quick ? 3 : 5;
  Sized alloc[2];
  Sized free[2];
  Sized pin[2];
  Sized unpin[2];
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t bytes = sizes[i];
    alloc[i].bytes = free[i].bytes = pin[i].bytes = unpin[i].bytes = bytes;
    void* pointer = nullptr;
    SPW_RETURN_IF_ERROR(pair_ns(
        gauge,
        samples,
        [&]() -> Status {
          SPW_CU_TRY(driver.cuMemHostAlloc(&pointer, bytes, cu::kHostAllocPortable));
          return {};
        },
        [&]() -> Status {
          SPW_CU_TRY(driver.cuMemFreeHost(pointer));
          return {};
        },
        &alloc[i].ns,
        &free[i].ns));
    for (const bool huge : {false, true}) {
      SPW_ASSIGN_OR_RETURN(const HostPages pages, HostPages::create(bytes, huge));
      double pin_ns = 0;
      double unpin_ns = 0;
      SPW_RETURN_IF_ERROR(pair_ns(
          gauge,
          samples,
          [&]() -> Status {
            SPW_CU_TRY(driver.cuMemHostRegister(pages.data(), bytes, cu::kHostRegisterPortable));
            return {};
          },
          [&]() -> Status {
            SPW_CU_TRY(driver.cuMemHostUnregister(pages.data()));
            return {};
          },
          &pin_ns,
          &unpin_ns));
      if (huge) {
        out->saw("cuMemHostRegister of " + std::to_string(bytes / kMiB) + " MiB, huge pages",
                 pin_ns / 1e6,
                 "ms");
        continue;
      }
      pin[i].ns = pin_ns;
      unpin[i].ns = unpin_ns;
    }
  }
  const std::string how = "medians at 2 and " + std::to_string(sizes[1] / kMiB) + " MiB";
  add(out, "memory_calls.host_alloc", alloc[0], alloc[1], how.c_str());
  add(out, "memory_calls.host_free", free[0], free[1], how.c_str());
  add(out, "memory_calls.host_register", pin[0], pin[1], (how + ", touched pages").c_str());
  add(out, "memory_calls.host_unregister", unpin[0], unpin[1], (how + ", touched pages").c_str());
  return {};
}

}  // namespace

Status measure_memory(Gauge& gauge, const MeasureOptions& options, Measurements* out) {
  SPW_RETURN_IF_ERROR(virtual_memory(gauge, options, out));
  SPW_RETURN_IF_ERROR(allocation(gauge, options, out));
  return page_locking(gauge, options, out);
}

}  // namespace spillway::measure
