// SPDX-License-Identifier: Apache-2.0
// Scenarios of programs of the driver API, linked to libcuda.so.1; argv[1] names one.
#include "device/driver.hpp"

#include "device/kernel_registry.hpp"
#include "tests/emulated/programs/must.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace spillway;
using R = cu::Result;

#define SPW_DECLARE(member, symbol, since, parameters) extern "C" cu::Result symbol parameters;
SPW_DRIVER_FUNCTIONS(SPW_DECLARE)
#undef SPW_DECLARE
// NOLINTBEGIN(readability-identifier-naming): the driver's names
extern "C" cu::Result cuGetProcAddress(const char*, void**, int, unsigned long long);
extern "C" cu::Result cuMemcpyHtoDAsync_v2_ptsz(cu::DevicePtr,
                                                const void*,
                                                std::size_t,
                                                cu::Stream);
extern "C" cu::Result cuMemcpyDtoH_v2_ptds(void*, cu::DevicePtr, std::size_t);
extern "C" cu::Result cuStreamGetId_ptsz(cu::Stream, unsigned long long*);
// NOLINTEND(readability-identifier-naming)
extern "C" int spw_emulated_register_kernel(const KernelSpec*);

namespace {

cu::Context g_context = nullptr;

void use_gpu() {
  GIVES(R::kSuccess, cuInit(0));
  GIVES(R::kSuccess, cuDevicePrimaryCtxRetain(&g_context, 0));
  GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
}

/// Bytes to the device and back on a stream of its own.
void round_trip(unsigned char value) {
  constexpr std::size_t kBytes = 64 << 10;
  cu::Stream stream = nullptr;
  cu::DevicePtr memory = 0;
  void* pinned = nullptr;
  GIVES(R::kSuccess, cuStreamCreate(&stream, cu::kStreamNonBlocking));
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, kBytes));
  GIVES(R::kSuccess, cuMemHostAlloc(&pinned, 2 * kBytes, 0));
  auto* const sent = static_cast<unsigned char*>(pinned);
  unsigned char* const got = sent + kBytes;
  std::memset(sent, value, kBytes);
  GIVES(R::kSuccess, cuMemcpyHtoDAsync_v2(memory, sent, kBytes, stream));
  GIVES(R::kSuccess, cuMemcpyDtoHAsync_v2(got, memory, kBytes, stream));
  GIVES(R::kSuccess, cuStreamSynchronize(stream));
  MUST(got[0] == value && got[kBytes - 1] == value);
  GIVES(R::kSuccess, cuMemFreeHost(pinned));
  GIVES(R::kSuccess, cuMemFree_v2(memory));
  GIVES(R::kSuccess, cuStreamDestroy_v2(stream));
}

void threads() {
  use_gpu();
  std::atomic<int> finished{0};
  // Twice, so that threads come after others that have ended.
  for (int wave = 0; wave < 2; ++wave) {
    std::vector<std::thread> all;
    all.reserve(16);
    for (int t = 0; t < 16; ++t)
      all.emplace_back([t, &finished] {
        cu::Context current = nullptr;
        GIVES(R::kSuccess, cuCtxGetCurrent(&current));
        MUST(current == nullptr);  // a context is current for one thread
        std::size_t free_bytes = 0;
        GIVES(R::kInvalidContext, cuMemGetInfo_v2(&free_bytes, &free_bytes));
        GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
        for (int i = 0; i < 20; ++i) round_trip(static_cast<unsigned char>(16 * i + t));
        ++finished;
      });
    for (std::thread& thread : all) thread.join();
  }
  MUST(finished == 32);
}

// What one thread made, another uses and frees: the program's locks order them.
void hand_over() {
  use_gpu();
  constexpr std::size_t kBytes = 4096;
  cu::DevicePtr memory = 0;
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, kBytes));
  std::thread other([memory] {
    GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
    GIVES(R::kSuccess, cuMemsetD8_v2(memory, 1, kBytes));
    GIVES(R::kSuccess, cuCtxSynchronize());
  });
  other.join();
  GIVES(R::kSuccess, cuMemFree_v2(memory));
}

int wait_for(pid_t child) {
  int status = 0;
  MUST(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void forks() {
  const pid_t early = ::fork();
  if (early == 0) {  // before cuInit a fork is allowed
    use_gpu();
    round_trip(1);
    std::exit(0);
  }
  MUST(wait_for(early) == 0);
  use_gpu();
  cu::DevicePtr memory = 0;
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, 4096));
  // One that is inside the driver most of the time, so that a fork meets its lock.
  std::atomic<bool> stop{false};
  std::thread busy([&stop] {
    GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
    while (!stop) round_trip(3);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      cu::DevicePtr mine = 0;
      int count = 0;
      GIVES(R::kNotInitialized, cuInit(0));
      GIVES(R::kNotInitialized, cuDeviceGetCount(&count));
      GIVES(R::kNotInitialized, cuMemAlloc_v2(&mine, 4096));
      GIVES(R::kNotInitialized, cuMemFree_v2(memory));
      GIVES(R::kNotInitialized, cuCtxSynchronize());
      std::exit(0);
    }
    MUST(wait_for(child) == 0);
  }
  stop = true;
  busy.join();
  GIVES(R::kSuccess, cuMemFree_v2(memory));
  round_trip(2);
}

void executes() {
  use_gpu();
  round_trip(1);
  ::execl("/proc/self/exe", "driver", "threads", static_cast<char*>(nullptr));
  MUST(false);
}

constexpr std::size_t kQueued = 256;

void exits_with_work() {
  use_gpu();
  cu::Stream stream = nullptr;
  cu::DevicePtr memory = 0;
  GIVES(R::kSuccess, cuStreamCreate(&stream, 0));
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, 1 << 20));
  for (std::size_t i = 0; i < kQueued; ++i)
    GIVES(R::kSuccess, cuMemsetD8Async(memory, static_cast<unsigned char>(i), 1 << 20, stream));
  // A thread that still calls while the process ends: served, or told that it is over.
  std::thread([stream] {
    const R current = cuCtxSetCurrent(g_context);
    MUST(current == R::kSuccess || current == R::kDeinitialized);
    for (;;) {
      const R result = cuStreamQuery(stream);
      MUST(result == R::kSuccess || result == R::kNotReady || result == R::kDeinitialized);
    }
  }).detach();
}

// A bug for the report: the second stream does not wait for the first.
void race() {
  use_gpu();
  cu::Stream streams[2] = {};
  cu::DevicePtr memory = 0;
  for (cu::Stream& stream : streams)
    GIVES(R::kSuccess, cuStreamCreate(&stream, cu::kStreamNonBlocking));
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, 4096));
  for (cu::Stream stream : streams) GIVES(R::kSuccess, cuMemsetD8Async(memory, 1, 4096, stream));
  GIVES(R::kSuccess, cuCtxSynchronize());
  GIVES(R::kSuccess, cuMemFree_v2(memory));
  for (cu::Stream stream : streams) GIVES(R::kSuccess, cuStreamDestroy_v2(stream));
}

/// Frees in its destructor what it allocated.
struct Holder {
  cu::DevicePtr memory = 0;
  R expected = R::kSuccess;
  Holder() = default;
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  Holder(Holder&&) = delete;
  Holder& operator=(Holder&&) = delete;
  ~Holder() {
    if (memory != 0) GIVES(expected, cuMemFree_v2(memory));
  }
};
// Constructed before the library is initialised, so destroyed after it.
Holder early_holder;

void destructors() {
  use_gpu();
  static Holder late_holder;
  GIVES(R::kSuccess, cuMemAlloc_v2(&late_holder.memory, 4096));
  GIVES(R::kSuccess, cuMemAlloc_v2(&early_holder.memory, 4096));
  early_holder.expected = R::kDeinitialized;
}

void look_ups() {
  void* found = &found;
  cu::ProcAddressStatus status = cu::ProcAddressStatus::kSuccess;
  const auto ask = [&](const char* name, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, &found, version, flags, &status);
  };
  // What the runtime asks first.
  GIVES(R::kNotFound, ask("", 0, 0));
  MUST(found == nullptr && status == cu::ProcAddressStatus::kSymbolNotFound);
  GIVES(R::kNotFound, cuGetProcAddress("", &found, 0, 0));
  GIVES(R::kInvalidValue, cuGetProcAddress(nullptr, &found, 0, 0));
  GIVES(R::kNotFound, ask("cuNoSuchThing", 13000, 0));
  GIVES(R::kNotFound, ask("cuMemMap", 9000, 0));
  MUST(found == nullptr && status == cu::ProcAddressStatus::kVersionNotSufficient);

  // Both shapes of the look-up itself.
  GIVES(R::kSuccess, ask("cuGetProcAddress", 11030, 0));
  using OldLookUp = R (*)(const char*, void**, int, unsigned long long);
  const auto old_look_up = reinterpret_cast<OldLookUp>(found);
  GIVES(R::kSuccess, ask("cuGetProcAddress", 12000, 0));
  MUST(reinterpret_cast<void*>(old_look_up) != found);
  void* second = nullptr;
  GIVES(R::kSuccess, old_look_up("cuStreamGetId", &second, 12000, 0));
  GIVES(R::kSuccess, ask("cuStreamGetId", 12000, cu::kProcAddressLegacyStream));
  MUST(found == second);
  using GetId = R (*)(cu::Stream, unsigned long long*);
  const auto legacy_id = reinterpret_cast<GetId>(found);
  GIVES(R::kSuccess, ask("cuStreamGetId", 12000, cu::kProcAddressPerThreadStream));
  const auto thread_id = reinterpret_cast<GetId>(found);

  use_gpu();
  unsigned long long ids[4] = {};
  GIVES(R::kSuccess, legacy_id(nullptr, &ids[0]));
  GIVES(R::kSuccess, thread_id(nullptr, &ids[1]));
  GIVES(R::kSuccess, cuStreamGetId_ptsz(nullptr, &ids[2]));
  GIVES(R::kSuccess, cuStreamGetId(cu::stream_per_thread(), &ids[3]));
  MUST(ids[0] != ids[1] && ids[1] == ids[2] && ids[1] == ids[3]);
  // A synchronous copy of that flavour waits for the thread's own stream.
  cu::DevicePtr memory = 0;
  unsigned char sent[256];
  unsigned char got[256] = {};
  std::memset(sent, 9, sizeof sent);
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, sizeof sent));
  GIVES(R::kSuccess, cuMemcpyHtoDAsync_v2_ptsz(memory, sent, sizeof sent, nullptr));
  GIVES(R::kSuccess, cuMemcpyDtoH_v2_ptds(got, memory, sizeof got));
  MUST(std::memcmp(sent, got, sizeof got) == 0);
  GIVES(R::kSuccess, cuMemFree_v2(memory));
}

void add_one(const LaunchShape&, std::uint32_t* data, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) ++data[i];
}
void add_one_accesses(AccessList& list,
                      const LaunchShape&,
                      std::uint32_t* data,
                      std::uint64_t count) {
  list.updates(data, count * sizeof *data);
}
KernelCost add_one_cost(const LaunchShape&, std::uint32_t*, std::uint64_t) { return {}; }

void kernels() {
  use_gpu();
  cu::Module module = nullptr;
  cu::Function function = nullptr;
  GIVES(R::kSuccess, cuModuleLoadData(&module, ".version 6.0\n"));
  GIVES(R::kNotFound, cuModuleGetFunction(&function, module, "add_one"));
  GIVES(R::kInvalidValue, spw_emulated_register_kernel(nullptr));
  const KernelSpec spec = make_kernel<add_one, add_one_accesses, add_one_cost>("add_one");
  MUST(spw_emulated_register_kernel(&spec) == 0);
  GIVES(R::kSuccess, cuModuleGetFunction(&function, module, "add_one"));
  cu::DevicePtr memory = 0;
  std::uint64_t count = 1000;
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, count * 4));
  GIVES(R::kSuccess, cuMemsetD32_v2(memory, 41, count));
  void* parameters[] = {&memory, &count};
  GIVES(R::kSuccess, cuLaunchKernel(function, 4, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr));
  std::vector<std::uint32_t> got(count);
  GIVES(R::kSuccess, cuMemcpyDtoH_v2(got.data(), memory, count * 4));
  for (const std::uint32_t value : got) MUST(value == 42);
  GIVES(R::kSuccess, cuMemFree_v2(memory));
  GIVES(R::kSuccess, cuModuleUnload(module));
}

// A host function runs on another thread, may wait for the program's own threads, and may not call
// the driver.
void callbacks() {
  use_gpu();
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool go = false;
    std::atomic<int> ran{0};
    std::thread::id thread;
  } shared;
  cu::Stream stream = nullptr;
  GIVES(R::kSuccess, cuStreamCreate(&stream, 0));
  const cu::HostFn function = [](void* user) {
    auto& s = *static_cast<Shared*>(user);
    std::unique_lock lock(s.mutex);
    s.changed.wait(lock, [&s] { return s.go; });
    s.thread = std::this_thread::get_id();
    cu::DevicePtr memory = 0;
    GIVES(R::kNotPermitted, cuMemAlloc_v2(&memory, 1));
    ++s.ran;
  };
  GIVES(R::kSuccess, cuLaunchHostFunc(stream, function, &shared));
  // Others go on while the function waits and while this thread waits for it.
  std::thread other([&shared] {
    GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    round_trip(5);
    const std::lock_guard lock(shared.mutex);
    shared.go = true;
    shared.changed.notify_all();
  });
  GIVES(R::kSuccess, cuStreamSynchronize(stream));
  MUST(shared.ran == 1);
  MUST(shared.thread != std::this_thread::get_id());
  other.join();
  GIVES(R::kSuccess, cuStreamDestroy_v2(stream));
}

// A stream that waits for a value which another thread brings.
void waits_for_value() {
  use_gpu();
  cu::Stream waiting = nullptr;
  cu::Stream writing = nullptr;
  cu::DevicePtr flag = 0;
  GIVES(R::kSuccess, cuStreamCreate(&waiting, cu::kStreamNonBlocking));
  GIVES(R::kSuccess, cuStreamCreate(&writing, cu::kStreamNonBlocking));
  GIVES(R::kSuccess, cuMemAlloc_v2(&flag, 4));
  GIVES(R::kSuccess, cuMemsetD32_v2(flag, 0, 1));
  GIVES(R::kSuccess, cuCtxSynchronize());
  GIVES(R::kSuccess, cuStreamWaitValue32_v2(waiting, flag, 1, cu::kWaitValueEq));
  std::thread other([&] {
    GIVES(R::kSuccess, cuCtxSetCurrent(g_context));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    GIVES(R::kSuccess, cuStreamWriteValue32_v2(writing, flag, 1, cu::kWriteValueDefault));
    GIVES(R::kSuccess, cuStreamSynchronize(writing));
  });
  GIVES(R::kSuccess, cuStreamSynchronize(waiting));
  other.join();
}

void bad_options() { GIVES(R::kInvalidValue, cuInit(0)); }

void fault() {
  use_gpu();
  cu::DevicePtr memory = 0;
  GIVES(R::kOutOfMemory, cuMemAlloc_v2(&memory, 4096));
}

void small_memory() {
  use_gpu();
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  GIVES(R::kSuccess, cuMemGetInfo_v2(&free_bytes, &total_bytes));
  MUST(total_bytes == 8u << 20);
}

void shim() {
  use_gpu();
  cu::DevicePtr memory = 0;
  GIVES(R::kSuccess, cuMemAlloc_v2(&memory, 1001));
  GIVES(R::kSuccess, cuMemFree_v2(memory));
  void* found = nullptr;
  cu::ProcAddressStatus status = cu::ProcAddressStatus::kSuccess;
  GIVES(R::kSuccess, cuGetProcAddress_v2("cuMemAlloc", &found, 13000, 0, &status));
  using Allocate = R (*)(cu::DevicePtr*, std::size_t);
  GIVES(R::kSuccess, reinterpret_cast<Allocate>(found)(&memory, 1002));
  GIVES(R::kSuccess, cuMemFree_v2(memory));
}

struct Scenario {
  std::string_view name;
  void (*run)();
};
constexpr Scenario kScenarios[] = {
    {"threads", &threads},
    {"hand-over", &hand_over},
    {"forks", &forks},
    {"executes", &executes},
    {"exits-with-work", &exits_with_work},
    {"race", &race},
    {"destructors", &destructors},
    {"look-ups", &look_ups},
    {"kernels", &kernels},
    {"callbacks", &callbacks},
    {"waits-for-value", &waits_for_value},
    {"bad-options", &bad_options},
    {"fault", &fault},
    {"small-memory", &small_memory},
    {"shim", &shim},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "";
  for (const Scenario& scenario : kScenarios) {
    if (scenario.name != wanted) continue;
    scenario.run();
    return 0;
  }
  return 2;
}
