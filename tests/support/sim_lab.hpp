// SPDX-License-Identifier: Apache-2.0
// A bench for programs on the simulated GPU: a current context, a few kernels, and short names for
// the driver's calls. Whatever is made through it is given back at the end, after the device has
// finished, so that a test shows its own point only.
#pragma once

#include "device/kernel_registry.hpp"
#include "device/sim/explore.hpp"
#include "device/sim/simulator.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

namespace spillway::test {

// Kernels: bytes of any size, so that sub-page ranges can be used.
inline void lab_fill(const LaunchShape&, std::uint8_t* to, std::uint32_t value, std::uint64_t n) {
  std::memset(to, static_cast<int>(value), n);
}
inline void lab_fill_accesses(
    AccessList& a, const LaunchShape&, std::uint8_t* to, std::uint32_t, std::uint64_t n) {
  a.writes(to, n);
}
inline KernelCost lab_fill_cost(const LaunchShape&, std::uint8_t*, std::uint32_t, std::uint64_t n) {
  return {0, n};
}
inline void lab_copy(const LaunchShape&,
                     std::uint8_t* to,
                     const std::uint8_t* from,
                     std::uint64_t n) {
  std::memmove(to, from, n);
}
inline void lab_copy_accesses(AccessList& a,
                              const LaunchShape&,
                              std::uint8_t* to,
                              const std::uint8_t* from,
                              std::uint64_t n) {
  a.reads(from, n);
  a.writes(to, n);
}
inline KernelCost lab_copy_cost(const LaunchShape&,
                                std::uint8_t*,
                                const std::uint8_t*,
                                std::uint64_t n) {
  return {0, 2 * n};
}
inline void lab_add(const LaunchShape&, std::uint8_t* x, std::uint32_t value, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) x[i] = static_cast<std::uint8_t>(x[i] + value);
}
inline void lab_add_accesses(
    AccessList& a, const LaunchShape&, std::uint8_t* x, std::uint32_t, std::uint64_t n) {
  a.updates(x, n);
}
inline KernelCost lab_add_cost(const LaunchShape&, std::uint8_t*, std::uint32_t, std::uint64_t n) {
  return {static_cast<double>(n), 2 * n};
}
inline void lab_read(const LaunchShape&, const std::uint8_t*, std::uint64_t) {}
inline void lab_read_accesses(AccessList& a,
                              const LaunchShape&,
                              const std::uint8_t* from,
                              std::uint64_t n) {
  a.reads(from, n);
}
inline KernelCost lab_read_cost(const LaunchShape&, const std::uint8_t*, std::uint64_t n) {
  return {0, n};
}

class Lab {
 public:
  explicit Lab(sim::Simulator& simulator) : cu(simulator.driver()), simulator_(simulator) {
    static const bool kRegistered = [] {
      register_kernel(make_kernel<lab_fill, lab_fill_accesses, lab_fill_cost>("lab_fill"));
      register_kernel(make_kernel<lab_copy, lab_copy_accesses, lab_copy_cost>("lab_copy"));
      register_kernel(make_kernel<lab_add, lab_add_accesses, lab_add_cost>("lab_add"));
      register_kernel(make_kernel<lab_read, lab_read_accesses, lab_read_cost>("lab_read"));
      return true;
    }();
    static_cast<void>(kRegistered);
    note(cu.cuInit(0));
    note(cu.cuDevicePrimaryCtxRetain(&context_, 0));
    note(cu.cuCtxSetCurrent(context_));
    note(cu.cuModuleLoadData(&module_, "// PTX\n.version 7.0\n"));
    note(cu.cuModuleGetFunction(&fill_, module_, "lab_fill"));
    note(cu.cuModuleGetFunction(&copy_, module_, "lab_copy"));
    note(cu.cuModuleGetFunction(&add_, module_, "lab_add"));
    note(cu.cuModuleGetFunction(&read_, module_, "lab_read"));
  }
  ~Lab() {
    cu.cuCtxSynchronize();
    for (const cu::DevicePtr pointer : device_) cu.cuMemFree(pointer);
    for (void* pointer : pinned_) cu.cuMemFreeHost(pointer);
    for (const cu::Event event : events_) cu.cuEventDestroy(event);
    for (const cu::Stream stream : streams_) cu.cuStreamDestroy(stream);
    cu.cuModuleUnload(module_);
    cu.cuDevicePrimaryCtxRelease(0);
  }
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  const Driver& cu;
  /// The first call that failed, if any: results are noted, not asserted.
  cu::Result failure = cu::Result::kSuccess;

  [[nodiscard]] sim::Simulator& simulator() { return simulator_; }
  [[nodiscard]] MemoryObserver& observer() { return simulator_.observer(); }
  [[nodiscard]] cu::Context context() const { return context_; }
  /// Makes the lab's context current on another host thread.
  void enter() { note(cu.cuCtxSetCurrent(context_)); }

  cu::Stream stream(unsigned int flags = cu::kStreamNonBlocking) {
    cu::Stream made = nullptr;
    note(cu.cuStreamCreate(&made, flags));
    streams_.push_back(made);
    return made;
  }
  cu::Event event(unsigned int flags = cu::kEventDisableTiming) {
    cu::Event made = nullptr;
    note(cu.cuEventCreate(&made, flags));
    events_.push_back(made);
    return made;
  }
  cu::DevicePtr device(std::size_t bytes) {
    cu::DevicePtr made = 0;
    note(cu.cuMemAlloc(&made, bytes));
    device_.push_back(made);
    return made;
  }
  std::uint8_t* pinned(std::size_t bytes) {
    void* made = nullptr;
    note(cu.cuMemHostAlloc(&made, bytes, 0));
    pinned_.push_back(made);
    return static_cast<std::uint8_t*>(made);
  }
  /// The test gives it back itself.
  void forget(cu::DevicePtr pointer) { std::erase(device_, pointer); }
  void forget(const void* pointer) { std::erase(pinned_, pointer); }
  void forget(cu::Stream stream) { std::erase(streams_, stream); }
  void forget(cu::Event event) { std::erase(events_, event); }

  // Kernels. Bytes at `to` become `value`; `to` = `from`; every byte += value; reads only.
  void fill(cu::Stream stream, cu::DevicePtr to, std::uint32_t value, std::uint64_t n) {
    void* parameters[] = {&to, &value, &n};
    launch(fill_, stream, parameters);
  }
  void copy(cu::Stream stream, cu::DevicePtr to, cu::DevicePtr from, std::uint64_t n) {
    void* parameters[] = {&to, &from, &n};
    launch(copy_, stream, parameters);
  }
  void add(cu::Stream stream, cu::DevicePtr x, std::uint32_t value, std::uint64_t n) {
    void* parameters[] = {&x, &value, &n};
    launch(add_, stream, parameters);
  }
  void read(cu::Stream stream, cu::DevicePtr from, std::uint64_t n) {
    void* parameters[] = {&from, &n};
    launch(read_, stream, parameters);
  }

  // Copies by the copy engines.
  void h2d(cu::Stream stream, cu::DevicePtr to, const void* from, std::size_t n) {
    note(cu.cuMemcpyHtoDAsync(to, from, n, stream));
  }
  void d2h(cu::Stream stream, void* to, cu::DevicePtr from, std::size_t n) {
    note(cu.cuMemcpyDtoHAsync(to, from, n, stream));
  }
  void d2d(cu::Stream stream, cu::DevicePtr to, cu::DevicePtr from, std::size_t n) {
    note(cu.cuMemcpyDtoDAsync(to, from, n, stream));
  }

  void record(cu::Event event, cu::Stream stream) { note(cu.cuEventRecord(event, stream)); }
  void wait(cu::Stream stream, cu::Event event) { note(cu.cuStreamWaitEvent(stream, event, 0)); }
  void sync(cu::Event event) { note(cu.cuEventSynchronize(event)); }
  void sync(cu::Stream stream) { note(cu.cuStreamSynchronize(stream)); }
  /// `second` waits for what is in `first` now.
  void order(cu::Stream first, cu::Stream second) {
    const cu::Event made = event();
    record(made, first);
    wait(second, made);
  }

  void note(cu::Result result) {
    if (failure == cu::Result::kSuccess) failure = result;
  }

 private:
  void launch(cu::Function function, cu::Stream stream, void** parameters) {
    note(cu.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr));
  }

  sim::Simulator& simulator_;
  cu::Context context_ = nullptr;
  cu::Module module_ = nullptr;
  cu::Function fill_ = nullptr, copy_ = nullptr, add_ = nullptr, read_ = nullptr;
  std::vector<cu::Stream> streams_;
  std::vector<cu::Event> events_;
  std::vector<cu::DevicePtr> device_;
  std::vector<void*> pinned_;
};

/// A simulator with 4 KiB pages; tests keep one per thread and reset it.
inline sim::Options lab_options(sim::Mode mode = sim::Mode::kRandom, std::uint64_t seed = 0) {
  sim::Options options;
  options.mode = mode;
  options.seed = seed;
  options.memory_bytes = 16ull << 20;
  options.granularity_bytes = 4096;
  return options;
}

}  // namespace spillway::test
