// SPDX-License-Identifier: Apache-2.0
// The conformance suite on the machine's own driver and first device. Label `gpu`: each test says
// "skipped" where there is no driver or no device.
#include "device/capabilities.hpp"
#include "device/cuda/load_driver.hpp"
#include "device/kernel_registry.hpp"
#include "tests/device/conformance/cases.hpp"
#include "tests/device/conformance/kernels.hpp"
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <optional>
#include <string>

using namespace spillway;

namespace {

struct Real {
  Driver legacy;
  Driver per_thread;
};

/// The emulated driver of tests/emulated runs no PTX either: it is told what the kernels do.
void register_kernels_if_emulated() {
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return;
  using Register = int (*)(const KernelSpec*);
  const auto add = reinterpret_cast<Register>(::dlsym(library, "spw_emulated_register_kernel"));
  for (const char* name : {conformance::kFillName,
                           conformance::kCopyName,
                           conformance::kIncrementName,
                           conformance::kSpinName})
    if (add != nullptr) REQUIRE(add(find_kernel(name)) == 0);
  ::dlclose(library);
}

/// The two tables; nothing, and the reason reported, where they cannot be had.
std::optional<Real> real_driver() {
  LoadOptions per_thread;
  per_thread.default_stream = DefaultStream::kPerThread;
  const Result<Driver> legacy = load_cuda_driver();
  const Result<Driver> other = load_cuda_driver(per_thread);
  const Status status = !legacy.ok() ? legacy.status() : other.status();
  if (status.ok()) {
    const Result<int> devices = init_driver(legacy.value());
    if (devices.ok()) register_kernels_if_emulated();
    if (devices.ok()) return Real{legacy.value(), other.value()};
    test::report_skipped_without_gpu(devices.status().message());
    return std::nullopt;
  }
  test::report_skipped_without_gpu(status.message());
  return std::nullopt;
}

void run_group(const char* group) {
  const auto real = real_driver();
  if (!real) return;
  // Retained meanwhile, so that the context is not made anew for every case.
  cu::Context context = nullptr;
  REQUIRE(real->legacy.cuDevicePrimaryCtxRetain(&context, 0) == cu::Result::kSuccess);
  conformance::run_conformance({&real->legacy, &real->per_thread}, group);
  CHECK(real->legacy.cuDevicePrimaryCtxRelease(0) == cu::Result::kSuccess);
}

}  // namespace

TEST_SUITE("gpu") {
  TEST_CASE("a real driver keeps the rules of streams") { run_group("streams"); }
  TEST_CASE("a real driver keeps the rules of events") { run_group("events"); }
  TEST_CASE("a real driver keeps the rules of memory") { run_group("memory"); }
  TEST_CASE("a real driver keeps the rules of host memory") { run_group("host memory"); }
  TEST_CASE("a real driver keeps the rules of pools") { run_group("pools"); }
  TEST_CASE("a real driver keeps the rules of virtual memory") { run_group("vmm"); }
  TEST_CASE("a real driver keeps the rules of capture") { run_group("capture"); }
  TEST_CASE("a real driver keeps the rules of contexts") { run_group("contexts"); }
  TEST_CASE("a real driver keeps the rules of launches") { run_group("launch"); }
  TEST_CASE("a real driver keeps the rules of errors") { run_group("errors"); }
  TEST_CASE("a real driver keeps the rules of look-ups") { run_group("look-up"); }
  TEST_CASE("a real driver keeps the rules of peers") { run_group("peer"); }
  TEST_CASE("a real driver keeps the rules of sharing between processes") { run_group("ipc"); }
}
