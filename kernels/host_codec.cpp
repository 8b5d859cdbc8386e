// SPDX-License-Identifier: Apache-2.0
// Checks what comes in, cuts it into chunks of tiles, adds the outcomes up.
#include "kernels/host_codec.hpp"

#include "kernels/body/header.hpp"
#include "kernels/body/lossless12.hpp"
#include "kernels/host/parallel.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace spillway {
namespace {

// 32 tiles are 128 to 256 KiB: small against a tensor, large against the cost of a task.
constexpr std::uint64_t kChunkTiles = 32;
constexpr std::uint64_t kChunkBytes = 128 << 10;
static_assert(kFingerprintBlock == body::kFingerprintBlockBytes);
static_assert(kCodecGroupValues == body::kGroupValues && kCodecTileValues == body::kTileValues);
static_assert(kCodecHeaderBytes == body::kHeaderBytes);
static_assert(kLossless12EscapeSlots == body::Lossless12::kSlots);

Status invalid(const std::string& what) { return {Code::kInvalidArgument, "codec: " + what}; }
Status bad(const std::string& what) { return {Code::kBadInput, "payload: " + what}; }

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data());
  const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data());
  return a_begin < b_begin + b.size() && b_begin < a_begin + a.size();
}

Status check_pair(std::span<const std::byte> plain, std::span<const std::byte> payload) {
  if (plain.data() == nullptr || payload.data() == nullptr) return invalid("null pointer");
  if (!is_aligned(plain.data()) || !is_aligned(payload.data()))
    return invalid("source, payload and destination must be 16-byte aligned");
  if (overlap(plain, payload)) return invalid("the plain bytes and the payload overlap");
  return {};
}

const HostKernels& kernels_of(const HostCodecOptions& options) {
  return options.kernels != nullptr ? *options.kernels : best_host_kernels();
}

std::uint64_t chunks_of(std::uint64_t count, std::uint64_t chunk) {
  return count / chunk + (count % chunk != 0 ? 1 : 0);
}

/// Runs `tiles` on all tiles of the tensor.
CodecOutcome run_all(const CodecTensor& tensor,
                     HostKernel::Tiles tiles,
                     const HostCodecOptions& options) {
  struct Work {
    const CodecTensor& tensor;
    HostKernel::Tiles tiles;
    std::uint64_t tile_count;
    bool fingerprint;
    std::vector<CodecOutcome> outcomes;
  };
  const std::uint64_t tile_count = body::tiles_of(tensor.values);
  const std::uint64_t chunks = chunks_of(tile_count, kChunkTiles);
  Work work{tensor,
            tiles,
            tile_count,
            options.fingerprint != nullptr,
            std::vector<CodecOutcome>(static_cast<std::size_t>(chunks))};
  for_each_chunk(chunks, options.threads, &work, [](void* context, std::uint64_t chunk) {
    Work& w = *static_cast<Work*>(context);
    const std::uint64_t first = chunk * kChunkTiles;
    const std::uint64_t end = std::min(first + kChunkTiles, w.tile_count);
    w.outcomes[static_cast<std::size_t>(chunk)] = w.tiles(w.tensor, first, end, w.fingerprint);
  });
  CodecOutcome sum;
  for (const CodecOutcome& outcome : work.outcomes) {
    sum.misfits += outcome.misfits;
    sum.fingerprint_sum += outcome.fingerprint_sum;
  }
  return sum;
}

}  // namespace

std::uint64_t CodecFormat::payload_bytes_for(std::uint64_t values) const {
  return payload_bytes(codec, dtype, values * dtype_bytes(dtype), sparse_capacity);
}

Result<EncodeResult> encode(const CodecFormat& format,
                            std::span<const std::byte> source,
                            std::span<std::byte> payload,
                            const HostCodecOptions& options) {
  if (!codec_supports(format.codec, format.dtype))
    return invalid(std::string(name_of(format.codec)) + " does not take " +
                   std::string(name_of(format.dtype)));
  if (format.codec == Codec::kSparse && (format.sparse_capacity < 1 || format.sparse_capacity > 16))
    return invalid("the capacity of sparse is 1 to 16 sixteenths");
  const std::uint64_t element_bytes = dtype_bytes(format.dtype);
  if (source.empty()) return invalid("there are no values");
  if (source.size() % element_bytes != 0)
    return invalid(std::to_string(source.size()) + " bytes are no whole number of values");
  const std::uint64_t values = source.size() / element_bytes;
  if (payload.size() != format.payload_bytes_for(values))
    return invalid("the payload has " + std::to_string(payload.size()) + " bytes, expected " +
                   std::to_string(format.payload_bytes_for(values)));
  SPW_RETURN_IF_ERROR(check_pair(source, payload));

  if (format.codec == Codec::kNone) {
    std::memcpy(payload.data(), source.data(), source.size());
    if (options.fingerprint != nullptr) *options.fingerprint = fingerprint(source, options);
    return EncodeResult{};
  }
  const HostKernel* kernel = kernels_of(options).find(format.codec, format.dtype);
  if (kernel == nullptr) return Status(Code::kInternal, "codec: no host kernel");
  const bool is_sparse = format.codec == Codec::kSparse;
  const bool is_random = format.codec == Codec::kInt4;
  const body::PayloadHeader header =
      body::make_header(static_cast<std::uint8_t>(format.codec),
                        static_cast<std::uint8_t>(format.dtype),
                        is_sparse ? format.sparse_capacity : std::uint8_t{0},
                        values,
                        payload.size(),
                        is_random ? options.tensor_key : 0,
                        is_random ? options.step : 0);
  std::memcpy(payload.data(), &header, sizeof(header));
  CodecTensor tensor;
  // Bodies read and write through one type of tensor; an encode only reads its plain bytes.
  tensor.plain = const_cast<std::byte*>(source.data());
  tensor.payload = reinterpret_cast<std::uint8_t*>(payload.data());
  tensor.values = values;
  tensor.tensor_key = options.tensor_key;
  tensor.step = options.step;
  tensor.sparse_capacity = format.sparse_capacity;
  const CodecOutcome outcome = run_all(tensor, kernel->encode, options);
  if (options.fingerprint != nullptr)
    *options.fingerprint = body::fingerprint_start(source.size()) + outcome.fingerprint_sum;
  return EncodeResult{outcome.misfits};
}

Result<PayloadInfo> inspect_payload(std::span<const std::byte> payload) {
  if (payload.size() < kCodecHeaderBytes)
    return bad(std::to_string(payload.size()) + " bytes hold no header");
  body::PayloadHeader header{};
  std::memcpy(&header, payload.data(), sizeof(header));
  if (header.magic != body::PayloadHeader::kMagic) return bad("expected the magic 'SPWC'");
  if (header.version != 1) return bad("version " + std::to_string(header.version) + ", expected 1");
  if (header.check != body::header_check(header)) return bad("the header's check does not hold");
  if (header.codec == 0 || header.codec >= kCodecCount)
    return bad("codec " + std::to_string(header.codec) + " does not exist");
  PayloadInfo info;
  info.format.codec = static_cast<Codec>(header.codec);
  info.format.dtype = static_cast<Dtype>(header.dtype);
  if (header.dtype > static_cast<std::uint8_t>(Dtype::kFp64) ||
      !codec_supports(info.format.codec, info.format.dtype))
    return bad(std::string(name_of(info.format.codec)) + " of dtype " +
               std::to_string(header.dtype) + " does not exist");
  if (info.format.codec == Codec::kSparse) {
    if (header.capacity < 1 || header.capacity > 16)
      return bad("a capacity of " + std::to_string(header.capacity) + " sixteenths");
    info.format.sparse_capacity = header.capacity;
  }
  // A value takes at least one bit: more of them than bits would overflow the arithmetic.
  if (header.values == 0 || header.values / 8 > payload.size() ||
      header.payload_bytes != payload.size() ||
      info.format.payload_bytes_for(header.values) != payload.size())
    return bad(std::to_string(header.values) + " values do not make " +
               std::to_string(payload.size()) + " bytes");
  info.values = header.values;
  return info;
}

Status decode(std::span<const std::byte> payload,
              std::span<std::byte> destination,
              const HostCodecOptions& options) {
  SPW_ASSIGN_OR_RETURN(const PayloadInfo info, inspect_payload(payload));
  if (destination.size() != info.values * dtype_bytes(info.format.dtype))
    return invalid("the destination has " + std::to_string(destination.size()) + " bytes for " +
                   std::to_string(info.values) + " values of " +
                   std::string(name_of(info.format.dtype)));
  SPW_RETURN_IF_ERROR(check_pair(destination, payload));
  const HostKernel* kernel = kernels_of(options).find(info.format.codec, info.format.dtype);
  if (kernel == nullptr) return Status(Code::kInternal, "codec: no host kernel");
  CodecTensor tensor;
  tensor.plain = destination.data();
  // As above: a decode only reads the payload.
  tensor.payload = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(payload.data()));
  tensor.values = info.values;
  tensor.sparse_capacity = info.format.sparse_capacity;
  const CodecOutcome outcome = run_all(tensor, kernel->decode, options);
  if (options.fingerprint != nullptr)
    *options.fingerprint = body::fingerprint_start(destination.size()) + outcome.fingerprint_sum;
  if (outcome.misfits != 0)
    return bad(std::to_string(outcome.misfits) + " tiles have escapes or masks that do not fit");
  return {};
}

std::uint64_t fingerprint(std::span<const std::byte> bytes, const HostCodecOptions& options) {
  struct Work {
    std::span<const std::byte> bytes;
    const HostKernels& kernels;
    std::vector<std::uint64_t> sums;
  };
  const std::uint64_t chunks = chunks_of(bytes.size(), kChunkBytes);
  Work work{
      bytes, kernels_of(options), std::vector<std::uint64_t>(static_cast<std::size_t>(chunks))};
  for_each_chunk(chunks, options.threads, &work, [](void* context, std::uint64_t chunk) {
    Work& w = *static_cast<Work*>(context);
    const std::uint64_t first = chunk * kChunkBytes;
    w.sums[static_cast<std::size_t>(chunk)] = w.kernels.fingerprint_sum(
        w.bytes.data() + first, std::min(kChunkBytes, w.bytes.size() - first), first / 8);
  });
  return fingerprint_of_blocks(work.sums, bytes.size());
}

std::vector<std::uint64_t> fingerprint_blocks(std::span<const std::byte> bytes,
                                              const HostCodecOptions& options) {
  struct Work {
    std::span<const std::byte> bytes;
    const HostKernels& kernels;
    std::vector<std::uint64_t> sums;
  };
  Work work{bytes,
            kernels_of(options),
            std::vector<std::uint64_t>(
                static_cast<std::size_t>(chunks_of(bytes.size(), kFingerprintBlock)))};
  const std::uint64_t chunks = chunks_of(bytes.size(), kChunkBytes);
  for_each_chunk(chunks, options.threads, &work, [](void* context, std::uint64_t chunk) {
    Work& w = *static_cast<Work*>(context);
    const std::uint64_t end = std::min<std::uint64_t>((chunk + 1) * kChunkBytes, w.bytes.size());
    for (std::uint64_t at = chunk * kChunkBytes; at < end; at += kFingerprintBlock)
      w.sums[static_cast<std::size_t>(at / kFingerprintBlock)] = w.kernels.fingerprint_sum(
          w.bytes.data() + at, std::min(kFingerprintBlock, end - at), at / 8);
  });
  return std::move(work.sums);
}

std::uint64_t fingerprint_of_blocks(std::span<const std::uint64_t> blocks, std::uint64_t bytes) {
  std::uint64_t sum = body::fingerprint_start(bytes);
  for (const std::uint64_t block : blocks) sum += block;
  return sum;
}

}  // namespace spillway
