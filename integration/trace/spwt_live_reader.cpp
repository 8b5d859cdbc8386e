// SPDX-License-Identifier: Apache-2.0
// Reads a live log chunk by chunk. A chunk is begun no earlier than every record before its time
// was written, so what is older than the newest chunk can be sent: memory is a few chunks per
// thread.
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_live_layout.hpp"
#include "integration/trace/spwt_live_merge.hpp"
#include "integration/trace/trace_filter.hpp"

#include <algorithm>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t kSkipBytes = std::size_t{256} * 1024;
constexpr std::size_t kNotesMax = 20;
/// A thread that is interrupted between taking the time and beginning a chunk comes late by that
/// much; a few chunks held back put it where it belongs.
constexpr std::size_t kChunksHeld = 4;

class LiveReader {
 public:
  LiveReader(BufferedInput& input, const ReadOptions& options, TraceSink& sink)
      : input_(input), recover_(options.recover), merger_(sink) {}

  Result<TraceInfo> read() {
    SPW_ASSIGN_OR_RETURN(const std::string_view head, input_.peek(kLiveFileHeaderBytes));
    if (head.size() < kLiveFileHeaderBytes)
      return input_.error("expected a live log header of 64 bytes, found " +
                          std::to_string(head.size()) + " and the end of the file");
    // Without the sizes in the header nothing can be found: no recovery here.
    if (const std::string wrong = load_live_file_header(head, &file_); !wrong.empty())
      return input_.error(wrong);
    SPW_RETURN_IF_ERROR(skip(file_.header_bytes));
    if (ended_)
      SPW_RETURN_IF_ERROR(problem("expected a file header of " +
                                  std::to_string(file_.header_bytes) +
                                  " bytes, found the end of the file"));
    for (std::uint64_t i = 0; !ended_; ++i) {
      if (i >= file_.chunk_count) {
        SPW_ASSIGN_OR_RETURN(const bool more, has_more_chunks());
        if (!more) break;
      }
      SPW_RETURN_IF_ERROR(read_chunk(i));
    }
    merger_.send_all();
    return finish();
  }

 private:
  Status problem(const std::string& text) {
    const Status error = input_.error(text);
    if (!recover_) return error;
    ++problem_count_;
    if (info_.notes.size() < kNotesMax) info_.notes.push_back("damaged: " + error.message());
    return {};
  }

  Status skip(std::size_t bytes) {
    while (bytes != 0) {
      SPW_ASSIGN_OR_RETURN(const std::string_view window, input_.peek(std::min(bytes, kSkipBytes)));
      if (window.empty()) {
        ended_ = true;
        return {};
      }
      const std::size_t count = std::min(bytes, window.size());
      input_.consume(count);
      bytes -= count;
    }
    return {};
  }

  /// Behind the chunks that the header counts: reserved space, or chunks begun since the header was
  /// read.
  Result<bool> has_more_chunks() {
    SPW_ASSIGN_OR_RETURN(const std::string_view bytes, input_.peek(kLiveChunkHeaderBytes));
    if (file_.closed == 1 && !bytes.empty())
      SPW_RETURN_IF_ERROR(problem("expected the end of a closed log after " +
                                  std::to_string(file_.chunk_count) + " chunks, found more"));
    return bytes.substr(0, kLiveChunkMagic.size()) == kLiveChunkMagic;
  }

  Status cut(std::uint64_t index) {
    ended_ = true;
    return problem("expected " + std::to_string(file_.chunk_count) + " chunks of " +
                   std::to_string(file_.chunk_bytes) +
                   " bytes, found the end of the file in chunk " + std::to_string(index));
  }

  Status read_chunk(std::uint64_t index) {
    SPW_ASSIGN_OR_RETURN(std::string_view bytes, input_.peek(kLiveChunkHeaderBytes));
    if (bytes.size() < kLiveChunkHeaderBytes) return cut(index);
    LiveChunkHeader header;
    if (const std::string wrong = load_live_chunk_header(bytes, file_, &header); !wrong.empty()) {
      SPW_RETURN_IF_ERROR(problem(wrong));
      return skip(file_.chunk_bytes);
    }
    const std::size_t used_bytes = kLiveChunkHeaderBytes + header.committed * kLiveSlotBytes;
    SPW_ASSIGN_OR_RETURN(bytes, input_.peek(used_bytes));
    const bool whole = bytes.size() >= used_bytes;
    if (!whole) SPW_RETURN_IF_ERROR(cut(index));
    bytes = bytes.substr(kLiveChunkHeaderBytes, used_bytes - kLiveChunkHeaderBytes);
    bytes = bytes.substr(0, bytes.size() / kLiveSlotBytes * kLiveSlotBytes);

    Thread& thread = threads_[header.thread];
    if (header.sequence != thread.next_sequence) {
      SPW_RETURN_IF_ERROR(problem("expected chunk " + std::to_string(thread.next_sequence) +
                                  " of thread " + std::to_string(header.thread) + ", found chunk " +
                                  std::to_string(header.sequence)));
      if (header.sequence < thread.next_sequence) return skip(file_.chunk_bytes);
      thread.strings_lost = true;
    }
    thread.next_sequence = header.sequence + 1;
    if (const std::string wrong = merger_.add(header, bytes, thread.strings_lost); !wrong.empty()) {
      thread.strings_lost = true;
      SPW_RETURN_IF_ERROR(problem(wrong));
    }
    ++chunk_count_;
    newest_ns_ = std::max(newest_ns_, header.time_ns);
    begun_ns_.push_back(newest_ns_);
    if (begun_ns_.size() > kChunksHeld) {
      merger_.send_before(begun_ns_.front());
      begun_ns_.pop_front();
    }
    // The file may end with the last chunk's used part only when it was cut by somebody.
    SPW_RETURN_IF_ERROR(
        skip(std::min<std::size_t>(used_bytes, bytes.size() + kLiveChunkHeaderBytes)));
    if (!whole || ended_) return {};
    SPW_RETURN_IF_ERROR(skip(file_.chunk_bytes - used_bytes));
    if (ended_) return cut(index);
    return {};
  }

  Result<TraceInfo> finish() {
    info_.format = "spwt-live";
    info_.event_count = merger_.sent_count();
    auto note = [&](std::uint64_t count, const std::string& text) {
      if (count != 0) info_.notes.push_back(std::to_string(count) + text);
    };
    if (problem_count_ != 0) {
      info_.notes.push_back("recovered: " + std::to_string(chunk_count_) + " chunks with " +
                            std::to_string(info_.event_count) + " records read; " +
                            std::to_string(problem_count_) + " places are damaged");
    }
    if (file_.closed != 1)
      info_.notes.push_back("the log was not closed: its program was killed, or still runs; all " +
                            std::to_string(info_.event_count) + " committed records were read");
    note(file_.dropped_count, " records found no room in the log and are missing");
    note(merger_.cut_string_count(), " strings were longer than 32 KiB and are cut");
    note(merger_.lost_string_count(), " strings that records name were lost");
    note(merger_.unknown_count(), " records of kinds that this version does not know were skipped");
    return std::move(info_);
  }

  struct Thread {
    std::uint64_t next_sequence = 0;
    bool strings_lost = false;
  };

  BufferedInput& input_;
  bool recover_;
  LiveMerger merger_;
  LiveFileHeader file_;
  TraceInfo info_;
  std::unordered_map<std::uint64_t, Thread> threads_;
  std::uint64_t newest_ns_ = 0;
  std::deque<std::uint64_t> begun_ns_;  // of the chunks read last
  std::uint64_t chunk_count_ = 0;
  std::uint64_t problem_count_ = 0;
  bool ended_ = false;
};

}  // namespace

bool is_spwt_live(std::string_view head) { return head.substr(0, kLiveMagic.size()) == kLiveMagic; }

Result<TraceInfo> read_spwt_live(BufferedInput& input,
                                 const ReadOptions& options,
                                 TraceSink& sink) {
  return read_one_device(options.device, sink, [&](TraceSink& chosen) {
    return LiveReader(input, options, chosen).read();
  });
}

}  // namespace spillway
