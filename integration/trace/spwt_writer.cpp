// SPDX-License-Identifier: Apache-2.0
// Cuts the stream of records into chunks and frames them.
#include "integration/trace/spwt_writer.hpp"

#include "integration/trace/spwt_layout.hpp"
#include "integration/trace/spwt_records.hpp"

#include <zstd.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace spillway {
namespace {

/// Payloads below this stay unpacked: there is nothing to gain, and small files do not depend on
/// the version of the zstd library.
constexpr std::size_t kPackedPayloadBytesMin = 512;

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

bool names_unknown_string(const Record& record, std::uint32_t string_count) {
  const StringFields names = string_fields(record.kind);
  return (names.id && record.id > string_count) || (names.arg && record.arg > string_count) ||
         (names.arg_low && (record.arg & 0xffffffffu) > string_count) ||
         (names.stream && record.stream > string_count);
}

}  // namespace

struct SpwtWriter::Impl {
  Impl(ByteSink& sink, const SpwtWriterOptions& writer_options)
      : out(sink), options(writer_options) {
    // Room for one more record or string in a chunk that is just not full.
    options.chunk_bytes = std::clamp<std::size_t>(options.chunk_bytes, 1, kSpwtPayloadBytesMax / 2);
    if (options.zstd_level != 0) context.reset(ZSTD_createCCtx());
    encoder.start();
  }

  ByteSink& out;
  SpwtWriterOptions options;
  Status status;
  std::unique_ptr<ZSTD_CCtx, FreeContext> context;
  SpwtRecordEncoder encoder;
  SpwtChunkHeader header;  // of the chunk being filled
  SpwtIndexEntry entry;    // likewise
  std::vector<SpwtIndexEntry> index;
  std::string packed;
  std::uint64_t offset = 0;
  std::uint64_t record_count = 0;
  std::uint64_t thread = 0;
  std::uint64_t step = SpwtIndexEntry::kNoStep;
  std::uint32_t string_count = 0;
  bool finished = false;

  void fail(Code code, std::string text) {
    if (status.ok()) status = Status(code, std::move(text));
  }

  void write(std::string_view bytes) {
    if (!status.ok()) return;
    if (offset == 0) {
      const std::string file_header = store_spwt_file_header();
      status = out.write(file_header);
      offset += file_header.size();
      if (!status.ok()) return;
    }
    status = out.write(bytes);
    offset += bytes.size();
  }

  /// Frames `payload`, packed when that makes it smaller.
  void write_chunk(SpwtChunkHeader chunk, std::string_view payload) {
    chunk.raw_bytes = static_cast<std::uint32_t>(payload.size());
    if (context && payload.size() >= kPackedPayloadBytesMin) {
      packed.resize(ZSTD_compressBound(payload.size()));
      const std::size_t bytes = ZSTD_compressCCtx(context.get(),
                                                  packed.data(),
                                                  packed.size(),
                                                  payload.data(),
                                                  payload.size(),
                                                  options.zstd_level);
      if (ZSTD_isError(bytes) == 0 && bytes < payload.size()) {
        chunk.flags |= kSpwtZstd;
        payload = std::string_view(packed.data(), bytes);
      }
    }
    chunk.payload_bytes = static_cast<std::uint32_t>(payload.size());
    chunk.payload_crc32 = crc32_of(payload);
    write(store_spwt_chunk_header(chunk));
    write(payload);
  }

  void begin_record(const Record& record) {
    header.base_time_ns = record.time_ns;
    // Strings may have come first; they hold no differences, so the base can still be chosen.
    encoder.set_base_time(record.time_ns);
    entry.time_min_ns = entry.time_max_ns = record.time_ns;
    entry.first_step = record.kind == RecordKind::kStep ? record.id : step;
    header.thread = thread;
  }

  void close_chunk() {
    if (encoder.bytes().empty()) return;
    entry.offset = offset == 0 ? kSpwtFileHeaderBytes : offset;
    entry.first_record = header.first_record;
    entry.record_count = header.record_count;
    entry.first_string = header.first_string;
    if (header.record_count == 0) {
      header.thread = thread;
      entry.first_step = step;
    }
    entry.last_step = step;
    index.push_back(entry);
    write_chunk(header, encoder.bytes());
    header = SpwtChunkHeader();
    header.first_record = record_count;
    header.first_string = string_count;
    entry = SpwtIndexEntry();
    encoder.start();
  }
};

SpwtWriter::SpwtWriter(ByteSink& out, const SpwtWriterOptions& options)
    : impl_(std::make_unique<Impl>(out, options)) {}

SpwtWriter::~SpwtWriter() = default;

const Status& SpwtWriter::status() const { return impl_->status; }

std::uint64_t SpwtWriter::written_bytes() const { return impl_->offset; }

void SpwtWriter::string(StringId id, std::string_view text) {
  Impl& w = *impl_;
  if (!w.status.ok()) return;
  if (id.value != w.string_count + 1)
    return w.fail(Code::kInvalidArgument,
                  "string " + std::to_string(id.value) + ": expected id " +
                      std::to_string(w.string_count + 1));
  if (text.size() > kTraceStringBytesMax)
    return w.fail(Code::kInvalidArgument,
                  "string " + std::to_string(id.value) + ": expected at most " +
                      std::to_string(kTraceStringBytesMax) + " bytes, found " +
                      std::to_string(text.size()));
  w.encoder.string(text);
  ++w.string_count;
  if (w.encoder.bytes().size() >= w.options.chunk_bytes) w.close_chunk();
}

void SpwtWriter::record(const Record& record) {
  Impl& w = *impl_;
  if (!w.status.ok()) return;
  if (static_cast<std::uint8_t>(record.kind) == kSpwtStringKind ||
      names_unknown_string(record, w.string_count))
    return w.fail(Code::kInvalidArgument,
                  "record " + std::to_string(w.record_count) +
                      ": expected a kind above 0 and strings announced before");
  if (w.header.record_count == 0) w.begin_record(record);
  w.encoder.record(record);
  w.entry.time_min_ns = std::min(w.entry.time_min_ns, record.time_ns);
  w.entry.time_max_ns = std::max(w.entry.time_max_ns, record.time_ns);
  if (record.kind == RecordKind::kThread) w.thread = record.id;
  if (record.kind == RecordKind::kStep) w.step = record.id;
  ++w.header.record_count;
  ++w.record_count;
  if (w.encoder.bytes().size() >= w.options.chunk_bytes) w.close_chunk();
}

Status SpwtWriter::finish() {
  Impl& w = *impl_;
  if (w.finished) return {Code::kInternal, "a packed trace was finished twice"};
  w.finished = true;
  if (!w.status.ok()) return w.status;
  w.close_chunk();
  std::string end;
  std::uint64_t index_offset = 0;  // 0: no index
  if (w.options.index && w.index.size() <= kSpwtPayloadBytesMax / kSpwtIndexEntryBytes) {
    index_offset = w.offset == 0 ? kSpwtFileHeaderBytes : w.offset;
    std::string entries;
    for (const SpwtIndexEntry& entry : w.index) entries += store_spwt_index_entry(entry);
    SpwtChunkHeader header = w.header;
    header.type = SpwtChunkType::kIndex;
    w.write_chunk(header, entries);
  }
  append_le(&end, index_offset);
  append_le(&end, std::uint64_t{w.index.size()});
  SpwtChunkHeader header = w.header;
  header.type = SpwtChunkType::kEnd;
  w.write_chunk(header, end);
  return w.status;
}

}  // namespace spillway
