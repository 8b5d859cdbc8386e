// SPDX-License-Identifier: Apache-2.0
// A 7B model's training step on the simulated GPU in timed mode: every allocation, free and op goes
// through the driver table of a 141 GiB device, and fits a small machine because nothing is stored.
#include "device/kernel_registry.hpp"
#include "device/sim/simulator.hpp"
#include "integration/generator/generator.hpp"
#include "policy/profile_builder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

struct StepKernel {
  std::int64_t duration_ns = 0;
  std::vector<KernelAccess> accesses;
};
void step_body(const LaunchShape&, const StepKernel*) {}
void step_accesses(AccessList& list, const LaunchShape&, const StepKernel* kernel) {
  for (const KernelAccess& access : kernel->accesses) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver's type for any address
    const auto* pointer = reinterpret_cast<const void*>(access.pointer);
    if (access.mode == AccessMode::kRead)
      list.reads(pointer, access.bytes);
    else
      list.updates(pointer, access.bytes);
  }
}
KernelCost step_cost(const LaunchShape&, const StepKernel* kernel) {
  return {.fixed_ns = kernel->duration_ns};
}

std::uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t total_pages = 0;
  std::uint64_t resident_pages = 0;
  in >> total_pages >> resident_pages;
  return resident_pages * 4096;
}

/// One step: storages come and go in stream order, each op is one kernel with its declared uses.
void run_step(const Driver& cu, const Profile& profile) {
  const auto ok = [](cu::Result result) { REQUIRE(result == cu::Result::kSuccess); };
  ok(cu.cuInit(0));
  cu::Context context = nullptr;
  ok(cu.cuDevicePrimaryCtxRetain(&context, 0));
  ok(cu.cuCtxSetCurrent(context));
  cu::Module module = nullptr;
  cu::Function function = nullptr;
  ok(cu.cuModuleLoadData(&module, ".version 7.0\n"));
  ok(cu.cuModuleGetFunction(&function, module, "step_kernel"));
  cu::Stream stream = nullptr;
  ok(cu.cuStreamCreate(&stream, cu::kStreamNonBlocking));

  std::vector<cu::DevicePtr> address(profile.storages.size(), 0);
  std::vector<std::vector<std::uint32_t>> born(profile.ops.size());
  std::vector<std::vector<std::uint32_t>> dies(profile.ops.size());
  for (std::uint32_t s = 0; s < profile.storages.size(); ++s) {
    const Storage& storage = profile.storages[s];
    if (storage.bytes == 0) continue;
    if (storage.created_by.valid())
      born[storage.created_by.index()].push_back(s);
    else
      ok(cu.cuMemAllocAsync(&address[s], storage.bytes, stream));
    if (storage.freed_after.valid()) dies[storage.freed_after.index()].push_back(s);
  }
  StepKernel kernel;
  for (std::uint32_t o = 0; o < profile.ops.size(); ++o) {
    const Op& op = profile.ops[o];
    for (const std::uint32_t s : born[o])
      ok(cu.cuMemAllocAsync(&address[s], profile.storages[s].bytes, stream));
    kernel.duration_ns = static_cast<std::int64_t>(op.duration_ns);
    kernel.accesses.clear();
    for (std::uint32_t u = op.uses_begin; u < op.uses_end; ++u) {
      const Use use = profile.uses[u];
      const std::uint32_t s = profile.tensors[use.tensor().index()].storage.value;
      if (profile.storages[s].bytes == 0) continue;
      kernel.accesses.push_back({address[s],
                                 profile.storages[s].bytes,
                                 use.reads() ? AccessMode::kRead : AccessMode::kUpdate});
    }
    const StepKernel* parameter = &kernel;
    void* parameters[] = {&parameter};
    ok(cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
    for (const std::uint32_t s : dies[o]) {
      ok(cu.cuMemFreeAsync(address[s], stream));
      address[s] = 0;
    }
  }
  ok(cu.cuStreamSynchronize(stream));
  for (const cu::DevicePtr pointer : address)
    if (pointer != 0) ok(cu.cuMemFreeAsync(pointer, stream));
  ok(cu.cuStreamSynchronize(stream));
  ok(cu.cuStreamDestroy(stream));
  ok(cu.cuModuleUnload(module));
  ok(cu.cuDevicePrimaryCtxRelease(0));
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("a 7B model's step on a simulated 141 GiB device takes less than 2 GiB here") {
    const Calibration gpu = load_calibration("h200").value();
    ProfileBuilder builder;
    GenerateOptions options;
    options.batch = 4;
    REQUIRE(generate(model_by_name("llama-7b").value(), options, gpu, builder).ok());
    auto profile = builder.finish();
    REQUIRE(profile.ok());
    const Profile& step = profile.value();
    std::uint64_t compute_ns = 0;
    for (const Op& op : step.ops) compute_ns += op.duration_ns;

    register_kernel(make_kernel<step_body, step_accesses, step_cost>("step_kernel"));
    const std::uint64_t before_bytes = resident_bytes();
    sim::Options device;
    device.mode = sim::Mode::kTimed;
    device.contents = sim::Contents::kNone;
    device.memory_bytes = gpu.memory_bytes;
    device.calibration = &gpu;
    auto simulator = sim::Simulator::create(device);
    REQUIRE(simulator.ok());
    simulator.value()->run([&] { run_step(simulator.value()->driver(), step); });
    const std::uint64_t after_bytes = resident_bytes();

    CHECK(simulator.value()->report_text() == "");
    const sim::Counters counters = simulator.value()->counters();
    CHECK(counters.operations > step.ops.size());
    CHECK(counters.device_bytes_peak > (60ull << 30));
    CHECK(counters.device_bytes_peak <= gpu.memory_bytes);
    CHECK(after_bytes - before_bytes < (2ull << 30));
    // The device is busy: the step takes its kernels' time and the gaps between them.
    const auto step_ns = static_cast<std::uint64_t>(counters.now_ns);
    CHECK(step_ns >= compute_ns);
    CHECK(step_ns - compute_ns < compute_ns / 20);
  }
}

}  // namespace spillway
