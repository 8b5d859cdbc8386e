// SPDX-License-Identifier: Apache-2.0
// The counting table itself, and that it counts.
#include "tests/device/counting_driver.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>

namespace spillway::test {
namespace {

struct State {
  std::vector<std::string> journal;
  std::map<std::string, cu::Result> answers;
  int live = 0;
  std::uintptr_t next_handle = 0x1000;
  cu::StreamCaptureStatus capture = cu::StreamCaptureStatus::kNone;
  unsigned long long capture_id = 0;
  std::vector<cu::Context> contexts;  // current one last
  cu::StreamCaptureMode mode = cu::StreamCaptureMode::kGlobal;
  unsigned long long last_argument = 0;
};
State state;

cu::Result call(const char* name) {
  state.journal.emplace_back(name);
  const auto told = state.answers.find(name);
  return told == state.answers.end() ? cu::Result::kSuccess : told->second;
}

template <typename Handle>
cu::Result make(const char* name, Handle* out) {
  const cu::Result result = call(name);
  if (result != cu::Result::kSuccess) return result;
  ++state.live;
  state.next_handle += 0x1000;
  // NOLINTNEXTLINE(bugprone-sizeof-expression): handles are pointers
  static_assert(sizeof *out == sizeof state.next_handle);
  std::memcpy(out, &state.next_handle, sizeof state.next_handle);
  return result;
}

cu::Result end(const char* name) {
  const cu::Result result = call(name);
  if (result == cu::Result::kSuccess) --state.live;
  return result;
}

}  // namespace

CountingDriver::CountingDriver() {
  state = State{};
  table.cuStreamCreateWithPriority = [](cu::Stream* out, unsigned int, int) {
    return make("cuStreamCreateWithPriority", out);
  };
  table.cuStreamDestroy = [](cu::Stream) { return end("cuStreamDestroy"); };
  table.cuStreamGetId = [](cu::Stream stream, unsigned long long* id) {
    *id = reinterpret_cast<std::uintptr_t>(stream) + 1;
    return call("cuStreamGetId");
  };
  table.cuStreamQuery = [](cu::Stream) { return call("cuStreamQuery"); };
  table.cuStreamSynchronize = [](cu::Stream) { return call("cuStreamSynchronize"); };
  table.cuStreamWaitEvent = [](cu::Stream, cu::Event, unsigned int) {
    return call("cuStreamWaitEvent");
  };
  table.cuStreamGetCaptureInfo = [](cu::Stream,
                                    cu::StreamCaptureStatus* status,
                                    unsigned long long* id,
                                    cu::Graph*,
                                    const cu::GraphNode**,
                                    std::size_t*) {
    *status = state.capture;
    *id = state.capture_id;
    return call("cuStreamGetCaptureInfo");
  };
  table.cuEventCreate = [](cu::Event* out, unsigned int) { return make("cuEventCreate", out); };
  table.cuEventDestroy = [](cu::Event) { return end("cuEventDestroy"); };
  table.cuEventRecord = [](cu::Event, cu::Stream) { return call("cuEventRecord"); };
  table.cuEventQuery = [](cu::Event) { return call("cuEventQuery"); };
  table.cuEventSynchronize = [](cu::Event) { return call("cuEventSynchronize"); };
  table.cuMemGetAllocationGranularity =
      [](std::size_t* bytes, const cu::AllocationProp* prop, cu::Granularity) {
        *bytes = prop->location.id == 0 ? std::size_t{2} << 20 : 3;
        return call("cuMemGetAllocationGranularity");
      };
  table.cuMemAddressReserve =
      [](cu::DevicePtr* out, std::size_t, std::size_t, cu::DevicePtr, unsigned long long) {
        return make("cuMemAddressReserve", out);
      };
  table.cuMemAddressFree = [](cu::DevicePtr, std::size_t) { return end("cuMemAddressFree"); };
  table.cuMemCreate =
      [](cu::AllocationHandle* out, std::size_t, const cu::AllocationProp*, unsigned long long) {
        return make("cuMemCreate", out);
      };
  table.cuMemRelease = [](cu::AllocationHandle) { return end("cuMemRelease"); };
  table.cuMemMap =
      [](cu::DevicePtr, std::size_t, std::size_t, cu::AllocationHandle, unsigned long long) {
        const cu::Result result = call("cuMemMap");
        if (result == cu::Result::kSuccess) ++state.live;
        return result;
      };
  table.cuMemUnmap = [](cu::DevicePtr, std::size_t) { return end("cuMemUnmap"); };
  table.cuMemSetAccess = [](cu::DevicePtr, std::size_t, const cu::AccessDesc*, std::size_t) {
    return call("cuMemSetAccess");
  };
  table.cuMemHostAlloc = [](void** out, std::size_t, unsigned int) {
    return make("cuMemHostAlloc", out);
  };
  table.cuMemFreeHost = [](void*) { return end("cuMemFreeHost"); };
  table.cuMemHostRegister = [](void*, std::size_t, unsigned int) {
    const cu::Result result = call("cuMemHostRegister");
    if (result == cu::Result::kSuccess) ++state.live;
    return result;
  };
  table.cuMemHostUnregister = [](void*) { return end("cuMemHostUnregister"); };
  table.cuMemHostGetDevicePointer = [](cu::DevicePtr* out, void* pointer, unsigned int) {
    *out = reinterpret_cast<std::uintptr_t>(pointer);
    return call("cuMemHostGetDevicePointer");
  };
  table.cuModuleLoadData = [](cu::Module* out, const void*) {
    return make("cuModuleLoadData", out);
  };
  table.cuModuleUnload = [](cu::Module) { return end("cuModuleUnload"); };
  table.cuModuleGetFunction = [](cu::Function* out, cu::Module, const char*) {
    const std::uintptr_t handle = 0x99;
    std::memcpy(out, &handle, sizeof handle);
    return call("cuModuleGetFunction");
  };
  table.cuLaunchKernel = [](cu::Function,
                            unsigned int,
                            unsigned int,
                            unsigned int,
                            unsigned int,
                            unsigned int,
                            unsigned int,
                            unsigned int,
                            cu::Stream,
                            void** parameters,
                            void**) {
    if (parameters[0] != nullptr)
      std::memcpy(&state.last_argument, parameters[0], sizeof state.last_argument);
    return call("cuLaunchKernel");
  };
  table.cuDeviceGet = [](cu::Device* device, int ordinal) {
    *device = ordinal;
    return call("cuDeviceGet");
  };
  table.cuDevicePrimaryCtxRetain = [](cu::Context* out, cu::Device) {
    return make("cuDevicePrimaryCtxRetain", out);
  };
  table.cuDevicePrimaryCtxRelease = [](cu::Device) { return end("cuDevicePrimaryCtxRelease"); };
  table.cuCtxGetCurrent = [](cu::Context* out) {
    *out = state.contexts.empty() ? nullptr : state.contexts.back();
    return call("cuCtxGetCurrent");
  };
  table.cuCtxGetDevice = [](cu::Device* device) {
    *device = 3;
    return call("cuCtxGetDevice");
  };
  table.cuCtxPushCurrent = [](cu::Context context) {
    state.contexts.push_back(context);
    return call("cuCtxPushCurrent");
  };
  table.cuCtxPopCurrent = [](cu::Context* out) {
    *out = state.contexts.back();
    state.contexts.pop_back();
    return call("cuCtxPopCurrent");
  };
  table.cuThreadExchangeStreamCaptureMode = [](cu::StreamCaptureMode* mode) {
    std::swap(*mode, state.mode);
    return call("cuThreadExchangeStreamCaptureMode");
  };
}

CountingDriver::~CountingDriver() { state = State{}; }

std::vector<std::string> CountingDriver::take_journal() {
  std::vector<std::string> taken;
  taken.swap(state.journal);
  return taken;
}

int CountingDriver::live_count() const { return state.live; }

void CountingDriver::answer(const std::string& name, cu::Result result) {
  state.answers[name] = result;
}

void CountingDriver::set_capture(cu::StreamCaptureStatus status, unsigned long long id) {
  state.capture = status;
  state.capture_id = id;
}

void CountingDriver::set_current(cu::Context context) { state.contexts = {context}; }

unsigned long long CountingDriver::last_argument() const { return state.last_argument; }

}  // namespace spillway::test

TEST_SUITE("unit") {
  TEST_CASE("the counting table writes its journal, counts what lives and answers as told") {
    spillway::test::CountingDriver counting;
    spillway::cu::Event event = nullptr;
    CHECK(counting.table.cuEventCreate(&event, 0) == spillway::cu::Result::kSuccess);
    CHECK(counting.live_count() == 1);
    CHECK(counting.take_journal() == std::vector<std::string>{"cuEventCreate"});
    CHECK(counting.take_journal().empty());
    counting.answer("cuEventCreate", spillway::cu::Result::kOutOfMemory);
    CHECK(counting.table.cuEventCreate(&event, 0) == spillway::cu::Result::kOutOfMemory);
    CHECK(counting.live_count() == 1);
    CHECK(counting.table.cuEventDestroy(event) == spillway::cu::Result::kSuccess);
    CHECK(counting.live_count() == 0);
  }
}
