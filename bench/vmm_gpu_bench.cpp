// SPDX-License-Identifier: Apache-2.0
// What the driver's virtual memory calls cost the host: each call by itself at 2 and 32 MiB, access
// for many mappings at once, a kept handle mapped again, 1 to 16 threads, and each of them while a
// kernel runs (does it wait?). Without a CUDA device it says skipped.
#include "bench/support/gpu_ground.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/session.hpp"
#include "bench/support/stopwatch.hpp"
#include "core/version.hpp"
#include "device/driver_error.hpp"
#include "device/mapping.hpp"
#include "device/measure/measure_kernels.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::bench;

constexpr std::size_t kMiB = std::size_t{1} << 20;

// The calls of a mapping's life, in order; and cuMemAlloc's, to compare.
enum Call {
  kReserve,
  kCreate,
  kMap,
  kSetAccess,
  kUnmap,
  kRelease,
  kAddressFree,
  kAlloc,
  kFree,
  kCallCount
};
constexpr const char* kCallNames[kCallCount] = {"cuMemAddressReserve",
                                                "cuMemCreate",
                                                "cuMemMap",
                                                "cuMemSetAccess",
                                                "cuMemUnmap",
                                                "cuMemRelease",
                                                "cuMemAddressFree",
                                                "cuMemAlloc",
                                                "cuMemFree"};
using Ticks = std::vector<std::vector<std::uint32_t>>;  // per call

class VmmBench {
 public:
  VmmBench(const Ground& ground, TickScale ticks)
      : ground_(ground), driver_(ground.driver), ticks_(ticks) {
    prop_ = device_allocation_prop(ground.device);
    access_.location = prop_.location;
    access_.flags = cu::AccessFlags::kReadWrite;
  }

  Status run();
  [[nodiscard]] const nlohmann::json& rows() const { return rows_; }

 private:
  // Calls `work` and appends what it took.
  template <typename Work>
  Status timed(Call call, Ticks* ticks, Work work) {
    const std::uint64_t begin = now_ticks();
    const cu::Result result = work();
    (*ticks)[call].push_back(
        static_cast<std::uint32_t>(std::min<std::uint64_t>(now_ticks() - begin, 0xffffffffu)));
    return driver_status(result, kCallNames[call], __FILE__, __LINE__);
  }
  Status lives(std::size_t bytes, std::size_t count, Ticks* ticks);
  Status single_calls(std::size_t bytes);
  Status batched_access(std::size_t bytes);
  Status kept_handle(std::size_t bytes);
  Status threads(std::size_t bytes);
  Status beside_kernel(std::size_t bytes);
  void row(const std::string& what, std::size_t bytes, std::vector<std::uint32_t> ticks);

  const Ground& ground_;
  const Driver& driver_;
  TickScale ticks_;
  cu::AllocationProp prop_;
  cu::AccessDesc access_;
  nlohmann::json rows_ = nlohmann::json::array();
};

void VmmBench::row(const std::string& what, std::size_t bytes, std::vector<std::uint32_t> ticks) {
  const Percentiles times = percentiles(ticks, ticks_.ns_per_tick);
  std::printf("%-52s %7zu MiB %10.2f %10.2f %10.2f %10.2f %7zu\n",
              what.c_str(),
              bytes / kMiB,
              times.p50_ns / 1e3,
              times.p99_ns / 1e3,
              times.p999_ns / 1e3,
              times.max_ns / 1e3,
              times.count);
  rows_.push_back({{"what", what},
                   {"bytes", bytes},
                   {"p50_us", times.p50_ns / 1e3},
                   {"p99_us", times.p99_ns / 1e3},
                   {"p99.9_us", times.p999_ns / 1e3},
                   {"max_us", times.max_ns / 1e3},
                   {"count", times.count}});
}

// `count` mappings made one after the other, all alive together, and ended.
Status VmmBench::lives(std::size_t bytes, std::size_t count, Ticks* ticks) {
  std::vector<cu::DevicePtr> pointers(count);
  std::vector<cu::AllocationHandle> handles(count);
  for (std::size_t i = 0; i < count; ++i) {
    SPW_RETURN_IF_ERROR(timed(kReserve, ticks, [&] {
      return driver_.cuMemAddressReserve(&pointers[i], bytes, 0, 0, 0);
    }));
    SPW_RETURN_IF_ERROR(
        timed(kCreate, ticks, [&] { return driver_.cuMemCreate(&handles[i], bytes, &prop_, 0); }));
    SPW_RETURN_IF_ERROR(
        timed(kMap, ticks, [&] { return driver_.cuMemMap(pointers[i], bytes, 0, handles[i], 0); }));
    SPW_RETURN_IF_ERROR(timed(kSetAccess, ticks, [&] {
      return driver_.cuMemSetAccess(pointers[i], bytes, &access_, 1);
    }));
  }
  for (std::size_t i = 0; i < count; ++i) {
    SPW_RETURN_IF_ERROR(
        timed(kUnmap, ticks, [&] { return driver_.cuMemUnmap(pointers[i], bytes); }));
    SPW_RETURN_IF_ERROR(timed(kRelease, ticks, [&] { return driver_.cuMemRelease(handles[i]); }));
    SPW_RETURN_IF_ERROR(
        timed(kAddressFree, ticks, [&] { return driver_.cuMemAddressFree(pointers[i], bytes); }));
  }
  return {};
}

Status VmmBench::single_calls(std::size_t bytes) {
  const std::size_t count = std::clamp<std::size_t>(ground_.memory_bytes / 2 / bytes, 4, 2048);
  Ticks ticks(kCallCount);
  SPW_RETURN_IF_ERROR(lives(bytes, count, &ticks));
  std::vector<cu::DevicePtr> pointers(count);
  for (cu::DevicePtr& pointer : pointers) {
    SPW_RETURN_IF_ERROR(timed(kAlloc, &ticks, [&] { return driver_.cuMemAlloc(&pointer, bytes); }));
  }
  for (const cu::DevicePtr pointer : pointers) {
    SPW_RETURN_IF_ERROR(timed(kFree, &ticks, [&] { return driver_.cuMemFree(pointer); }));
  }
  for (int call = 0; call < kCallCount; ++call) {
    row(kCallNames[call], bytes, ticks[static_cast<std::size_t>(call)]);
  }
  return {};
}

// One cuMemSetAccess over several mappings that lie side by side.
Status VmmBench::batched_access(std::size_t bytes) {
  for (const std::size_t count :
       {std::size_t{1}, std::size_t{4}, std::size_t{16}, std::size_t{64}}) {
    if (count * bytes > ground_.memory_bytes / 2) break;
    Ticks ticks(kCallCount);
    cu::DevicePtr base = 0;
    SPW_CU_TRY(driver_.cuMemAddressReserve(&base, count * bytes, 0, 0, 0));
    std::vector<cu::AllocationHandle> handles(count);
    for (cu::AllocationHandle& handle : handles) {
      SPW_CU_TRY(driver_.cuMemCreate(&handle, bytes, &prop_, 0));
    }
    for (int round = 0; round < 50; ++round) {
      for (std::size_t i = 0; i < count; ++i) {
        SPW_CU_TRY(driver_.cuMemMap(base + i * bytes, bytes, 0, handles[i], 0));
      }
      SPW_RETURN_IF_ERROR(timed(kSetAccess, &ticks, [&] {
        return driver_.cuMemSetAccess(base, count * bytes, &access_, 1);
      }));
      for (std::size_t i = 0; i < count; ++i) {
        SPW_CU_TRY(driver_.cuMemUnmap(base + i * bytes, bytes));
      }
    }
    for (const cu::AllocationHandle handle : handles) SPW_CU_TRY(driver_.cuMemRelease(handle));
    SPW_CU_TRY(driver_.cuMemAddressFree(base, count * bytes));
    row(fmt::format("cuMemSetAccess over {} mappings at once", count), bytes, ticks[kSetAccess]);
  }
  return {};
}

// What a pool does that keeps its handles: map, allow, unmap, and no creation.
Status VmmBench::kept_handle(std::size_t bytes) {
  cu::DevicePtr base = 0;
  cu::AllocationHandle handle = 0;
  SPW_CU_TRY(driver_.cuMemAddressReserve(&base, 2 * bytes, 0, 0, 0));
  SPW_CU_TRY(driver_.cuMemCreate(&handle, bytes, &prop_, 0));
  std::vector<std::uint32_t> ticks;
  for (std::size_t round = 0; round < 500; ++round) {
    const cu::DevicePtr at = base + round % 2 * bytes;
    const std::uint64_t begin = now_ticks();
    SPW_CU_TRY(driver_.cuMemMap(at, bytes, 0, handle, 0));
    SPW_CU_TRY(driver_.cuMemSetAccess(at, bytes, &access_, 1));
    SPW_CU_TRY(driver_.cuMemUnmap(at, bytes));
    ticks.push_back(static_cast<std::uint32_t>(now_ticks() - begin));
  }
  SPW_CU_TRY(driver_.cuMemRelease(handle));
  SPW_CU_TRY(driver_.cuMemAddressFree(base, 2 * bytes));
  row("kept handle: map, set access, unmap", bytes, ticks);
  return {};
}

Status VmmBench::threads(std::size_t bytes) {
  for (const std::size_t count : std::initializer_list<std::size_t>{1, 2, 4, 8, 16}) {
    if (count * 4 * bytes > ground_.memory_bytes) break;
    std::vector<Ticks> ticks(count, Ticks(kCallCount));
    std::vector<Status> ends(count);
    constexpr std::size_t kRounds = 32;
    const ThreadTimes times = spillway::bench::threads::run_together(
        ground_,
        count,
        kRounds,
        [](std::size_t) { return std::size_t{0}; },
        [&](std::size_t thread) {
          for (std::size_t i = 0; i < kRounds && ends[thread].ok(); ++i) {
            ends[thread] = lives(bytes, 1, &ticks[thread]);
          }
          return std::size_t{0};
        });
    for (const Status& end : ends) SPW_RETURN_IF_ERROR(end);
    for (const Call call : {kCreate, kMap, kSetAccess, kUnmap}) {
      std::vector<std::uint32_t> all;
      for (const Ticks& one : ticks) all.insert(all.end(), one[call].begin(), one[call].end());
      row(fmt::format("{}, {} threads", kCallNames[call], count), bytes, all);
    }
    const std::string what = fmt::format("a mapping's life, {} threads, all together", count);
    std::printf(
        "%-52s %7zu MiB %10.2f us each\n", what.c_str(), bytes / kMiB, times.ns_per_pair / 1e3);
    rows_.push_back({{"what", what}, {"bytes", bytes}, {"mean_us", times.ns_per_pair / 1e3}});
  }
  return {};
}

// Each call once while a kernel that touches nothing of it runs for 20 ms, several times: a call
// that waits for the device shows the rest of them.
Status VmmBench::beside_kernel(std::size_t bytes) {
  constexpr std::uint64_t kKernelNs = 20'000'000;
  const Result<measure::MeasureKernels> loaded = measure::MeasureKernels::load(driver_);
  if (!loaded.ok()) {
    std::printf("not measured beside a kernel: %s\n", loaded.status().message().c_str());
    return {};
  }
  const measure::MeasureKernels& kernels = loaded.value();
  SPW_ASSIGN_OR_RETURN(const StreamRef stream, StreamRef::of(driver_, ground_.streams.front()));
  Ticks ticks(kCallCount);
  const auto busy = [&]() -> Status {
    SPW_CU_TRY(driver_.cuCtxSynchronize());
    return kernels.wait.launch(stream, LaunchShape(), kKernelNs);
  };
  for (int round = 0; round < 5; ++round) {
    cu::DevicePtr pointer = 0;
    cu::DevicePtr plain = 0;
    cu::AllocationHandle handle = 0;
    const auto step = [&](Call call, auto work) -> Status {
      SPW_RETURN_IF_ERROR(busy());
      return timed(call, &ticks, work);
    };
    SPW_RETURN_IF_ERROR(
        step(kReserve, [&] { return driver_.cuMemAddressReserve(&pointer, bytes, 0, 0, 0); }));
    SPW_RETURN_IF_ERROR(
        step(kCreate, [&] { return driver_.cuMemCreate(&handle, bytes, &prop_, 0); }));
    SPW_RETURN_IF_ERROR(step(kMap, [&] { return driver_.cuMemMap(pointer, bytes, 0, handle, 0); }));
    SPW_RETURN_IF_ERROR(
        step(kSetAccess, [&] { return driver_.cuMemSetAccess(pointer, bytes, &access_, 1); }));
    SPW_RETURN_IF_ERROR(step(kUnmap, [&] { return driver_.cuMemUnmap(pointer, bytes); }));
    SPW_RETURN_IF_ERROR(step(kRelease, [&] { return driver_.cuMemRelease(handle); }));
    SPW_RETURN_IF_ERROR(
        step(kAddressFree, [&] { return driver_.cuMemAddressFree(pointer, bytes); }));
    SPW_RETURN_IF_ERROR(step(kAlloc, [&] { return driver_.cuMemAlloc(&plain, bytes); }));
    SPW_RETURN_IF_ERROR(step(kFree, [&] { return driver_.cuMemFree(plain); }));
    SPW_CU_TRY(driver_.cuCtxSynchronize());
  }
  for (int call = 0; call < kCallCount; ++call) {
    row(fmt::format("{} while a 20 ms kernel runs", kCallNames[call]),
        bytes,
        ticks[static_cast<std::size_t>(call)]);
  }
  return {};
}

Status VmmBench::run() {
  std::size_t page = 0;
  SPW_CU_TRY(driver_.cuMemGetAllocationGranularity(&page, &prop_, cu::Granularity::kMinimum));
  std::printf("page      %zu bytes\n\n%-52s %11s %10s %10s %10s %10s %7s\n",
              page,
              "us of one call",
              "size",
              "p50",
              "p99",
              "p99.9",
              "max",
              "calls");
  const std::size_t small = std::max(page, 2 * kMiB);
  for (const std::size_t bytes : {small, 16 * small}) {
    SPW_RETURN_IF_ERROR(single_calls(bytes));
    SPW_RETURN_IF_ERROR(batched_access(bytes));
    SPW_RETURN_IF_ERROR(kept_handle(bytes));
    SPW_RETURN_IF_ERROR(threads(bytes));
    SPW_RETURN_IF_ERROR(beside_kernel(bytes));
  }
  return {};
}

Status run_bench(const Ground& ground, const std::string& driver, const std::string& json_path) {
  const TickScale ticks = measure_ticks();
  std::printf(
      "machine   %s\nload      %s\nrevision  %.*s\ndriver    %s\nclock     %.0f ns a read\n",
      machine_text().c_str(),
      load_text().c_str(),
      static_cast<int>(git_revision().size()),
      git_revision().data(),
      driver.c_str(),
      ticks.cost.p50_ns);
  VmmBench bench(ground, ticks);
  SPW_RETURN_IF_ERROR(bench.run());
  if (json_path.empty()) return {};
  const nlohmann::json all = {{"schema", "spillway-vmm-bench/1"},
                              {"machine", machine_text()},
                              {"revision", std::string(git_revision())},
                              {"driver", driver},
                              {"rows", bench.rows()}};
  std::ofstream file(json_path);
  file << all.dump(1) << '\n';
  file.close();
  if (!file) return {Code::kIo, json_path + ": cannot be written"};
  return {};
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): out of host memory ends a bench
int main(int argc, char** argv) {
  std::string json_path;
  if (argc == 3 && std::string_view(argv[1]) == "--json") {
    json_path = argv[2];
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: %s [--json FILE]\n", argv[0]);
    return 1;
  }
  std::string driver;
  const Result<Ground> ground = gpu_ground(16, &driver);
  if (!ground.ok()) {
    return skipped(ground.status());
  }
  const Status done = run_bench(ground.value(), driver, json_path);
  give_back(ground.value());
  if (done.ok()) return 0;
  std::fprintf(stderr, "vmm_gpu_bench: %s\n", done.message().c_str());
  return 4;
}
