// SPDX-License-Identifier: Apache-2.0
// See gpu_ground.hpp.
#include "bench/support/gpu_ground.hpp"

#include "device/capabilities.hpp"
#include "device/cuda/load_driver.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace spillway::bench {

Result<Ground> gpu_ground(std::size_t stream_count, std::string* driver_text) {
  Ground ground;
  SPW_ASSIGN_OR_RETURN(ground.driver, load_cuda_driver());
  const Driver& driver = ground.driver;
  SPW_CU_TRY(driver.cuInit(0));
  int count = 0;
  SPW_CU_TRY(driver.cuDeviceGetCount(&count));
  if (count == 0) return Status(Code::kNotFound, "no CUDA device");
  SPW_CU_TRY(driver.cuDeviceGet(&ground.device, 0));
  SPW_CU_TRY(driver.cuDevicePrimaryCtxRetain(&ground.context, ground.device));
  SPW_CU_TRY(driver.cuCtxSetCurrent(ground.context));
  ground.streams.resize(std::max<std::size_t>(stream_count, 16));
  for (cu::Stream& stream : ground.streams) {
    SPW_CU_TRY(driver.cuStreamCreate(&stream, cu::kStreamNonBlocking));
  }
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  SPW_CU_TRY(driver.cuMemGetInfo(&free_bytes, &total_bytes));
  ground.memory_bytes = free_bytes / 10 * 9;
  int version = 0;
  SPW_CU_TRY(driver.cuDriverGetVersion(&version));
  char name[128] = {};
  SPW_CU_TRY(driver.cuDeviceGetName(name, sizeof name, ground.device));
  *driver_text = fmt::format("CUDA {} on {}, {:.1f} GiB free",
                             driver_version_text(version),
                             static_cast<const char*>(name),
                             static_cast<double>(free_bytes) / static_cast<double>(1 << 30));
  return ground;
}

int skipped(const Status& why) {
  std::printf("skipped: %s\n", why.message().c_str());
  return std::getenv("SPILLWAY_NEED_GPU") == nullptr ? 0 : 1;  // NOLINT(concurrency-mt-unsafe)
}

void give_back(const Ground& ground) {
  for (const cu::Stream stream : ground.streams) {
    static_cast<void>(ground.driver.cuStreamDestroy(stream));
  }
  static_cast<void>(ground.driver.cuDevicePrimaryCtxRelease(ground.device));
}

}  // namespace spillway::bench
