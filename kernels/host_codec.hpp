// SPDX-License-Identifier: Apache-2.0
// Codecs and fingerprints on host memory: the CPU path, the simulator's bodies and the judge of the
// CUDA kernels. Same bits as those on every machine and with any number of threads.
#pragma once

#include "core/codec.hpp"
#include "core/status.hpp"
#include "kernels/codec_tensor.hpp"
#include "kernels/host/host_kernels.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

/// Which codec, on values of which dtype.
struct CodecFormat {
  Codec codec = Codec::kNone;
  Dtype dtype = Dtype::kUnknown;
  std::uint8_t sparse_capacity = kDefaultSparseCapacity;  // sixteenths, 1 to 16; sparse alone

  /// payload_bytes() of core/codec.hpp for `values` values.
  [[nodiscard]] std::uint64_t payload_bytes_for(std::uint64_t values) const;
};

struct HostCodecOptions {
  int threads = 0;                       // 0: one per processor
  const HostKernels* kernels = nullptr;  // null: the widest instruction set that the processor has
  // int4's random numbers follow from these and the index alone.
  std::uint64_t tensor_key = 0;
  std::uint64_t step = 0;
  // When set, receives fingerprint() of the plain bytes, computed on the way.
  std::uint64_t* fingerprint = nullptr;
};

struct EncodeResult {
  /// Tiles whose values do not fit (lossless12's escapes, sparse's capacity, a boolean that is
  /// neither 0 nor 1). Unless 0, the payload is no copy of the source: keep the source.
  std::uint64_t misfit_tiles = 0;
};

/// Writes every byte of `payload`. kInvalidArgument, and nothing written: a dtype that the codec
/// does not take, no values, a source that is no whole number of values, a pointer that is not
/// 16-byte aligned, a payload of another size than payload_bytes_for(), ranges that overlap, a
/// capacity out of range.
Result<EncodeResult> encode(const CodecFormat& format,
                            std::span<const std::byte> source,
                            std::span<std::byte> payload,
                            const HostCodecOptions& options = {});

/// What a payload's header says; kBadInput when it is no header, names what does not exist or
/// disagrees with the payload's size. Not for Codec::kNone, which has no header.
struct PayloadInfo {
  CodecFormat format;
  std::uint64_t values = 0;
};
Result<PayloadInfo> inspect_payload(std::span<const std::byte> payload);

/// Writes every byte of `destination`, which must have the header's size. kBadInput: the header
/// (then nothing is written), or escapes or masks that point past their tile. Any payload bytes are
/// safe: nothing outside `destination` is written.
Status decode(std::span<const std::byte> payload,
              std::span<std::byte> destination,
              const HostCodecOptions& options = {});

/// 64 bits that change when any 8-byte word changes (proven), and with near certainty when several
/// do. Of no bytes: a constant. Any alignment.
std::uint64_t fingerprint(std::span<const std::byte> bytes, const HostCodecOptions& options = {});

/// Bytes that one entry of fingerprint_blocks() covers; the last covers what is left.
inline constexpr std::uint64_t kFingerprintBlock = 512;

/// The sums that fingerprint() adds up, per block: two lists differ first where the bytes do.
std::vector<std::uint64_t> fingerprint_blocks(std::span<const std::byte> bytes,
                                              const HostCodecOptions& options = {});
/// The fingerprint of `bytes` bytes from the sums of their blocks.
std::uint64_t fingerprint_of_blocks(std::span<const std::uint64_t> blocks, std::uint64_t bytes);

}  // namespace spillway
