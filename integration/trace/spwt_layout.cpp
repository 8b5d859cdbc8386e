// SPDX-License-Identifier: Apache-2.0
// Storing and loading of the fixed parts, field by field in the order of docs/trace_format.md.
#include "integration/trace/spwt_layout.hpp"

#include <zlib.h>

namespace spillway {

std::uint32_t crc32_of(std::string_view bytes) {
  const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
  return static_cast<std::uint32_t>(::crc32_z(0, data, bytes.size()));
}

std::string store_spwt_file_header() {
  std::string out(kSpwtMagic);
  append_le(&out, kSpwtMajorVersion);
  append_le(&out, kSpwtMinorVersion);
  append_le(&out, std::uint32_t{0});
  append_le(&out, crc32_of(out));
  return out;
}

std::string store_spwt_chunk_header(const SpwtChunkHeader& header) {
  std::string out(kSpwtChunkMagic);
  append_le(&out, header.version);
  append_le(&out, static_cast<std::uint8_t>(header.type));
  append_le(&out, header.flags);
  append_le(&out, header.payload_bytes);
  append_le(&out, header.raw_bytes);
  append_le(&out, header.record_count);
  append_le(&out, header.thread);
  append_le(&out, header.base_time_ns);
  append_le(&out, header.first_record);
  append_le(&out, header.first_string);
  append_le(&out, header.payload_crc32);
  append_le(&out, std::uint32_t{0});
  append_le(&out, crc32_of(out));
  return out;
}

bool load_spwt_chunk_header(std::string_view bytes, SpwtChunkHeader* header) {
  bytes = bytes.substr(0, kSpwtChunkHeaderBytes);
  header->version = load_le<std::uint8_t>(bytes, 8);
  header->type = static_cast<SpwtChunkType>(load_le<std::uint8_t>(bytes, 9));
  header->flags = load_le<std::uint16_t>(bytes, 10);
  header->payload_bytes = load_le<std::uint32_t>(bytes, 12);
  header->raw_bytes = load_le<std::uint32_t>(bytes, 16);
  header->record_count = load_le<std::uint32_t>(bytes, 20);
  header->thread = load_le<std::uint64_t>(bytes, 24);
  header->base_time_ns = load_le<std::uint64_t>(bytes, 32);
  header->first_record = load_le<std::uint64_t>(bytes, 40);
  header->first_string = load_le<std::uint32_t>(bytes, 48);
  header->payload_crc32 = load_le<std::uint32_t>(bytes, 52);
  return load_le<std::uint32_t>(bytes, 60) == crc32_of(bytes.substr(0, 60));
}

std::string store_spwt_index_entry(const SpwtIndexEntry& entry) {
  std::string out;
  append_le(&out, entry.offset);
  append_le(&out, entry.first_record);
  append_le(&out, entry.record_count);
  append_le(&out, entry.first_string);
  append_le(&out, entry.time_min_ns);
  append_le(&out, entry.time_max_ns);
  append_le(&out, entry.first_step);
  append_le(&out, entry.last_step);
  return out;
}

SpwtIndexEntry load_spwt_index_entry(std::string_view bytes) {
  SpwtIndexEntry entry;
  entry.offset = load_le<std::uint64_t>(bytes, 0);
  entry.first_record = load_le<std::uint64_t>(bytes, 8);
  entry.record_count = load_le<std::uint32_t>(bytes, 16);
  entry.first_string = load_le<std::uint32_t>(bytes, 20);
  entry.time_min_ns = load_le<std::uint64_t>(bytes, 24);
  entry.time_max_ns = load_le<std::uint64_t>(bytes, 32);
  entry.first_step = load_le<std::uint64_t>(bytes, 40);
  entry.last_step = load_le<std::uint64_t>(bytes, 48);
  return entry;
}

}  // namespace spillway
