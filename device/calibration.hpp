// SPDX-License-Identifier: Apache-2.0
// What a GPU can do, as plain numbers: memory, bandwidth, arithmetic, link rates and what calls
// cost. Every number comes with its source from a device/calib/*.json built into the library, or
// from a text of the same form (docs/calibration.md). Reads no files: the caller passes the text.
#pragma once

#include "core/status.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// What arithmetic is done in. kFp32 is plain fp32 on the vector units, kTf32 fp32 storage on the
/// tensor cores.
enum class MathMode : std::uint8_t { kFp32 = 0, kTf32 = 1, kBf16 = 2, kFp16 = 3, kFp8 = 4 };
inline constexpr int kMathModeCount = 5;

/// "fp32", "tf32", ...: the key of a rate in the JSON.
std::string_view name_of(MathMode mode);

/// Data-sheet rate and the rate that good kernels reach; both 0 when the GPU has no such mode.
struct AchievableRate {
  double peak = 0;
  double achieved = 0;
};

/// One number as the file states it, for people: nothing computes with it.
struct SourcedNumber {
  std::string key;  // "bf16.achieved"
  double value = 0;
  std::string unit;
  std::string source;
  std::string kind;  // published, derived, measured or assumed
};

/// What a call costs the host: a part per call and a part per byte it handles.
struct CallCost {
  std::uint64_t fixed_ns = 0;
  double ns_per_gib = 0;

  /// Rounded to the nanosecond.
  [[nodiscard]] std::uint64_t ns(std::uint64_t bytes) const;
};

/// Host time of calls that handle no bytes, from call to return.
struct HostCallCosts {
  std::uint64_t launch_ns = 0;
  std::uint64_t memcpy_async_ns = 0;
  std::uint64_t memset_async_ns = 0;
  std::uint64_t event_record_ns = 0;
  std::uint64_t stream_wait_event_ns = 0;
  std::uint64_t event_query_ns = 0;  // and stream queries
  std::uint64_t event_create_ns = 0;
  std::uint64_t event_destroy_ns = 0;
  std::uint64_t host_func_ns = 0;    // cuLaunchHostFunc, the call itself
  std::uint64_t synchronize_ns = 0;  // of stream, event or context, without the wait
  std::uint64_t stream_create_ns = 0;
  std::uint64_t mem_alloc_async_ns = 0;
  std::uint64_t mem_free_async_ns = 0;
  std::uint64_t mem_get_info_ns = 0;
  std::uint64_t other_ns = 0;  // calls that do not reach the device
};

/// Virtual memory: per call on one range or handle.
struct VmmCosts {
  CallCost reserve, address_free, create, map, set_access, unmap, release;
};

/// Synchronous allocation of device memory, and page-locked host memory.
struct MemoryCallCosts {
  CallCost alloc, free, host_alloc, host_free, host_register, host_unregister;
};

/// What the timed model of the simulated GPU and the runtime need beyond the roofline. A text of
/// schema 2 states all of it; nothing has a default.
struct DeviceTiming {
  std::uint32_t multiprocessor_count = 0;
  std::uint32_t compute_capability = 0;  // 90 for 9.0
  std::uint32_t copy_engine_count = 0;
  std::uint32_t launch_queue_count = 0;  // pending launches before a launch blocks
  double d2h_while_h2d_bytes_per_s = 0;  // device to host while the other direction is busy
  double shared_link_bytes_per_s = 0;    // a direction of the link above all GPUs of one root
  double h2d_pageable_bytes_per_s = 0;   // through the driver's staging buffer
  double d2h_pageable_bytes_per_s = 0;   //
  double h2d_by_kernel_bytes_per_s = 0;  // kernels that read page-locked memory
  double d2h_by_kernel_bytes_per_s = 0;  // kernels that write it
  double d2d_bytes_per_s = 0;            // inside one device, bytes copied
  std::uint64_t d2d_latency_ns = 0;      // fixed part of a copy inside one device
  std::uint64_t memset_latency_ns = 0;   // fixed part of a memset
  std::uint64_t kernel_start_ns = 0;     // from a launch's return to the start, device idle
  HostCallCosts host;
  VmmCosts vmm;
  MemoryCallCosts memory;
};

/// Where a measured file comes from.
struct MeasuredOn {
  std::string machine;
  std::string driver;
  std::string date;  // "2026-11-22"
};

struct Calibration {
  std::string name;                  // "h200"
  std::string title;                 // "NVIDIA H200 SXM 141 GB"
  std::vector<std::string> aliases;  // other names that find it
  std::string kind;                  // "published" or "measured"

  std::uint64_t memory_bytes = 0;
  std::uint64_t page_bytes = 0;                                 // smallest piece the driver maps
  AchievableRate memory_bytes_per_s;                            // device memory, read + written
  std::array<AchievableRate, kMathModeCount> math_flops_per_s;  // dense, by MathMode
  double attention_flops_per_s = 0;                             // fused attention in 16 bits
  double h2d_bytes_per_s = 0;                                   // pinned host memory to device
  double d2h_bytes_per_s = 0;                                   // device to pinned host memory
  double h2d_while_d2h_bytes_per_s =
      0;                              // host to device while the other direction is busy; 0 unknown
  double peer_bytes_per_s = 0;        // collectives and peer copies, one direction
  std::uint64_t copy_latency_ns = 0;  // fixed part of a copy
  std::uint64_t launch_latency_ns = 0;    // from one kernel's end to the next one's start
  std::string link_source;                // where h2d comes from
  std::optional<DeviceTiming> timing;     // schema 2 only
  std::optional<MeasuredOn> measured_on;  // schema 2, measured only
  std::vector<SourcedNumber> numbers;     // all of the above with sources, in file order

  /// Dense matrix rate that kernels reach. A mode the GPU lacks runs at the fp32 rate, as libraries
  /// emulate it there.
  [[nodiscard]] double matmul_flops_per_s(MathMode mode) const;
  /// Everything that is not a matrix product runs on the fp32 units.
  [[nodiscard]] double vector_flops_per_s() const { return math_flops_per_s[0].achieved; }
};

/// The GPU called `name`, tolerantly: "h200", "H200", "NVIDIA H200", or a driver's product name
/// that holds one of the names as whole words ("Tesla V100-SXM2-32GB"); the longest match wins.
/// kNotFound lists what there is.
Result<Calibration> load_calibration(std::string_view name);

/// A user's file of the same form. `source_name` opens error texts. All of kBadInput.
Result<Calibration> parse_calibration(std::string_view json_text, std::string_view source_name);

/// Names of the built-in files, sorted.
std::vector<std::string> calibration_names();

}  // namespace spillway
