// SPDX-License-Identifier: Apache-2.0
// The same lines as of_bodies.cpp prints, through the library's own functions.
#pragma once

#include "kernels/host_codec.hpp"
#include "tests/kernels/same_bits/cases.hpp"

#include <memory>
#include <span>

namespace spillway::same_bits {

inline std::span<const std::byte> bytes_at(const unsigned char* data, std::uint64_t bytes) {
  return {reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(bytes)};
}
inline std::span<std::byte> bytes_at(unsigned char* data, std::uint64_t bytes) {
  return {reinterpret_cast<std::byte*>(data), static_cast<std::size_t>(bytes)};
}

/// `threads` 0: one per processor; `kernels` null: the widest. A line more where a call fails or a
/// fingerprint that was taken on the way is not that of the plain bytes.
inline std::string library_lines(int threads, const HostKernels* kernels) {
  HostCodecOptions options;
  options.threads = threads;
  options.kernels = kernels;
  options.tensor_key = kTensorKey;
  options.step = kStep;
  std::string lines;
  const auto encode_one = [&](Codec codec, Dtype dtype, std::uint64_t values, Buffers* b) {
    const CodecFormat format{codec, dtype, kDefaultSparseCapacity};
    const auto source =
        bytes_at(static_cast<const unsigned char*>(b->source), values * dtype_bytes(dtype));
    std::uint64_t on_the_way = 0;
    HostCodecOptions with_fingerprint = options;
    with_fingerprint.fingerprint = &on_the_way;
    const auto result = encode(
        format, source, bytes_at(b->payload, format.payload_bytes_for(values)), with_fingerprint);
    if (!result.ok()) {
      lines += result.status().message() + "\n";
      return std::uint64_t{0};
    }
    if (on_the_way != fingerprint(source, options)) lines += "encode: another fingerprint\n";
    return result.value().misfit_tiles;
  };
  const auto decode_one = [&](Codec codec, Dtype dtype, std::uint64_t values, Buffers* b) {
    const CodecFormat format{codec, dtype, kDefaultSparseCapacity};
    const auto destination = bytes_at(b->back, values * dtype_bytes(dtype));
    std::uint64_t on_the_way = 0;
    HostCodecOptions with_fingerprint = options;
    with_fingerprint.fingerprint = &on_the_way;
    const Status status = decode(
        bytes_at(static_cast<const unsigned char*>(b->payload), format.payload_bytes_for(values)),
        destination,
        with_fingerprint);
    if (on_the_way != fingerprint(destination, options)) lines += "decode: another fingerprint\n";
    return std::uint64_t{status.ok() ? 0u : 1u};
  };
  const HostKernels& all = kernels != nullptr ? *kernels : best_host_kernels();
  const auto buffers = std::make_unique<Buffers>();
  for (const HostKernel& kernel : all.kernels)
    run_codec(kernel.codec,
              kernel.dtype,
              name_of_pair(kernel.codec, kernel.dtype).c_str(),
              buffers.get(),
              encode_one,
              decode_one,
              &lines);
  run_fingerprint(buffers.get(), all.fingerprint_sum, &lines);
  return lines;
}

}  // namespace spillway::same_bits
