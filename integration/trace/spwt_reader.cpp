// SPDX-License-Identifier: Apache-2.0
// Reads a packed trace in order. Strict by default; in recovery, what cannot be read is skipped up
// to the next chunk magic, and the numbers in the chunk headers say how much was lost.
#include "integration/trace/spwt_chunk.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_records.hpp"
#include "integration/trace/spwt_recovery.hpp"
#include "integration/trace/trace_filter.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::size_t kScanBytes = std::size_t{64} * 1024;
constexpr std::size_t kNotesMax = 20;

std::string check_file_header(std::string_view bytes) {
  if (bytes.size() < kSpwtFileHeaderBytes)
    return "expected a file header of 16 bytes, found " + std::to_string(bytes.size()) +
           " and the end of the file";
  if (load_le<std::uint32_t>(bytes, 12) != crc32_of(bytes.substr(0, 12)))
    return "expected a file header with an intact checksum";
  if (const auto major = load_le<std::uint16_t>(bytes, 4); major != kSpwtMajorVersion)
    return "expected format version " + std::to_string(kSpwtMajorVersion) + ", found " +
           std::to_string(major) + "." + std::to_string(load_le<std::uint16_t>(bytes, 6));
  if (load_le<std::uint32_t>(bytes, 8) != 0) return "expected no file flags, found unknown ones";
  return {};
}

class SpwtReader {
 public:
  SpwtReader(BufferedInput& input, const ReadOptions& options, TraceSink& sink)
      : input_(input), recover_(options.recover), recovery_(sink), direct_(sink) {}

  Result<TraceInfo> read() {
    SPW_ASSIGN_OR_RETURN(std::string_view head, input_.peek(kSpwtFileHeaderBytes));
    head = head.substr(0, kSpwtFileHeaderBytes);
    if (const std::string wrong = check_file_header(head); !wrong.empty())
      SPW_RETURN_IF_ERROR(problem(wrong));
    input_.consume(head.size());
    while (!ended_) SPW_RETURN_IF_ERROR(read_chunk());
    return finish();
  }

 private:
  /// The error of a strict read; in recovery, a note.
  Status problem(const std::string& text) {
    const Status error = input_.error(text);
    if (!recover_) return error;
    ++problem_count_;
    if (info_.notes.size() < kNotesMax) info_.notes.push_back("damaged: " + error.message());
    return {};
  }

  Status read_chunk() {
    SPW_ASSIGN_OR_RETURN(std::string_view bytes, input_.peek(kSpwtChunkHeaderBytes));
    SpwtChunkHeader header;
    const std::string wrong = check_spwt_chunk_header(bytes, &header);
    if (!wrong.empty()) {
      SPW_RETURN_IF_ERROR(problem(wrong));
      return resynchronise(1);
    }
    const std::size_t chunk_bytes = kSpwtChunkHeaderBytes + header.payload_bytes;
    SPW_ASSIGN_OR_RETURN(bytes, input_.peek(chunk_bytes));
    if (bytes.size() < chunk_bytes) {
      SPW_RETURN_IF_ERROR(problem("expected a chunk of " + std::to_string(chunk_bytes) +
                                  " bytes, found " + std::to_string(bytes.size()) +
                                  " and the end of the file"));
      return resynchronise(kSpwtChunkHeaderBytes);
    }
    const std::string_view payload = bytes.substr(kSpwtChunkHeaderBytes, header.payload_bytes);
    std::string_view raw;
    const std::string broken = unpacker_.unpack(header, payload, &raw);
    if (!broken.empty()) {
      SPW_RETURN_IF_ERROR(problem(broken));
      // The header is intact, so its length is: going on behind the payload reads each byte once.
      return resynchronise(chunk_bytes);
    }
    SPW_RETURN_IF_ERROR(take_chunk(header, raw));
    input_.consume(chunk_bytes);
    return {};
  }

  /// Moves `bytes` ahead and on to the next magic, or to the end.
  Status resynchronise(std::size_t bytes) {
    input_.consume(bytes);
    for (;;) {
      SPW_ASSIGN_OR_RETURN(const std::string_view window, input_.peek(kScanBytes));
      const std::size_t found = window.find(kSpwtChunkMagic);
      if (found != std::string_view::npos) {
        input_.consume(found);
        return {};
      }
      if (window.size() < kScanBytes) {
        input_.consume(window.size());
        ended_ = true;
        return {};
      }
      // The magic may begin in the last bytes of the window.
      input_.consume(window.size() - (kSpwtChunkMagic.size() - 1));
    }
  }

  Status take_chunk(const SpwtChunkHeader& header, std::string_view raw) {
    switch (header.type) {
      case SpwtChunkType::kRecords:
        return take_records(header, raw);
      case SpwtChunkType::kIndex:
        return take_index(header, raw);
      case SpwtChunkType::kEnd:
        return take_end(header, raw);
    }
    ++unknown_chunk_count_;
    return {};
  }

  Status take_records(const SpwtChunkHeader& header, std::string_view raw) {
    if (header.first_record != next_record_ || header.first_string != next_string_) {
      SPW_RETURN_IF_ERROR(problem("expected a chunk that begins with record " +
                                  std::to_string(next_record_) + " and string " +
                                  std::to_string(next_string_) + ", found record " +
                                  std::to_string(header.first_record) + " and string " +
                                  std::to_string(header.first_string)));
      // A chunk from before would repeat what was sent.
      if (header.first_record < next_record_ || header.first_string < next_string_) return {};
      lost_record_count_ += header.first_record - next_record_;
    }
    if (recover_) recovery_.enter_thread(header.thread, header.base_time_ns);
    TraceSink& sink = recover_ ? static_cast<TraceSink&>(recovery_) : direct_;
    const SpwtDecodeResult decoded =
        decode_spwt_records(raw, header.base_time_ns, header.first_string, sink);
    next_record_ = header.first_record + decoded.record_count;
    next_string_ = header.first_string + decoded.string_count;
    info_.event_count += decoded.record_count - decoded.skipped_count;
    skipped_count_ += decoded.skipped_count;
    SpwtIndexEntry entry;
    entry.offset = input_.offset();
    entry.first_record = header.first_record;
    entry.record_count = header.record_count;
    entry.first_string = header.first_string;
    chunks_.push_back(entry);
    if (!decoded.expected.empty())
      return problem("byte " + std::to_string(decoded.offset) +
                     " of the unpacked payload: expected " + std::string(decoded.expected));
    if (decoded.record_count != header.record_count)
      return problem("expected a chunk of " + std::to_string(header.record_count) +
                     " records, found " + std::to_string(decoded.record_count));
    return {};
  }

  Status take_index(const SpwtChunkHeader& header, std::string_view raw) {
    index_offset_ = input_.offset();
    if (raw.size() % kSpwtIndexEntryBytes != 0)
      return problem("expected an index of entries of 56 bytes, found " +
                     std::to_string(raw.size()) + " bytes");
    const std::size_t count = raw.size() / kSpwtIndexEntryBytes;
    bool same = count == chunks_.size() && header.first_record == next_record_;
    for (std::size_t i = 0; same && i < count; ++i) {
      const SpwtIndexEntry entry = load_spwt_index_entry(raw.substr(i * kSpwtIndexEntryBytes));
      same = entry.offset == chunks_[i].offset && entry.first_record == chunks_[i].first_record &&
             entry.record_count == chunks_[i].record_count &&
             entry.first_string == chunks_[i].first_string;
    }
    if (!same) return problem("expected an index of the chunks before it, found another one");
    return {};
  }

  Status take_end(const SpwtChunkHeader& header, std::string_view raw) {
    end_seen_ = true;
    if (header.first_record > next_record_)
      lost_record_count_ += header.first_record - next_record_;
    if (header.first_record != next_record_ || header.first_string != next_string_)
      SPW_RETURN_IF_ERROR(problem("expected an end after " + std::to_string(next_record_) +
                                  " records and " + std::to_string(next_string_) +
                                  " strings, found " + std::to_string(header.first_record) +
                                  " and " + std::to_string(header.first_string)));
    if (raw.size() != kSpwtEndPayloadBytes)
      SPW_RETURN_IF_ERROR(
          problem("expected an end marker of 16 bytes, found " + std::to_string(raw.size())));
    else if (load_le<std::uint64_t>(raw, 0) != index_offset_ ||
             load_le<std::uint64_t>(raw, 8) != chunks_.size())
      SPW_RETURN_IF_ERROR(problem("expected an end marker that fits the chunks before it"));
    SPW_ASSIGN_OR_RETURN(const std::string_view rest,
                         input_.peek(kSpwtChunkHeaderBytes + header.payload_bytes + 1));
    ended_ = true;
    if (rest.size() > kSpwtChunkHeaderBytes + header.payload_bytes)
      return problem("expected nothing after the end marker, found more bytes");
    return {};
  }

  Result<TraceInfo> finish() {
    info_.format = "spwt";
    if (problem_count_ > info_.notes.size())
      info_.notes.push_back("damaged: " + std::to_string(problem_count_ - info_.notes.size()) +
                            " more places");
    if (recover_ && problem_count_ != 0)
      info_.notes.push_back("recovered: " + std::to_string(chunks_.size()) + " chunks with " +
                            std::to_string(info_.event_count) + " records read; lost " +
                            (end_seen_ ? "" : "at least ") + std::to_string(lost_record_count_) +
                            " records and " + std::to_string(recovery_.lost_string_count()) +
                            " strings that were named" + (end_seen_ ? "" : "; the end is missing"));
    if (skipped_count_ != 0)
      info_.notes.push_back("skipped: " + std::to_string(skipped_count_) +
                            " records of kinds that this version does not know");
    if (unknown_chunk_count_ != 0)
      info_.notes.push_back("skipped: " + std::to_string(unknown_chunk_count_) +
                            " chunks of types that this version does not know");
    return std::move(info_);
  }

  BufferedInput& input_;
  bool recover_;
  SpwtRecoverySink recovery_;
  TraceSink& direct_;
  SpwtUnpacker unpacker_;
  TraceInfo info_;
  std::vector<SpwtIndexEntry> chunks_;  // offset, records and strings only
  std::uint64_t next_record_ = 0;
  std::uint32_t next_string_ = 0;
  std::uint64_t index_offset_ = 0;
  std::uint64_t problem_count_ = 0;
  std::uint64_t lost_record_count_ = 0;
  std::uint64_t skipped_count_ = 0;
  std::uint64_t unknown_chunk_count_ = 0;
  bool end_seen_ = false;
  bool ended_ = false;
};

}  // namespace

bool is_spwt(std::string_view head) { return head.substr(0, kSpwtMagic.size()) == kSpwtMagic; }

Result<TraceInfo> read_spwt(BufferedInput& input, const ReadOptions& options, TraceSink& sink) {
  return read_one_device(options.device, sink, [&](TraceSink& chosen) {
    return SpwtReader(input, options, chosen).read();
  });
}

}  // namespace spillway
