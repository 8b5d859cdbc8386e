// SPDX-License-Identifier: Apache-2.0
// Memory of one device seen by another, and by another process. Cases that need two devices do
// nothing with one. Source: CUDA driver API, peer context memory access and cuIpcGetMemHandle.
#include "tests/device/conformance/cases.hpp"

#include <cstring>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;

int device_count(ConformanceEnv& env) {
  int count = 0;
  SPW_MUST(env.d.cuDeviceGetCount(&count));
  return count;
}

SPW_CONFORMANCE("peer", access_to_itself, "a device is not its own peer") {
  int can = 9;
  SPW_OK(env.d.cuDeviceCanAccessPeer(&can, env.device, env.device));
  CHECK(can == 0);
  SPW_EXPECT_FAILURE(env.d.cuCtxEnablePeerAccess(env.context, 0));
  SPW_EXPECT(kPeerAccessNotEnabled, env.d.cuCtxDisablePeerAccess(env.context));
}

SPW_CONFORMANCE("peer",
                enable_and_disable,
                "peer access is enabled once and disabled once: errors 704 and 705") {
  if (device_count(env) < 2) return;
  cu::Device peer = 0;
  SPW_MUST(env.d.cuDeviceGet(&peer, 1));
  int can = 0;
  SPW_OK(env.d.cuDeviceCanAccessPeer(&can, env.device, peer));
  cu::Context other = nullptr;
  SPW_MUST(env.d.cuDevicePrimaryCtxRetain(&other, peer));
  if (can != 0) {
    SPW_OK(env.d.cuCtxEnablePeerAccess(other, 0));
    SPW_EXPECT(kPeerAccessAlreadyEnabled, env.d.cuCtxEnablePeerAccess(other, 0));
    SPW_OK(env.d.cuCtxDisablePeerAccess(other));
    SPW_EXPECT(kPeerAccessNotEnabled, env.d.cuCtxDisablePeerAccess(other));
    SPW_EXPECT(kInvalidValue, env.d.cuCtxEnablePeerAccess(other, 1));
  } else {
    SPW_EXPECT(kPeerAccessUnsupported, env.d.cuCtxEnablePeerAccess(other, 0));
  }
  SPW_OK(env.d.cuDevicePrimaryCtxRelease(peer));
}

SPW_CONFORMANCE("peer",
                copy_between_devices,
                "bytes go from one device's memory to another's, with or without peer access") {
  if (device_count(env) < 2) return;
  cu::Device peer = 0;
  cu::Context other = nullptr;
  SPW_MUST(env.d.cuDeviceGet(&peer, 1));
  SPW_MUST(env.d.cuDevicePrimaryCtxRetain(&other, peer));
  {
    const Memory a = env.filled(kN, 21);
    const Memory back = env.filled(kN, 0);
    const Stream s = env.non_blocking_stream();
    SPW_MUST(env.d.cuCtxPushCurrent(other));
    cu::DevicePtr there = 0;
    const Result made = env.d.cuMemAlloc(&there, kBytes);
    cu::Context popped = nullptr;
    SPW_OK(env.d.cuCtxPopCurrent(&popped));
    SPW_MUST(made);
    SPW_OK(env.d.cuMemcpyPeerAsync(there, other, a, env.context, kBytes, s.handle()));
    SPW_OK(env.d.cuMemcpyPeerAsync(back, env.context, there, other, kBytes, s.handle()));
    SPW_OK(env.d.cuStreamSynchronize(s.handle()));
    env.check_words(back, kN, 21);
    SPW_OK(env.d.cuMemFree(there));
  }
  SPW_OK(env.d.cuDevicePrimaryCtxRelease(peer));
}

// --- Other processes -----------------------------------------------------------------------------

/// Whether the provider shares memory between processes at all: containers and some devices do not.
bool shares(ConformanceEnv& env, const Memory& a) {
  cu::IpcMemHandle handle;
  return !is_one_of(env.d.cuIpcGetMemHandle(&handle, a),
                    {Result::kNotSupported, Result::kOperatingSystem, Result::kMapFailed});
}

SPW_CONFORMANCE("ipc",
                plain_memory,
                "plain memory has a handle for other processes, always the same") {
  const Memory a = env.memory(kBytes);
  if (!shares(env, a)) return;
  cu::IpcMemHandle first;
  cu::IpcMemHandle second;
  SPW_OK(env.d.cuIpcGetMemHandle(&first, a));
  SPW_OK(env.d.cuIpcGetMemHandle(&second, a));
  CHECK(std::memcmp(&first, &second, sizeof first) == 0);
}

SPW_CONFORMANCE("ipc",
                unique_after_free,
                "memory allocated again, even at the same address, has another handle") {
  cu::IpcMemHandle first;
  cu::IpcMemHandle second;
  {
    const Memory a = env.memory(kBytes);
    if (!shares(env, a)) return;
    SPW_OK(env.d.cuIpcGetMemHandle(&first, a));
  }
  const Memory b = env.memory(kBytes);
  SPW_OK(env.d.cuIpcGetMemHandle(&second, b));
  CHECK(std::memcmp(&first, &second, sizeof first) != 0);
}

SPW_CONFORMANCE("ipc", own_process, "a handle is for other processes: opening it here is refused") {
  const Memory a = env.memory(kBytes);
  if (!shares(env, a)) return;
  cu::IpcMemHandle handle;
  cu::DevicePtr p = 0;
  SPW_OK(env.d.cuIpcGetMemHandle(&handle, a));
  const Result opened = env.d.cuIpcOpenMemHandle(&p, handle, cu::kIpcLazyEnablePeerAccess);
  // Seen to be "invalid context"; documented is only that it is for another process.
  CHECK(opened != Result::kSuccess);
  if (opened == Result::kSuccess) SPW_OK(env.d.cuIpcCloseMemHandle(p));
}

SPW_CONFORMANCE("ipc",
                other_memory,
                "host memory, mapped memory and what is no memory have no such handle") {
  const Memory a = env.memory(kBytes);
  if (!shares(env, a)) return;
  cu::IpcMemHandle handle;
  SPW_EXPECT(kInvalidValue, env.d.cuIpcGetMemHandle(&handle, 0x10));
  const PinnedBuffer host = env.pinned(kBytes);
  SPW_EXPECT_FAILURE(
      env.d.cuIpcGetMemHandle(&handle, reinterpret_cast<std::uintptr_t>(host.data())));
  SPW_EXPECT(kInvalidValue, env.d.cuIpcCloseMemHandle(a));
  if (!env.has_virtual_memory()) return;
  const auto prop = device_allocation_prop(env.device);
  const std::size_t page = allocation_granularity(env.d, prop).value();
  auto reservation = Reservation::create(env.d, page);
  REQUIRE(reservation.ok());
  auto memory = PhysicalHandle::create(env.d, page, prop);
  REQUIRE(memory.ok());
  auto mapping = Mapping::create(env.d,
                                 reservation.value().pointer(),
                                 std::make_shared<const PhysicalHandle>(std::move(memory).value()));
  REQUIRE(mapping.ok());
  CHECK(allow_access(env.d, mapping.value().pointer(), page, env.device).ok());
  SPW_EXPECT_FAILURE(env.d.cuIpcGetMemHandle(&handle, mapping.value().pointer()));
}

}  // namespace
}  // namespace spillway::conformance
