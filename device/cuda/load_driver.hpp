// SPDX-License-Identifier: Apache-2.0
// Fills the driver table from the machine's libcuda.so.1 at run time. Nothing links CUDA: a program
// with this in it starts on a machine without a driver and gets one line that says what is missing.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"

#include <string>

namespace spillway {

/// What a null stream means in the table.
enum class DefaultStream {
  kLegacy,     // the one that waits for all blocking streams, and they for it
  kPerThread,  // one per host thread, as with nvcc --default-stream per-thread
};

struct LoadOptions {
  DefaultStream default_stream = DefaultStream::kLegacy;
  std::string library = "libcuda.so.1";  // looked up as dlopen does; a path for tests
};

/// The oldest driver that has every entry point of the table: CUDA 12.0.
inline constexpr int kLeastDriverVersion = 12000;

/// The table, complete, or the reason why there is none: kNotFound (no library of that name),
/// kUnsupported (not a driver, a toolkit's stub, older than kLeastDriverVersion, or without one of
/// the entry points). Does not call cuInit, so a process may still fork afterwards. The library is
/// loaded once and never unloaded. Safe from any thread.
Result<Driver> load_cuda_driver(const LoadOptions& options = {});

/// "12.4" of a driver's 12040.
std::string driver_version_text(int version);

}  // namespace spillway
