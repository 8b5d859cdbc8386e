// SPDX-License-Identifier: Apache-2.0
// Reading a part of a packed trace: from the end marker to the index, from the index to one chunk.
#include "integration/trace/spwt_chunk.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_records.hpp"
#include "integration/trace/spwt_recovery.hpp"

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

class ChunkFile {
 public:
  static Result<ChunkFile> open(const std::string& path) {
    ChunkFile file;
    file.path_ = path;
    file.in_.open(path, std::ios::binary);
    if (!file.in_) return Status(Code::kIo, path + ": cannot be opened");
    file.in_.seekg(0, std::ios::end);
    const std::streamoff size = file.in_.tellg();
    if (size < 0) return Status(Code::kIo, path + ": cannot seek in it");
    file.size_ = static_cast<std::uint64_t>(size);
    return file;
  }

  std::uint64_t size() const { return size_; }

  Status error(std::uint64_t offset, const std::string& text) const {
    return {Code::kBadInput, path_ + ": offset " + std::to_string(offset) + ": " + text};
  }

  /// The unpacked payload of the chunk at `offset`, which must be of `type`.
  Result<std::string_view> chunk(std::uint64_t offset,
                                 SpwtChunkType type,
                                 SpwtChunkHeader* header) {
    SPW_RETURN_IF_ERROR(load(offset, kSpwtChunkHeaderBytes));
    std::string wrong = check_spwt_chunk_header(bytes_, header);
    if (wrong.empty() && header->type != type)
      wrong = "expected a chunk of type " + std::to_string(static_cast<int>(type)) +
              ", found type " + std::to_string(static_cast<int>(header->type));
    if (!wrong.empty()) return error(offset, wrong);
    SPW_RETURN_IF_ERROR(load(offset + kSpwtChunkHeaderBytes, header->payload_bytes));
    std::string_view raw;
    wrong = unpacker_->unpack(*header, bytes_, &raw);
    if (!wrong.empty()) return error(offset, wrong);
    return raw;
  }

 private:
  ChunkFile() = default;

  /// Exactly `bytes` bytes at `offset` into bytes_.
  Status load(std::uint64_t offset, std::uint64_t bytes) {
    if (offset > size_ || bytes > size_ - offset)
      return error(offset,
                   "expected " + std::to_string(bytes) + " bytes, found the end of the file");
    bytes_.resize(bytes);
    in_.clear();
    in_.seekg(static_cast<std::streamoff>(offset));
    in_.read(bytes_.data(), static_cast<std::streamsize>(bytes));
    if (!in_) return {Code::kIo, path_ + ": cannot be read at offset " + std::to_string(offset)};
    return {};
  }

  std::string path_;
  std::ifstream in_;
  std::uint64_t size_ = 0;
  std::string bytes_;
  std::unique_ptr<SpwtUnpacker> unpacker_ = std::make_unique<SpwtUnpacker>();
};

}  // namespace

Result<std::vector<SpwtIndexEntry>> load_spwt_index(const std::string& path) {
  SPW_ASSIGN_OR_RETURN(ChunkFile file, ChunkFile::open(path));
  constexpr std::uint64_t kEndBytes = kSpwtChunkHeaderBytes + kSpwtEndPayloadBytes;
  const Status none(Code::kNotFound, path + ": has no index");
  if (file.size() < kSpwtFileHeaderBytes + kEndBytes) return none;
  SpwtChunkHeader header;
  const auto end = file.chunk(file.size() - kEndBytes, SpwtChunkType::kEnd, &header);
  if (!end.ok()) return end.status().code() == Code::kBadInput ? none : end.status();
  if (end.value().size() != kSpwtEndPayloadBytes) return none;
  const auto offset = load_le<std::uint64_t>(end.value(), 0);
  const auto chunk_count = load_le<std::uint64_t>(end.value(), 8);
  if (offset == 0) return none;
  SPW_ASSIGN_OR_RETURN(const std::string_view raw,
                       file.chunk(offset, SpwtChunkType::kIndex, &header));
  if (raw.size() / kSpwtIndexEntryBytes != chunk_count || raw.size() % kSpwtIndexEntryBytes != 0)
    return file.error(offset,
                      "expected an index of " + std::to_string(chunk_count) +
                          " entries of 56 bytes, found " + std::to_string(raw.size()) + " bytes");
  std::vector<SpwtIndexEntry> entries;
  for (std::size_t at = 0; at < raw.size(); at += kSpwtIndexEntryBytes)
    entries.push_back(load_spwt_index_entry(raw.substr(at)));
  return entries;
}

Result<TraceInfo> read_spwt_chunk(const std::string& path,
                                  const SpwtIndexEntry& entry,
                                  TraceSink& sink) {
  SPW_ASSIGN_OR_RETURN(ChunkFile file, ChunkFile::open(path));
  SpwtChunkHeader header;
  SPW_ASSIGN_OR_RETURN(const std::string_view raw,
                       file.chunk(entry.offset, SpwtChunkType::kRecords, &header));
  SpwtRecoverySink recovery(sink);
  recovery.enter_thread(header.thread, header.base_time_ns);
  const SpwtDecodeResult decoded =
      decode_spwt_records(raw, header.base_time_ns, header.first_string, recovery);
  if (!decoded.expected.empty())
    return file.error(entry.offset,
                      "byte " + std::to_string(decoded.offset) +
                          " of the unpacked payload: expected " + std::string(decoded.expected));
  TraceInfo info;
  info.format = "spwt";
  info.event_count = decoded.record_count - decoded.skipped_count;
  if (recovery.lost_string_count() != 0)
    info.notes.push_back(std::to_string(recovery.lost_string_count()) +
                         " strings are defined in other chunks");
  return info;
}

}  // namespace spillway
