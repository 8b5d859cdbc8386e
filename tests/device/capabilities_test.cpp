// SPDX-License-Identifier: Apache-2.0
// What a device answers reaches the caller, and a GPU without virtual memory management is refused
// with one line that names it. The table here is written by hand.
#include "device/capabilities.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

using namespace spillway;

namespace {

cu::Result init_result = cu::Result::kSuccess;
int device_count = 2;
bool has_virtual_memory = true;
bool knows_numa = true;

Driver hand_written() {
  init_result = cu::Result::kSuccess;
  device_count = 2;
  has_virtual_memory = true;
  knows_numa = true;
  Driver driver;
  driver.cuInit = [](unsigned int) { return init_result; };
  driver.cuDeviceGetCount = [](int* count) {
    *count = device_count;
    return cu::Result::kSuccess;
  };
  driver.cuDeviceGet = [](cu::Device* device, int ordinal) {
    *device = ordinal;
    return cu::Result::kSuccess;
  };
  // Fills the buffer to its last byte, as a driver with a very long name would.
  driver.cuDeviceGetName = [](char* name, int bytes, cu::Device) {
    std::memset(name, 'G', static_cast<std::size_t>(bytes));
    return cu::Result::kSuccess;
  };
  driver.cuDeviceGetPCIBusId = [](char* id, int, cu::Device) {
    std::strcpy(id, "0000:17:00.0");
    return cu::Result::kSuccess;
  };
  driver.cuDeviceGetUuid = [](cu::Uuid* uuid, cu::Device) {
    uuid->bytes[15] = 7;
    return cu::Result::kSuccess;
  };
  driver.cuDeviceTotalMem = [](std::size_t* bytes, cu::Device) {
    *bytes = std::size_t{141} << 30;
    return cu::Result::kSuccess;
  };
  driver.cuDeviceGetAttribute = [](int* value, cu::DeviceAttribute attribute, cu::Device) {
    if (attribute == cu::DeviceAttribute::kVirtualMemoryManagementSupported)
      *value = has_virtual_memory ? 1 : 0;
    else if (attribute == cu::DeviceAttribute::kHostNumaId && !knows_numa)
      return cu::Result::kInvalidValue;
    else
      *value = static_cast<int>(attribute);
    return cu::Result::kSuccess;
  };
  return driver;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the answers of a device arrive in their fields") {
    const Driver driver = hand_written();
    REQUIRE(init_driver(driver).ok());
    CHECK(init_driver(driver).value() == 2);
    const Result<DeviceCapabilities> device = query_device(driver, 1);
    REQUIRE(device.ok());
    CHECK(device.value().device == 1);
    CHECK(device.value().name == std::string(256, 'G'));
    CHECK(device.value().pci_bus_id == "0000:17:00.0");
    CHECK(device.value().uuid.bytes[15] == 7);
    CHECK(device.value().memory_bytes == std::size_t{141} << 30);
    CHECK(device.value().compute_major == 75);
    CHECK(device.value().compute_minor == 76);
    CHECK(device.value().copy_engines == 40);
    CHECK(device.value().host_numa_node == 134);
    CHECK(device.value().virtual_memory);
    CHECK(device.value().integrated);
    CHECK(require_virtual_memory(device.value()).ok());
  }

  TEST_CASE("a driver too old to know the NUMA node leaves it unknown") {
    const Driver driver = hand_written();
    knows_numa = false;
    CHECK(query_device(driver, 0).value().host_numa_node == -1);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("no device, a driver that does not start and a foreign ordinal are told apart") {
    const Driver driver = hand_written();
    init_result = cu::Result::kNoDevice;
    CHECK(init_driver(driver).status().code() == Code::kNotFound);
    init_result = cu::Result::kSystemNotReady;
    CHECK(init_driver(driver).status().code() == Code::kUnsupported);
    CHECK(init_driver(driver).status().message().find("CUDA_ERROR_SYSTEM_NOT_READY (802)") !=
          std::string::npos);
    init_result = cu::Result::kSuccess;
    device_count = 0;
    CHECK(init_driver(driver).status().code() == Code::kNotFound);
    device_count = 2;
    CHECK(query_device(driver, 2).status().message() == "device 2: expected 0 to 1");
    CHECK(query_device(driver, -1).status().code() == Code::kInvalidArgument);
  }

  TEST_CASE("a GPU without virtual memory management is refused in one line with its name") {
    const Driver driver = hand_written();
    has_virtual_memory = false;
    const Status status = require_virtual_memory(query_device(driver, 0).value());
    CHECK(status.code() == Code::kUnsupported);
    CHECK(status.message().find("GGGG") != std::string::npos);
    CHECK(status.message().find("cuMemMap") != std::string::npos);
    CHECK(status.message().find('\n') == std::string::npos);
  }
}
