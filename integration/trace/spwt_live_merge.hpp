// SPDX-License-Identifier: Apache-2.0
// Puts the threads of a live log into one order: by time, each thread's records in its own order,
// and the thread seen first before the others at equal times. Strings, numbered per thread in the
// log, are announced once each with dense ids.
#pragma once

#include "core/string_table.hpp"
#include "core/trace.hpp"
#include "integration/trace/spwt_live_layout.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace spillway {

class LiveMerger {
 public:
  explicit LiveMerger(TraceSink& sink) : sink_(sink) {}

  /// Takes the committed slots of a thread's next chunk. Returns "" or what is wrong with them;
  /// then the slots before the wrong one are kept. `strings_lost`: earlier slots of the thread are
  /// missing, so its strings may be.
  std::string add(const LiveChunkHeader& header, std::string_view slots, bool strings_lost);

  /// Sends every record that is earlier than any that may still come, given that none comes from
  /// before `time_ns`.
  void send_before(std::uint64_t time_ns);
  void send_all();

  [[nodiscard]] std::uint64_t sent_count() const { return sent_count_; }
  [[nodiscard]] std::uint64_t unknown_count() const { return unknown_count_; }
  [[nodiscard]] std::uint64_t lost_string_count() const { return lost_string_count_; }
  [[nodiscard]] std::uint64_t cut_string_count() const { return cut_string_count_; }

 private:
  struct Chunk {
    std::string slots;  // checked
    std::size_t at = 0;
  };
  struct Thread {
    std::uint64_t number = 0;
    std::uint32_t name = 0;          // the sink's id of its name
    std::deque<Chunk> chunks;        // never with an exhausted one in front
    std::uint32_t string_count = 0;  // checked so far
    std::unordered_map<std::uint32_t, std::uint32_t> strings;  // its number -> the sink's id
  };
  struct Head {
    std::uint64_t time_ns;
    std::size_t thread;                        // index in threads_
    bool operator<(const Head& other) const {  // the top of a std::priority_queue is the largest
      return time_ns != other.time_ns ? time_ns > other.time_ns : thread > other.thread;
    }
  };

  std::string check(Thread& thread,
                    std::string_view slots,
                    bool strings_lost,
                    std::size_t* good_bytes);
  void skip_strings(Thread& thread);
  void push_head(std::size_t index);
  void send_head();
  std::uint32_t announce(std::string_view text);
  std::uint32_t translate(Thread& thread, std::uint64_t number);

  TraceSink& sink_;
  std::vector<std::unique_ptr<Thread>> threads_;  // in order of first appearance
  std::unordered_map<std::uint64_t, std::size_t> index_;
  std::priority_queue<Head> heads_;  // one per thread that has a record waiting
  StringTable strings_;
  std::uint64_t current_thread_ = 0;
  std::uint64_t sent_count_ = 0;
  std::uint64_t unknown_count_ = 0;
  std::uint64_t lost_string_count_ = 0;
  std::uint64_t cut_string_count_ = 0;
};

}  // namespace spillway
