// SPDX-License-Identifier: Apache-2.0
// A live log: each thread writes its records into its own chunk of a memory-mapped file, without
// locks or system calls. What was committed is in the file even when the process is killed the next
// moment (not when the machine is). Read it as any trace; `spillway convert` packs it.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/spwt_live_layout.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace spillway {

struct LiveLogOptions {
  /// Recording stops, and says so in the file, before the file is larger than this.
  std::uint64_t bytes_max = std::uint64_t{4} << 30;
  /// A multiple of 64 KiB, at most 16 MiB.
  std::uint32_t chunk_bytes = 1u << 20;
  /// The file grows, and its blocks are reserved, by this many chunks at a time: a full disk is an
  /// error there, not a signal when a page is first written.
  std::uint32_t chunks_per_step = 16;
};

class LiveLogWriter;

/// The file. Threads may call writer() at the same time. After fork(), the child must leave it
/// alone.
class LiveLog {
 public:
  /// Replaces `path`. kIo naming path and reason, kInvalidArgument for sizes that do not fit.
  static Result<std::unique_ptr<LiveLog>> create(const std::string& path,
                                                 const LiveLogOptions& options = {});
  LiveLog(const LiveLog&) = delete;
  LiveLog& operator=(const LiveLog&) = delete;
  LiveLog(LiveLog&&) = delete;
  LiveLog& operator=(LiveLog&&) = delete;
  /// close(), when that was not called.
  ~LiveLog();

  /// The door for one thread, to be used by one thread at a time. `thread` should be unique.
  std::unique_ptr<LiveLogWriter> writer(std::uint64_t thread);

  /// Marks the log as complete and gives back the space reserved beyond it. REQUIRES: no writer is
  /// left.
  Status close();

  /// Records and strings that found no room.
  [[nodiscard]] std::uint64_t dropped_count() const;

 private:
  friend class LiveLogWriter;
  struct Impl;
  explicit LiveLog(std::unique_ptr<Impl> impl);
  /// A fresh chunk for `thread`, mapped and with its header written; null when the log is full.
  std::byte* add_chunk(std::uint64_t thread, std::uint64_t sequence, std::uint64_t time_ns);
  void count_dropped();

  std::unique_ptr<Impl> impl_;
};

class LiveLogWriter final : public TraceSink {
 public:
  LiveLogWriter(const LiveLogWriter&) = delete;
  LiveLogWriter& operator=(const LiveLogWriter&) = delete;
  LiveLogWriter(LiveLogWriter&&) = delete;
  LiveLogWriter& operator=(LiveLogWriter&&) = delete;
  ~LiveLogWriter() override;

  /// Ids are dense from 1 per writer; beyond 32 KiB the text is cut.
  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override { append(record); }

  /// The same as record(), for callers that hold the type. record.time_ns must have been taken from
  /// one monotonic clock for all threads, before this call: readers put threads in order by it.
  void append(const Record& record) {
    last_time_ns_ = record.time_ns;
    if (next_ == end_ && !begin_chunk()) return;
    std::memcpy(next_, &record, kLiveSlotBytes);
    commit(1);
  }

 private:
  friend class LiveLog;
  LiveLogWriter(LiveLog& log, std::uint64_t thread) : log_(log), thread_(thread) {}

  /// The next chunk in place of the current one; false when the log is full, counted as a drop.
  bool begin_chunk();
  /// Makes the next `slot_count` slots visible to readers: all their bytes first, then the count.
  void commit(std::uint64_t slot_count) {
    next_ += slot_count * kLiveSlotBytes;
    committed_count_ += slot_count;
    std::atomic_ref<std::uint64_t>(*committed_).store(committed_count_, std::memory_order_release);
  }
  void unmap();

  LiveLog& log_;
  std::uint64_t thread_;
  std::uint64_t sequence_ = 0;
  std::uint64_t last_time_ns_ = 0;
  std::byte* chunk_ = nullptr;
  std::byte* next_ =
      nullptr;  // the first free slot; next_ == end_ means the chunk is full, or there is none
  std::byte* end_ = nullptr;
  std::uint64_t* committed_ = nullptr;  // in the chunk's header
  std::uint64_t committed_count_ = 0;
};

}  // namespace spillway
