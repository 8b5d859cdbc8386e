// SPDX-License-Identifier: Apache-2.0
// The loader against the kinds of libcuda.so.1 that machines have: none, garbage, the toolkit's
// stub, too old, incomplete, whole. Each failure is one line, and no table is ever half filled.
#include "device/cuda/load_driver.hpp"

#include "core/status.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

using namespace spillway;

namespace {

std::string fake(const std::string& name) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fake_drivers" /
          (name + ".so"))
      .string();
}

Result<Driver> load(const std::string& library, DefaultStream stream = DefaultStream::kLegacy) {
  LoadOptions options;
  options.library = library;
  options.default_stream = stream;
  return load_cuda_driver(options);
}

void check_refused(const std::string& library, Code code, const std::string& expected) {
  CAPTURE(library);
  const Result<Driver> driver = load(library);
  REQUIRE_FALSE(driver.ok());
  const std::string& text = driver.status().message();
  CAPTURE(text);
  CHECK(driver.status().code() == code);
  CHECK(text.find(expected) != std::string::npos);
  CHECK(text.find(library) != std::string::npos);
  CHECK(text.find('\n') == std::string::npos);
}

struct Asked {
  int version = 0;
  unsigned long long flags = 0;
};

/// What a fake was asked for, by name.
std::map<std::string, Asked> requests(const std::string& library) {
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  REQUIRE(handle != nullptr);
  using Count = int (*)();
  using Request = const char* (*)(int, int*, unsigned long long*);
  const auto count = reinterpret_cast<Count>(::dlsym(handle, "fake_request_count"));
  const auto request = reinterpret_cast<Request>(::dlsym(handle, "fake_request"));
  REQUIRE((count != nullptr && request != nullptr));
  std::map<std::string, Asked> all;
  for (int i = 0; i < count(); ++i) {
    Asked asked;
    const char* name = request(i, &asked.version, &asked.flags);
    all[name] = asked;
  }
  ::dlclose(handle);
  return all;
}

bool all_set(const Driver& driver) {
  bool set = true;
#define SPW_MEMBER_SET(member, symbol, version, parameters) set = set && driver.member != nullptr;
  SPW_DRIVER_FUNCTIONS(SPW_MEMBER_SET)
#undef SPW_MEMBER_SET
  return set;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a whole driver fills every member of the table") {
    const Result<Driver> driver = load(fake("whole"));
    REQUIRE(driver.ok());
    CHECK(all_set(driver.value()));
    CHECK(driver.value().cuCtxSynchronize() == cu::Result::kNotSupported);
  }

  TEST_CASE("entry points are asked for by plain name, with the version the table declares") {
    REQUIRE(load(fake("whole")).ok());
    const auto asked = requests(fake("whole"));
    REQUIRE(asked.count("cuMemAlloc") == 1);
    CHECK(asked.at("cuMemAlloc").version == 3020);
    CHECK(asked.count("cuMemAlloc_v2") == 0);
    CHECK(asked.at("cuStreamGetCaptureInfo").version == 11030);
    CHECK(asked.at("cuMemcpyAsync").version == 4000);
    CHECK(asked.at("cuMemcpyAsync").flags == cu::kProcAddressLegacyStream);
    // "cuGraphInstantiate" of 11.4 would be the function with five parameters.
    CHECK(asked.count("cuGraphInstantiate") == 0);
    CHECK(asked.at("cuGraphInstantiateWithFlags").version == 11040);
  }

  TEST_CASE("a table for per-thread default streams asks for those entry points") {
    const Result<Driver> driver = load(fake("whole_per_thread"), DefaultStream::kPerThread);
    REQUIRE(driver.ok());
    CHECK(all_set(driver.value()));
    const auto asked = requests(fake("whole_per_thread"));
    CHECK(asked.at("cuMemcpyAsync").flags == cu::kProcAddressPerThreadStream);
    CHECK(asked.at("cuMemcpyAsync").version == 7000);
    CHECK(asked.at("cuMemAllocAsync").version == 11020);
    CHECK(asked.at("cuMemAlloc").version == 3020);
  }

  TEST_CASE("the oldest driver that is taken, and one without the newer look-up, load") {
    CHECK(load(fake("oldest")).ok());
    CHECK(load(fake("old_resolver")).ok());
  }

  TEST_CASE("a version is written as NVIDIA writes it") {
    CHECK(driver_version_text(12040) == "12.4");
    CHECK(driver_version_text(13000) == "13.0");
    CHECK(driver_version_text(11080) == "11.8");
  }
}

TEST_SUITE("fault") {
  TEST_CASE("a machine without the library says so") {
    check_refused("libcuda_that_nobody_has.so.1", Code::kNotFound, "no CUDA driver");
    check_refused("/nonexistent/libcuda.so.1", Code::kNotFound, "no CUDA driver");
  }

  TEST_CASE("a file that is no library is refused") {
    const test::TempDir dir;
    const std::string garbage = (dir.path() / "libcuda.so.1").string();
    std::ofstream(garbage) << std::string(4096, 'x');
    check_refused(garbage, Code::kUnsupported, "cannot load the CUDA driver");
    const std::string empty = (dir.path() / "empty.so").string();
    std::ofstream(empty).flush();
    check_refused(empty, Code::kUnsupported, "cannot load the CUDA driver");
  }

  TEST_CASE("a library that is no driver, a stub, a broken and an old driver are told apart") {
    check_refused(fake("no_driver"), Code::kUnsupported, "without cuDriverGetVersion");
    check_refused(fake("stub"), Code::kUnsupported, "stub library");
    check_refused(fake("broken"), Code::kUnsupported, "error 999");
    check_refused(fake("too_old"), Code::kUnsupported, "CUDA 12.0 or newer, found CUDA 11.8");
    check_refused(fake("no_resolver"), Code::kUnsupported, "no cuGetProcAddress");
  }

  TEST_CASE("a driver that lacks one entry point is refused by its name") {
    check_refused(fake("missing"), Code::kUnsupported, "for CUDA 12.2 lacks cuMemMap");
    check_refused(fake("missing_quietly"), Code::kUnsupported, "lacks cuMemMap");
  }
}
