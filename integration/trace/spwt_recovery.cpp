// SPDX-License-Identifier: Apache-2.0
// Renumbers strings. Costs grow with what is there, never with the size of a gap that a file
// claims.
#include "integration/trace/spwt_recovery.hpp"

#include <string>

namespace spillway {

void SpwtRecoverySink::enter_thread(std::uint64_t thread, std::uint64_t time_ns) {
  if (thread == thread_) return;
  thread_ = thread;
  Record record;
  record.time_ns = time_ns;
  record.kind = RecordKind::kThread;
  record.flags = kRecordInferred;
  record.id = thread;
  sink_.record(record);
}

std::uint32_t SpwtRecoverySink::announce(std::string_view text) {
  ++announced_count_;
  sink_.string(StringId(announced_count_), text);
  return announced_count_;
}

void SpwtRecoverySink::string(StringId id, std::string_view text) {
  const std::uint32_t ours = announce(text);
  if (ours == id.value && same_count_ + 1 == ours) {
    same_count_ = ours;
  } else {
    ids_[id.value] = ours;
  }
}

std::uint32_t SpwtRecoverySink::translate(std::uint32_t file_id) {
  if (file_id <= same_count_) return file_id;
  if (const auto found = ids_.find(file_id); found != ids_.end()) return found->second;
  ++lost_string_count_;
  const std::uint32_t ours = announce("<lost string " + std::to_string(file_id) + ">");
  ids_.emplace(file_id, ours);
  return ours;
}

void SpwtRecoverySink::record(const Record& record) {
  if (record.kind == RecordKind::kThread) thread_ = record.id;
  const StringFields names = string_fields(record.kind);
  Record ours = record;
  if (names.id) ours.id = translate(static_cast<std::uint32_t>(record.id));
  if (names.arg) ours.arg = translate(static_cast<std::uint32_t>(record.arg));
  if (names.arg_low)
    ours.arg =
        (record.arg >> 32 << 32) | translate(static_cast<std::uint32_t>(record.arg & 0xffffffffu));
  if (names.stream) ours.stream = translate(record.stream);
  sink_.record(ours);
}

}  // namespace spillway
