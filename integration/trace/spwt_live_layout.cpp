// SPDX-License-Identifier: Apache-2.0
// Storing and checking of the live log's headers. The checksums cover what does not change after a
// header was written; the counters are checked against the sizes.
#include "integration/trace/spwt_live_layout.hpp"

#include "integration/trace/spwt_layout.hpp"

namespace spillway {
namespace {
constexpr std::size_t kFileFixedBytes = 20;
constexpr std::size_t kChunkFixedBytes = 32;
constexpr std::size_t kChunkCrcAt = 40;
}  // namespace

std::string store_live_file_header(const LiveFileHeader& header) {
  std::string out(kLiveMagic);
  append_le(&out, kLiveMajorVersion);
  append_le(&out, kLiveMinorVersion);
  append_le(&out, header.header_bytes);
  append_le(&out, header.chunk_bytes);
  append_le(&out, std::uint32_t{0});
  append_le(&out, crc32_of(out));
  append_le(&out, header.chunk_count);
  append_le(&out, header.dropped_count);
  append_le(&out, header.closed);
  out.resize(kLiveFileHeaderBytes);
  return out;
}

std::string load_live_file_header(std::string_view bytes, LiveFileHeader* header) {
  if (load_le<std::uint32_t>(bytes, kFileFixedBytes) != crc32_of(bytes.substr(0, kFileFixedBytes)))
    return "expected a file header with an intact checksum";
  if (const auto major = load_le<std::uint16_t>(bytes, 4); major != kLiveMajorVersion)
    return "expected live log version " + std::to_string(kLiveMajorVersion) + ", found " +
           std::to_string(major) + "." + std::to_string(load_le<std::uint16_t>(bytes, 6));
  header->header_bytes = load_le<std::uint32_t>(bytes, 8);
  header->chunk_bytes = load_le<std::uint32_t>(bytes, 12);
  if (load_le<std::uint32_t>(bytes, 16) != 0) return "expected no file flags, found unknown ones";
  header->chunk_count = load_le<std::uint64_t>(bytes, kLiveChunkCountAt);
  header->dropped_count = load_le<std::uint64_t>(bytes, kLiveDroppedCountAt);
  header->closed = load_le<std::uint64_t>(bytes, kLiveClosedAt);
  if (header->header_bytes < kLiveFileHeaderBytes || header->header_bytes > kLiveChunkBytesMax)
    return "expected a file header of 64 bytes to 16 MiB, found " +
           std::to_string(header->header_bytes);
  if (header->chunk_bytes < kLiveChunkHeaderBytes + kLiveSlotBytes ||
      header->chunk_bytes > kLiveChunkBytesMax || header->chunk_bytes % kLiveSlotBytes != 0)
    return "expected chunks of 96 bytes to 16 MiB in steps of 32, found " +
           std::to_string(header->chunk_bytes);
  return {};
}

std::string store_live_chunk_header(const LiveChunkHeader& header) {
  std::string out(kLiveChunkMagic);
  append_le(&out, header.thread);
  append_le(&out, header.sequence);
  append_le(&out, header.time_ns);
  const std::uint32_t checksum = crc32_of(out);
  append_le(&out, header.committed);
  append_le(&out, checksum);
  out.resize(kLiveChunkHeaderBytes);
  return out;
}

std::string load_live_chunk_header(std::string_view bytes,
                                   const LiveFileHeader& file,
                                   LiveChunkHeader* header) {
  if (bytes.substr(0, kLiveChunkMagic.size()) != kLiveChunkMagic)
    return "expected a chunk (\"SPWLCHNK\")";
  if (load_le<std::uint32_t>(bytes, kChunkCrcAt) != crc32_of(bytes.substr(0, kChunkFixedBytes)))
    return "expected a chunk header with an intact checksum";
  header->thread = load_le<std::uint64_t>(bytes, 8);
  header->sequence = load_le<std::uint64_t>(bytes, 16);
  header->time_ns = load_le<std::uint64_t>(bytes, 24);
  header->committed = load_le<std::uint64_t>(bytes, kLiveCommittedAt);
  const std::uint64_t slots = (file.chunk_bytes - kLiveChunkHeaderBytes) / kLiveSlotBytes;
  if (header->committed > slots)
    return "expected at most " + std::to_string(slots) + " committed slots, found " +
           std::to_string(header->committed);
  return {};
}

}  // namespace spillway
