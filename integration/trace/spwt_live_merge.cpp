// SPDX-License-Identifier: Apache-2.0
// Slots are checked when they come in, so that sending cannot fail.
#include "integration/trace/spwt_live_merge.hpp"

#include "integration/trace/spwt_layout.hpp"

namespace spillway {
namespace {

Record load_slot(std::string_view slots, std::size_t at) {
  Record record;
  record.time_ns = load_le<std::uint64_t>(slots, at);
  record.kind = static_cast<RecordKind>(load_le<std::uint8_t>(slots, at + 8));
  record.flags = load_le<std::uint8_t>(slots, at + 9);
  record.device = load_le<std::uint16_t>(slots, at + 10);
  record.stream = load_le<std::uint32_t>(slots, at + 12);
  record.id = load_le<std::uint64_t>(slots, at + 16);
  record.arg = load_le<std::uint64_t>(slots, at + 24);
  return record;
}

bool is_string(const Record& record) {
  return static_cast<std::uint8_t>(record.kind) == kLiveStringKind;
}

std::size_t string_slot_bytes(const Record& head) {
  return kLiveSlotBytes + (head.arg + kLiveSlotBytes - 1) / kLiveSlotBytes * kLiveSlotBytes;
}

bool names_unknown_string(const Record& record, std::uint64_t string_count) {
  const StringFields names = string_fields(record.kind);
  return (names.id && record.id > string_count) || (names.arg && record.arg > string_count) ||
         (names.arg_low && (record.arg & 0xffffffffu) > string_count) ||
         (names.stream && record.stream > string_count);
}

}  // namespace

std::string LiveMerger::check(Thread& thread,
                              std::string_view slots,
                              bool strings_lost,
                              std::size_t* good_bytes) {
  std::size_t at = 0;
  const auto wrong = [&](const std::string& text) {
    *good_bytes = at;
    return "slot " + std::to_string(at / kLiveSlotBytes) + " of the chunk: " + text;
  };
  while (at < slots.size()) {
    const Record record = load_slot(slots, at);
    if (!is_string(record)) {
      if (!strings_lost && names_unknown_string(record, thread.string_count))
        return wrong("expected a record that names strings announced before it");
      at += kLiveSlotBytes;
      continue;
    }
    if (record.arg > kLiveStringBytesMax || string_slot_bytes(record) > slots.size() - at)
      return wrong("expected a string that fits the committed slots, found one of " +
                   std::to_string(record.arg) + " bytes");
    const bool follows = strings_lost
                             ? record.id > thread.string_count && record.id < StringId::kNoneValue
                             : record.id == std::uint64_t{thread.string_count} + 1;
    if (!follows)
      return wrong("expected string " + std::to_string(thread.string_count + 1) +
                   ", found string " + std::to_string(record.id));
    thread.string_count = static_cast<std::uint32_t>(record.id);
    at += string_slot_bytes(record);
  }
  *good_bytes = at;
  return {};
}

std::string LiveMerger::add(const LiveChunkHeader& header,
                            std::string_view slots,
                            bool strings_lost) {
  const auto [place, fresh] = index_.try_emplace(header.thread, threads_.size());
  if (fresh) {
    threads_.push_back(std::make_unique<Thread>());
    threads_.back()->number = header.thread;
  }
  Thread& thread = *threads_[place->second];
  std::size_t good_bytes = 0;
  std::string wrong = check(thread, slots, strings_lost, &good_bytes);
  if (good_bytes != 0) {
    const bool waited = thread.chunks.empty();
    thread.chunks.push_back({std::string(slots.substr(0, good_bytes)), 0});
    if (waited) push_head(place->second);
  }
  return wrong;
}

/// Takes in the strings that stand before the thread's next record, and drops chunks that are used
/// up.
void LiveMerger::skip_strings(Thread& thread) {
  while (!thread.chunks.empty()) {
    Chunk& chunk = thread.chunks.front();
    if (chunk.at == chunk.slots.size()) {
      thread.chunks.pop_front();
      continue;
    }
    const Record head = load_slot(chunk.slots, chunk.at);
    if (!is_string(head)) return;
    const std::string_view text =
        std::string_view(chunk.slots)
            .substr(chunk.at + kLiveSlotBytes, static_cast<std::size_t>(head.arg));
    if ((head.flags & kLiveStringCut) != 0) ++cut_string_count_;
    thread.strings[static_cast<std::uint32_t>(head.id)] = announce(text);
    chunk.at += string_slot_bytes(head);
  }
}

void LiveMerger::push_head(std::size_t index) {
  Thread& thread = *threads_[index];
  skip_strings(thread);
  if (thread.chunks.empty()) return;
  const Chunk& chunk = thread.chunks.front();
  heads_.push({load_slot(chunk.slots, chunk.at).time_ns, index});
}

std::uint32_t LiveMerger::announce(std::string_view text) {
  const std::size_t before = strings_.size();
  const StringId id = strings_.intern(text);
  if (strings_.size() != before) sink_.string(id, text);
  return id.value;
}

std::uint32_t LiveMerger::translate(Thread& thread, std::uint64_t number) {
  if (number == 0) return 0;
  const auto key = static_cast<std::uint32_t>(number);
  if (const auto found = thread.strings.find(key); found != thread.strings.end())
    return found->second;
  ++lost_string_count_;
  const std::uint32_t id = announce("<lost string " + std::to_string(key) + " of thread " +
                                    std::to_string(thread.number) + ">");
  thread.strings.emplace(key, id);
  return id;
}

void LiveMerger::send_head() {
  const std::size_t index = heads_.top().thread;
  heads_.pop();
  Thread& thread = *threads_[index];
  Chunk& chunk = thread.chunks.front();
  Record record = load_slot(chunk.slots, chunk.at);
  chunk.at += kLiveSlotBytes;
  if (!is_record_kind(static_cast<std::uint8_t>(record.kind))) {
    ++unknown_count_;
    return push_head(index);
  }
  const StringFields names = string_fields(record.kind);
  if (names.id) record.id = translate(thread, record.id);
  if (names.arg) record.arg = translate(thread, record.arg);
  if (names.arg_low)
    record.arg = (record.arg >> 32 << 32) | translate(thread, record.arg & 0xffffffffu);
  if (names.stream) record.stream = translate(thread, record.stream);
  if (record.kind == RecordKind::kThread && record.id == thread.number) {
    thread.name = static_cast<std::uint32_t>(record.arg);
  } else if (thread.number != current_thread_) {
    Record change;
    change.time_ns = record.time_ns;
    change.kind = RecordKind::kThread;
    change.id = thread.number;
    change.arg = thread.name;
    sink_.record(change);
    ++sent_count_;
  }
  current_thread_ = record.kind == RecordKind::kThread ? record.id : thread.number;
  sink_.record(record);
  ++sent_count_;
  push_head(index);
}

void LiveMerger::send_before(std::uint64_t time_ns) {
  while (!heads_.empty() && heads_.top().time_ns < time_ns) send_head();
}

void LiveMerger::send_all() {
  while (!heads_.empty()) send_head();
}

}  // namespace spillway
