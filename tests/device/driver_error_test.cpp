// SPDX-License-Identifier: Apache-2.0
// A failed driver call becomes one line with call, code and place, and the right Code; destructors
// forgive a driver that is gone and nothing else.
#include "device/driver_error.hpp"

#include "core/check.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

using namespace spillway;

namespace {

cu::Result answer = cu::Result::kSuccess;
cu::Result free_memory(cu::DevicePtr) { return answer; }

Status try_free(const Driver& driver) {
  SPW_CU_TRY(driver.cuMemFree(16));
  return {};
}

[[noreturn]] void throw_check(const char*, int, const std::string& text) {
  throw std::runtime_error(text);
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a failed call is told with its name, code, number and place") {
    Driver driver;
    driver.cuMemFree = &free_memory;
    answer = cu::Result::kSuccess;
    CHECK(try_free(driver).ok());
    answer = cu::Result::kIllegalAddress;
    const Status status = try_free(driver);
    CHECK(status.code() == Code::kInternal);
    CHECK(status.message().find("cuMemFree(16) failed: CUDA_ERROR_ILLEGAL_ADDRESS (700) at "
                                "tests/device/driver_error_test.cpp:") == 0);
  }

  TEST_CASE("codes are sorted by what the caller can do next") {
    const auto code = [](cu::Result result) { return driver_status(result, "f()", "f", 1).code(); };
    CHECK(code(cu::Result::kSuccess) == Code::kOk);
    CHECK(code(cu::Result::kOutOfMemory) == Code::kOutOfMemory);
    CHECK(code(cu::Result::kNotSupported) == Code::kUnsupported);
    CHECK(code(cu::Result::kNoDevice) == Code::kNotFound);
    CHECK(code(cu::Result::kInvalidValue) == Code::kInvalidArgument);
    CHECK(code(cu::Result::kLaunchFailed) == Code::kInternal);
    CHECK(code(static_cast<cu::Result>(12345)) == Code::kInternal);
    CHECK(std::string(result_name(static_cast<cu::Result>(12345))) == "CUDA_ERROR");
    CHECK(std::string(result_name(cu::Result::kStreamCaptureUnjoined)) ==
          "CUDA_ERROR_STREAM_CAPTURE_UNJOINED");
  }

  TEST_CASE("a destructor forgives a driver that is gone, and reports a handle that was not ours") {
    const CheckHandler before = set_check_handler(&throw_check);
    for (const cu::Result gone : {cu::Result::kSuccess,
                                  cu::Result::kDeinitialized,
                                  cu::Result::kContextIsDestroyed,
                                  cu::Result::kNotInitialized,
                                  cu::Result::kIllegalAddress,
                                  cu::Result::kEccUncorrectable})
      CHECK_NOTHROW(check_ended(gone, "cuMemFree(p)", "device/x.cpp", 3));
    for (const cu::Result wrong : {cu::Result::kInvalidValue,
                                   cu::Result::kInvalidHandle,
                                   cu::Result::kInvalidContext,
                                   cu::Result::kStreamCaptureUnsupported})
      CHECK_THROWS(check_ended(wrong, "cuMemFree(p)", "device/x.cpp", 3));
    set_check_handler(before);
  }
}
