// SPDX-License-Identifier: Apache-2.0
// Checks lengths before anything is allocated, checksums before anything is unpacked.
#include "integration/trace/spwt_chunk.hpp"

#include "integration/trace/spwt_records.hpp"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace spillway {
namespace {

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

std::string hex(std::uint64_t value, int digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (int i = digits - 1; i >= 0; --i) out += kDigits[value >> (4 * i) & 0xf];
  return out;
}

std::string hex_bytes(std::string_view bytes) {
  std::string out;
  for (const char c : bytes)
    out += (out.empty() ? "" : " ") + hex(static_cast<unsigned char>(c), 2);
  return out;
}

}  // namespace

std::string check_spwt_chunk_header(std::string_view bytes, SpwtChunkHeader* header) {
  if (bytes.empty()) return "expected a chunk or the end marker, found the end of the file";
  const std::string_view magic = bytes.substr(0, kSpwtChunkMagic.size());
  if (magic != kSpwtChunkMagic.substr(0, magic.size()))
    return "expected a chunk (" + hex_bytes(kSpwtChunkMagic) + "), found " + hex_bytes(magic);
  if (bytes.size() < kSpwtChunkHeaderBytes)
    return "expected " + std::to_string(kSpwtChunkHeaderBytes) +
           " bytes of a chunk header, found " + std::to_string(bytes.size()) +
           " and the end of the file";
  if (!load_spwt_chunk_header(bytes, header))
    return "expected a chunk header with checksum " +
           hex(crc32_of(bytes.substr(0, kSpwtChunkHeaderBytes - 4)), 8) + ", found " +
           hex(load_le<std::uint32_t>(bytes, kSpwtChunkHeaderBytes - 4), 8);
  if (header->version != kSpwtChunkVersion)
    return "expected chunk version " + std::to_string(kSpwtChunkVersion) + ", found " +
           std::to_string(header->version);
  if ((header->flags & ~kSpwtZstd) != 0)
    return "expected no chunk flags beyond zstd, found " + hex(header->flags, 4);
  const std::uint32_t largest = std::max(header->payload_bytes, header->raw_bytes);
  if (largest > kSpwtPayloadBytesMax)
    return "expected a payload of at most " + std::to_string(kSpwtPayloadBytesMax) +
           " bytes, found " + std::to_string(largest);
  if ((header->flags & kSpwtZstd) == 0 && header->payload_bytes != header->raw_bytes)
    return "expected an unpacked payload of " + std::to_string(header->raw_bytes) +
           " bytes, found " + std::to_string(header->payload_bytes);
  return {};
}

struct SpwtUnpacker::Impl {
  std::unique_ptr<ZSTD_DCtx, FreeContext> context{ZSTD_createDCtx()};
  std::vector<char> raw;
};

SpwtUnpacker::SpwtUnpacker() : impl_(std::make_unique<Impl>()) {}

SpwtUnpacker::~SpwtUnpacker() = default;

std::string SpwtUnpacker::unpack(const SpwtChunkHeader& header,
                                 std::string_view payload,
                                 std::string_view* raw) {
  const std::uint32_t checksum = crc32_of(payload);
  if (checksum != header.payload_crc32)
    return "expected a payload with checksum " + hex(header.payload_crc32, 8) + ", found " +
           hex(checksum, 8);
  std::vector<char>& out = impl_->raw;
  const std::size_t wanted = header.raw_bytes;
  if (out.size() < wanted + kSpwtDecodePadding) out.resize(wanted + kSpwtDecodePadding);
  if ((header.flags & kSpwtZstd) == 0) {
    if (!payload.empty()) std::memcpy(out.data(), payload.data(), payload.size());
  } else {
    const std::size_t found = ZSTD_decompressDCtx(
        impl_->context.get(), out.data(), wanted, payload.data(), payload.size());
    if (ZSTD_isError(found) != 0)
      return "expected a zstd payload of " + std::to_string(wanted) +
             " bytes, found: " + ZSTD_getErrorName(found);
    if (found != wanted)
      return "expected a zstd payload of " + std::to_string(wanted) + " bytes, found " +
             std::to_string(found);
  }
  *raw = std::string_view(out.data(), wanted);
  return {};
}

}  // namespace spillway
