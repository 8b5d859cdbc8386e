// SPDX-License-Identifier: Apache-2.0
// Devices and contexts: what must be current, the stack per thread, the primary context's count.
// Source: CUDA driver API, device, primary context and context management.
#include "tests/device/conformance/cases.hpp"

#include <array>
#include <cstring>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;

SPW_CONFORMANCE("contexts", devices, "devices are numbered from zero, named, and have memory") {
  int count = 0;
  SPW_OK(env.d.cuDeviceGetCount(&count));
  REQUIRE(count >= 1);
  for (int i = 0; i < count; ++i) {
    cu::Device device = -1;
    SPW_OK(env.d.cuDeviceGet(&device, i));
    std::array<char, 256> name{};
    SPW_OK(env.d.cuDeviceGetName(name.data(), static_cast<int>(name.size()), device));
    CHECK(::strnlen(name.data(), name.size()) > 0);
    CHECK(::strnlen(name.data(), name.size()) < name.size());
    std::size_t bytes = 0;
    SPW_OK(env.d.cuDeviceTotalMem(&bytes, device));
    CHECK(bytes > 0);
    cu::Uuid uuid;
    SPW_OK(env.d.cuDeviceGetUuid(&uuid, device));
    std::array<char, 32> bus{};
    SPW_OK(env.d.cuDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device));
    CHECK(std::strchr(bus.data(), ':') != nullptr);
  }
}

SPW_CONFORMANCE("contexts", short_name, "a device's name is cut to the caller's buffer and ended") {
  std::array<char, 4> name = {'x', 'x', 'x', 'x'};
  SPW_OK(env.d.cuDeviceGetName(name.data(), 3, env.device));
  CHECK(::strnlen(name.data(), 3) < 3);
  CHECK(name[3] == 'x');
}

SPW_CONFORMANCE("contexts", no_such_device, "a device that does not exist is error 101") {
  int count = 0;
  SPW_OK(env.d.cuDeviceGetCount(&count));
  cu::Device device = 0;
  SPW_EXPECT(kInvalidDevice, env.d.cuDeviceGet(&device, count));
  SPW_EXPECT(kInvalidDevice, env.d.cuDeviceGet(&device, -1));
  SPW_EXPECT(kInvalidValue, env.d.cuDeviceGet(nullptr, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuDeviceGetCount(nullptr));
}

SPW_CONFORMANCE("contexts", attributes, "a device answers the attributes it is asked for") {
  CHECK(env.attribute(cu::DeviceAttribute::kComputeCapabilityMajor) >= 5);
  CHECK(env.attribute(cu::DeviceAttribute::kWarpSize) == 32);
  CHECK(env.attribute(cu::DeviceAttribute::kMaxThreadsPerBlock) >= 1024);
  CHECK(env.attribute(cu::DeviceAttribute::kMultiprocessorCount) >= 1);
  CHECK(env.attribute(cu::DeviceAttribute::kUnifiedAddressing) == 1);
  CHECK(env.attribute(cu::DeviceAttribute::kAsyncEngineCount) >= 1);
  int value = 0;
  SPW_EXPECT(kInvalidValue,
             env.d.cuDeviceGetAttribute(&value, static_cast<cu::DeviceAttribute>(0), env.device));
  SPW_EXPECT(kInvalidValue,
             env.d.cuDeviceGetAttribute(nullptr, cu::DeviceAttribute::kWarpSize, env.device));
}

SPW_CONFORMANCE("contexts", version, "the driver's version is at least the table's") {
  int version = 0;
  SPW_OK(env.d.cuDriverGetVersion(&version));
  CHECK(version >= 12000);
  SPW_EXPECT(kInvalidValue, env.d.cuDriverGetVersion(nullptr));
}

SPW_CONFORMANCE("contexts", init_again, "cuInit may be called again, and takes no flags") {
  SPW_OK(env.d.cuInit(0));
  SPW_EXPECT(kInvalidValue, env.d.cuInit(1));
  SPW_OK(env.d.cuCtxSynchronize());
}

SPW_CONFORMANCE("contexts",
                nothing_current,
                "without a current context nothing is allocated or created: error 201") {
  SPW_MUST(env.d.cuCtxSetCurrent(nullptr));
  cu::DevicePtr p = 0;
  void* host = nullptr;
  cu::Stream s = nullptr;
  cu::Event e = nullptr;
  cu::Device device = 0;
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  cu::Context current = env.context;
  SPW_OK(env.d.cuCtxGetCurrent(&current));
  CHECK(current == nullptr);
  SPW_EXPECT(kInvalidContext, env.d.cuMemAlloc(&p, 256));
  SPW_EXPECT(kInvalidContext, env.d.cuMemHostAlloc(&host, 256, 0));
  SPW_EXPECT(kInvalidContext, env.d.cuStreamCreate(&s, cu::kStreamNonBlocking));
  SPW_EXPECT(kInvalidContext, env.d.cuEventCreate(&e, 0));
  SPW_EXPECT(kInvalidContext, env.d.cuCtxGetDevice(&device));
  SPW_EXPECT(kInvalidContext, env.d.cuCtxSynchronize());
  SPW_EXPECT(kInvalidContext, env.d.cuMemGetInfo(&free_bytes, &total_bytes));
  SPW_OK(env.d.cuCtxSetCurrent(env.context));
  SPW_OK(env.d.cuCtxGetDevice(&device));
  CHECK(device == env.device);
}

SPW_CONFORMANCE("contexts", stack, "contexts are pushed and popped, the last first") {
  cu::Context current = nullptr;
  cu::Context popped = nullptr;
  SPW_OK(env.d.cuCtxPushCurrent(env.context));
  SPW_OK(env.d.cuCtxPopCurrent(&popped));
  CHECK(popped == env.context);
  SPW_OK(env.d.cuCtxGetCurrent(&current));
  CHECK(current == env.context);
  SPW_OK(env.d.cuCtxPopCurrent(&popped));
  CHECK(popped == env.context);
  SPW_OK(env.d.cuCtxGetCurrent(&current));
  CHECK(current == nullptr);
  SPW_EXPECT(kInvalidContext, env.d.cuCtxPopCurrent(&popped));
  SPW_OK(env.d.cuCtxSetCurrent(env.context));
}

SPW_CONFORMANCE("contexts",
                set_replaces,
                "setting the current context replaces the top of the stack, and null pops it") {
  cu::Context current = nullptr;
  SPW_OK(env.d.cuCtxPushCurrent(env.context));
  SPW_OK(env.d.cuCtxSetCurrent(nullptr));
  SPW_OK(env.d.cuCtxGetCurrent(&current));
  CHECK(current == env.context);
  SPW_OK(env.d.cuCtxSetCurrent(nullptr));
  SPW_OK(env.d.cuCtxGetCurrent(&current));
  CHECK(current == nullptr);
  SPW_OK(env.d.cuCtxSetCurrent(env.context));
}

SPW_CONFORMANCE("contexts",
                per_thread,
                "another host thread starts without a context and may share this one's") {
  const Memory a = env.filled(kN, 0);
  cu::Context before = env.context;
  auto none = Result::kUnknown;
  auto set = Result::kUnknown;
  auto worked = Result::kUnknown;
  auto waited = Result::kUnknown;
  env.on_other_thread([&] {
    cu::DevicePtr p = 0;
    (void)env.d.cuCtxGetCurrent(&before);
    none = env.d.cuMemAlloc(&p, 256);
    set = env.d.cuCtxSetCurrent(env.context);
    worked = env.launch_fill(nullptr, a, 5, kN);
    waited = env.d.cuStreamSynchronize(nullptr);
  });
  CHECK(before == nullptr);
  CHECK(none == Result::kInvalidContext);
  CHECK(set == Result::kSuccess);
  CHECK(worked == Result::kSuccess);
  CHECK(waited == Result::kSuccess);
  env.check_words(a, kN, 5);
}

SPW_CONFORMANCE("contexts",
                primary,
                "the primary context is one per device and lives while it is retained") {
  cu::Context again = nullptr;
  SPW_OK(env.d.cuDevicePrimaryCtxRetain(&again, env.device));
  CHECK(again == env.context);
  unsigned int flags = 99;
  int active = 0;
  SPW_OK(env.d.cuDevicePrimaryCtxGetState(env.device, &flags, &active));
  CHECK(active == 1);
  SPW_OK(env.d.cuDevicePrimaryCtxRelease(env.device));
  SPW_OK(env.d.cuDevicePrimaryCtxGetState(env.device, &flags, &active));
  CHECK(active == 1);
  const Memory a = env.filled(kN, 1);
  env.check_words(a, kN, 1);
}

}  // namespace
}  // namespace spillway::conformance
