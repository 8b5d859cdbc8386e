// SPDX-License-Identifier: Apache-2.0
// The numbers of a device that the cost model uses. Rates are decimal GB/s (bytes per ns). Compute
// times come from the profile; these price copies and codecs.
#pragma once

#include "core/codec.hpp"

#include <cstdint>
#include <string>

namespace spillway {

struct DeviceModel {
  std::string name;         // calibration name: "h200"
  std::string calibration;  // "measured" or "published"
  std::string link_source;  // where the link numbers come from, in words
  std::uint64_t memory_bytes = 0;
  double d2h_gbps = 0;  // one direction, pinned memory, large copies
  double h2d_gbps = 0;
  std::uint64_t copy_latency_ns = 0;  // on-device time of a small copy
  double hbm_gbps = 0;                // achieved by a copy kernel, read + write bytes
  std::uint64_t launch_ns = 0;        // gap that one more kernel costs

  /// ns that the D2H engine is busy with `bytes`.
  [[nodiscard]] std::int64_t offload_ns(std::uint64_t bytes) const;
  /// ns that the H2D engine is busy with `bytes`.
  [[nodiscard]] std::int64_t prefetch_ns(std::uint64_t bytes) const;
  /// ns of the compute stream for encoding or decoding: source and payload each cross the memory
  /// bus once.
  [[nodiscard]] std::int64_t codec_ns(Codec codec, Dtype dtype, std::uint64_t source_bytes) const;
};

}  // namespace spillway
