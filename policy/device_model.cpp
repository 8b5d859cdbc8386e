// SPDX-License-Identifier: Apache-2.0
// Prices of copies and codecs; rates are bytes per nanosecond.
#include "policy/device_model.hpp"

#include <cmath>

namespace spillway {
namespace {

std::int64_t transfer_ns(std::uint64_t bytes, double gbps, std::uint64_t latency_ns) {
  if (bytes == 0) return 0;
  return static_cast<std::int64_t>(latency_ns) +
         static_cast<std::int64_t>(std::ceil(static_cast<double>(bytes) / gbps));
}

}  // namespace

std::int64_t DeviceModel::offload_ns(std::uint64_t bytes) const {
  return transfer_ns(bytes, d2h_gbps, copy_latency_ns);
}

std::int64_t DeviceModel::prefetch_ns(std::uint64_t bytes) const {
  return transfer_ns(bytes, h2d_gbps, copy_latency_ns);
}

std::int64_t DeviceModel::codec_ns(Codec codec, Dtype dtype, std::uint64_t source_bytes) const {
  return transfer_ns(source_bytes + payload_bytes(codec, dtype, source_bytes), hbm_gbps, launch_ns);
}

}  // namespace spillway
