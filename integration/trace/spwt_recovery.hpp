// SPDX-License-Identifier: Apache-2.0
// Keeps a trace whole for its sink when chunks are missing: strings get dense ids again, a string
// whose definition was lost is announced as "<lost string N>" when a record first names it, and a
// change of thread that was lost is told.
#pragma once

#include "core/trace.hpp"

#include <cstdint>
#include <unordered_map>

namespace spillway {

class SpwtRecoverySink final : public TraceSink {
 public:
  explicit SpwtRecoverySink(TraceSink& sink) : sink_(sink) {}

  /// What follows belongs to `thread`; tells the sink when it did not know.
  void enter_thread(std::uint64_t thread, std::uint64_t time_ns);

  /// `id` as the file counts: rising, with gaps where chunks are missing.
  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  [[nodiscard]] std::uint64_t lost_string_count() const { return lost_string_count_; }

 private:
  std::uint32_t announce(std::string_view text);
  std::uint32_t translate(std::uint32_t file_id);

  TraceSink& sink_;
  std::uint64_t thread_ = 0;
  std::uint32_t announced_count_ = 0;
  std::uint32_t same_count_ = 0;  // ids up to here are the same in the file and in the sink
  std::unordered_map<std::uint32_t, std::uint32_t> ids_;  // file's -> sink's, beyond same_count_
  std::uint64_t lost_string_count_ = 0;
};

}  // namespace spillway
