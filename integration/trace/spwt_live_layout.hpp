// SPDX-License-Identifier: Apache-2.0
// The fixed parts of a live log: file header, chunk header, slots. All numbers are little-endian; a
// slot is a core/trace.hpp Record as it lies in memory. The format is docs/trace_format.md, "Live
// log".
#pragma once

#include "core/trace.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

inline constexpr std::string_view kLiveMagic = "SPWL";
inline constexpr std::uint16_t kLiveMajorVersion = 1;
inline constexpr std::uint16_t kLiveMinorVersion = 0;
inline constexpr std::string_view kLiveChunkMagic = "SPWLCHNK";

inline constexpr std::size_t kLiveFileHeaderBytes =
    64;  // at the start of LiveFileHeader::header_bytes
inline constexpr std::size_t kLiveChunkHeaderBytes = 64;  // the rest of a chunk is slots
inline constexpr std::size_t kLiveSlotBytes = sizeof(Record);
inline constexpr std::uint32_t kLiveChunkBytesMax = 16u << 20;

// Places of the numbers that change while the log is written.
inline constexpr std::size_t kLiveChunkCountAt = 24;  // file header
inline constexpr std::size_t kLiveDroppedCountAt = 32;
inline constexpr std::size_t kLiveClosedAt = 40;
inline constexpr std::size_t kLiveCommittedAt = 32;  // chunk header: slots that are complete

/// Kind byte of a slot that begins a string: id = the thread's number for it, arg = its bytes,
/// which fill the slots behind it.
inline constexpr std::uint8_t kLiveStringKind = 0;
inline constexpr std::uint8_t kLiveStringCut = 1u << 0;  // flags of that slot: the text was longer
/// Strings beyond this are cut: a log line must not stop the program that writes it.
inline constexpr std::size_t kLiveStringBytesMax =
    std::size_t{32} * 1024;  // half of the smallest chunk

static_assert(std::endian::native == std::endian::little,
              "slots are records as they lie in memory");
static_assert(offsetof(Record, kind) == 8 && offsetof(Record, flags) == 9 &&
              offsetof(Record, device) == 10 && offsetof(Record, stream) == 12 &&
              offsetof(Record, id) == 16 && offsetof(Record, arg) == 24);

struct LiveFileHeader {
  std::uint32_t header_bytes = 0;  // where the first chunk begins
  std::uint32_t chunk_bytes = 0;
  std::uint64_t chunk_count = 0;
  std::uint64_t dropped_count = 0;  // records and strings not written because the log was full
  std::uint64_t closed = 0;         // 1 when the writer ended in order
};

struct LiveChunkHeader {
  std::uint64_t thread = 0;
  std::uint64_t sequence = 0;  // of this chunk among its thread's, from 0
  std::uint64_t time_ns = 0;   // what its thread's clock had reached when the chunk was begun
  std::uint64_t committed = 0;
};

std::string store_live_file_header(const LiveFileHeader& header);
/// Returns "" or what is wrong. REQUIRES: bytes.size() >= kLiveFileHeaderBytes.
std::string load_live_file_header(std::string_view bytes, LiveFileHeader* header);

std::string store_live_chunk_header(const LiveChunkHeader& header);
/// Returns "" or what is wrong. REQUIRES: bytes.size() >= kLiveChunkHeaderBytes.
std::string load_live_chunk_header(std::string_view bytes,
                                   const LiveFileHeader& file,
                                   LiveChunkHeader* header);

}  // namespace spillway
