// SPDX-License-Identifier: Apache-2.0
// The environment of the conformance cases and the list of them.
#include "tests/device/conformance/env.hpp"

#include "core/thread.hpp"
#include "tests/device/conformance/cases.hpp"
#include "tests/device/conformance/kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace spillway::conformance {
namespace {

constexpr unsigned int kBlock = 128;
constexpr unsigned int kGridMax = 1024;  // the kernels stride over the rest

template <typename... Parameters>
Result launch(const Driver& table,
              cu::Function function,
              cu::Stream stream,
              std::uint64_t elements,
              Parameters... parameters) {
  void* addresses[] = {static_cast<void*>(&parameters)...};
  const std::uint64_t blocks = std::min<std::uint64_t>((elements + kBlock - 1) / kBlock, kGridMax);
  return table.cuLaunchKernel(function,
                              static_cast<unsigned int>(std::max<std::uint64_t>(blocks, 1)),
                              1,
                              1,
                              kBlock,
                              1,
                              1,
                              0,
                              stream,
                              addresses,
                              nullptr);
}

std::vector<Case>& list() {
  static std::vector<Case> all;
  return all;
}

}  // namespace

std::string text_of(Result result) {
  return std::string(result_name(result)) + " (" + std::to_string(static_cast<int>(result)) + ")";
}

bool is_one_of(Result got, std::initializer_list<Result> accepted) {
  return std::find(accepted.begin(), accepted.end(), got) != accepted.end();
}

ConformanceEnv::ConformanceEnv(const Provider& provider)
    : d(*provider.driver), per_thread(provider.per_thread) {
  SPW_MUST(d.cuInit(0));
  SPW_MUST(d.cuDeviceGet(&device, 0));
  SPW_MUST(d.cuDevicePrimaryCtxRetain(&context, device));
  SPW_MUST(d.cuCtxSetCurrent(context));
  load_kernels();
}

void ConformanceEnv::load_kernels() {
  SPW_MUST(d.cuModuleLoadData(&module_, kernels_ptx()));
  SPW_MUST(d.cuModuleGetFunction(&fill, module_, kFillName));
  SPW_MUST(d.cuModuleGetFunction(&copy, module_, kCopyName));
  SPW_MUST(d.cuModuleGetFunction(&increment, module_, kIncrementName));
  SPW_MUST(d.cuModuleGetFunction(&spin, module_, kSpinName));
}

ConformanceEnv::~ConformanceEnv() {
  SPW_OK(d.cuCtxSetCurrent(context));  // whatever the case left
  SPW_OK(d.cuCtxSynchronize());
  SPW_OK(d.cuModuleUnload(module_));
  SPW_OK(d.cuCtxSetCurrent(nullptr));
  SPW_OK(d.cuDevicePrimaryCtxRelease(device));
}

int ConformanceEnv::attribute(cu::DeviceAttribute which) const {
  int value = 0;
  SPW_MUST(d.cuDeviceGetAttribute(&value, which, device));
  return value;
}

bool ConformanceEnv::has_pools() const {
  return attribute(cu::DeviceAttribute::kMemoryPoolsSupported) != 0;
}

bool ConformanceEnv::has_virtual_memory() const {
  return attribute(cu::DeviceAttribute::kVirtualMemoryManagementSupported) != 0;
}

Memory ConformanceEnv::memory(std::size_t bytes) const {
  cu::DevicePtr pointer = 0;
  SPW_MUST(d.cuMemAlloc(&pointer, bytes));
  return {d, pointer};
}

Memory ConformanceEnv::filled(std::size_t n, std::uint32_t value) const {
  Memory made = memory(n * 4);
  SPW_MUST(d.cuMemsetD32(made, value, n));
  SPW_MUST(d.cuCtxSynchronize());
  return made;
}

PinnedBuffer ConformanceEnv::pinned(std::size_t bytes, unsigned int flags) const {
  auto made = PinnedBuffer::create(d, bytes, flags);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

Stream ConformanceEnv::blocking_stream() const {
  StreamOptions options;
  options.joins_legacy_stream = true;
  auto made = Stream::create(d, options);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

Stream ConformanceEnv::non_blocking_stream() const {
  auto made = Stream::create(d);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

Event ConformanceEnv::event(unsigned int flags) const {
  auto made = Event::create(d, flags);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

Result ConformanceEnv::launch_fill(cu::Stream s,
                                   cu::DevicePtr out,
                                   std::uint32_t value,
                                   std::uint64_t n) const {
  return launch(d, fill, s, n, out, value, n);
}

Result ConformanceEnv::launch_fill(const Driver& table,
                                   cu::Stream s,
                                   cu::DevicePtr out,
                                   std::uint32_t value,
                                   std::uint64_t n) const {
  return launch(table, fill, s, n, out, value, n);
}

Result ConformanceEnv::launch_copy(cu::Stream s,
                                   cu::DevicePtr to,
                                   cu::DevicePtr from,
                                   std::uint64_t n) const {
  return launch(d, copy, s, n, to, from, n);
}

Result ConformanceEnv::launch_increment(cu::Stream s, cu::DevicePtr data, std::uint64_t n) const {
  return launch(d, increment, s, n, data, n);
}

Result ConformanceEnv::launch_spin(cu::Stream s) const {
  const std::uint64_t cycles = 20'000'000;
  return launch(d, spin, s, 1, cycles);
}

std::vector<std::uint32_t> ConformanceEnv::words(cu::DevicePtr from, std::size_t n) const {
  std::vector<std::uint32_t> out(n, 0xabababab);
  SPW_OK(d.cuMemcpyDtoH(out.data(), from, n * 4));
  return out;
}

void ConformanceEnv::check_words(cu::DevicePtr from, std::size_t n, std::uint32_t value) const {
  const std::vector<std::uint32_t> got = words(from, n);
  const auto wrong =
      std::find_if(got.begin(), got.end(), [value](std::uint32_t word) { return word != value; });
  const std::ptrdiff_t at = wrong - got.begin();
  INFO("word " << at << " of " << n << ": expected " << value << ", found "
               << (wrong == got.end() ? value : *wrong));
  CHECK(wrong == got.end());
}

Result ConformanceEnv::poll(const std::function<Result()>& query) {
  for (int i = 0; i < 50'000'000; ++i) {
    const Result result = query();
    if (result != Result::kNotReady) return result;
  }
  return Result::kTimeout;
}

void ConformanceEnv::on_other_thread(const std::function<void()>& body) {
  auto other = Thread::start("conformance", body);
  REQUIRE_MESSAGE(other.ok(), other.status().message());
  other.value().join();
}

Registered::Registered(const char* group, const char* text, void (*run)(ConformanceEnv&)) {
  list().push_back({group, text, run});
}

const std::vector<Case>& cases() {
  static const std::vector<Case> kSorted = [] {
    std::vector<Case> all = list();
    std::stable_sort(all.begin(), all.end(), [](const Case& a, const Case& b) {
      return std::strcmp(a.group, b.group) < 0;
    });
    return all;
  }();
  return kSorted;
}

bool run_case(const Case& which, const Provider& provider) {
  const std::string name = std::string("conformance, ") + which.group + ": " + which.text;
  INFO(name);
  try {
    ConformanceEnv env(provider);
    which.run(env);
  } catch (const doctest::detail::TestFailureException&) {
    // Counted already; the cases after this one are of their own.
  }
  cu::Context context = nullptr;
  if (provider.driver->cuDevicePrimaryCtxRetain(&context, 0) != Result::kSuccess) return false;
  (void)provider.driver->cuCtxSetCurrent(context);
  const Result state = provider.driver->cuCtxSynchronize();
  (void)provider.driver->cuCtxSetCurrent(nullptr);
  (void)provider.driver->cuDevicePrimaryCtxRelease(0);
  return !cu::is_sticky(state);
}

void run_conformance(const Provider& provider, const char* group) {
  for (const Case& which : cases()) {
    if (group != nullptr && std::strcmp(which.group, group) != 0) continue;
    const bool alive = run_case(which, provider);
    INFO((std::string("after conformance, ") + which.group + ": " + which.text));
    REQUIRE_MESSAGE(alive, "the device is lost");
  }
}

}  // namespace spillway::conformance

TEST_SUITE("unit") {
  TEST_CASE("every conformance case has a text of its own") {
    const auto& all = spillway::conformance::cases();
    CHECK(all.size() > 100);
    for (std::size_t i = 0; i < all.size(); ++i)
      for (std::size_t j = i + 1; j < all.size(); ++j) {
        if (std::strcmp(all[i].text, all[j].text) != 0) continue;
        FAIL_CHECK((std::string("twice: ") + all[i].text));
      }
  }
}
