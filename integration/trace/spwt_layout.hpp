// SPDX-License-Identifier: Apache-2.0
// The fixed parts of a packed trace (.spwt): file header, chunk header, index entry, and the limits
// a reader enforces. All numbers are little-endian. The format is docs/trace_format.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

inline constexpr std::string_view kSpwtMagic = "SPWT";
inline constexpr std::uint16_t kSpwtMajorVersion = 1;
inline constexpr std::uint16_t kSpwtMinorVersion = 0;
inline constexpr std::size_t kSpwtFileHeaderBytes = 16;

inline constexpr std::string_view kSpwtChunkMagic = "\xf5SPWCHK\xfa";
inline constexpr std::uint8_t kSpwtChunkVersion = 1;
inline constexpr std::size_t kSpwtChunkHeaderBytes = 64;
inline constexpr std::size_t kSpwtIndexEntryBytes = 56;
inline constexpr std::size_t kSpwtEndPayloadBytes = 16;

/// A payload has at most this many bytes, packed or not: what a reader may have to allocate.
inline constexpr std::uint32_t kSpwtPayloadBytesMax = 16u << 20;
/// The longest string of any trace format of ours.
inline constexpr std::size_t kTraceStringBytesMax = 4u << 20;

enum class SpwtChunkType : std::uint8_t { kRecords = 1, kIndex = 2, kEnd = 3 };
inline constexpr std::uint16_t kSpwtZstd = 1u << 0;  // SpwtChunkHeader::flags

struct SpwtChunkHeader {
  std::uint8_t version = kSpwtChunkVersion;
  SpwtChunkType type = SpwtChunkType::kRecords;
  std::uint16_t flags = 0;
  std::uint32_t payload_bytes = 0;  // in the file
  std::uint32_t raw_bytes = 0;      // unpacked; equal to payload_bytes without kSpwtZstd
  std::uint32_t record_count = 0;
  std::uint64_t thread = 0;        // in force before the chunk's first record
  std::uint64_t base_time_ns = 0;  // what the first record's time is a difference to
  std::uint64_t first_record = 0;  // records in the file before this chunk
  std::uint32_t first_string = 0;  // strings in the file before this chunk
  std::uint32_t payload_crc32 = 0;
};

struct SpwtIndexEntry {
  static constexpr std::uint64_t kNoStep = ~std::uint64_t{0};

  std::uint64_t offset = 0;  // of the chunk's magic, from the start of the file
  std::uint64_t first_record = 0;
  std::uint32_t record_count = 0;
  std::uint32_t first_string = 0;
  std::uint64_t time_min_ns = 0;
  std::uint64_t time_max_ns = 0;
  std::uint64_t first_step = kNoStep;  // step in force at the chunk's first record
  std::uint64_t last_step = kNoStep;   // and after its last

  friend bool operator==(const SpwtIndexEntry&, const SpwtIndexEntry&) = default;
};

std::string store_spwt_file_header();

/// Fills in the header's own checksum.
std::string store_spwt_chunk_header(const SpwtChunkHeader& header);
/// False when the header's checksum is wrong. REQUIRES: bytes.size() >= kSpwtChunkHeaderBytes.
bool load_spwt_chunk_header(std::string_view bytes, SpwtChunkHeader* header);

std::string store_spwt_index_entry(const SpwtIndexEntry& entry);
/// REQUIRES: bytes.size() >= kSpwtIndexEntryBytes.
SpwtIndexEntry load_spwt_index_entry(std::string_view bytes);

/// CRC-32 as zlib and gzip compute it.
std::uint32_t crc32_of(std::string_view bytes);

/// Appends `value` in `sizeof(T)` little-endian bytes.
template <typename T>
void append_le(std::string* out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i)
    out->push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff));
}

/// The `sizeof(T)` little-endian bytes at `at`. REQUIRES: they are there.
template <typename T>
T load_le(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return static_cast<T>(value);
}

}  // namespace spillway
