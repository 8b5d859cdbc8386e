// SPDX-License-Identifier: Apache-2.0
// What readers and the generator write records with: interns strings and call-tree nodes, announces
// them once, and keeps the trace clock.
#pragma once

#include "core/string_table.hpp"
#include "core/tag.hpp"
#include "core/trace.hpp"

#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace spillway {

class TraceEmitter {
 public:
  explicit TraceEmitter(TraceSink& sink) : sink_(sink) {}

  StringId string(std::string_view text);
  /// The call-tree node for `frame` called from `parent` (StackId(0) is the root); announced on
  /// first use.
  StackId frame(StackId parent, std::string_view frame_text);

  void set_time_ns(std::uint64_t time_ns) { time_ns_ = time_ns; }
  std::uint64_t time_ns() const { return time_ns_; }
  void set_device(std::uint16_t device) { device_ = device; }

  void meta(std::string_view key, std::string_view value);
  void step(std::uint64_t number);
  void alloc(std::uint64_t storage,
             std::uint64_t bytes,
             std::uint32_t stream = 0,
             std::uint8_t flags = 0);
  void free_requested(std::uint64_t storage, std::uint32_t stream = 0);
  void free_completed(std::uint64_t storage, std::uint32_t stream = 0);
  /// Both records at once, for sources that know one free.
  void free(std::uint64_t storage, std::uint32_t stream = 0);
  void tag(std::uint64_t storage, const Tag& tag);
  void name(std::uint64_t storage, std::string_view text);
  void view(std::uint64_t tensor, std::uint64_t storage);
  void op_begin(std::uint64_t op,
                std::string_view name,
                const OpTag& tag,
                std::uint32_t stream = 0);
  void op_end(std::uint64_t op, std::uint32_t stream = 0);
  void use(std::uint64_t op, std::uint64_t tensor, std::uint8_t flags);
  void range_push(std::string_view domain, std::string_view text, std::uint8_t flags = 0);
  void range_pop(std::string_view domain, std::uint8_t flags = 0);
  void mark(std::string_view domain, std::string_view text);
  /// Any other record, stamped with the emitter's time and device.
  void record(RecordKind kind,
              std::uint64_t id,
              std::uint64_t arg,
              std::uint32_t stream = 0,
              std::uint8_t flags = 0);

  std::uint64_t record_count() const { return record_count_; }

 private:
  TraceSink& sink_;
  StringTable strings_;
  std::unordered_map<std::uint64_t, std::uint32_t> frames_;  // parent << 32 | string -> node
  std::uint32_t last_frame_ = 0;
  std::uint64_t time_ns_ = 0;
  std::uint16_t device_ = 0;
  std::uint64_t record_count_ = 0;
};

}  // namespace spillway
